//! The socket that answers for each record (`framing = "kpl"`), with the client of `docs/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kinseal::fake::{Action, Faults, Rule, Service};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{Arrived, line};
use crate::support::process::Running;
use crate::support::servers::StandIn;

const KPL: &str = "framing = \"kpl\"";
const SPOOLED: &str = "framing = \"kpl\"\nack = \"spooled\"";

fn client() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kinseal_client.py")
}

/// The client of `docs/` with these lines. What it prints: of each line its number, and what became of it.
fn send(home: &Home, numbers: RangeInclusive<u64>) -> Running {
    let input: String = numbers.map(|number| line(number) + "\n").collect();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), input).expect("room for it");
    let input = fs::File::open(file.path()).expect("written");
    let mut command = Command::new("python3");
    // Unbuffered: what it prints is seen at once.
    command
        .arg("-u")
        .arg(client())
        .arg(home.socket())
        .arg(STREAM)
        .stdin(Stdio::from(input));
    Running::start("the client", &mut command)
}

/// By line of input, from 1 on: the words behind its number.
fn answers(stdout: &[u8]) -> BTreeMap<u64, String> {
    let text = String::from_utf8_lossy(stdout);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let parsed = pairs.map(|(number, words)| (number.parse().expect("a number"), words.to_owned()));
    parsed.collect()
}

/// Kinesis takes nothing.
fn down() -> Faults {
    let down = Rule::new(Action::ResetBefore).service(Service::Kinesis);
    Faults::seeded(1).rule(down.on("PutRecords"))
}

#[test]
fn each_of_many_clients_learns_where_each_of_its_records_lies() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    for spool in ["", "[spool]"] {
        let home = Home::with_socket_and(&site.endpoints, KPL, &encryption, spool);
        let agent = home.start_agent();
        let from = if spool.is_empty() { 0 } else { 4000 };
        let clients = [1, 1001, 2001, 3001].map(|n| send(&home, from + n..=from + n + 999));
        let stored: BTreeSet<String> = clients
            .into_iter()
            .flat_map(|client| {
                let answers = answers(&client.wait().expect_success().stdout);
                assert_eq!(answers.len(), 1000);
                answers.into_values()
            })
            .collect();
        let places = site.fake.records(STREAM).expect("it is there");
        let places: BTreeSet<String> = places
            .iter()
            .map(|r| format!("ok {} {}", r.shard, r.sequence))
            .collect();
        assert!(
            stored.is_subset(&places),
            "an answer names a record that is not there"
        );
        FinalReport::of(agent).expect_stored(4000);
    }
    let home = Home::with_socket_and(&site.endpoints, KPL, &encryption, "");
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=8000);
    arrived.expect_no_doubles();
}

/// Frames as a client of another making might send them.
fn put(id: u64, stream: &str, key: Option<&str>, hash_key: Option<&str>, data: &[u8]) -> Vec<u8> {
    let mut record = field(1, stream.as_bytes());
    record.extend(key.map(|key| field(2, key.as_bytes())).unwrap_or_default());
    record.extend(
        hash_key
            .map(|key| field(3, key.as_bytes()))
            .unwrap_or_default(),
    );
    record.extend(field(4, data));
    let mut message = vec![8];
    varint(id, &mut message);
    message.extend(field(3, &record));
    frame(&message)
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value > 0x7f {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[test]
fn what_is_wrong_is_told_by_its_name_and_holds_up_nothing() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::with_socket_and(&site.endpoints, KPL, "scope = \"off\"", "");
    let agent = home.start_agent();
    let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
    let long_key = "k".repeat(257);
    let large = vec![b'x'; 3 << 20];
    for frame in [
        put(1, "another", Some("k"), None, b"one"),
        put(2, STREAM, Some(&long_key), None, b"two"),
        put(3, STREAM, Some("k"), Some("-1"), b"three"),
        put(4, STREAM, None, Some("5"), b"four"),
        put(5, STREAM, Some("k"), None, &large),
        // No message; credentials; a request for metrics; a flush.
        frame(b"\xff\xff\xff"),
        frame(b"\x08\x01\x4a\x08\x12\x06\x0a\x01a\x12\x01b"),
        frame(b"\x08\x09\x3a\x00"),
        put(
            6,
            STREAM,
            Some("k"),
            Some("340282366920938463463374607431768211455"),
            b"six",
        ),
        put(7, STREAM, None, None, b""),
        frame(b"\x08\x0a\x22\x00"),
    ] {
        client.write_all(&frame).expect("it reads");
    }
    client
        .shutdown(std::net::Shutdown::Write)
        .expect("still connected");
    let mut told = Vec::new();
    client
        .read_to_end(&mut told)
        .expect("it answers, and hangs up");
    let mut told = &told[..];
    let mut by_id = BTreeMap::new();
    while !told.is_empty() {
        let (head, rest) = told.split_at(4);
        let len = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let (body, rest) = rest.split_at(len);
        told = rest;
        // The id, of one byte here, first.
        by_id.insert(body[1], String::from_utf8_lossy(body).into_owned());
    }
    let ids: Vec<u8> = by_id.keys().copied().collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 9]);
    for (id, code) in [
        (1, "ResourceNotFoundException"),
        (2, "InvalidPartitionKey"),
        (3, "InvalidExplicitHashKey"),
        (4, "InvalidPartitionKey"),
        (5, "TooLarge"),
        (6, "shardId-000000000000"),
        (7, "shardId-000000000000"),
    ] {
        assert!(by_id[&id].contains(code), "{id}: {:?}", by_id[&id]);
    }
    let report = FinalReport::of(agent);
    assert_eq!(report.account(), [3, 2, 0, 1, 0, 0, 0], "{}", report.said());
    assert!(
        report.said().contains("a client's frame is no message"),
        "{}",
        report.said()
    );
    assert!(home.dead_letters().is_empty(), "its sender knows");
}

#[test]
fn on_spooled_answers_come_while_kinesis_is_down_and_what_they_promise_outlives_kill_9() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let home = Home::with_socket_and(&site.endpoints, SPOOLED, &encryption, "[spool]");
    site.fake.set_faults(down());
    let agent = home.start_agent();
    let answers = answers(&send(&home, 1..=3000).wait().expect_success().stdout);
    assert_eq!(answers.len(), 3000);
    assert!(answers.values().all(|words| words == "ok - -"));
    agent.kill();
    site.fake.set_faults(Faults::seeded(2));
    let mut agent = home.start_agent();
    agent.until("all is stored", |_| {
        let stored = home.try_consume(&[]).stdout;
        (stored.split(|b| *b == b'\n').count() > 3000).then_some(())
    });
    FinalReport::of(agent).expect_stored(3000);
    Arrived::of(home.consume(&[])).expect_all(1..=3000);
}

#[test]
fn over_kills_at_random_no_record_is_missing_of_which_its_sender_was_told() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for (ack, more) in [(KPL, ""), (KPL, "[spool]"), (SPOOLED, "[spool]")] {
        let site = StandIn::start();
        site.endpoints.create_stream(STREAM, 2);
        let key = site.endpoints.create_key();
        let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
        let tenth = Rule::new(Action::ResetAfter).on("PutRecords").percent(10.0);
        site.fake.set_faults(Faults::seeded(seed).rule(tenth));
        let home = Home::with_socket_and(&site.endpoints, ack, &encryption, more);
        let (mut told, mut last) = (BTreeSet::new(), 0);
        for round in 0..4 {
            let mut agent = home.start_agent();
            let numbers = last + 1..=last + 5000;
            let mut client = send(&home, numbers.clone());
            let enough = site.fake.counters().records_stored + random.random_range(0..30);
            agent.until("some is stored", |_| {
                (site.fake.counters().records_stored >= enough).then_some(())
            });
            if round % 2 == 0 {
                // An answer is written some time after what it tells of was stored.
                client.until("some was answered", |client| {
                    (answers(&client.stdout()).len() >= 200).then_some(())
                });
            }
            agent.kill();
            // Some of its records have no answer, and it says so.
            let ended = client.wait();
            let answers = answers(&ended.stdout);
            let ok = answers.iter().filter(|(_, words)| words.starts_with("ok"));
            told.extend(ok.map(|(number, _)| last + number));
            last = *numbers.end();
        }
        let agent = home.start_agent();
        let client = send(&home, last + 1..=last + 100);
        client.wait().expect_success();
        told.extend(last + 1..=last + 100);
        FinalReport::of(agent);
        let arrived = Arrived::of(home.consume(&[]));
        arrived.expect_only(1..=last + 100);
        let missing: Vec<_> = told.iter().filter(|n| arrived.count(**n) == 0).collect();
        assert!(
            missing.is_empty(),
            "{ack} {more}: told of {}, missing {missing:?}",
            told.len()
        );
        assert!(told.len() > 200, "{ack} {more}: {} are no work", told.len());
    }
}

/// It takes no answers, and sends all the same.
#[test]
fn a_client_that_does_not_read_its_answers_holds_up_no_other() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let home = Home::with_socket_and(&site.endpoints, KPL, "scope = \"off\"", "");
    let agent = home.start_agent();
    let mut deaf = UnixStream::connect(home.socket()).expect("the agent listens");
    deaf.set_write_timeout(Some(Duration::from_secs(5)))
        .expect("settable");
    let mut taken = 0u64;
    // As much as the agent takes, which is bounded.
    while taken < 1_000_000
        && deaf
            .write_all(&put(taken, STREAM, None, None, b"deaf"))
            .is_ok()
    {
        taken += 1;
    }
    assert!((16_000..1_000_000).contains(&taken), "{taken}");
    let answers = answers(&send(&home, 1..=500).wait().expect_success().stdout);
    assert_eq!(answers.len(), 500);
    drop(deaf);
    drop(agent);
}
