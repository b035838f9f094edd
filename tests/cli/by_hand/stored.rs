//! What `aws kinesis get-records` prints: every form that a record has in a stream.

use std::sync::Arc;

use kinseal::aggregate::format::Layout;
use kinseal::record::PartitionKey;
use kinseal::seal::CacheSettings;
use kinseal::seal::block::{self, Packing};
use kinseal::seal::keyring::Keyring;
use kinseal::seal::message::{MessageIds, Settings};
use kinseal::seal::rawkey::WrappingKey;
use serde_json::{Value, json};

use super::KeyFile;
use super::refused::base64;

const GET_RECORDS: [&str; 2] = ["--format", "get-records"];

#[test]
fn messages_text_aggregates_and_blocks_come_out_in_their_order() {
    let key = KeyFile::new();
    let seal = |text: &str| key.encrypt(&[], text.as_bytes());
    let members = [seal("three"), seal("four")];
    for packing in [Packing::Kpl, Packing::KplZstd { level: 1 }] {
        let lines = [b"five".to_vec(), b"six".to_vec(), b"".to_vec()];
        let input = answer(&[
            seal("one"),
            base64(&seal("two")).into_bytes(),
            aggregate(&members),
            block_of(&key, packing, &lines),
        ]);
        let opened = key.decrypt(&GET_RECORDS, input.to_string().as_bytes());
        let opened = opened.expect_success();
        assert_eq!(opened.stdout, b"one\ntwo\nthree\nfour\nfive\nsix\n\n");
        assert_eq!(opened.stderr, "");
    }
}

#[test]
fn a_block_is_a_line_for_each_record_in_every_format() {
    let key = KeyFile::new();
    let lines = [b"one".to_vec(), b"".to_vec(), b"three".to_vec()];
    for packing in [Packing::Kpl, Packing::KplZstd { level: 1 }] {
        let message = block_of(&key, packing, &lines);
        let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        for (format, input) in [
            ("raw", message.clone()),
            ("hex", hex.into_bytes()),
            ("base64", base64(&message).into_bytes()),
            ("lines", base64(&message).into_bytes()),
        ] {
            let opened = key.decrypt(&["--format", format], &input).expect_success();
            assert_eq!(opened.stdout, b"one\n\nthree\n", "{format}");
        }
    }
}

#[test]
fn answers_may_follow_one_another_as_from_a_loop() {
    let key = KeyFile::new();
    let pages = ["one", "two"].map(|text| answer(&[key.encrypt(&[], text.as_bytes())]));
    let input = format!("{:#}\n{:#}\n{}\n", pages[0], pages[1], answer(&[]));
    let opened = key.decrypt(&GET_RECORDS, input.as_bytes()).expect_success();
    assert_eq!(opened.stdout, b"one\ntwo\n");
}

#[test]
fn a_bad_record_is_told_with_its_number_and_the_rest_goes_on() {
    let key = KeyFile::new();
    let mut flipped = key.encrypt(&[], b"flipped");
    *flipped.last_mut().expect("it has some") ^= 1;
    let strangers = KeyFile::with_text(
        "namespace = \"a\"\nname = \"b\"\nkey = \"000102030405060708090a0b0c0d0e0f\"\n",
    );
    let mut input = answer(&[
        key.encrypt(&[], b"one"),
        b"in clear".to_vec(),
        aggregate(&[key.encrypt(&[], b"two"), flipped]),
        strangers.encrypt(&[], b"not mine"),
        key.encrypt(&[], b"three"),
    ]);
    let bad = json!({"Data": "?", "SequenceNumber": "1", "PartitionKey": "k"});
    let odd = json!({"Data": null});
    let last = answer(&[key.encrypt(&[], b"four")])["Records"][0].take();
    let records = input["Records"].as_array_mut().expect("an array");
    records.extend([bad, odd, json!("odd"), last]);
    let ended = key.decrypt(&GET_RECORDS, input.to_string().as_bytes());
    let (code, said) = ended.refusal();
    assert_eq!(code, 1);
    assert_eq!(ended.stdout, b"one\ntwo\nthree\nfour\n");
    let said: Vec<&str> = said.lines().collect();
    let expected = [
        "record 2, sequence number 4902: not encrypted",
        "record 3, sequence number 4903, member 1: the tag of frame 1",
        "record 4, sequence number 4904: wrong key",
        "record 6: its Data is not base64",
        "record 7: not what the AWS CLI prints",
        "record 8: not what the AWS CLI prints",
        "6 of 10 records refused",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(&format!("kinseal: {expected}")), "{said}");
    }

    let clear = answer(&[b"in clear".to_vec()]).to_string();
    let allowed = [&GET_RECORDS[..], &["--allow-plaintext"]].concat();
    let opened = key.decrypt(&allowed, clear.as_bytes()).expect_success();
    assert_eq!(opened.stdout, b"in clear\n");
}

#[test]
fn what_is_no_such_json_is_refused_without_repeating_it() {
    let key = KeyFile::new();
    for input in [
        "",
        "{}",
        "secret",
        "{\"Records\": \"secret\"}",
        "{\"Records\": [",
    ] {
        let ended = key.decrypt(&GET_RECORDS, input.as_bytes());
        let said = super::refusal(&ended);
        assert!(
            said.contains("get-records") && !said.contains("secret"),
            "{said}"
        );
    }
}

#[test]
fn verbose_tells_each_message_once() {
    let key = KeyFile::new();
    let lines = [b"one".to_vec(), b"two".to_vec()];
    let input = answer(&[
        block_of(&key, Packing::Kpl, &lines),
        key.encrypt(&[], b"three"),
    ]);
    let how = [&GET_RECORDS[..], &["--verbose"]].concat();
    let opened = key.decrypt(&how, input.to_string().as_bytes());
    let opened = opened.expect_success();
    assert_eq!(opened.stdout, b"one\ntwo\nthree\n");
    let facts = opened.stderr.lines().map(serde_json::from_str);
    let facts: Vec<Value> = facts.collect::<Result<_, _>>().expect("lines of JSON");
    let numbers: Vec<&Value> = facts.iter().map(|facts| &facts["number"]).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(facts[0]["context"][block::CONTEXT_KEY], "kpl");
}

fn answer(records: &[Vec<u8>]) -> Value {
    let records = (4901..).zip(records).map(|(sequence, data)| {
        json!({
            "SequenceNumber": sequence.to_string(),
            "ApproximateArrivalTimestamp": "2026-11-23T19:26:24.123000+00:00",
            "Data": base64(data),
            "PartitionKey": "k",
        })
    });
    json!({
        "Records": records.collect::<Vec<_>>(),
        "NextShardIterator": "AAAAAAAAAAE=",
        "MillisBehindLatest": 0,
    })
}

/// As the agent makes them, and `encrypt` does not.
fn block_of(key: &KeyFile, packing: Packing, lines: &[Vec<u8>]) -> Vec<u8> {
    let packed = packing.pack(&layout(lines), lines.iter().map(Vec::as_slice));
    let value = packing.context_value().to_owned();
    let context = [(block::CONTEXT_KEY.to_owned(), value)].into();
    let maker = WrappingKey::load(key.path().as_ref()).expect("made just now");
    let (cache, settings) = (CacheSettings::default(), Settings::default());
    let keyring = Keyring::new(Arc::new(maker), context, cache, settings);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let lease = runtime.block_on(keyring.lease(&[packed.len()]));
    let mut message = Vec::new();
    let id = MessageIds::for_messages(1).draw();
    let writer = lease.expect("a key in a file").writer;
    writer.seal(id, &packed, &mut message);
    message
}

fn aggregate(members: &[Vec<u8>]) -> Vec<u8> {
    layout(members).encode(members.iter().map(Vec::as_slice)).0
}

fn layout(members: &[Vec<u8>]) -> Layout {
    let key = PartitionKey::new("k").expect("valid");
    let mut layout = Layout::new();
    for member in members {
        layout.add(&key, None, member.len());
    }
    layout
}
