//! Consumers of a stream, and their subscriptions to its shards.

use std::time::SystemTime;

use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};

use super::*;

const SHARD_0: &str = "shardId-000000000000";

fn arn_of(stream: &str) -> String {
    format!("arn:aws:kinesis:{DEFAULT_REGION}:{DEFAULT_ACCOUNT}:stream/{stream}")
}

async fn register(client: &aws_sdk_kinesis::Client, name: &str) -> Result<String, ApiError> {
    let call = client.register_stream_consumer().stream_arn(arn_of("s"));
    let answer = call.consumer_name(name).send().await;
    let consumer = answer.map_err(|error| refused(&error))?.consumer.unwrap();
    assert_eq!(consumer.consumer_status.as_str(), "CREATING");
    Ok(consumer.consumer_arn)
}

async fn status(client: &aws_sdk_kinesis::Client, arn: &str) -> Result<String, ApiError> {
    let call = client.describe_stream_consumer().consumer_arn(arn);
    let answer = call.send().await.map_err(|error| refused(&error))?;
    let consumer = answer.consumer_description.unwrap();
    assert_eq!(consumer.stream_arn, arn_of("s"));
    Ok(consumer.consumer_status.as_str().to_owned())
}

fn from(kind: ShardIteratorType) -> StartingPosition {
    StartingPosition::builder().r#type(kind).build().unwrap()
}

fn from_sequence(kind: ShardIteratorType, sequence: &str) -> StartingPosition {
    let position = StartingPosition::builder().r#type(kind);
    position.sequence_number(sequence).build().unwrap()
}

async fn subscribe(
    client: &aws_sdk_kinesis::Client,
    consumer: &str,
    position: StartingPosition,
) -> Result<SubscribeToShardOutput, ApiError> {
    let call = client.subscribe_to_shard().consumer_arn(consumer);
    let call = call.shard_id(SHARD_0).starting_position(position);
    call.send().await.map_err(|error| refused(&error))
}

/// `None`: the subscription has ended.
async fn next(events: &mut SubscribeToShardOutput) -> Option<SubscribeToShardEvent> {
    let event = tokio::time::timeout(CALL_TIMEOUT, events.event_stream.recv());
    match event.await.expect("in time").unwrap()? {
        SubscribeToShardEventStream::SubscribeToShardEvent(event) => Some(event),
        other => panic!("{other:?}"),
    }
}

/// How it is told that it has ended before its time.
async fn told_end(events: &mut SubscribeToShardOutput) -> String {
    loop {
        match events.event_stream.recv().await {
            Ok(event) => assert!(event.is_some(), "it ended untold"),
            Err(error) => return format!("{:?}", error.as_service_error().expect("it is told")),
        }
    }
}

fn data(event: &SubscribeToShardEvent) -> Vec<String> {
    let records = event.records.iter();
    records
        .map(|r| String::from_utf8(r.data.as_ref().to_vec()).unwrap())
        .collect()
}

async fn put_one(client: &aws_sdk_kinesis::Client, text: &str) -> String {
    let answer = put(client, vec![entry("k", text)]).await.unwrap();
    answer.records[0].sequence_number.clone().unwrap()
}

#[tokio::test]
async fn a_consumer_is_creating_then_active_and_gone_once_it_is_deregistered() {
    let clock = Clock::manual();
    let limits = Limits {
        consumer_creation: Duration::from_secs(10),
        ..Limits::default()
    };
    let builder = Fake::builder().clock(clock.clone()).limits(limits);
    let (_fake, client) = with_stream(builder, 1).await;
    let arn = register(&client, "shop").await.unwrap();
    assert!(arn.starts_with(&format!("{}/consumer/shop:", arn_of("s"))));
    assert_eq!(status(&client, &arn).await.unwrap(), "CREATING");
    let early = subscribe(&client, &arn, from(ShardIteratorType::Latest)).await;
    assert_eq!(early.unwrap_err().code, "ResourceInUseException");
    let twice = register(&client, "shop").await.unwrap_err();
    assert_eq!(twice.code, "ResourceInUseException");
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&client, &arn).await.unwrap(), "ACTIVE");

    // It is in the way of its stream's end.
    let delete = client.delete_stream().stream_name("s").send().await;
    assert_eq!(refused(&delete.unwrap_err()).code, "ResourceInUseException");
    let summary = client.describe_stream_summary().stream_name("s");
    let summary = summary.send().await.unwrap().stream_description_summary;
    assert_eq!(summary.unwrap().consumer_count, Some(1));

    let mut events = subscribe(&client, &arn, from(ShardIteratorType::Latest))
        .await
        .unwrap();
    next(&mut events).await.unwrap();
    let gone = client.deregister_stream_consumer().consumer_arn(&arn);
    gone.send().await.unwrap();
    assert!(told_end(&mut events).await.contains("ResourceNotFound"));
    let code = status(&client, &arn).await.unwrap_err().code;
    assert_eq!(code, "ResourceNotFoundException");
    // By the same name it is another one.
    clock.advance(Duration::from_secs(1));
    assert_ne!(register(&client, "shop").await.unwrap(), arn);
}

#[tokio::test]
async fn a_stream_has_twenty_consumers_and_five_in_the_making_at_most() {
    let clock = Clock::manual();
    let limits = Limits {
        consumer_creation: Duration::from_secs(10),
        ..Limits::default()
    };
    let builder = Fake::builder().clock(clock.clone()).limits(limits);
    let (_fake, client) = with_stream(builder, 1).await;
    for n in 0..20 {
        if n % 5 == 0 && n > 0 {
            let sixth = register(&client, "sixth").await.unwrap_err();
            assert_eq!(sixth.code, "LimitExceededException");
            clock.advance(Duration::from_secs(10));
        }
        register(&client, &format!("c{n:02}")).await.unwrap();
    }
    clock.advance(Duration::from_secs(10));
    let more = register(&client, "more").await.unwrap_err();
    assert_eq!(more.code, "LimitExceededException");

    let mut names = Vec::new();
    let mut token = None;
    loop {
        let page = client.list_stream_consumers().stream_arn(arn_of("s"));
        let page = page.max_results(7).set_next_token(token).send();
        let page = page.await.unwrap();
        let consumers = page.consumers.unwrap();
        names.extend(consumers.into_iter().map(|c| c.consumer_name));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    let expected: Vec<String> = (0..20).map(|n| format!("c{n:02}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_subscription_begins_where_it_says_and_has_what_comes_as_it_comes() {
    let clock = Clock::manual();
    let limits = Limits {
        subscription_gap: Duration::ZERO,
        ..Limits::default()
    };
    let builder = Fake::builder().clock(clock.clone()).limits(limits);
    let (fake, client) = with_stream(builder, 1).await;
    let arn = register(&client, "shop").await.unwrap();
    let mut sequences = Vec::new();
    let mut times = Vec::new();
    for n in 0..3 {
        times.push(SystemTime::UNIX_EPOCH + clock.now());
        sequences.push(put_one(&client, &n.to_string()).await);
        clock.advance(Duration::from_millis(1500));
    }
    let at_time = StartingPosition::builder()
        .r#type(ShardIteratorType::AtTimestamp)
        .timestamp(DateTime::from(times[2]));
    let (at, after) = (
        ShardIteratorType::AtSequenceNumber,
        ShardIteratorType::AfterSequenceNumber,
    );
    for (position, expected) in [
        (from(ShardIteratorType::TrimHorizon), "012"),
        (from(ShardIteratorType::Latest), ""),
        (from_sequence(at, &sequences[1]), "12"),
        (from_sequence(after, &sequences[1]), "2"),
        (at_time.build().unwrap(), "2"),
    ] {
        let mut events = subscribe(&client, &arn, position).await.unwrap();
        let event = next(&mut events).await.unwrap();
        assert_eq!(data(&event).concat(), expected);
    }

    let mut events = subscribe(&client, &arn, from(ShardIteratorType::Latest))
        .await
        .unwrap();
    let event = next(&mut events).await.unwrap();
    assert_eq!((data(&event).len(), event.millis_behind_latest), (0, 0));
    let sequence = put_one(&client, "new").await;
    let event = next(&mut events).await.unwrap();
    assert_eq!(data(&event), ["new"]);
    assert_eq!(event.continuation_sequence_number, sequence);
    assert_eq!(event.records[0].sequence_number, sequence);
    // The tip is told, and again every five seconds.
    assert!(data(&next(&mut events).await.unwrap()).is_empty());
    clock.advance(Duration::from_secs(5));
    assert!(data(&next(&mut events).await.unwrap()).is_empty());
    assert_eq!(fake.counters().records_read, 3 + 2 + 1 + 1 + 1);
}

#[tokio::test]
async fn after_five_minutes_a_subscription_ends_and_the_next_goes_on_where_it_says() {
    let clock = Clock::manual();
    let (_fake, client) = with_stream(Fake::builder().clock(clock.clone()), 1).await;
    let arn = register(&client, "shop").await.unwrap();
    put_one(&client, "before").await;
    let start = from(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &arn, start).await.unwrap();
    let event = next(&mut events).await.unwrap();
    assert_eq!(data(&event), ["before"]);
    let idle = next(&mut events).await.unwrap();
    clock.advance(Duration::from_secs(300));
    assert!(next(&mut events).await.is_none());
    put_one(&client, "meanwhile").await;
    for event in [event, idle] {
        let go_on = event.continuation_sequence_number;
        let go_on = from_sequence(ShardIteratorType::AfterSequenceNumber, &go_on);
        let mut events = subscribe(&client, &arn, go_on).await.unwrap();
        assert_eq!(data(&next(&mut events).await.unwrap()), ["meanwhile"]);
        clock.advance(Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_second_subscription_is_refused_for_five_seconds_and_then_takes_over() {
    let clock = Clock::manual();
    let (_fake, client) = with_stream(Fake::builder().clock(clock.clone()), 1).await;
    let arn = register(&client, "shop").await.unwrap();
    let other = register(&client, "other").await.unwrap();
    let latest = || from(ShardIteratorType::Latest);
    let mut first = subscribe(&client, &arn, latest()).await.unwrap();
    subscribe(&client, &other, latest()).await.unwrap();
    clock.advance(Duration::from_millis(4999));
    let early = subscribe(&client, &arn, latest()).await.unwrap_err();
    assert_eq!(early.code, "ResourceInUseException");
    put_one(&client, "x").await;
    let seen = async {
        loop {
            let event = next(&mut first).await.unwrap();
            if !event.records.is_empty() {
                return data(&event);
            }
        }
    };
    assert_eq!(seen.await, ["x"], "the refused one changes nothing");
    clock.advance(Duration::from_millis(1));
    let mut second = subscribe(&client, &arn, latest()).await.unwrap();
    assert!(told_end(&mut first).await.contains("ResourceInUse"));
    put_one(&client, "y").await;
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = data(&next(&mut second).await.unwrap());
    }
    assert_eq!(seen, ["y"]);
}

#[tokio::test]
async fn at_a_shards_end_its_children_are_told_and_nothing_to_go_on_from() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    let arn = register(&client, "shop").await.unwrap();
    put_one(&client, "last").await;
    let start = from(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &arn, start).await.unwrap();
    let event = next(&mut events).await.unwrap();
    assert_eq!(data(&event), ["last"]);
    assert!(event.child_shards().is_empty());
    fake.split("s", SHARD_0).unwrap();
    let mut last = None;
    while let Some(event) = next(&mut events).await {
        last = Some(event);
    }
    let last = last.expect("the end is told");
    assert_eq!(last.continuation_sequence_number, "");
    let children: Vec<_> = last.child_shards().iter().map(|c| c.shard_id()).collect();
    assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);
}

#[tokio::test]
async fn faults_strike_subscriptions_before_and_within_them() {
    let limits = Limits {
        subscription_gap: Duration::ZERO,
        ..Limits::default()
    };
    let (fake, client) = with_stream(Fake::builder().limits(limits), 1).await;
    let arn = register(&client, "shop").await.unwrap();
    put_one(&client, "x").await;
    let strike = |action| {
        fake.set_faults(Faults::seeded(1).rule(Rule::new(action).on("SubscribeToShard")));
    };
    let start = || from(ShardIteratorType::TrimHorizon);
    strike(Action::access_denied());
    let denied = subscribe(&client, &arn, start()).await.unwrap_err();
    assert_eq!(denied.code, "AccessDeniedException");
    strike(Action::ResetBefore);
    assert!(subscribe(&client, &arn, start()).await.is_err());
    for action in [Action::Truncated, Action::Malformed] {
        strike(action);
        let mut events = subscribe(&client, &arn, start()).await.unwrap();
        assert_eq!(data(&next(&mut events).await.unwrap()), ["x"]);
        let broken = events.event_stream.recv().await;
        assert!(broken.is_err(), "{broken:?}");
    }
}

/// Each consumer has 2 MiB a second of each shard for itself.
#[tokio::test]
async fn the_quota_of_a_subscription_is_its_own() {
    let clock = Clock::manual();
    let limits = Limits {
        read_quota: true,
        ..Limits::default()
    };
    let builder = Fake::builder().clock(clock.clone()).limits(limits);
    let (fake, client) = with_stream(builder, 1).await;
    let arn = register(&client, "shop").await.unwrap();
    for _ in 0..5 {
        put(&client, vec![entry("k", vec![0; (1 << 20) - 1])])
            .await
            .unwrap();
    }
    let start = from(ShardIteratorType::TrimHorizon);
    let mut events = subscribe(&client, &arn, start).await.unwrap();
    // A second's worth is there.
    assert_eq!(next(&mut events).await.unwrap().records.len(), 2);
    let polled = iterator_from_start(&client, SHARD_0).await;
    let polled = client.get_records().shard_iterator(polled).send().await;
    assert_eq!(polled.unwrap().records.len(), 5, "who polls has another");
    let read = fake.counters().records_read;
    for _ in 0..19 {
        clock.advance(Duration::from_millis(50));
        tokio::task::yield_now().await;
    }
    // And a little is left over of the first second: one more, and in debt.
    assert!(fake.counters().records_read <= read + 2);
    for _ in 0..80 {
        clock.advance(Duration::from_millis(50));
        tokio::task::yield_now().await;
    }
    let mut rest = 0;
    while rest < 3 {
        rest += next(&mut events).await.unwrap().records.len();
    }
    assert_eq!(rest, 3);
}
