//! Records that cannot be read again, over kill -9 and outages: they wait on disk.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use kinseal::fake::{Action, Faults, Rule, Service};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{Arrived, line};
use crate::support::process::Running;
use crate::support::servers::StandIn;

const LINES: u64 = 20_000;
const SPOOL: &str = "[metrics]\nlog_interval = \"1s\"\n[spool]";

/// Kinesis takes nothing.
fn down() -> Faults {
    let down = Rule::new(Action::ResetBefore).service(Service::Kinesis);
    Faults::seeded(1).rule(down.on("PutRecords"))
}

fn send(home: &Home, numbers: std::ops::RangeInclusive<u64>) {
    let client = UnixStream::connect(home.socket()).expect("the agent listens");
    let mut client = BufWriter::new(client);
    for number in numbers {
        writeln!(client, "{}", line(number)).expect("the agent reads");
    }
    client.flush().expect("the agent reads");
    let client = client.into_inner().expect("flushed");
    client.shutdown(Shutdown::Write).expect("still connected");
}

fn until_spooled(agent: &mut Running, records: u64) {
    let said = format!("of which {records} in the spool");
    agent.until("all of it is in the spool", |agent| {
        agent
            .stderr()
            .replace(',', "")
            .contains(&said)
            .then_some(())
    });
}

#[test]
fn what_was_read_from_a_socket_outlives_kill_9_and_an_outage_in_ciphertext() {
    for scope in ["record", "block"] {
        let site = StandIn::start();
        site.endpoints.create_stream(STREAM, 2);
        let key = site.endpoints.create_key();
        let encryption = format!("scope = \"{scope}\"\nkms_key = \"{key}\"");
        let home = Home::with_socket(&site.endpoints, &encryption, SPOOL);
        site.fake.set_faults(down());
        let mut agent = home.start_agent();
        send(&home, 1..=LINES / 2);
        until_spooled(&mut agent, LINES / 2);
        agent.kill();
        for file in files(&home) {
            let bytes = fs::read(&file).expect("readable");
            let clear = bytes.windows(6).any(|w| w == b"order-" || w == b"symbol");
            assert!(!clear, "{} holds plaintext", file.display());
        }

        let listed = kinseal()
            .args(["spool", "list", "--config"])
            .arg(home.config())
            .output();
        let listed = String::from_utf8(listed.expect("it runs").stdout).expect("UTF-8");
        assert!(
            listed.starts_with("shop-logs: 10,000 records wait, the oldest for "),
            "{listed}"
        );
        assert!(!listed.contains("plaintext"), "{listed}");

        // Once more, and stopped in peace: nothing is abandoned.
        let mut agent = home.start_agent();
        send(&home, LINES / 2 + 1..=LINES);
        until_spooled(&mut agent, LINES);
        agent.signal("TERM");
        let report = FinalReport::said_in(agent.wait().expect_success());
        assert_eq!(
            report.account(),
            [LINES, 0, 0, 0, 0, 0, LINES],
            "{}",
            report.said()
        );

        site.fake.set_faults(Faults::seeded(2));
        let mut agent = home.start_agent();
        let stored = format!("stored {LINES}");
        agent.until("all is stored", |agent| {
            agent
                .stderr()
                .replace(',', "")
                .contains(&stored)
                .then_some(())
        });
        FinalReport::of(agent).expect_stored(LINES);
        let arrived = Arrived::of(home.consume(&[]));
        arrived.expect_all(1..=LINES);
        arrived.expect_no_doubles();
        assert!(segments(&home).is_empty(), "{:?}", segments(&home));
    }
}

fn files(home: &Home) -> Vec<std::path::PathBuf> {
    let folder = home.state().join("spool").join(STREAM);
    let entries = fs::read_dir(folder).expect("the agent made it");
    entries.map(|e| e.expect("readable").path()).collect()
}

fn segments(home: &Home) -> Vec<std::path::PathBuf> {
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "spool");
    files(home).into_iter().filter(is_segment).collect()
}

/// Records that the spool on disk knows to be settled.
fn cursor(home: &Home) -> u64 {
    let path = home.state().join("spool").join(STREAM).join("cursor.json");
    let Ok(text) = fs::read(path) else { return 0 };
    let saved: Value = serde_json::from_slice(&text).expect("whole at any moment");
    saved["settled"].as_u64().expect("a number")
}

#[test]
fn of_standard_input_all_that_came_before_the_kill_is_there_but_for_its_end() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let home = Home::with_source(&site.endpoints, "type = \"stdin\"", &encryption, SPOOL);
    // Each run has its own thousand thousands of lines.
    let run = |number: u64| number * 1_000_000;
    let mut cursors = Vec::new();
    for killed in 0..5 {
        let mut command = kinseal();
        command.stdin(Stdio::piped()).args(["agent", "--config"]);
        let mut agent = Running::start("kinseal agent", command.arg(home.config()));
        let mut input = BufWriter::new(agent.stdin());
        let feeder = std::thread::spawn(move || {
            for number in run(killed) + 1..run(killed + 1) {
                if writeln!(input, "{}", line(number)).is_err() {
                    return;
                }
            }
        });
        let before = site.fake.counters().records_stored;
        let enough = before + random.random_range(1..40);
        agent.until("some is stored", |_| {
            (site.fake.counters().records_stored >= enough).then_some(())
        });
        agent.kill();
        feeder.join().expect("it only writes");
        cursors.push(cursor(&home));
    }
    let mut command = kinseal();
    command
        .stdin(Stdio::null())
        .args(["agent", "--config"])
        .arg(home.config());
    // Its input ends at once: it sends what is there, and ends.
    let ended = Running::start("kinseal agent", &mut command).wait();
    let report = FinalReport::said_in(ended.expect_success());
    let [accepted, stored, .., pending] = report.account();
    assert_eq!((stored, pending), (accepted, 0), "{}", report.said());

    let arrived = Arrived::of(home.consume(&[]));
    // The place of a line among all that the spool ever took.
    let mut place = 0;
    for killed in 0..5 {
        let came = (run(killed) + 1..run(killed + 1)).take_while(|n| arrived.count(*n) > 0);
        let came = came.count() as u64;
        let after = run(killed) + came + 1..run(killed + 1);
        let holes: Vec<u64> = after.filter(|n| arrived.count(*n) > 0).take(3).collect();
        assert_eq!(
            holes, [0; 0],
            "after {came} lines of run {killed} one is missing"
        );
        for number in run(killed) + 1..=run(killed) + came {
            let again = cursors
                .iter()
                .skip(killed as usize)
                .filter(|c| **c <= place)
                .count();
            assert!(
                arrived.count(number) <= 1 + again as u64,
                "line {number} is the {place}th and there {} times; cursors at the kills: {cursors:?}",
                arrived.count(number)
            );
            place += 1;
        }
    }
    assert!(place > 5 * 1000, "{place} lines are no work");
}

#[test]
fn a_spool_that_is_removed_in_an_outage_is_written_again_whether_the_agent_is_stopped_or_killed() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::with_socket(&site.endpoints, "scope = \"off\"", SPOOL);
    site.fake.set_faults(down());
    let mut agent = home.start_agent();
    send(&home, 1..=1000);
    until_spooled(&mut agent, 1000);
    // The agent may write to it between the last look and its end.
    agent.until("it is removed", |_| fs::remove_dir_all(home.state()).ok());
    // At once: its last look is at its end.
    agent.signal("TERM");
    let ended = agent.wait().expect_success();
    assert!(ended.stderr.contains("written again"), "{ended:?}");
    assert_eq!(
        FinalReport::said_in(ended).account(),
        [1000, 0, 0, 0, 0, 0, 1000]
    );

    let mut agent = home.start_agent();
    until_spooled(&mut agent, 1000);
    let size = |home: &Home| {
        let folder = home.state().join("spool").join(STREAM);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let segments = entries.filter(|e| e.path().extension().is_some_and(|e| e == "spool"));
        segments
            .map(|e| e.metadata().map_or(0, |meta| meta.len()))
            .sum::<u64>()
    };
    let before = size(&home);
    fs::remove_dir_all(home.state()).expect("ours");
    // Though nothing comes.
    agent.until("it looks, has written, and says so", |agent| {
        let written = size(&home) == before;
        (written && agent.stderr().contains("written again")).then_some(())
    });
    agent.kill();

    site.fake.set_faults(Faults::seeded(2));
    let agent = home.start_agent();
    FinalReport::of(agent).expect_stored(1000);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=1000);
    arrived.expect_no_doubles();
}

#[test]
fn a_spool_that_is_not_there_is_told_from_an_empty_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut list = kinseal();
    list.args(["spool", "list", "--state-dir"]).arg(dir.path());
    let ended = Running::start("spool list", &mut list).wait();
    let (code, said) = ended.refusal();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no such directory: no agent"), "{said}");
    fs::create_dir(dir.path().join("spool")).expect("ours");
    let mut list = kinseal();
    list.args(["spool", "list", "--state-dir"]).arg(dir.path());
    let ended = Running::start("spool list", &mut list).wait();
    assert_eq!(
        ended.expect_success().stdout,
        b"nothing was ever in the spool\n"
    );
}
