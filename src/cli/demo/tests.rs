use std::time::Duration;

use bytes::Bytes;

use super::journey::{Outcome, WayOutcome, travel};
use super::reader::Sample;
use super::*;
use crate::consume::Place;
use crate::metrics::{Counts, Histograms};
use crate::record::StreamName;
use crate::shard::ShardId;

fn args(records: u64) -> DemoArgs {
    DemoArgs {
        records: Some(records),
        shards: 4,
        keep: false,
        core_dumps: CoreDumpArgs::default(),
    }
}

async fn outcome(records: u64, meddle: impl FnMut(Way, &mut ConsumedBatch) + Send) -> Outcome {
    let args = args(records);
    let (fake, _) = args.stand_ins().await.unwrap();
    travel(&fake, args.pace(), &mut Progress::new(records), meddle)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds() {
    let mut told = Vec::new();
    let code = tell(&args(2000), &mut told, |_, _| {}).await.unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    let told = String::from_utf8(told).unwrap();
    let verdict = "\nAll 2,000 records came back equal, from both streams, after ";
    assert!(told.contains(verdict), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_accounted_for_at_every_stage() {
    let outcome = outcome(1000, |_, _| {}).await;
    assert!(outcome.is_success(), "{}", Report(&outcome));
    let [record, compact] = &outcome.ways[..] else {
        panic!("two ways")
    };
    for way in [record, compact] {
        let counts = way.sent.counts;
        assert_eq!((counts.accepted, counts.stored), (1000, 1000));
        assert_eq!(counts.data_keys, 1);
        let sample = way.sample.as_ref().unwrap();
        let secret = &sample.plaintext[..20];
        assert!(!sample.message.windows(secret.len()).any(|w| w == secret));
    }
    let entries = record.sent.counts.entries_stored + compact.sent.counts.entries_stored;
    assert_eq!(entries, outcome.answered.records_stored);
    assert_eq!(outcome.answered.kms_calls("GenerateDataKey"), 2);
    assert!(record.sent.counts.bytes_stored > record.sent.counts.plain_bytes);
    assert!(compact.sent.counts.bytes_stored < compact.sent.counts.plain_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_with_a_missing_record_exits_with_1_and_names_it() {
    for spoilt in Way::ALL {
        let (mut told, mut done) = (Vec::new(), false);
        let lose_one = |way, batch: &mut ConsumedBatch| {
            if way == spoilt && !std::mem::replace(&mut done, true) {
                batch.records.pop();
            }
        };
        let code = tell(&args(500), &mut told, lose_one).await.unwrap();
        assert_eq!(code, ExitCode::FAILURE);
        let told = String::from_utf8(told).unwrap();
        let name = spoilt.name();
        assert!(told.contains(&format!("  {name}: order ")), "{told}");
        assert!(told.contains(" did not come back\n"), "{told}");
        let end =
            format!("FAILED: {name}: of 500 records, 499 came back equal; 1 did not come back.\n");
        assert!(told.ends_with(&end), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_with_a_tampered_record_fails_and_names_it() {
    let mut first = true;
    let outcome = outcome(500, |way, batch| {
        if way == Way::Compact
            && let (true, Some(Ok(record))) = (first, batch.records.first_mut())
        {
            let mut data = record.data.to_vec();
            data[12] ^= 1;
            record.data = data.into();
            first = false;
        }
    })
    .await;
    assert!(!outcome.is_success());
    let [record, compact] = &outcome.ways[..] else {
        panic!("two ways")
    };
    assert!(record.is_success());
    assert_eq!((compact.totals.different, compact.totals.missing), (1, 0));
    let report = Report(&outcome).to_string();
    assert!(report.contains(" came back different: {"), "{report}");
}

#[test]
fn the_default_is_ten_seconds_within_the_quota_of_the_shards() {
    let pace = |shards| {
        let args = DemoArgs {
            records: None,
            shards,
            keep: false,
            core_dumps: CoreDumpArgs::default(),
        };
        args.pace()
    };
    assert_eq!((pace(4).records, pace(4).per_second), (60_000, 6_000));
    assert_eq!(pace(1000).per_second, DemoArgs::MOST);
}

/// A report of round figures, to be read.
fn reported() -> Outcome {
    Outcome {
        ways: vec![
            way_outcome(Way::Record, 31_320_000, 640),
            way_outcome(Way::Compact, 1_860_000, 41),
        ],
        answered: fake::Counters::default(),
        took: Duration::from_millis(10_400),
    }
}

fn way_outcome(way: Way, sealed_bytes: u64, entries_stored: u64) -> WayOutcome {
    let written = 60_000;
    WayOutcome {
        way,
        totals: super::account::Totals {
            written,
            equal: written,
            ..Default::default()
        },
        sent: crate::agent::StreamReport {
            stream: StreamName::new(way.stream()).unwrap(),
            counts: Counts {
                accepted: written,
                stored: written,
                plain_bytes: 6_780_000,
                sealed_bytes,
                bytes_stored: sealed_bytes + 300_000,
                entries_stored,
                data_keys: 1,
                ..Counts::default()
            },
            key_in_use: None,
            histograms: Histograms::new(),
        },
        sample: Some(Sample {
            plaintext: Bytes::from_static(b"{\"symbol\":\"AMZN\"}"),
            message: Bytes::from(vec![0x02; 100]),
            place: Place {
                shard: ShardId::new("shardId-000000000002"),
                sequence: "1".into(),
                sub_sequence: 0,
                in_block: None,
            },
            members: 94,
        }),
    }
}

#[test]
fn the_report_says_what_happened_and_ends_with_the_verdict() {
    let report = Report(&reported()).to_string();
    for expected in [
        "One record as it was written (17 bytes):\n  {\"symbol\":\"AMZN\"}\n",
        "The same in shardId-000000000002, in an aggregate of 94 records (100 bytes):\n  0000  02 02",
        "  …     and 4 bytes more\n",
        "  a sale, plain                    113 B         113 B\n",
        "          encrypted                522 B        31.0 B\n",
        "          stored                   527 B        36.0 B\n",
        "  in a shard's second              1,990        29,127\n",
        "  in one Kinesis record               94         1,463\n",
        "  data keys from KMS                   1             1\n",
        "  came back equal                 60,000        60,000\n",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
    let verdict = "\nAll 60,000 records came back equal, from both streams, after 10.4 s.\n";
    assert!(report.ends_with(verdict), "{report}");
}

#[test]
fn a_report_fits_a_terminal() {
    let args = args(1_000_000_000);
    let words = args.opening_words(args.pace());
    let report = Report(&reported()).to_string();
    for line in words.lines().chain(report.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn doubles_after_a_call_of_unknown_outcome_are_explained() {
    let mut outcome = reported();
    outcome.ways[1].totals.doubled = 90;
    assert!(!outcome.is_success());
    outcome.ways[1].sent.counts.calls_unknown = 1;
    assert!(outcome.is_success());
    let report = Report(&outcome).to_string();
    assert!(report.contains("90 came back twice, because 1 call of unknown outcome had"));
}
