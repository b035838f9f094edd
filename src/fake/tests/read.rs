//! GetShardIterator and GetRecords.

use std::time::SystemTime;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;

use super::*;

const SHARD_0: &str = "shardId-000000000000";

#[tokio::test]
async fn each_kind_of_iterator_starts_where_it_says() {
    let clock = Clock::manual();
    let (_fake, client) = with_stream(Fake::builder().clock(clock.clone()), 1).await;
    let mut sequences = Vec::new();
    let mut times = Vec::new();
    for i in 0..3 {
        times.push(clock.now());
        let answer = put(&client, vec![entry("k", format!("{i}"))])
            .await
            .unwrap();
        sequences.push(answer.records[0].sequence_number.clone().unwrap());
        clock.advance(Duration::from_millis(1500));
    }
    let read = async |kind: ShardIteratorType, sequence: Option<&str>, at: Option<Duration>| {
        let iterator = client
            .get_shard_iterator()
            .stream_name("s")
            .shard_id(SHARD_0)
            .shard_iterator_type(kind)
            .set_starting_sequence_number(sequence.map(str::to_owned))
            .set_timestamp(at.map(|at| DateTime::from(SystemTime::UNIX_EPOCH + at)))
            .send()
            .await
            .unwrap();
        let got = client
            .get_records()
            .set_shard_iterator(iterator.shard_iterator)
            .send()
            .await
            .unwrap();
        got.records
            .iter()
            .map(|r| String::from_utf8_lossy(r.data.as_ref()).into_owned())
            .collect::<String>()
    };
    assert_eq!(
        read(ShardIteratorType::TrimHorizon, None, None).await,
        "012"
    );
    assert_eq!(read(ShardIteratorType::Latest, None, None).await, "");
    assert_eq!(
        read(
            ShardIteratorType::AtSequenceNumber,
            Some(&sequences[1]),
            None
        )
        .await,
        "12"
    );
    assert_eq!(
        read(
            ShardIteratorType::AfterSequenceNumber,
            Some(&sequences[1]),
            None
        )
        .await,
        "2"
    );
    assert_eq!(
        read(ShardIteratorType::AtTimestamp, None, Some(times[2])).await,
        "2"
    );
    let just_after = times[0] + Duration::from_millis(2);
    assert_eq!(
        read(ShardIteratorType::AtTimestamp, None, Some(just_after)).await,
        "12"
    );

    let foreign = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(SHARD_0)
        .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
        .starting_sequence_number("4")
        .send();
    assert_eq!(
        refused(&foreign.await.unwrap_err()).code,
        "InvalidArgumentException"
    );
}

#[tokio::test]
async fn reading_goes_on_from_the_next_iterator_and_says_how_far_behind_it_is() {
    let clock = Clock::manual();
    let (_fake, client) = with_stream(Fake::builder().clock(clock.clone()), 1).await;
    put(
        &client,
        (0..10).map(|i| entry("k", format!("{i}"))).collect(),
    )
    .await
    .unwrap();
    clock.advance(Duration::from_secs(7));
    let mut iterator = iterator_from_start(&client, SHARD_0).await;
    for (expected, behind) in [(4, 7000), (4, 7000), (2, 0), (0, 0)] {
        let got = client
            .get_records()
            .shard_iterator(&iterator)
            .limit(4)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (got.records.len(), got.millis_behind_latest),
            (expected, Some(behind))
        );
        iterator = got.next_shard_iterator.unwrap();
    }
    put(&client, vec![entry("k", "new")]).await.unwrap();
    let got = client
        .get_records()
        .shard_iterator(&iterator)
        .send()
        .await
        .unwrap();
    assert_eq!(got.records[0].data.as_ref(), b"new");
    clock.advance(Duration::from_secs(301));
    let late = client.get_records().shard_iterator(&iterator).send().await;
    assert_eq!(refused(&late.unwrap_err()).code, "ExpiredIteratorException");
}

#[tokio::test]
async fn one_read_gives_at_most_10_mib() {
    let (_fake, client) = with_stream(Fake::builder(), 1).await;
    for _ in 0..3 {
        put(&client, vec![entry("k", vec![0; 1_000_000]); 5])
            .await
            .unwrap();
    }
    let iterator = iterator_from_start(&client, SHARD_0).await;
    let got = client
        .get_records()
        .shard_iterator(iterator)
        .send()
        .await
        .unwrap();
    assert_eq!(got.records.len(), 10);
    let got = client
        .get_records()
        .set_shard_iterator(got.next_shard_iterator)
        .send()
        .await
        .unwrap();
    assert_eq!(got.records.len(), 5);
}

#[tokio::test]
async fn the_read_quota_is_five_calls_a_second_and_shard() {
    let clock = Clock::manual();
    let limits = Limits {
        read_quota: true,
        ..Limits::default()
    };
    let (_fake, client) = with_stream(Fake::builder().clock(clock.clone()).limits(limits), 1).await;
    let iterator = iterator_from_start(&client, SHARD_0).await;
    for _ in 0..5 {
        client
            .get_records()
            .shard_iterator(&iterator)
            .send()
            .await
            .unwrap();
    }
    let sixth = client.get_records().shard_iterator(&iterator).send().await;
    assert_eq!(
        refused(&sixth.unwrap_err()).code,
        "ProvisionedThroughputExceededException"
    );
    clock.advance(Duration::from_millis(200));
    client
        .get_records()
        .shard_iterator(&iterator)
        .send()
        .await
        .unwrap();
}
