//! Records that are more than their lines: envelopes and `data_processing`.

use std::io::Write as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::{fs, process};

use serde_json::{Value, json};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::servers::StandIn;

const PLAIN: &str = "scope = \"off\"";

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    site
}

/// What is in the stream, in the order of `key`.
fn records(home: &Home, key: fn(&Value) -> String) -> Vec<Value> {
    let records = home.consume(&[]);
    let records = records.iter().map(|record| serde_json::from_slice(record));
    let mut records: Vec<Value> = records.collect::<Result<_, _>>().expect("JSON");
    records.sort_by_key(key);
    records
}

#[test]
fn every_line_of_a_file_says_where_it_was_across_a_restart() {
    let site = site();
    let source = "format = \"json\"\nenvelope = true\nlabels = { service = \"shop\" }";
    let home = Home::with_files_and(&site.endpoints, source, PLAIN, "");
    let lines: [&[u8]; 6] = [b"{\"n\":1}", b"", b"text", b"\xff", b"{\"n\":2", b"last"];
    let (first, second) = lines.split_at(3);
    let text = |lines: &[&[u8]]| {
        lines
            .iter()
            .map(|line| [line, &b"\n"[..]].concat())
            .collect::<Vec<_>>()
            .concat()
    };
    fs::write(home.log(), text(first)).expect("room for it");
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(3);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(home.log())
        .expect("ours");
    file.write_all(&text(second)).expect("room for it");
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(3);

    let stored = records(&home, |record| {
        format!("{:09}", record["offset"].as_u64().expect("a number"))
    });
    let mut at = 0;
    for (record, line) in stored.iter().zip(lines) {
        let (key, message) = match line {
            b"{\"n\":1}" => ("message", json!({ "n": 1 })),
            b"\xff" => ("message_base64", json!("/w==")),
            text => ("message", json!(std::str::from_utf8(text).expect("text"))),
        };
        let mut expected = json!({
            "timestamp": record["timestamp"],
            "host": record["host"],
            "file": home.log(),
            "offset": at,
            "labels": { "service": "shop" },
        });
        expected[key] = message;
        assert_eq!(record, &expected);
        assert!(
            record["timestamp"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        assert!(record["host"].as_str().is_some_and(|host| !host.is_empty()));
        at += line.len() + 1;
    }
    assert_eq!(stored.len(), lines.len());
}

#[test]
fn clients_are_named_where_that_is_asked_for_and_datagrams_have_their_envelope_too() {
    let site = site();
    let source = "envelope.fields = [\"peer\"]\nlabels.service = \"shop\"";
    let home = Home::with_socket_and(&site.endpoints, source, PLAIN, "");
    let agent = home.start_agent();
    let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
    client.write_all(b"{\"a\":1}\nb").expect("it reads");
    drop(client);
    FinalReport::of(agent).expect_stored(2);
    let stored = records(&home, |record| record["message"].to_string());
    let me = rustix::process::geteuid().as_raw();
    let my_group = rustix::process::getegid().as_raw();
    for (record, message) in stored.iter().zip(["b", "{\"a\":1}"]) {
        let expected = json!({
            "peer": { "pid": process::id(), "uid": me, "gid": my_group },
            "labels": { "service": "shop" },
            "message": message,
        });
        assert_eq!(record, &expected);
    }
    assert_eq!(stored.len(), 2);

    let site = self::site();
    let source = "type = \"unix_datagram\"\npath = \"SOCKET\"\nenvelope = { fields = [] }";
    let home = Home::with_source(&site.endpoints, source, PLAIN, "");
    let agent = home.start_agent();
    let sender = UnixDatagram::unbound().expect("a socket");
    sender
        .send_to(b"one\ntwo", home.socket())
        .expect("it reads");
    FinalReport::of(agent).expect_stored(1);
    assert_eq!(home.consume(&[]), [br#"{"message":"one\ntwo"}"#]);
}

#[test]
fn what_data_processing_cannot_take_is_stored_as_it_was_and_told_of() {
    let site = site();
    let source = "data_processing = [{ option_name = \"LOGTOJSON\", log_format = \"SYSLOG\" }]";
    let home = Home::with_socket_and(&site.endpoints, source, PLAIN, "");
    let agent = home.start_agent();
    let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
    for n in 0..2_000 {
        writeln!(client, "Nov 25 07:43:28 h p[{n}]: message {n}", n = n + 1).expect("it reads");
        writeln!(client, "plain {n}").expect("it reads");
    }
    drop(client);
    let report = FinalReport::of(agent);
    report.expect_stored(4_000);
    assert!(
        report.said().contains("transforms=LOGTOJSON"),
        "{}",
        report.said()
    );
    let (json, plain): (Vec<_>, Vec<_>) = home
        .consume(&[])
        .into_iter()
        .partition(|record| record[0] == b'{');
    let mut plain: Vec<_> = plain
        .into_iter()
        .map(|text| String::from_utf8(text).expect("text"))
        .collect();
    let mut expected: Vec<_> = (0..2_000).map(|n| format!("plain {n}")).collect();
    plain.sort();
    expected.sort();
    assert_eq!(plain, expected);
    let mut numbers: Vec<usize> = json.iter().map(|record| {
        let record: Value = serde_json::from_slice(record).expect("JSON");
        let number: usize = record["processid"].as_str().expect("a string").parse().expect("a number");
        let expected = json!({
            "timestamp": "Nov 25 07:43:28", "hostname": "h", "program": "p", "processid": number.to_string(),
            "message": format!("message {number}"),
        });
        assert_eq!(record, expected);
        number
    }).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=2_000));
}
