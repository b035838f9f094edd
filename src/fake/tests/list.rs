//! ListShards, and what is said of streams.

use std::time::SystemTime;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType, StreamMode, StreamModeDetails};

use super::*;

const SHARD_0: &str = "shardId-000000000000";

#[tokio::test]
async fn pages_of_shards_join_up_to_the_whole_list() {
    let (_fake, client) = with_stream(Fake::builder(), 25).await;
    let mut page = client
        .list_shards()
        .stream_name("s")
        .max_results(10)
        .send()
        .await
        .unwrap();
    let mut ids = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let shards = page.shards.take().unwrap();
        sizes.push(shards.len());
        ids.extend(shards.into_iter().map(|shard| shard.shard_id));
        let Some(token) = page.next_token else { break };
        let both = client
            .list_shards()
            .stream_name("s")
            .next_token(&token)
            .send()
            .await;
        assert_eq!(refused(&both.unwrap_err()).code, "InvalidArgumentException");
        page = client
            .list_shards()
            .next_token(token)
            .max_results(10)
            .send()
            .await
            .unwrap();
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert!(
        ids.iter().eq((0..25)
            .map(|i| format!("shardId-{i:012}"))
            .collect::<Vec<_>>()
            .iter())
    );
}

#[tokio::test]
async fn a_page_token_keeps_its_filter_and_expires() {
    let clock = Clock::manual();
    let (fake, client) = with_stream(Fake::builder().clock(clock.clone()), 2).await;
    clock.advance(Duration::from_secs(1));
    fake.scale("s", 4).unwrap();
    let latest = ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build()
        .unwrap();
    let first = client
        .list_shards()
        .stream_name("s")
        .shard_filter(latest)
        .max_results(1)
        .send()
        .await
        .unwrap();
    assert_eq!(first.shards.unwrap()[0].shard_id, "shardId-000000000002");
    let token = first.next_token.unwrap();
    let rest = client
        .list_shards()
        .next_token(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(rest.shards.unwrap().len(), 3);
    clock.advance(Duration::from_secs(301));
    let late = client.list_shards().next_token(&token).send().await;
    assert_eq!(
        refused(&late.unwrap_err()).code,
        "ExpiredNextTokenException"
    );
    let nonsense = client.list_shards().next_token("AAAA").send().await;
    assert_eq!(
        refused(&nonsense.unwrap_err()).code,
        "InvalidArgumentException"
    );
}

#[tokio::test]
async fn filters_say_which_shards_are_listed() {
    let clock = Clock::manual();
    let (fake, client) = with_stream(Fake::builder().clock(clock.clone()), 2).await;
    clock.advance(Duration::from_secs(10));
    let between = clock.now() - Duration::from_secs(5);
    fake.split("s", SHARD_0).unwrap();
    clock.advance(Duration::from_secs(10));
    let list = async |kind: ShardFilterType, at: Option<Duration>, after: Option<&str>| {
        let filter = ShardFilter::builder()
            .r#type(kind)
            .set_timestamp(at.map(|at| DateTime::from(SystemTime::UNIX_EPOCH + at)))
            .set_shard_id(after.map(str::to_owned))
            .build()
            .unwrap();
        let listed = client
            .list_shards()
            .stream_name("s")
            .shard_filter(filter)
            .send()
            .await
            .unwrap();
        let ids = listed
            .shards
            .unwrap()
            .into_iter()
            .map(|shard| shard.shard_id[19..].to_owned());
        ids.collect::<Vec<_>>().join(" ")
    };
    let now = Some(clock.now());
    assert_eq!(list(ShardFilterType::AtLatest, None, None).await, "1 2 3");
    assert_eq!(
        list(ShardFilterType::AtTrimHorizon, None, None).await,
        "0 1"
    );
    assert_eq!(
        list(ShardFilterType::FromTrimHorizon, None, None).await,
        "0 1 2 3"
    );
    assert_eq!(
        list(ShardFilterType::AtTimestamp, Some(between), None).await,
        "0 1"
    );
    assert_eq!(list(ShardFilterType::AtTimestamp, now, None).await, "1 2 3");
    assert_eq!(
        list(ShardFilterType::FromTimestamp, Some(between), None).await,
        "0 1 2 3"
    );
    assert_eq!(
        list(ShardFilterType::FromTimestamp, now, None).await,
        "1 2 3"
    );
    assert_eq!(
        list(
            ShardFilterType::AfterShardId,
            None,
            Some("shardId-000000000001")
        )
        .await,
        "2 3"
    );
    // A day later the parent's records are gone.
    clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(
        list(ShardFilterType::FromTrimHorizon, None, None).await,
        "1 2 3"
    );
}

#[tokio::test]
async fn a_stream_is_made_described_listed_and_deleted() {
    let fake = Fake::start().await.unwrap();
    let client = kinesis(&fake);
    let on_demand = StreamModeDetails::builder()
        .stream_mode(StreamMode::OnDemand)
        .build()
        .unwrap();
    client
        .create_stream()
        .stream_name("b")
        .stream_mode_details(on_demand)
        .send()
        .await
        .unwrap();
    client
        .create_stream()
        .stream_name("a")
        .shard_count(2)
        .max_record_size_in_kib(2048)
        .send()
        .await
        .unwrap();
    let again = client
        .create_stream()
        .stream_name("a")
        .shard_count(2)
        .send()
        .await;
    assert_eq!(refused(&again.unwrap_err()).code, "ResourceInUseException");
    let neither = client.create_stream().stream_name("c").send().await;
    assert_eq!(refused(&neither.unwrap_err()).code, "ValidationException");

    let summary = client
        .describe_stream_summary()
        .stream_name("b")
        .send()
        .await
        .unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!(summary.open_shard_count, 4);
    assert_eq!(
        summary.stream_mode_details.unwrap().stream_mode,
        StreamMode::OnDemand
    );
    assert_eq!(
        summary.stream_arn,
        "arn:aws:kinesis:eu-west-1:000000000000:stream/b"
    );
    assert_eq!(summary.retention_period_hours, 24);
    assert_eq!(
        summary.record_distribution_strategy.unwrap().as_str(),
        "USER_PARTITION_KEY"
    );

    let described = client
        .describe_stream()
        .stream_name("a")
        .limit(1)
        .send()
        .await
        .unwrap();
    let described = described.stream_description.unwrap();
    assert_eq!(
        (described.shards.len(), described.has_more_shards),
        (1, true)
    );

    let listed = client.list_streams().limit(1).send().await.unwrap();
    assert_eq!(
        (listed.stream_names, listed.has_more_streams),
        (vec!["a".to_owned()], true)
    );
    let rest = client
        .list_streams()
        .set_next_token(listed.next_token)
        .send()
        .await
        .unwrap();
    assert_eq!(rest.stream_names, ["b"]);

    client
        .delete_stream()
        .stream_name("a")
        .send()
        .await
        .unwrap();
    let gone = client
        .describe_stream_summary()
        .stream_name("a")
        .send()
        .await;
    assert_eq!(
        refused(&gone.unwrap_err()).code,
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn auto_distribution_is_for_on_demand_streams() {
    let fake = Fake::start().await.unwrap();
    let client = kinesis(&fake);
    fake.create_stream("provisioned", 1).unwrap();
    fake.create_on_demand_stream("on-demand").unwrap();
    let update = |stream: &str| {
        client
            .update_stream_record_distribution_strategy()
            .stream_arn(format!(
                "arn:aws:kinesis:eu-west-1:000000000000:stream/{stream}"
            ))
            .record_distribution_strategy(aws_sdk_kinesis::types::RecordDistributionStrategy::Auto)
            .send()
    };
    update("on-demand").await.unwrap();
    let summary = client
        .describe_stream_summary()
        .stream_name("on-demand")
        .send()
        .await
        .unwrap();
    let strategy = summary
        .stream_description_summary
        .unwrap()
        .record_distribution_strategy;
    assert_eq!(strategy.unwrap().as_str(), "AUTO");
    assert_eq!(
        refused(&update("provisioned").await.unwrap_err()).code,
        "InvalidArgumentException"
    );
}
