//! What cannot be stored lies there with its reason, is listed, and is sent again; a full folder stops the stream,
//! and kill -9 loses nothing of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use kinseal::fake::{Action, Entries, Faults, Rule};
use serde_json::Value;

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines;
use crate::support::process::{Ended, Running};
use crate::support::servers::{REGION, StandIn};

const PLAIN: &str = "scope = \"off\"";
/// With this a line of [`long_line`] is over the limit.
const TIGHT: &str = "[batch]\nmax_record_bytes = \"1KiB\"\n[aggregation]\nenabled = false";

#[test]
fn oversize_and_poison_are_listed_and_arrive_once_the_limits_are_raised() {
    let site = site();
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    // More than the stream takes: what lies between is refused by the service alone.
    let home = Home::new(
        &site.endpoints,
        &encryption,
        "[batch]\nmax_record_bytes = \"2MiB\"",
    );
    let (poison, oversize) = ("p".repeat(3 << 19), "o".repeat(3 << 20));
    lines::append(&home.log(), 1..=50).wait().expect_success();
    write_lines(&home.log(), [&poison, &oversize]);
    lines::append(&home.log(), 51..=100).wait().expect_success();

    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    let refused = deadletter("resend", &home).refusal().1.to_owned();
    assert!(refused.contains("in use by process"), "{refused}");
    let report = FinalReport::of(agent);
    assert_eq!(report.account(), [102, 100, 2, 0, 0, 0, 0]);

    let listed = String::from_utf8(deadletter("list", &home).stdout).expect("text");
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed.len(), 4, "{listed:?}");
    for (line, words) in [
        (0, ["TooLarge: 1 record, 3.2 MB", STREAM]),
        (1, ["ValidationException: 1 record, 1.6 MB", STREAM]),
    ] {
        for word in words {
            assert!(listed[line].contains(word), "{word:?} is not in {listed:?}");
        }
    }
    let by_json = deadletter_with("list", &home, &["--json", "--reason", "TooLarge"]).stdout;
    let by_json: Vec<Value> = serde_json::Deserializer::from_slice(&by_json)
        .into_iter()
        .map(|line| line.expect("JSON"))
        .collect();
    assert_eq!(by_json.len(), 2, "{by_json:?}");
    assert_eq!(by_json[1]["letter"]["kind"], "TooLarge");

    // Nothing has changed: what is refused again stays.
    let again = deadletter("resend", &home);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert_eq!(home.dead_letters().len(), 2);
    assert!(
        home.dead_letters()
            .iter()
            .any(|letter| letter["attempts"] != 0)
    );

    site.fake.set_max_record_kib(STREAM, 4096).expect("a size");
    deadletter_with("resend", &home, &["--reason", "ValidationException"]).expect_success();
    assert_eq!(home.dead_letters().len(), 1);
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), config.replace("2MiB", "4MiB")).expect("room for it");
    deadletter("resend", &home).expect_success();
    assert_eq!(home.dead_letter_files(), Vec::<std::path::PathBuf>::new());

    let mut expected: Vec<String> = (1..=100).map(lines::line).collect();
    expected.extend([poison, oversize]);
    expected.sort();
    let mut arrived = home.consume(&[]);
    arrived.sort();
    assert!(arrived.iter().eq(expected.iter().map(String::as_bytes)));
}

#[test]
fn a_full_folder_stops_the_stream_until_files_are_taken_away_and_they_can_be_sent_from_elsewhere() {
    let site = site();
    let more =
        format!("{TIGHT}\n[dead_letter]\nmax_file_size = \"64KiB\"\nmax_total_size = \"64KiB\"");
    let home = Home::new(&site.endpoints, PLAIN, &more);
    let long: Vec<String> = (1..=60).map(long_line).collect();
    write_lines(&home.log(), &long);
    let size = fs::metadata(home.log()).expect("written").len();

    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let folder = elsewhere.path().join("dead_letter").join(STREAM);
    fs::create_dir_all(&folder).expect("a new folder");
    let mut command = kinseal();
    command.args(["agent", "--grace", "1s", "--config"]);
    let mut agent = Running::start("the agent", command.arg(home.config()));
    until_full(&mut agent);
    assert!(home.settled(&home.log()) < Some(size));
    // The end does not wait for room, and what had none is accounted for.
    let account = FinalReport::of(agent).account();
    let [accepted, stored, dead, failed, dropped, abandoned, pending] = account;
    assert_eq!((accepted, dead + abandoned), (60, 60));
    assert!(dead > 0 && abandoned > 0);
    assert_eq!([stored, failed, dropped, pending], [0; 4]);

    let mut agent = home.start_agent();
    until_full(&mut agent);
    agent.until("all is settled", |_| {
        for file in home.dead_letter_files() {
            take_away(&file, &folder);
        }
        (home.settled(&home.log()) == Some(size)).then_some(())
    });
    FinalReport::of(agent);

    for file in home.dead_letter_files() {
        take_away(&file, &folder);
    }
    let mut resend = kinseal();
    resend.args(["deadletter", "resend", "--region", REGION]);
    resend.args(["--endpoint-url", &site.endpoints.kinesis, "--state-dir"]);
    let resend = Running::start("resend", resend.arg(elsewhere.path())).wait();
    resend.expect_success();
    let arrived: BTreeSet<_> = home.consume(&[]).into_iter().collect();
    assert!(arrived.len() == 60 && long.iter().all(|line| arrived.contains(line.as_bytes())));
}

#[test]
fn kill_9_in_the_middle_of_burying_loses_no_record() {
    const LINES: u64 = 4_000;
    let site = site();
    let more = format!("{TIGHT}\n[dead_letter]\nmax_file_size = \"1MiB\"");
    let home = Home::new(&site.endpoints, PLAIN, &more);
    let long: Vec<String> = (1..=LINES).map(long_line).collect();
    write_lines(&home.log(), &long);
    let buried = |home: &Home| -> u64 {
        let files = home.dead_letter_files().into_iter();
        files
            .map(|file| fs::metadata(file).map_or(0, |about| about.len()))
            .sum()
    };
    let mut before = 0;
    for _ in 0..3 {
        let mut agent = home.start_agent();
        agent.until("more is buried", |_| {
            (buried(&home) > before + 100_000).then_some(())
        });
        agent.kill();
        before = buried(&home);
    }
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);

    let letters = home.dead_letters();
    let payloads: BTreeSet<&str> = letters
        .iter()
        .map(|letter| letter["data_base64"].as_str().expect("text"))
        .collect();
    let missing = long.iter().find(|line| {
        let payload = base64_simd::STANDARD.encode_to_string(line.as_bytes());
        !payloads.contains(payload.as_str())
    });
    assert_eq!(missing, None);
    assert_eq!(payloads.len() as u64, LINES);
}

#[test]
fn kill_9_of_a_resend_leaves_the_records_where_they_were() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, TIGHT);
    write_lines(&home.log(), &[long_line(1), long_line(2)]);
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), config.replace("1KiB", "100KiB")).expect("room for it");
    let before = home.dead_letters();
    assert_eq!(before.len(), 2);

    // Stored, and nobody is told.
    let stall = Rule::new(Action::StallAfter).on("PutRecords");
    site.fake.set_faults(Faults::seeded(1).rule(stall));
    let mut command = kinseal();
    command.args(["deadletter", "resend", "--config"]);
    let mut resend = Running::start("resend", command.arg(home.config()));
    resend.until("it is stored", |_| {
        (site.fake.counters().records_stored == 2).then_some(())
    });
    resend.kill();
    assert_eq!(home.dead_letters(), before);

    site.fake.set_faults(Faults::none());
    deadletter("resend", &home).expect_success();
    assert!(home.dead_letters().is_empty());
    let mut twice: Vec<_> = [1, 1, 2, 2].map(|n| long_line(n).into_bytes()).to_vec();
    let mut arrived = home.consume(&[]);
    arrived.sort();
    twice.sort();
    assert!(arrived == twice);
}

/// Five letters of [`STREAM`], and the same for each of `others`, which the limits would take now. The files of all.
fn bury_for(home: &Home, others: &[&str]) -> Vec<PathBuf> {
    write_lines(&home.log(), (1..=5).map(long_line));
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);
    let mut files = home.dead_letter_files();
    let letters = fs::read_to_string(&files[0]).expect("text");
    let name = files[0].file_name().expect("a file").to_owned();
    for stream in others {
        let folder = home.state().join("dead_letter").join(stream);
        fs::create_dir(&folder).expect("a new folder");
        let theirs = letters.replace(&format!("{STREAM:?}"), &format!("{stream:?}"));
        fs::write(folder.join(&name), theirs).expect("room for it");
        files.push(folder.join(&name));
    }
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), config.replace("1KiB", "1MiB")).expect("room for it");
    files
}

#[test]
fn a_missing_stream_keeps_its_own_and_holds_up_no_other() {
    // One is asked before STREAM, the other after it.
    const MISSING: [&str; 2] = ["a-gone", "z-gone"];
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, TIGHT);
    bury_for(&home, &MISSING);

    let ended = deadletter("resend", &home);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stdout) + &*ended.stderr;
    for words in [
        "5 of 15",
        "nothing could be sent to a-gone, z-gone",
        "a-gone: its dead letters stay",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert_eq!(home.consume(&[]).len(), 5);
    for stream in MISSING {
        site.endpoints.create_stream(stream, 1);
    }
    deadletter("resend", &home).expect_success();
}

#[test]
fn a_stream_that_takes_nothing_keeps_its_own_and_holds_up_no_other() {
    const SLOW: &str = "a-slow";
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, TIGHT);
    let [buried, file] = bury_for(&home, &[SLOW]).try_into().expect("one each");
    // The other has none of these shards.
    site.endpoints.create_stream(SLOW, 1);
    let parent = "shardId-000000000000";
    site.fake.split(SLOW, parent).expect("it is open");
    let faults = (1..3).fold(Faults::seeded(1), |faults, n| {
        let throttled = Rule::new(Action::Throttle(Entries::Percent(100.0)));
        faults.rule(throttled.on("PutRecords").shard(format!("shardId-{n:012}")))
    });
    site.fake.set_faults(faults);

    let mut command = kinseal();
    command.args(["deadletter", "resend", "--config"]);
    let mut resend = Running::start("resend", command.arg(home.config()));
    resend.until("the other's are stored and removed", |_| {
        let left = fs::read_to_string(&buried).unwrap_or_default();
        left.is_empty().then_some(())
    });
    resend.signal("TERM");
    let ended = resend.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("a-slow did not answer for all"), "{said}");
    assert_eq!(home.consume(&[]).len(), 5);
    site.fake.set_faults(Faults::none());
    deadletter("resend", &home).expect_success();
    assert!(!file.exists() || fs::read_to_string(&file).expect("text").is_empty());
}

#[test]
fn a_state_directory_that_is_not_there_is_no_empty_one() {
    for action in ["list", "resend"] {
        let mut command = kinseal();
        command.args(["deadletter", action, "--state-dir", "/nonexistent/kinseal"]);
        let ended = Running::start(action, &mut command).wait();
        let (code, said) = ended.refusal();
        assert_eq!(code, 1);
        assert!(said.contains("no such directory; give"), "{said}");
    }
}

fn until_full(agent: &mut Running) {
    agent.until("it says that there is no room", |agent| {
        let said = agent.stderr();
        (said.contains("no dead letter can be written") && said.contains("max_total_size"))
            .then_some(())
    });
}

fn take_away(file: &Path, to: &Path) {
    let to = to.join(file.file_name().expect("a file"));
    assert!(!to.exists(), "{to:?} would be replaced");
    fs::rename(file, to).expect("the same disk");
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site
}

fn long_line(number: u64) -> String {
    format!("{number:06}{}", "x".repeat(2_000))
}

fn write_lines<S: AsRef<str>>(file: &Path, lines: impl IntoIterator<Item = S>) {
    let file = fs::OpenOptions::new().append(true).create(true).open(file);
    let mut file = file.expect("ours");
    for line in lines {
        writeln!(file, "{}", line.as_ref()).expect("room for it");
    }
}

fn deadletter(action: &str, home: &Home) -> Ended {
    deadletter_with(action, home, &[])
}

fn deadletter_with(action: &str, home: &Home, more: &[&str]) -> Ended {
    let mut command = kinseal();
    command.args(["deadletter", action, "--config"]);
    Running::start(action, command.arg(home.config()).args(more)).wait()
}
