//! PutRecords and PutRecord: routing, limits, quotas.

use super::*;
use crate::record::HashKey;

const SHARD_0: &str = "shardId-000000000000";
const SHARD_1: &str = "shardId-000000000001";

#[tokio::test]
async fn records_come_back_as_they_were_put() {
    let (fake, client) = with_stream(Fake::builder(), 2).await;
    let entries = (0..500)
        .map(|i| entry(&format!("key \"{i}\" ü"), format!("data {i}")))
        .collect();
    let answer = put(&client, entries).await.unwrap();
    assert_eq!(answer.failed_record_count, Some(0));
    assert_eq!(answer.records.len(), 500);

    let mut read = Vec::new();
    for shard in [SHARD_0, SHARD_1] {
        let iterator = iterator_from_start(&client, shard).await;
        let got = client
            .get_records()
            .shard_iterator(iterator)
            .send()
            .await
            .unwrap();
        assert_eq!(got.millis_behind_latest, Some(0));
        read.extend(got.records);
    }
    assert_eq!(read.len(), 500);
    for (i, stored) in answer.records.iter().enumerate() {
        let sequence = stored.sequence_number.as_deref().unwrap();
        let record = read
            .iter()
            .find(|record| record.sequence_number == sequence)
            .unwrap();
        assert_eq!(record.data.as_ref(), format!("data {i}").as_bytes());
        assert_eq!(
            record.partition_key.as_deref(),
            Some(format!("key \"{i}\" ü").as_str())
        );
    }
    let counters = fake.counters();
    assert_eq!(
        (counters.put_records_calls(), counters.records_stored),
        (1, 500)
    );
    assert_eq!(counters.records_read, 500);
    fake.shutdown().await;
}

#[tokio::test]
async fn a_record_goes_where_its_hash_key_belongs() {
    let (fake, client) = with_stream(Fake::builder(), 3).await;
    let ranges = super::super::kinesis::uniform_ranges(3);
    let mut entries: Vec<_> = (0..200).map(|i| entry(&format!("key-{i}"), "x")).collect();
    entries.extend(
        ranges
            .iter()
            .flat_map(|(first, last)| [entry_at(first.0, "x"), entry_at(last.0, "x")]),
    );
    let answer = put(&client, entries.clone()).await.unwrap();
    for (entry, stored) in entries.iter().zip(&answer.records) {
        let hash_key = match entry.explicit_hash_key() {
            Some(text) => text.parse().unwrap(),
            None => HashKey::of(entry.partition_key.as_deref().unwrap().as_bytes()),
        };
        let expected = ranges
            .iter()
            .position(|(first, last)| (*first..=*last).contains(&hash_key))
            .unwrap();
        assert_eq!(
            stored.shard_id.as_deref(),
            Some(format!("shardId-{expected:012}").as_str())
        );
    }
    drop(fake);
}

#[tokio::test]
async fn sequence_numbers_have_56_digits_and_only_grow() {
    let (_fake, client) = with_stream(Fake::builder(), 1).await;
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let answer = put(&client, (0..100).map(|_| entry("k", "x")).collect())
            .await
            .unwrap();
        numbers.extend(
            answer
                .records
                .into_iter()
                .map(|record| record.sequence_number.unwrap()),
        );
    }
    assert!(
        numbers
            .iter()
            .all(|n| n.len() == 56 && n.bytes().all(|b| b.is_ascii_digit()))
    );
    assert!(numbers.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn under_auto_keys_are_ignored_and_may_be_missing() {
    let (fake, client) = with_stream(Fake::builder(), 4).await;
    fake.set_distribution("s", Distribution::Auto).unwrap();
    let mut entries: Vec<_> = (0..7).map(|_| entry_at(0, "x")).collect();
    entries.push(
        PutRecordsRequestEntry::builder()
            .data(Blob::new("x"))
            .build()
            .unwrap(),
    );
    let answer = put(&client, entries).await.unwrap();
    assert_eq!(answer.failed_record_count, Some(0));
    let mut shards: Vec<_> = answer
        .records
        .iter()
        .map(|r| r.shard_id.clone().unwrap())
        .collect();
    shards.sort();
    shards.dedup();
    assert_eq!(shards.len(), 4);
}

#[tokio::test]
async fn what_breaks_a_limit_refuses_the_call_and_stores_nothing() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    let mib = 1 << 20;
    let cases: Vec<(&str, Vec<PutRecordsRequestEntry>, &str)> = vec![
        ("no records", vec![], "ValidationException"),
        (
            "501 records",
            vec![entry("k", "x"); 501],
            "ValidationException",
        ),
        (
            "key over 256 characters",
            vec![entry(&"ü".repeat(257), "x")],
            "ValidationException",
        ),
        ("empty key", vec![entry("", "x")], "ValidationException"),
        (
            "record over 1 MiB with its key",
            vec![entry("k", vec![0; mib])],
            "ValidationException",
        ),
        (
            "call over 10 MiB",
            vec![entry("k", vec![0; mib - 1]); 11],
            "InvalidArgumentException",
        ),
    ];
    for (what, mut entries, code) in cases {
        if !entries.is_empty() {
            entries.insert(0, entry("good", "x"));
            entries.truncate(501);
        }
        assert_eq!(
            put(&client, entries).await.unwrap_err().code,
            code,
            "{what}"
        );
    }
    for (hash_key, code) in [
        ("01", "ValidationException"),
        ("-1", "ValidationException"),
        (
            "340282366920938463463374607431768211456",
            "InvalidArgumentException",
        ),
    ] {
        let entry = PutRecordsRequestEntry::builder()
            .partition_key("k")
            .data(Blob::new("x"));
        let entry = entry.explicit_hash_key(hash_key).build().unwrap();
        assert_eq!(
            put(&client, vec![entry]).await.unwrap_err().code,
            code,
            "{hash_key}"
        );
    }
    assert_eq!(fake.counters().records_stored, 0);

    let fits = vec![entry("k", vec![0; mib - 1]); 10];
    assert_eq!(
        put(&client, fits).await.unwrap().failed_record_count,
        Some(0)
    );
    assert!(
        put(&client, vec![entry(&"ü".repeat(256), "x"); 500])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_stream_takes_larger_records_once_told_to() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    let large = || vec![entry("k", vec![0; 3 << 20])];
    assert!(put(&client, large()).await.is_err());
    let arn = format!("arn:aws:kinesis:{DEFAULT_REGION}:{DEFAULT_ACCOUNT}:stream/s");
    client
        .update_max_record_size()
        .stream_arn(&arn)
        .max_record_size_in_kib(4096)
        .send()
        .await
        .unwrap();
    assert_eq!(
        put(&client, large()).await.unwrap().failed_record_count,
        Some(0)
    );
    let summary = client
        .describe_stream_summary()
        .stream_arn(&arn)
        .send()
        .await
        .unwrap();
    assert_eq!(
        summary
            .stream_description_summary
            .unwrap()
            .max_record_size_in_kib,
        Some(4096)
    );
    assert!(fake.set_max_record_kib("s", 10_241).is_err());
}

#[tokio::test]
async fn a_full_shard_throttles_entry_by_entry_in_the_services_words() {
    let clock = Clock::manual();
    let limits = Limits {
        write_quota: true,
        ..Limits::default()
    };
    let (fake, client) = with_stream(Fake::builder().clock(clock.clone()).limits(limits), 2).await;
    // Three calls of 400 for shard 0, each with one for shard 1: 1000 a second and shard fit.
    let call = || {
        let mut entries = vec![entry_at(0, "x"); 400];
        entries.push(entry_at(u128::MAX, "x"));
        put(&client, entries)
    };
    for failed in [0, 0, 200] {
        let answer = call().await.unwrap();
        assert_eq!(answer.failed_record_count, Some(failed));
        assert_eq!(answer.records[400].shard_id.as_deref(), Some(SHARD_1));
        for refused in answer
            .records
            .iter()
            .filter(|record| record.error_code.is_some())
        {
            assert_eq!(
                refused.error_code.as_deref(),
                Some("ProvisionedThroughputExceededException")
            );
            assert_eq!(
                refused.error_message.as_deref(),
                Some(
                    "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000."
                )
            );
            assert!(refused.sequence_number.is_none());
        }
    }
    assert_eq!(fake.counters().throttled_entries, 200);
    clock.advance(Duration::from_millis(400));
    assert_eq!(call().await.unwrap().failed_record_count, Some(0));
    assert_eq!(call().await.unwrap().failed_record_count, Some(400));

    // Bytes: 1 MiB a second, data and keys.
    clock.advance(Duration::from_secs(1));
    let half = vec![entry_at(0, vec![0; (1 << 19) - 1]); 3];
    assert_eq!(
        put(&client, half).await.unwrap().failed_record_count,
        Some(1)
    );
}

#[tokio::test]
async fn the_ring_forgets_the_oldest_and_keeps_its_bound() {
    let limits = Limits {
        ring_bytes: 1 << 20,
        ..Limits::default()
    };
    let (fake, client) = with_stream(Fake::builder().limits(limits), 1).await;
    for round in 0..8 {
        put(&client, vec![entry("k", vec![round; 100_000]); 4])
            .await
            .unwrap();
    }
    let records = fake.records("s").unwrap();
    let held: usize = records.iter().map(|record| record.data.len()).sum();
    assert!(held <= 1 << 20, "{held}");
    assert!(held > 900_000, "{held}");
    assert_eq!(records.last().unwrap().data[0], 7);
    assert_eq!(fake.counters().records_trimmed as usize, 32 - records.len());

    let iterator = iterator_from_start(&client, SHARD_0).await;
    let got = client
        .get_records()
        .shard_iterator(iterator)
        .send()
        .await
        .unwrap();
    assert_eq!(got.records[0].sequence_number, records[0].sequence);
}

#[tokio::test]
async fn put_record_answers_alone() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    let put = || {
        client
            .put_record()
            .stream_name("s")
            .partition_key("k")
            .data(Blob::new("x"))
            .send()
    };
    assert_eq!(put().await.unwrap().shard_id, SHARD_0);
    fake.set_faults(Faults::none().rule(Rule::new(Action::Throttle(Entries::All))));
    let error = refused(&put().await.unwrap_err());
    assert_eq!(error.code, "ProvisionedThroughputExceededException");
    assert_eq!(fake.records("s").unwrap().len(), 1);
}

#[tokio::test]
async fn a_dry_run_is_judged_and_not_stored() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    let dry = || client.put_records().stream_name("s").dry_run(true);
    let good = dry().records(entry("k", "x")).send().await;
    assert_eq!(refused(&good.unwrap_err()).code, "DryRunOperationException");
    let bad = dry().records(entry("", "x")).send().await;
    assert_eq!(refused(&bad.unwrap_err()).code, "ValidationException");
    assert_eq!(fake.records("s").unwrap(), []);
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_named() {
    let (_fake, client) = with_stream(Fake::builder(), 1).await;
    let sent = client
        .put_records()
        .stream_name("other")
        .records(entry("k", "x"))
        .send();
    let error = refused(&sent.await.unwrap_err());
    assert_eq!(error.code, "ResourceNotFoundException");
    assert_eq!(
        error.message,
        "Stream other under account 000000000000 not found."
    );
    let foreign = "arn:aws:kinesis:eu-west-1:111122223333:stream/s";
    let sent = client
        .put_records()
        .stream_arn(foreign)
        .records(entry("k", "x"))
        .send();
    assert_eq!(
        refused(&sent.await.unwrap_err()).code,
        "ResourceNotFoundException"
    );
}
