//! What goes wrong while the agent runs: it says so, goes on, and loses nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use kinseal::fake::{Action, ApiError, Faults, Rule};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{self, Arrived};
use crate::support::process::{self, Running};
use crate::support::servers::StandIn;

const PLAIN: &str = "scope = \"off\"";

#[test]
fn a_record_over_the_limit_becomes_a_dead_letter_and_the_others_arrive() {
    let site = site();
    let key = site.endpoints.create_key();
    let home = Home::new(
        &site.endpoints,
        &format!("scope = \"record\"\nkms_key = \"{key}\""),
        "",
    );
    lines::append(&home.log(), 1..=50).wait().expect_success();
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(home.log())
        .expect("written");
    let giant = "x".repeat((1 << 20) + 1);
    writeln!(log, "{giant}").expect("room for it");
    lines::append(&home.log(), 51..=100).wait().expect_success();

    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    let report = FinalReport::of(agent);
    assert_eq!(report.account(), [101, 100, 1, 0, 0, 0, 0]);
    let said = report.said();
    for word in ["dead letter files", "over the limit", "records=1"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    Arrived::of(home.consume(&[])).expect_all(1..=100);
    let letters = home.dead_letters();
    let [dead] = &letters[..] else {
        panic!("{} dead letters", letters.len());
    };
    let reason = dead["reason"].as_str().expect("a reason");
    assert!(reason.contains("bytes"), "{reason}");
    let data = dead["data_base64"].as_str().expect("the record");
    assert!(!data.contains("eHh4eHh4eHh4"), "it lies there in clear");
}

#[test]
fn what_is_not_stored_within_the_grace_period_is_counted_and_read_again_at_the_next_start() {
    let site = site();
    let denied = Rule::new(Action::access_denied()).on("PutRecords");
    site.fake.set_faults(Faults::seeded(1).rule(denied));
    let home = Home::new(&site.endpoints, PLAIN, "");
    lines::append(&home.log(), 1..=50).wait().expect_success();
    let mut command = kinseal();
    command.args(["agent", "--grace", "1s", "--config"]);
    let mut agent = Running::start("kinseal agent", command.arg(home.config()));
    agent.until("nothing can be stored", |agent| {
        let said = agent.stderr();
        said.contains("the stream takes no records").then_some(())
    });
    let report = FinalReport::of(agent);
    assert_eq!(report.account(), [50, 0, 0, 0, 0, 50, 0]);
    let said = report.said();
    for word in ["kinseal: 50 records were not stored", "reads them again"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }

    site.fake.set_faults(Faults::none());
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(50);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=50);
    arrived.expect_no_doubles();
}

/// What that reader does: base64, a message of version 1, the pair; and ours reads it too.
#[test]
fn compatibility_is_base64_of_version_1_and_comes_back() {
    let site = site();
    let key = site.endpoints.create_key();
    let encryption = format!(
        "scope = \"record\"\nkms_key = \"{key}\"\ncontext = {{ Kinesis = \"cars\" }}\n\
         compatibility = \"kinesisencryption\""
    );
    let home = Home::new(
        &site.endpoints,
        &encryption,
        "[aggregation]\nenabled = false",
    );
    lines::append(&home.log(), 1..=50).wait().expect_success();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(50);
    for record in site.fake.records(STREAM).expect("the stream") {
        let text = std::str::from_utf8(&record.data).expect("text");
        // 01 80 01 78
        assert!(text.starts_with("AYABe"), "{text}");
    }
    let strict = home.try_consume(&["--policy", "require-encrypt-require-decrypt"]);
    assert_eq!(
        (strict.status.code(), &strict.stdout[..]),
        (Some(1), &b""[..])
    );
    assert!(strict.stderr.contains("commit"), "{}", strict.stderr);
    Arrived::of(home.consume(&[])).expect_all(1..=50);
}

#[test]
fn while_kms_denies_records_wait_and_then_arrive() {
    let site = site();
    let key = site.endpoints.create_key();
    let encryption =
        format!("scope = \"record\"\nkms_key = \"{key}\"\ncache = {{ max_age = \"1s\" }}");
    let home = Home::new(&site.endpoints, &encryption, "");
    let mut agent = home.start_agent();
    lines::append(&home.log(), 1..=100).wait().expect_success();
    home.until_settled(&mut agent, &home.log());

    let denied = Rule::new(Action::access_denied()).on("GenerateDataKey");
    site.fake.set_faults(Faults::seeded(1).rule(denied));
    let writer = append_while(&home, &mut agent, |agent| {
        agent.stderr().contains("kms:GenerateDataKey").then_some(())
    });
    site.fake.set_faults(Faults::none());
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(writer);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=writer);
    arrived.expect_no_doubles();
}

#[test]
fn an_unreadable_file_is_named_the_others_arrive_and_it_follows_when_it_may_be_read() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, "");
    lines::append(&home.log(), 1..=100).wait().expect_success();
    let secret = home.logs().join("secret.log");
    lines::append(&secret, 101..=200).wait().expect_success();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("our own file");

    let mut agent = home.start_agent_as(home.kinseal_without_rights());
    home.until_settled(&mut agent, &home.log());
    agent.until("the file is named", |agent| {
        agent
            .stderr()
            .lines()
            .any(|line| line.contains("secret.log"))
            .then_some(())
    });
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("our own file");
    home.until_settled(&mut agent, &secret);
    FinalReport::of(agent).expect_stored(200);
    Arrived::of(home.consume(&[])).expect_all(1..=200);
}

#[test]
fn standard_input_is_carried_to_its_end() {
    let site = site();
    let input: String = (1..=5_000).map(|n| lines::line(n) + "\n").collect();
    let home = Home::new(&site.endpoints, PLAIN, "");
    let mut command = kinseal();
    command
        .args([
            "agent",
            "--stream",
            STREAM,
            "--stdin",
            "--encryption",
            "off",
        ])
        .args([
            "--region",
            "eu-west-1",
            "--endpoint-url",
            &site.endpoints.kinesis,
        ])
        .arg("--state-dir")
        .arg(home.state());
    let ended = process::run("kinseal agent --stdin", &mut command, input.as_bytes());
    FinalReport::said_in(ended.expect_success()).expect_stored(5_000);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=5_000);
    arrived.expect_no_doubles();
}

#[test]
fn the_demo_says_that_every_record_came_back_equal() {
    let demo = process::run(
        "kinseal demo",
        kinseal().args(["demo", "--records", "2000"]),
        &[],
    );
    let said = String::from_utf8(demo.expect_success().stdout).expect("UTF-8");
    assert!(said.contains("2,000"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_start_sends_the_rest() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, "");
    let mut agent = home.start_agent();
    lines::append(&home.log(), 1..=100).wait().expect_success();
    home.until_settled(&mut agent, &home.log());
    // From now on nothing is answered, so the first signal finds records under way.
    site.fake
        .set_faults(Faults::seeded(1).rule(Rule::new(Action::Stall).on("PutRecords")));
    let calls = site.fake.counters().put_records_calls();
    lines::append(&home.log(), 101..=200)
        .wait()
        .expect_success();
    agent.until("a call is under way", |_| {
        (site.fake.counters().put_records_calls() > calls).then_some(())
    });
    agent.signal("TERM");
    // Signals in one breath count as one, so it takes some.
    let (code, said) = {
        let ended = agent.signal_until_ended("INT");
        (ended.status.code(), ended.stderr)
    };
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stopped at once"), "{said}");

    site.fake.set_faults(Faults::none());
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(100);
    Arrived::of(home.consume(&[])).expect_all(1..=200);
}

/// It has to say so where every record came back equal; once it ended well without a word.
#[test]
fn a_demo_that_cannot_say_its_result_has_failed() {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" demo --records 500 > /dev/full"])
        .arg(kinseal().get_program());
    let ended = process::run("kinseal demo > /dev/full", &mut command, &[]);
    let (code, said) = ended.refusal();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("standard output"), "{said}");
}

/// timeout(1) signals the process and then its group: the second once ended the agent undrained.
#[test]
fn a_signal_said_twice_in_one_breath_still_drains() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, "");
    // Long enough that the lines are under way when the signals come.
    site.fake.set_latency(Duration::from_millis(300));
    let mut agent = home.start_agent();
    let calls = site.fake.counters().put_records_calls();
    lines::append(&home.log(), 1..=100).wait().expect_success();
    agent.until("a call is under way", |_| {
        (site.fake.counters().put_records_calls() > calls).then_some(())
    });
    agent.signal("TERM");
    agent.signal("TERM");
    FinalReport::said_in(agent.wait().expect_success()).expect_stored(100);
}

#[test]
fn while_the_service_fails_it_is_said_once_and_when_it_is_over() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, "");
    let mut agent = home.start_agent();
    let fails = Action::Error(ApiError::new("InternalFailure", "as scripted").with_status(500));
    let fails = Rule::new(fails).on("PutRecords").times(3);
    site.fake.set_faults(Faults::seeded(1).rule(fails));
    lines::append(&home.log(), 1..=100).wait().expect_success();
    home.until_settled(&mut agent, &home.log());
    let said = agent.stderr();
    assert_eq!(said.matches("PutRecords fails").count(), 1, "{said}");
    assert_eq!(
        said.matches("PutRecords succeeds again").count(),
        1,
        "{said}"
    );
    FinalReport::of(agent).expect_stored(100);
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    site
}

/// Appends lines until the agent has answered; how many there are then.
fn append_while(
    home: &Home,
    agent: &mut Running,
    mut ask: impl FnMut(&Running) -> Option<()>,
) -> u64 {
    let mut written = 100;
    agent.until("it says what is wrong", |agent| {
        lines::append(&home.log(), written + 1..=written + 10)
            .wait()
            .expect_success();
        written += 10;
        ask(agent)
    });
    written
}
