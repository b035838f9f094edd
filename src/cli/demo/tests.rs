use std::time::Duration;

use bytes::Bytes;

use super::journey::{Outcome, Sample, travel};
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

async fn outcome(records: u64, meddle: impl FnMut(&mut ConsumedBatch)) -> Outcome {
    let args = args(records);
    let (fake, _) = args.stand_ins().await.unwrap();
    travel(&fake, args.pace(), &mut Progress::new(records), meddle)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds() {
    let mut told = Vec::new();
    let code = tell(&args(2000), &mut told, |_| {}).await.unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    let told = String::from_utf8(told).unwrap();
    assert!(
        told.ends_with("\nAll 2,000 records came back equal.\n"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_accounted_for_at_every_stage() {
    let outcome = outcome(1000, |_| {}).await;
    assert!(outcome.is_success(), "{}", Report(&outcome));
    let counts = outcome.sent.counts;
    assert_eq!((counts.accepted, counts.stored), (1000, 1000));
    assert_eq!(counts.entries_stored, outcome.answered.records_stored);
    assert_eq!(outcome.answered.kms_calls("GenerateDataKey"), 1);
    assert!(counts.bytes_stored > counts.plain_bytes);
    let sample = outcome.sample.as_ref().unwrap();
    let secret = &sample.plaintext[..20];
    assert!(!sample.message.windows(secret.len()).any(|w| w == secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_with_a_missing_record_exits_with_1_and_names_it() {
    let (mut told, mut spoilt) = (Vec::new(), false);
    let lose_one = |batch: &mut ConsumedBatch| {
        if !std::mem::replace(&mut spoilt, true) {
            batch.records.pop();
        }
    };
    let code = tell(&args(500), &mut told, lose_one).await.unwrap();
    assert_eq!(code, ExitCode::FAILURE);
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains(" did not come back\n"), "{told}");
    let end = "FAILED: of 500 records, 499 came back equal; 1 did not come back.\n";
    assert!(told.ends_with(end), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_with_a_tampered_record_fails_and_names_it() {
    let mut first = true;
    let outcome = outcome(500, |batch| {
        if let (true, Some(Ok(record))) = (first, batch.records.first_mut()) {
            let mut data = record.data.to_vec();
            data[12] ^= 1;
            record.data = data.into();
            first = false;
        }
    })
    .await;
    assert!(!outcome.is_success());
    assert_eq!((outcome.totals.different, outcome.totals.missing), (1, 0));
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
    let written = 60_000;
    Outcome {
        totals: super::account::Totals {
            written,
            equal: written,
            ..Default::default()
        },
        sent: crate::agent::StreamReport {
            stream: StreamName::new(STREAM).unwrap(),
            counts: Counts {
                accepted: written,
                stored: written,
                plain_bytes: 6_780_000,
                sealed_bytes: 31_320_000,
                bytes_stored: 31_620_000,
                entries_stored: 640,
                ..Counts::default()
            },
            key_in_use: None,
            histograms: Histograms::new(),
        },
        answered: fake::Counters::default(),
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
        took: Duration::from_millis(10_400),
    }
}

#[test]
fn the_report_says_what_happened_and_ends_with_the_verdict() {
    let report = Report(&reported()).to_string();
    for expected in [
        "One record as it was written (17 bytes):\n  {\"symbol\":\"AMZN\"}\n",
        "The same in shardId-000000000002, in an aggregate of 94 records (100 bytes):\n  0000  02 02",
        "  …     and 4 bytes more\n",
        "Records  written 60,000, stored 60,000, read back 60,000, equal 60,000, in 10.4 s\n",
        "  plaintext                     6.8 MB         113 B\n",
        "  encrypted                    31.3 MB         522 B\n",
        "  in 640 Kinesis records with about 94 each\n",
    ] {
        assert!(report.contains(expected), "{expected}\n{report}");
    }
    assert!(report.ends_with("\nAll 60,000 records came back equal.\n"));
}

#[test]
fn a_report_fits_a_terminal() {
    for line in Report(&reported()).to_string().lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn doubles_after_a_call_of_unknown_outcome_are_explained() {
    let mut outcome = reported();
    outcome.totals.doubled = 90;
    assert!(!outcome.is_success());
    outcome.sent.counts.calls_unknown = 1;
    assert!(outcome.is_success());
    let report = Report(&outcome).to_string();
    assert!(report.contains("90 came back twice, because 1 call of unknown outcome had"));
}
