//! Files as log writers treat them: rotated, and longer at each start of the agent.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::RangeInclusive;

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::process::Running;
use crate::support::servers::StandIn;

const PLAIN: &str = "scope = \"off\"";
const OFTEN: &str = "[metrics]\nlog_interval = \"1s\"";

#[test]
fn lines_on_both_sides_of_a_rename_arrive_once() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, OFTEN);
    let mut agent = home.start_agent();
    for turn in 0..4 {
        let numbers = turn * 20_000 + 1..=(turn + 1) * 20_000;
        let rename = format!("mv \"$1\" \"$1.{turn}\"");
        lines::append_then(&home.log(), numbers, &rename)
            .wait()
            .expect_success();
    }
    lines::append(&home.log(), 80_001..=100_000)
        .wait()
        .expect_success();
    until_stored(&mut agent, "100,000");

    FinalReport::of(agent).expect_stored(100_000);
    expect_once(&home, 100_000);
}

#[test]
fn an_orderly_restart_doubles_nothing() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, "");
    let writer = lines::append(&home.log(), 1..=50_000);
    for stop in 1..=4 {
        let mut agent = home.start_agent();
        agent.until("some lines are stored", |_| {
            (site.fake.counters().records_stored >= stop * 2).then_some(())
        });
        FinalReport::of(agent);
    }
    writer.wait().expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);
    expect_once(&home, 50_000);
}

#[test]
fn a_file_that_appears_later_is_read_from_its_beginning() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, OFTEN);
    lines::append(&home.log(), 1..=1_000)
        .wait()
        .expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    let later = home.logs().join("returns.log");
    lines::append(&later, 1_001..=2_000).wait().expect_success();
    home.until_settled(&mut agent, &later);

    FinalReport::of(agent).expect_stored(2_000);
    expect_once(&home, 2_000);
}

#[test]
fn stack_traces_arrive_whole_across_a_kill_9_in_the_middle_of_one() {
    let site = site();
    let joined = "[source.multiline]\npreset = \"java\"\ntimeout = \"10m\"";
    let home = Home::new(&site.endpoints, PLAIN, joined);
    let write = |text: &str| {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.log());
        let log = log.as_mut().expect("a file of ours");
        log.write_all(text.as_bytes()).expect("room for it");
    };
    let traces = |numbers: RangeInclusive<u64>| numbers.map(trace).collect::<String>();
    let (begun, rest) = (trace(51), trace(51));
    let (begun, rest) = (&begun[..100], &rest[100..]);
    write(&traces(1..=50));
    write(begun);
    let mut agent = home.start_agent();
    let whole = traces(1..=50).len() as u64;
    agent.until("all whole traces are stored", |_| {
        home.settled(&home.log()).filter(|offset| *offset >= whole)
    });
    assert_eq!(home.settled(&home.log()), Some(whole), "and none in part");
    agent.kill();

    write(rest);
    write(&traces(52..=100));
    let end = traces(1..=100).len() as u64;
    write("the end\n");
    let mut agent = home.start_agent();
    agent.until("all is stored but the last line", |_| {
        (home.settled(&home.log())? == end).then_some(())
    });
    FinalReport::of(agent).expect_stored(50);
    let stored = home.consume(&[]).join(&b'\n');
    let mut stored = String::from_utf8(stored).expect("as it was written") + "\n";
    for number in 1..=100 {
        let before = stored.len();
        stored = stored.replacen(&trace(number), "", 1);
        assert_eq!(before - stored.len(), trace(number).len(), "trace {number}");
    }
    assert_eq!(stored, "", "each once");
}

fn trace(number: u64) -> String {
    format!(
        "java.lang.IllegalStateException: order-{number} has no stock\n\
         \tat shop.Order.place(Order.java:42)\n\
         \tat shop.Shop.main(Shop.java:7)\n\
         Caused by: java.sql.SQLException: order-{number} took too long\n\
         \tat shop.Db.query(Db.java:9)\n\
         \t... 2 more\n"
    )
}

#[test]
fn what_containers_wrote_arrives_whole_across_a_kill_9() {
    for format in ["cri", "docker"] {
        let site = site();
        let source = format!(
            "format = \"{format}\"\nmultiline = {{ preset = \"java\", timeout = \"10m\" }}"
        );
        let home = Home::with_files_and(&site.endpoints, &source, PLAIN, "");
        let write = |text: &str| {
            let mut log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(home.log());
            let log = log.as_mut().expect("a file of ours");
            log.write_all(text.as_bytes()).expect("room for it");
        };
        // Traces on one stream, each cut in the middle of its first line, and lines on the other between their lines.
        let entries = |number: u64| {
            let (trace, mut text) = (trace(number), String::new());
            for (i, line) in trace.lines().enumerate() {
                let (begin, end) = line.split_at(if i == 0 { 20 } else { 0 });
                if i == 0 {
                    text += &entry(format, "stderr", begin, false);
                }
                text += &entry(format, "stdout", &format!("order-{number} line {i}"), true);
                text += &entry(format, "stderr", end, true);
            }
            text
        };
        let text: Vec<String> = (1..=100).map(entries).collect();
        let middle = text[50].len() / 2;
        write(&text[..50].concat());
        write(&text[50][..middle]);
        let mut agent = home.start_agent();
        // Of the trace before it, nobody knows yet that it has ended.
        let whole = text[..49].concat().len() as u64;
        agent.until("what is whole is stored", |_| {
            home.settled(&home.log()).filter(|offset| *offset >= whole)
        });
        agent.kill();
        write(&text[50][middle..]);
        write(&text[51..].concat());
        let agent = home.start_agent();
        let all = text.concat().len() as u64;
        let mut agent = agent;
        agent.until("the last trace is all that is left", |_| {
            home.settled(&home.log())
                .filter(|offset| *offset >= all - text[99].len() as u64)
        });
        write(&entry(format, "stderr", "the end", true));
        write(&entry(format, "stdout", "the end", true));
        let end = std::fs::metadata(home.log()).expect("written").len();
        agent.until("only the last two lines are left", |_| {
            home.settled(&home.log()).filter(|offset| {
                end - offset <= 2 * entry(format, "stderr", "the end", true).len() as u64
            })
        });
        FinalReport::of(agent);
        let mut stored =
            String::from_utf8(home.consume(&[]).join(&b'\n')).expect("as it was written") + "\n";
        // What was stored behind the checkpoint is there twice, and whole each time.
        for number in 1..=100 {
            let (trace, line) = (trace(number), format!("order-{number} line "));
            assert!(stored.contains(&trace), "{format} {number}");
            stored = stored.replace(&trace, "");
            for i in 0..trace.lines().count() {
                let line = format!("{line}{i}\n");
                assert!(stored.contains(&line), "{format} {line}");
                stored = stored.replace(&line, "");
            }
        }
        assert_eq!(stored.replace("the end\n", ""), "", "and nothing in part");
    }
}

/// A line of a container's log, as its runtime writes it; or a part of one.
fn entry(format: &str, stream: &str, text: &str, is_last: bool) -> String {
    match format {
        "cri" => {
            let tag = if is_last { "F" } else { "P" };
            format!("2026-11-25T07:43:28.123456789Z {stream} {tag} {text}\n")
        }
        _ => {
            let log = format!("{text}{}", if is_last { "\n" } else { "" });
            let time = "2026-11-25T07:43:28.123456789Z";
            serde_json::json!({ "log": log, "stream": stream, "time": time }).to_string() + "\n"
        }
    }
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    site
}

/// Waits until the agent's log says so.
fn until_stored(agent: &mut Running, count: &str) {
    let stored = format!("stored {count} ");
    agent.until(&stored, |agent| {
        agent.stderr().contains(&stored).then_some(())
    });
}

fn expect_once(home: &Home, count: u64) {
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=count);
    arrived.expect_no_doubles();
}
