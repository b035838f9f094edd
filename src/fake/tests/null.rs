//! Null mode: the same answers as ever, of records that are not kept.

use super::*;

#[tokio::test]
async fn null_mode_counts_and_keeps_nothing() {
    let (fake, client) = with_stream(Fake::builder().null(true), 1).await;
    let answer = put(
        &client,
        (0..123).map(|_| entry("Data", vec![0; 5000])).collect(),
    )
    .await
    .unwrap();
    assert_eq!(
        (answer.records.len(), answer.failed_record_count),
        (123, Some(0))
    );
    assert_eq!(fake.counters().records_stored, 123);
    assert!(fake.counters().body_bytes > 123 * 5000);
    assert_eq!(fake.records("s").unwrap(), []);
}

/// Keyed and at the ends of every range; with three shards, and again after they were split and merged.
#[tokio::test]
async fn null_mode_answers_the_shard_that_a_kept_record_would_be_on() {
    let (storing, to_storing) = with_stream(Fake::builder(), 3).await;
    let (null, to_null) = with_stream(Fake::builder().null(true), 3).await;
    let ranges = super::super::kinesis::uniform_ranges(3);
    let mut entries: Vec<_> = (0..400)
        .map(|i| entry(&format!("key \"{i}\" \\ ü"), vec![0; i]))
        .collect();
    entries.extend(
        ranges
            .iter()
            .flat_map(|(first, last)| [entry_at(first.0, "x"), entry_at(last.0, "x")]),
    );
    for scaled in [None, Some(5), Some(1)] {
        if let Some(shards) = scaled {
            storing.scale("s", shards).unwrap();
            null.scale("s", shards).unwrap();
        }
        let expected = shards_of(&put(&to_storing, entries.clone()).await.unwrap());
        let answered = shards_of(&put(&to_null, entries.clone()).await.unwrap());
        assert_eq!(answered, expected, "scaled to {scaled:?}");
        let one = to_null.put_record().stream_name("s").partition_key("key");
        let one = one.data(Blob::new("x")).send().await.unwrap();
        let kept = put(&to_storing, vec![entry("key", "x")]).await.unwrap();
        assert_eq!([one.shard_id], shards_of(&kept)[..]);
    }
}

fn shards_of(answer: &PutRecordsOutput) -> Vec<String> {
    let shards = answer.records.iter().map(|record| record.shard_id.clone());
    shards.collect::<Option<_>>().expect("all stored")
}

#[tokio::test]
async fn where_keys_do_not_count_null_mode_takes_shards_in_turn() {
    let (fake, client) = with_stream(Fake::builder().null(true), 3).await;
    fake.set_distribution("s", Distribution::Auto).unwrap();
    let answer = put(&client, (0..6).map(|_| entry("k", "x")).collect()).await;
    let shards = shards_of(&answer.unwrap());
    assert_eq!(shards[..3], shards[3..]);
    assert!(shards[0] != shards[1] && shards[1] != shards[2] && shards[2] != shards[0]);
}

#[tokio::test]
async fn null_mode_knows_a_stream_that_is_not_there() {
    let (_fake, client) = with_stream(Fake::builder().null(true), 1).await;
    let sent = client.put_records().stream_name("other");
    let error = refused(&sent.records(entry("k", "x")).send().await.unwrap_err());
    assert_eq!(error.code, "ResourceNotFoundException");
}

#[tokio::test]
async fn signed_bodies_are_answered_by_key_too() {
    let (_fake, client) = with_stream(Fake::builder().null(true).strict(true), 4).await;
    let (_storing, to_storing) = with_stream(Fake::builder(), 4).await;
    let entries: Vec<_> = (0..50).map(|i| entry(&format!("{i}"), "x")).collect();
    let answered = shards_of(&put(&client, entries.clone()).await.unwrap());
    assert_eq!(
        answered,
        shards_of(&put(&to_storing, entries).await.unwrap())
    );
}
