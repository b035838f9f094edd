//! What we store, others open; what others store, we open; and what is bound to one context is refused under
//! another.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kinseal::fake::Fake;
use kinseal::seal::rawkey::WrappingKey;
use tempfile::TempDir;

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::peers::{self, Opened, PeerKey, PeerRecord};
use crate::support::servers::{Endpoints, Moto, StandIn};

const LINES: u64 = 200;
const CONTEXT: [(&str, &str); 2] = [("app", "shop"), ("host", "web-1")];

#[test]
fn the_python_sdk_opens_what_the_agent_sealed_under_kms() {
    let moto = moto();
    let key = moto.endpoints.create_key();
    let home = Home::new(&moto.endpoints, &bound(&format!("kms_key = \"{key}\"")), "");
    let records = carry(&home, &moto.endpoints);
    let key = PeerKey::Kms {
        endpoint: &moto.endpoints.kms,
        arn: &key,
    };
    expect_opened(key, &records);
}

#[test]
fn the_python_sdk_opens_what_the_agent_sealed_under_a_wrapping_key() {
    let moto = moto();
    let (_folder, path) = wrapping_key();
    let encryption = bound(&format!("wrapping_key_file = \"{}\"", path.display()));
    let home = Home::new(&moto.endpoints, &encryption, "");
    let records = carry(&home, &moto.endpoints);
    expect_opened(PeerKey::Raw(&peers::raw_key(&path)), &records);
}

#[test]
fn the_python_sdk_opens_blocks_and_its_protobuf_classes_take_them_apart() {
    let moto = moto();
    let key = moto.endpoints.create_key();
    let block = bound(&format!("kms_key = \"{key}\"")).replace("\"record\"", "\"block\"");
    let home = Home::new(&moto.endpoints, &block, "");
    lines::append(&home.log(), 1..=LINES)
        .wait()
        .expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(LINES);

    let key = PeerKey::Kms {
        endpoint: &moto.endpoints.kms,
        arn: &key,
    };
    let stored = peers::read_stream(&moto.endpoints, STREAM);
    let messages: BTreeSet<Vec<u8>> = stored.iter().map(PeerRecord::data).collect();
    assert!(
        messages.len() < 20,
        "{} blocks of a few lines each",
        messages.len()
    );
    let opened = peers::open_messages(key, &CONTEXT, &messages);
    let arrived = Arrived::of(opened.iter().flat_map(Opened::records));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
}

#[test]
fn what_python_sealed_and_aggregated_on_moto_is_consumed() {
    expect_consumed(&moto().endpoints);
}

/// Here botocore's signatures are verified, and AWS's SDK for Python finds a KMS as strict as its own.
#[test]
fn what_python_sealed_and_aggregated_on_the_strict_stand_in_is_consumed() {
    let site = StandIn::built(Fake::builder().strict(true));
    site.endpoints.create_stream(STREAM, 2);
    expect_consumed(&site.endpoints);
    assert_eq!(site.fake.counters().refused_signatures, 0);
}

#[test]
fn what_is_bound_to_another_context_is_not_consumed() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let key = site.endpoints.create_key();
    let home = Home::new(&site.endpoints, &bound(&format!("kms_key = \"{key}\"")), "");
    lines::append(&home.log(), 1..=10).wait().expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);

    let other = Home::new(&site.endpoints, &bound(&format!("kms_key = \"{key}\"")), "");
    let ended = other.try_consume(&["--context", "tenant=other"]);
    let (code, said) = ended.refusal();
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("tenant"), "{said}");
    assert!(
        ended.stdout.is_empty(),
        "nothing that was refused is printed"
    );
}

#[test]
fn what_lies_in_the_stream_is_ciphertext() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let home = Home::new(&site.endpoints, &bound(&format!("kms_key = \"{key}\"")), "");
    lines::append(&home.log(), 1..=1_000)
        .wait()
        .expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);

    let stored = site.fake.records(STREAM).expect("it is there");
    for record in stored {
        for word in [&b"AMZN"[..], b"order", b"sales_price"] {
            let found = record.data.windows(word.len()).any(|window| window == word);
            assert!(
                !found,
                "{:?} lies in the stream in clear",
                String::from_utf8_lossy(word)
            );
        }
    }
}

fn moto() -> Moto {
    let moto = Moto::start();
    moto.endpoints.create_stream(STREAM, 2);
    moto
}

fn bound(key: &str) -> String {
    let pairs = CONTEXT.map(|(name, value)| format!("{name} = \"{value}\""));
    format!(
        "scope = \"record\"\n{key}\ncontext = {{ {} }}",
        pairs.join(", ")
    )
}

fn wrapping_key() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("wrapping.key");
    WrappingKey::create(&path, "tests", "wrapping").expect("a new key file");
    (folder, path)
}

/// Half of the lines under KMS, half under a wrapping key, both put by Python, come out of our consumer.
fn expect_consumed(endpoints: &Endpoints) {
    let key = endpoints.create_key();
    let (_folder, path) = wrapping_key();
    let raw = peers::raw_key(&path);
    let under_kms = PeerKey::Kms {
        endpoint: &endpoints.kms,
        arn: &key,
    };
    let lines: Vec<String> = (1..=LINES).map(lines::line).collect();
    let (first, second) = lines.split_at(95);
    peers::put_sealed(endpoints, STREAM, under_kms, &CONTEXT, first);
    peers::put_sealed(endpoints, STREAM, PeerKey::Raw(&raw), &CONTEXT, second);

    let home = Home::new(endpoints, &bound(&format!("kms_key = \"{key}\"")), "");
    let path = path.to_str().expect("UTF-8");
    let arrived = Arrived::of(home.consume(&["--wrapping-key", path]));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
}

/// Sends [`LINES`] through the agent, and reads the stream with boto3 and aws-kinesis-agg.
fn carry(home: &Home, endpoints: &Endpoints) -> Vec<PeerRecord> {
    lines::append(&home.log(), 1..=LINES)
        .wait()
        .expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(LINES);
    let records = peers::read_stream(endpoints, STREAM);
    assert_eq!(records.len() as u64, LINES);
    assert!(
        records.iter().any(|record| record.aggregated),
        "aggregates were taken apart"
    );
    records
}

/// The Encryption SDK opens all with the right context, and none with a wrong one.
fn expect_opened(key: PeerKey<'_>, records: &[PeerRecord]) {
    let messages: BTreeSet<Vec<u8>> = records.iter().map(PeerRecord::data).collect();
    let opened = peers::open_messages(key, &CONTEXT, &messages);
    Arrived::of(opened.iter().map(Opened::plaintext)).expect_all(1..=LINES);
    for message in &opened {
        for (name, value) in CONTEXT {
            assert_eq!(message.context.get(name).map(String::as_str), Some(value));
        }
    }
    let refused = peers::open_messages(key, &[("app", "bank")], messages.iter().take(3));
    for message in refused {
        let error = message.error.expect("bound to another context");
        assert!(error.contains("ncryption context"), "{error}");
    }
}
