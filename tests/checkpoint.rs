//! What a person and a rotation script see of the checkpoint, and change in it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use kinseal::fake::{Action, Entries, Faults, Rule};
use serde_json::Value;

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{self, Arrived};
use crate::support::process::{Ended, Running, run};
use crate::support::servers::StandIn;

const PLAIN: &str = "scope = \"off\"";

fn checkpoint(command: &str, home: &Home, more: &[&str]) -> Ended {
    let mut kinseal = kinseal();
    kinseal.args(["checkpoint", command, "--config"]);
    run(command, kinseal.arg(home.config()).args(more), b"")
}

fn listed(home: &Home) -> Vec<Value> {
    let list = checkpoint("list", home, &["--json"]);
    serde_json::Deserializer::from_slice(&list.stdout)
        .into_iter()
        .map(|line| line.expect("JSON"))
        .collect()
}

fn waiting(home: &Home, file: &Path) -> Running {
    let mut kinseal: Command = kinseal();
    kinseal.args(["checkpoint", "wait", "--config"]);
    Running::start("the wait", kinseal.arg(home.config()).arg(file))
}

fn rotated(log: &Path) -> PathBuf {
    log.with_extension("log.1")
}

#[test]
fn a_rotation_waits_until_all_of_the_file_is_stored_and_it_is_listed_as_such() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, PLAIN, "");
    lines::append(&home.log(), 1..=100).wait().expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    let [file] = &listed(&home)[..] else {
        panic!("one file is followed");
    };
    assert_eq!(
        (&file["state"], &file["bytes_behind"]),
        (&"stored".into(), &0.into())
    );
    checkpoint("wait", &home, &[home.log().to_str().expect("UTF-8")]).expect_success();

    // Nothing is stored any more, and the file ends in an unfinished line.
    let refuse = Rule::new(Action::Throttle(Entries::Percent(100.0))).on("PutRecords");
    site.fake.set_faults(Faults::default().rule(refuse));
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(home.log())
        .expect("there");
    log.write_all(b"unfinished").expect("room for it");
    drop(log);
    let file = listed(&home).remove(0);
    assert_eq!(
        (&file["state"], &file["bytes_behind"]),
        (&"behind".into(), &10.into())
    );
    fs::rename(home.log(), rotated(&home.log())).expect("one folder");
    let name = rotated(&home.log());
    let given_up = checkpoint(
        "wait",
        &home,
        &["--timeout", "1s", name.to_str().expect("UTF-8")],
    );
    assert_eq!(given_up.status.code(), Some(1));
    assert!(given_up.stderr.contains("behind"), "{given_up:?}");

    let wait = waiting(&home, &name);
    site.fake.set_faults(Faults::default());
    wait.wait().expect_success();
    fs::remove_file(&name).expect("there");
    // By its last name under which it was read; by another it is no longer known.
    checkpoint("wait", &home, &[home.log().to_str().expect("UTF-8")]).expect_success();
    let unknown = checkpoint("wait", &home, &[name.to_str().expect("UTF-8")]);
    assert!(unknown.stderr.contains("no such file"), "{unknown:?}");
    let file = listed(&home).remove(0);
    assert_eq!(file["state"], "stored, gone", "{file}");
    agent.kill();
    let arrived = home.consume(&[]);
    assert_eq!(arrived.len(), 101);
    assert!(arrived.iter().any(|line| line == b"unfinished"));
}

#[test]
fn reading_goes_on_where_it_was_set_and_begins_anew_where_it_was_reset_but_not_beside_an_agent() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, PLAIN, "");
    let log = home.log();
    fs::write(&log, "one\ntwo\nthree\n").expect("room for it");
    let name = log.to_str().expect("UTF-8");
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &log);
    let refused = checkpoint("set", &home, &[name, "4"]);
    assert!(refused.stderr.contains("in use by process"), "{refused:?}");
    FinalReport::of(agent);

    let refused = checkpoint("set", &home, &[name, "5"]);
    assert!(refused.stderr.contains("middle of a line"), "{refused:?}");
    let refused = checkpoint("set", &home, &[name, "99"]);
    assert!(refused.stderr.contains("past its end"), "{refused:?}");
    checkpoint("set", &home, &[name, "4"]).expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &log);
    FinalReport::of(agent);
    assert_eq!(home.consume(&[]).len(), 5, "the last two again");

    let export = checkpoint("export", &home, &[]).stdout;
    let saved = fs::read(home.state().join("checkpoint.json")).expect("there");
    assert_eq!(export, saved);
    let refused = checkpoint("reset", &home, &["/no/such.log"]);
    assert!(
        refused.stderr.contains("not in the checkpoint"),
        "{refused:?}"
    );
    checkpoint("reset", &home, &["--all"]).expect_success();
    assert_eq!(listed(&home), Vec::<Value>::new());
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &log);
    FinalReport::of(agent);
    assert_eq!(home.consume(&[]).len(), 8, "all three again");
}

#[test]
fn a_state_directory_that_is_removed_is_made_anew_and_is_whose_lock_is_in_it() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, PLAIN, "");
    lines::append(&home.log(), 1..=10).wait().expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    fs::remove_dir_all(home.state()).expect("ours");
    // Though nothing comes.
    home.until_settled(&mut agent, &home.log());
    assert!(agent.stderr().contains("locked again"), "{agent:?}");
    let refused = home.spawn_agent().wait();
    assert!(refused.stderr.contains("in use by process"), "{refused:?}");

    // While it sleeps another takes its place.
    agent.signal("STOP");
    fs::remove_dir_all(home.state()).expect("ours");
    let mut second = home.start_agent();
    agent.signal("CONT");
    let ended = agent.wait();
    let (code, said) = ended.refusal();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("in use by process"), "{said}");
    home.until_settled(&mut second, &home.log());
    FinalReport::of(second);
}

fn gz(text: &str) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(text.as_bytes()).expect("memory");
    gz.finish().expect("memory")
}

/// Waits until the agent has given up a file of this name.
fn until_damaged(home: &Home, agent: &mut Running, file: &Path) {
    let path = file.to_str().expect("UTF-8");
    let is_damaged = |row: &Value| row["path"] == path && row["state"] == "damaged";
    agent.until("a file is listed as damaged", |_| {
        listed(home).iter().any(is_damaged).then_some(())
    });
}

/// Also by the next agent.
fn expect_stored_once_set_to_its_end(home: &Home, name: &str) {
    checkpoint("set", home, &[name, "end"]).expect_success();
    checkpoint("wait", home, &[name]).expect_success();
    let agent = home.start_agent();
    checkpoint("wait", home, &[name]).expect_success();
    FinalReport::of(agent);
}

#[test]
fn a_damaged_file_is_not_stored_until_its_whole_copy_is_or_it_is_set_to_its_end() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, PLAIN, "");
    home.set_include(&["*.gz"]);
    let text: String = (1..=1000)
        .map(|number| lines::line(number) + "\n")
        .collect();
    // In the middle of a line: the whole file has two members, the damaged one something else behind the first.
    let (first, rest) = text.split_at(text.len() / 2 + 3);
    assert!(!first.ends_with('\n'));
    let damaged = [gz(first), b"no member of gzip's".repeat(10)].concat();
    let file = home.logs().join("a.gz");
    let name = file.to_str().expect("UTF-8");
    fs::write(&file, &damaged).expect("room for it");
    let mut agent = home.start_agent();
    until_damaged(&home, &mut agent, &file);
    assert!(agent.stderr().contains("compressed file is damaged"));
    let list = checkpoint("list", &home, &[]).stdout;
    assert!(String::from_utf8_lossy(&list).contains("a.gz: damaged, "));
    let expect_refused = || {
        let refused = checkpoint("wait", &home, &[name]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        for words in [name, "damaged", "whole copy", "checkpoint set"] {
            assert!(refused.stderr.contains(words), "{refused:?}");
        }
    };
    expect_refused();
    FinalReport::of(agent);
    expect_refused();
    let mut agent = home.start_agent();
    until_damaged(&home, &mut agent, &file);
    expect_refused();

    let copy = home.path().join("copy");
    fs::write(&copy, [gz(first), gz(rest)].concat()).expect("room for it");
    fs::rename(&copy, &file).expect("one folder");
    checkpoint("wait", &home, &[name]).expect_success();
    let rows = listed(&home);
    assert!(rows.iter().all(|row| row["state"] == "stored"), "{rows:?}");
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=1000);
    arrived.expect_no_doubles();

    let file = home.logs().join("b.gz");
    let name = file.to_str().expect("UTF-8");
    fs::write(&file, &damaged[100..]).expect("room for it");
    until_damaged(&home, &mut agent, &file);
    FinalReport::of(agent);
    expect_stored_once_set_to_its_end(&home, name);
}

/// Of a line that no record can hold, the file has what the dead letter has not.
#[test]
fn a_file_of_which_a_line_was_cut_off_is_not_stored_unless_it_is_set_to_its_end() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, PLAIN, "");
    let file = home.log();
    let name = file.to_str().expect("UTF-8");
    let text = ["x".repeat(11 << 20), lines::line(1), String::new()].join("\n");
    fs::write(&file, &text).expect("room for it");
    let agent = home.start_agent();
    let expect_refused = || {
        let refused = checkpoint("wait", &home, &[name]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        for words in [name, "dead letter", "in the file alone", "checkpoint set"] {
            assert!(refused.stderr.contains(words), "{refused:?}");
        }
        assert_eq!(listed(&home)[0]["state"], "cut");
        assert_eq!(listed(&home)[0]["stored"], false);
    };
    expect_refused();
    FinalReport::of(agent);
    // It goes on behind what is cut.
    let mut agent = home.start_agent();
    lines::append(&file, 2..=2).wait().expect_success();
    home.until_settled(&mut agent, &file);
    expect_refused();
    FinalReport::of(agent);
    Arrived::of(home.consume(&[])).expect_only(1..=2);

    expect_stored_once_set_to_its_end(&home, name);

    // Nor is a copy of such a file.
    home.set_include(&["*.log", "*.gz"]);
    let (old, copy) = (home.logs().join("old.log"), home.logs().join("old.log.gz"));
    fs::write(&old, &text).expect("room for it");
    for file in [&old, &copy] {
        let agent = home.start_agent();
        let refused = waiting(&home, file).wait();
        assert!(refused.stderr.contains("in the file alone"), "{refused:?}");
        FinalReport::of(agent);
        fs::write(&copy, gz(&text)).expect("room for it");
        let _ = fs::remove_file(&old);
    }
}

/// The checkpoint has such names with what is not UTF-8 replaced, which makes these two alike.
#[test]
fn of_names_that_are_not_utf_8_the_one_that_is_meant_is_forgotten_and_no_escape_is_printed() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, PLAIN, "");
    let [first, second] =
        [b"x\x1b\xff.log", b"x\x1b\xfe.log"].map(|name| home.logs().join(OsStr::from_bytes(name)));
    fs::write(&first, lines::line(1) + "\n").expect("room for it");
    fs::write(&second, lines::line(2) + "\n").expect("room for it");
    let agent = home.start_agent();
    for file in [&first, &second] {
        waiting(&home, file).wait().expect_success();
    }
    FinalReport::of(agent);
    let reset = |file: &Path| {
        let mut kinseal = kinseal();
        kinseal.args(["checkpoint", "reset", "--config"]);
        run("reset", kinseal.arg(home.config()).arg(file), b"")
    };
    let forgotten = reset(&second).expect_success();
    assert_eq!(forgotten.stdout, b"1 file forgotten\n");
    let refused = reset(&second);
    assert!(refused.stderr.contains(r"x\u{1b}"), "{}", refused.stderr);
    let agent = home.start_agent();
    waiting(&home, &second).wait().expect_success();
    FinalReport::of(agent);
    let arrived = Arrived::of(home.consume(&[]));
    assert_eq!((arrived.count(1), arrived.count(2)), (1, 2));
}
