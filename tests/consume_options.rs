//! What `kinseal consume` can be asked for: where from, how much, in which form, where to, and to go on after a restart.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use kinseal::fake::{Action, Faults, Rule, StoredRecord};
use serde_json::Value;

use crate::support::agent::{Home, STREAM, kinseal};
use crate::support::lines::{Arrived, append, line};
use crate::support::process::{Ended, Running, run};
use crate::support::servers::{REGION, StandIn};
use crate::support::until;

/// A stream with these lines, sealed.
fn sealed(shards: i32, lines: u64) -> (StandIn, String) {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, shards);
    let key = site.endpoints.create_key();
    write(&site, &key, 1, lines);
    (site, key)
}

fn write(site: &StandIn, key: &str, from: u64, to: u64) {
    let encryption =
        format!("scope = \"record\"\nkms_key = \"{key}\"\ncontext = {{ app = \"shop\" }}");
    let home = Home::new(&site.endpoints, &encryption, "");
    let mut agent = home.start_agent();
    append(&home.log(), from..=to).wait();
    home.until_settled(&mut agent, &home.log());
}

fn command(site: &StandIn, arguments: &[&str]) -> Command {
    let mut command = kinseal();
    command.args(["consume", "--stream", STREAM, "--region", REGION]);
    command.args(["--endpoint-url", &site.endpoints.kinesis]);
    command.args(["--kms-endpoint-url", &site.endpoints.kms]);
    command.args(arguments);
    command
}

fn consume(site: &StandIn, arguments: &[&str]) -> Ended {
    run("consume", &mut command(site, arguments), b"")
}

fn stdout(ended: &Ended) -> &str {
    std::str::from_utf8(&ended.stdout).expect("UTF-8")
}

/// As they are printed.
fn whole(numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|number| line(number) + "\n").collect()
}

#[test]
fn a_json_line_tells_all_that_is_known_of_a_record() {
    let (site, key) = sealed(1, 3);
    let ended = consume(
        &site,
        &["--kms-key", &key, "--until-empty", "--output", "json"],
    );
    assert!(ended.status.success(), "{}", ended.stderr);
    let lines: Vec<Value> = stdout(&ended)
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["data"], line(1));
    assert_eq!(lines[0]["shard"], "shardId-000000000000");
    assert_eq!(lines[1]["sub_sequence"], 1);
    assert_eq!(lines[0]["encryption"]["key"], key.as_str());
    assert_eq!(lines[0]["encryption"]["suite"], "0478");
    assert_eq!(lines[0]["encryption"]["context"]["app"], "shop");
    assert!(
        lines[0]["arrived"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );

    let hex = consume(&site, &["--raw=hex", "--until-empty"]);
    let base64 = consume(&site, &["--raw", "--until-empty"]);
    // An aggregate, and base64 of it.
    assert!(stdout(&hex).contains("\tf3899ac2"), "{}", stdout(&hex));
    assert!(stdout(&base64).contains("\t84mawg"), "{}", stdout(&base64));
    let bytes = consume(
        &site,
        &["--kms-key", &key, "--until-empty", "--output", "bytes"],
    );
    assert_eq!(stdout(&bytes), line(1) + &line(2) + &line(3));
}

#[test]
fn reading_begins_where_it_is_told_to_and_ends_after_so_many() {
    let (site, key) = sealed(1, 5);
    let first = site.fake.records(STREAM).expect("it is there").remove(0);
    write(&site, &key, 6, 9);
    let lines = |arguments: &[&str]| {
        let ended = consume(
            &site,
            &[&["--kms-key", &key, "--until-empty"], arguments].concat(),
        );
        assert!(ended.status.success(), "{}", ended.stderr);
        Arrived::of(stdout(&ended).lines())
    };
    lines(&["--limit", "2"]).expect_only(1..=2);
    lines(&["--from", "at-timestamp", "1h"]).expect_only(1..=9);
    let shard = "shardId-000000000000";
    lines(&[
        "--from",
        "after-sequence",
        &first.sequence,
        "--shard",
        shard,
    ])
    .expect_all(6..=9);
    let odd = consume(&site, &["--from", "after-sequence", "1"]);
    assert!(odd.stderr.contains("--shard"), "{}", odd.stderr);
    let odd = consume(&site, &["--shard", "shardId-7", "--until-empty"]);
    assert!(
        odd.stderr.contains("has no shard shardId-7"),
        "{}",
        odd.stderr
    );
}

/// kill -9 at any moment: what the checkpoint does not say is cut off the file, and read again.
#[test]
fn a_file_has_each_record_once_over_kills_and_a_reshard() {
    let (site, key) = sealed(2, 5000);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (out, checkpoint) = (dir.path().join("out.log"), dir.path().join("shop.json"));
    let paths = [
        out.to_str().expect("UTF-8"),
        checkpoint.to_str().expect("UTF-8"),
    ];
    let arguments = [
        "--kms-key",
        &key,
        "--out",
        paths[0],
        "--checkpoint",
        paths[1],
    ];
    let mut written = 5000;
    for round in 0..6 {
        let reading = Running::start("consume", &mut command(&site, &arguments));
        until("something is noted", || {
            let noted = fs::read_to_string(&checkpoint).unwrap_or_default();
            (lengths(&noted, &out).0 > 0 || round > 0).then_some(())
        });
        if round == 2 {
            site.fake
                .split(STREAM, "shardId-000000000000")
                .expect("it is open");
        }
        write(&site, &key, written + 1, written + 1000);
        written += 1000;
        reading.kill();
    }
    let ended = consume(&site, &[&arguments[..], &["--until-empty"]].concat());
    assert!(ended.status.success(), "{}", ended.stderr);
    let arrived = Arrived::of(fs::read_to_string(&out).expect("UTF-8").lines());
    arrived.expect_all(1..=written);
    arrived.expect_no_doubles();
    let noted = fs::read_to_string(&checkpoint).expect("saved");
    let (noted, there) = lengths(&noted, &out);
    assert_eq!(noted, there);

    fs::write(&out, "cut short").expect("ours");
    let odd = consume(&site, &arguments);
    assert!(
        odd.stderr.contains("cut short; put it back"),
        "{}",
        odd.stderr
    );
}

/// What is noted of the file, and what it has.
fn lengths(noted: &str, out: &Path) -> (u64, u64) {
    let noted: Value = serde_json::from_str(noted).unwrap_or_default();
    let there = out.metadata().map_or(0, |m| m.len());
    (noted["output_bytes"].as_u64().unwrap_or(0), there)
}

#[test]
fn what_cannot_be_opened_is_kept_with_its_reason_and_the_rest_goes_on() {
    let (site, key) = sealed(1, 3);
    let other = site.endpoints.create_key();
    write(&site, &other, 4, 5);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let letters = dir.path().join("letters");
    let arguments = ["--kms-key", &key, "--until-empty", "--dead-letter"];
    let ended = consume(
        &site,
        &[&arguments[..], &[letters.to_str().expect("UTF-8")]].concat(),
    );
    assert_eq!(ended.status.code(), Some(1));
    Arrived::of(stdout(&ended).lines()).expect_only(1..=3);
    let letters = fs::read_to_string(&letters).expect("made");
    let letters: Vec<Value> = letters
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert_eq!(letters.len(), 2);
    assert!(
        letters[0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(&other)),
        "{letters:?}"
    );
    assert!(
        letters[0]["data_base64"]
            .as_str()
            .is_some_and(|data| data.starts_with("AgR4"))
    );

    // Whoever accepts any key reads both.
    let ended = consume(
        &site,
        &["--discover", "--context", "app=shop", "--until-empty"],
    );
    assert!(ended.status.success(), "{}", ended.stderr);
    Arrived::of(stdout(&ended).lines()).expect_only(1..=5);
    let ended = consume(
        &site,
        &["--discover", "--context", "app=other", "--until-empty"],
    );
    assert_eq!((ended.status.code(), stdout(&ended)), (Some(1), ""));
}

#[test]
fn where_kms_refuses_the_key_reading_stops_and_the_checkpoint_before_its_records() {
    let (site, key) = sealed(1, 50);
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (checkpoint, out) = (at("checkpoint"), at("out"));
    let read = |key: &str, more: &[&str]| {
        let mut arguments = vec![
            "--kms-key",
            key,
            "--until-empty",
            "--checkpoint",
            &checkpoint,
        ];
        arguments.extend(more);
        consume(&site, &arguments)
    };
    fs::write(&out, "precious").expect("room");
    let refused = read("alias/nope", &["--out", &out]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("stopped there"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        refused.stderr.matches("does not exist").count(),
        1,
        "{}",
        refused.stderr
    );
    assert!(!Path::new(&checkpoint).exists());
    let denied = Rule::new(Action::access_denied()).on("Decrypt");
    site.fake.set_faults(Faults::seeded(1).rule(denied));
    assert_eq!(read(&key, &[]).status.code(), Some(1));
    assert!(!Path::new(&checkpoint).exists());
    site.fake.set_faults(Faults::none());
    // Where they are kept, they are passed.
    let letters = at("letters");
    let kept = read("alias/nope", &["--out", &out, "--dead-letter", &letters]);
    assert_eq!(kept.status.code(), Some(1), "{}", kept.stderr);
    assert_eq!(
        fs::read_to_string(&letters)
            .expect("written")
            .lines()
            .count(),
        50
    );
    fs::remove_file(&checkpoint).expect("it has moved");
    let ended = read(&key, &["--out", &out]);
    assert!(ended.status.success(), "{}", ended.stderr);
    let lines = fs::read_to_string(&out).expect("written");
    assert_eq!(lines, whole(1..=50));
}

/// In the middle of a page: what was printed of it is noted, and each record comes once over both runs.
#[test]
fn where_kms_refuses_a_later_key_what_came_before_it_is_noted() {
    let (site, key) = sealed(1, 30);
    let other = site.endpoints.create_key();
    write(&site, &other, 31, 50);
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (checkpoint, out) = (at("checkpoint"), at("out"));
    let read = || {
        let keys = ["--kms-key", &key, "--kms-key", &other, "--until-empty"];
        let files = ["--checkpoint", &checkpoint, "--out", &out];
        consume(&site, &[&keys[..], &files].concat())
    };
    site.fake.enable_key(&other, false).expect("it is there");
    let stopped = read();
    assert_eq!(stopped.status.code(), Some(1));
    assert!(
        !stopped.stderr.contains("passed over"),
        "{}",
        stopped.stderr
    );
    let lines = || fs::read_to_string(&out).expect("written");
    assert_eq!(lines(), whole(1..=30));
    assert!(Path::new(&checkpoint).exists(), "{}", stopped.stderr);
    site.fake.enable_key(&other, true).expect("it is there");
    let ended = read();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(lines(), whole(1..=50));
}

#[test]
fn a_checkpoint_of_a_stream_that_was_made_anew_is_refused_by_its_name() {
    let (site, key) = sealed(1, 3);
    let dir = tempfile::tempdir().expect("a folder");
    let checkpoint = dir.path().join("checkpoint").display().to_string();
    let arguments = ["--kms-key", &key, "--until-empty", "--checkpoint"];
    let arguments = [&arguments[..], &[&checkpoint]].concat();
    assert!(consume(&site, &arguments).status.success());
    site.endpoints.delete_stream(STREAM);
    site.endpoints.create_stream(STREAM, 1);
    write(&site, &key, 4, 5);
    let ended = consume(&site, &arguments);
    assert_eq!((ended.status.code(), stdout(&ended)), (Some(1), ""));
    for word in [&*checkpoint, "made anew", "move that away"] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
}

#[test]
fn a_file_that_is_named_for_something_else_is_not_written_and_none_before_there_is_something_to_write()
 {
    let (site, key) = sealed(1, 1);
    let dir = tempfile::tempdir().expect("a folder");
    let keys = dir.path().join("key.toml");
    fs::write(&keys, "precious").expect("room");
    let name = keys.display().to_string();
    let ended = consume(&site, &["--wrapping-key", &name, "--out", &name]);
    assert_eq!(ended.status.code(), Some(64));
    assert!(
        ended.stderr.contains("a file of its own"),
        "{}",
        ended.stderr
    );
    let mut elsewhere = command(
        &site,
        &["--kms-key", &key, "--out", &name, "--stream", "nowhere"],
    );
    let mut arguments: Vec<_> = elsewhere.get_args().map(ToOwned::to_owned).collect();
    arguments.drain(1..3);
    elsewhere = kinseal();
    elsewhere.args(arguments);
    let ended = run("consume", &mut elsewhere, b"");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&keys).expect("there"), "precious");
}

#[test]
fn to_what_is_no_file_a_checkpoint_is_kept_as_it_is_to_standard_output() {
    let (site, key) = sealed(1, 20);
    let dir = tempfile::tempdir().expect("a folder");
    let checkpoint = dir.path().join("checkpoint").display().to_string();
    let arguments = [
        "--kms-key",
        &key,
        "--until-empty",
        "--checkpoint",
        &checkpoint,
    ];
    let nowhere = ["--out", "/dev/null", "--dead-letter", "/dev/null"];
    for _ in 0..2 {
        let ended = consume(&site, &[&arguments[..], &nowhere].concat());
        assert!(ended.status.success(), "{}", ended.stderr);
    }
    write(&site, &key, 21, 25);
    let further = consume(&site, &arguments);
    assert!(further.status.success(), "{}", further.stderr);
    assert_eq!(stdout(&further), whole(21..=25));
}

#[test]
fn records_go_to_a_socket_too() {
    let (site, key) = sealed(1, 100);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("records.sock");
    let listener = UnixListener::bind(&path).expect("a path of ours");
    let taking = std::thread::spawn(move || {
        let mut text = String::new();
        let (mut client, _) = listener.accept().expect("it connects");
        client.read_to_string(&mut text).expect("UTF-8");
        text
    });
    let ended = consume(
        &site,
        &[
            "--kms-key",
            &key,
            "--until-empty",
            "--out",
            path.to_str().expect("UTF-8"),
        ],
    );
    assert!(ended.status.success(), "{}", ended.stderr);
    Arrived::of(taking.join().expect("no panic").lines()).expect_only(1..=100);
}

#[test]
fn a_socket_whose_reader_goes_away_fails_the_command() {
    let (site, key) = sealed(1, 20_000);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("records.sock");
    let listener = UnixListener::bind(&path).expect("a path of ours");
    let leaving = std::thread::spawn(move || drop(listener.accept().expect("it connects")));
    let out = path.to_str().expect("UTF-8");
    let ended = consume(&site, &["--kms-key", &key, "--until-empty", "--out", out]);
    leaving.join().expect("no panic");
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("whoever read from it is gone"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_checkpoint_is_one_processs_at_a_time_and_so_is_a_file() {
    let (site, key) = sealed(1, 10);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (out, checkpoint) = (path("out"), path("checkpoint"));
    let first = [
        "--kms-key",
        &key,
        "--out",
        &out,
        "--checkpoint",
        &checkpoint,
    ];
    let first = Running::start("the first", &mut command(&site, &first));
    until("it has printed", || {
        fs::read_to_string(&out)
            .is_ok_and(|text| text.lines().count() == 10)
            .then_some(())
    });
    let refused = |arguments: &[&str], code: i32, told: &str| {
        let ended = consume(
            &site,
            &[&["--kms-key", &key, "--until-empty"], arguments].concat(),
        );
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        assert_eq!(ended.status.code(), Some(code));
    };
    refused(
        &["--out", &path("b"), "--checkpoint", &checkpoint],
        1,
        "in use by another process",
    );
    refused(&["--out", &out], 1, "another process writes to it");
    refused(
        &["--out", &path("c"), "--dead-letter", &path("c")],
        64,
        "are both",
    );
    first.signal("TERM");
    assert!(first.wait().status.success());
    let text = fs::read_to_string(&out).expect("text");
    Arrived::of(text.lines()).expect_only(1..=10);
    let goes_on = consume(
        &site,
        &[
            "--kms-key",
            &key,
            "--until-empty",
            "--out",
            &out,
            "--checkpoint",
            &checkpoint,
        ],
    );
    assert!(goes_on.status.success(), "{}", goes_on.stderr);
}

/// It was locked as a file is, and the second one refused.
#[test]
fn what_is_no_file_may_be_printed_to_by_several() {
    let (site, key) = sealed(1, 3);
    let follow = ["--kms-key", &key, "--out", "/dev/null"];
    let first = Running::start("the first", &mut command(&site, &follow));
    until("it reads", || {
        (site.fake.counters().get_records_calls() > 0).then_some(())
    });
    let second = consume(
        &site,
        &["--kms-key", &key, "--until-empty", "--out", "/dev/null"],
    );
    assert!(second.status.success(), "{}", second.stderr);
    first.signal("TERM");
    assert!(first.wait().status.success());
}

/// Aggregates are of more records than the limit: once each run printed the first of them again.
#[test]
fn with_a_limit_and_a_checkpoint_each_run_goes_on_where_the_last_one_ended() {
    let (site, key) = sealed(1, 700);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (out, checkpoint) = (path("out"), path("checkpoint"));
    let arguments = [
        "--kms-key",
        &key,
        "--until-empty",
        "--limit",
        "3",
        "--out",
        &out,
        "--checkpoint",
        &checkpoint,
    ];
    let mut lengths = vec![0];
    loop {
        let ended = consume(&site, &arguments);
        assert!(ended.status.success(), "{}", ended.stderr);
        let text = fs::read_to_string(&out).expect("text");
        lengths.push(text.lines().count());
        if lengths.last() == Some(&700) {
            Arrived::of(text.lines()).expect_only(1..=700);
            break;
        }
        assert!(
            lengths.is_sorted_by(|a, b| a < b),
            "no way forward: {lengths:?}"
        );
    }
    assert!(lengths.len() > 2, "the limit ended some: {lengths:?}");
}

/// A lone stray, as a reshard leaves one behind: its writer has sent it again.
#[test]
fn with_the_kcls_filter_an_aggregate_with_a_stray_is_left_out_and_told() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let home = Home::keyed(&site.endpoints, "\"hash\"", "scope = \"off\"");
    let mut agent = home.start_agent();
    append(&home.log(), 1..=500).wait();
    home.until_settled(&mut agent, &home.log());
    let aggregates = site.fake.records(STREAM).expect("it is there");
    let all = consume(&site, &["--until-empty"]);
    Arrived::of(stdout(&all).lines()).expect_only(1..=500);
    // The same bytes on the other shard.
    let moved: &StoredRecord = &aggregates[0];
    let elsewhere = aggregates
        .iter()
        .find(|a| a.shard != moved.shard)
        .expect("both have some");
    site.endpoints
        .put(STREAM, &moved.data, &elsewhere.hash_key.to_string());
    let doubled = consume(&site, &["--until-empty"]);
    assert!(Arrived::of(stdout(&doubled).lines()).copies() > 500);
    let filtered = consume(&site, &["--until-empty", "--kcl-filter"]);
    let arrived = Arrived::of(stdout(&filtered).lines());
    arrived.expect_only(1..=500);
    arrived.expect_no_doubles();
    assert!(
        filtered.stderr.contains("as the KCL leaves them out"),
        "{}",
        filtered.stderr
    );
}
