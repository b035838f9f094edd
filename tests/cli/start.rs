//! Mistakes that stop the start.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use kinseal::fake::{Action, Faults, Rule};
use rustix::fs::OFlags;

use crate::support::agent::{Home, STREAM, kinseal};
use crate::support::lines;
use crate::support::process::{self, Ended};
use crate::support::servers::{Endpoints, StandIn};

const CONFIG: i32 = 78;
const USAGE: i32 = 64;
pub(super) const FAILED: i32 = 1;

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let home = Home::new(&nowhere(), "scope = \"off\"\ncolour = \"red\"", "");
    let said = refused(&home.spawn_agent().wait(), CONFIG);
    assert!(
        said.contains("agent.toml:15: encryption.colour: unknown key"),
        "{said}"
    );
}

#[test]
fn all_mistakes_are_named_at_once() {
    let more = "[batch]\nmax_records = 501\n[delivery]\nordering = \"random\"";
    let home = Home::new(&nowhere(), "scope = \"record\"", more);
    let checked = kinseal()
        .args(["config", "check"])
        .arg(home.config())
        .output();
    let checked = checked.expect("it starts");
    let said = String::from_utf8(checked.stderr).expect("UTF-8");
    assert_eq!(checked.status.code(), Some(CONFIG), "{said}");
    for key in [
        "encryption.kms_key",
        "batch.max_records",
        "delivery.ordering",
    ] {
        assert!(said.contains(key), "{key} is not named:\n{said}");
    }
}

#[test]
fn plaintext_is_only_sent_when_the_configuration_says_so() {
    let home = Home::new(&nowhere(), "context = {}", "");
    let said = refused(&home.spawn_agent().wait(), CONFIG);
    assert!(
        said.contains("encryption.scope") && said.contains("scope = \"off\""),
        "{said}"
    );
}

#[test]
fn a_missing_configuration_is_named() {
    let ended = process::run(
        "kinseal agent",
        kinseal().args(["agent", "--config", "/nowhere/agent.toml"]),
        &[],
    );
    let said = refused(&ended, CONFIG);
    assert!(said.contains("/nowhere/agent.toml"), "{said}");
}

#[test]
fn a_missing_argument_is_named() {
    let ended = process::run("kinseal agent", kinseal().args(["agent"]), &[]);
    let said = refused(&ended, USAGE);
    assert!(said.contains("--config"), "{said}");
}

#[test]
fn a_start_that_cannot_be_understood_is_a_mistake_on_the_command_line() {
    let after = ["after-sequence", "49"];
    for (from, told) in [
        (&["nonsense"][..], "trim-horizon, latest, at-timestamp TIME"),
        (&["at-timestamp", "noon"], "2026-11-30T12:00:00Z"),
        (&after, "--shard"),
    ] {
        let mut command = kinseal();
        command.args(["consume", "--stream", STREAM, "--from"]);
        let ended = process::run("kinseal consume", command.args(from), &[]);
        let said = refused(&ended, USAGE);
        assert!(said.contains(told), "{said}");
    }
}

/// As a disk that hangs: the checkpoint is a pipe, and reading it waits.
#[test]
fn a_signal_ends_a_start_that_blocks() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    fs::create_dir_all(home.state()).expect("room for it");
    let checkpoint = home.state().join("checkpoint.json");
    let made = Command::new("mkfifo").arg(&checkpoint).status();
    assert!(made.expect("mkfifo runs").success());
    let mut agent = home.spawn_agent();
    // Opens where somebody waits to read, and only there.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let _writer = agent.until("it reads the checkpoint", |_| {
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .custom_flags(flags)
            .open(&checkpoint)
            .ok()
    });
    agent.signal("TERM");
    let ended = agent.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn a_malformed_key_arn_is_a_mistake_in_the_configuration() {
    let home = Home::new(&nowhere(), &under_kms("arn:aws:kms:eu-west-1:key/shop"), "");
    let said = refused(&home.spawn_agent().wait(), CONFIG);
    assert!(said.contains("encryption.kms_key"), "{said}");
}

#[test]
fn a_kms_whose_answers_can_not_be_read_is_waited_for() {
    let site = site();
    let key = site.endpoints.create_key();
    let spoilt = Rule::new(Action::Malformed).on("GenerateDataKey");
    site.fake.set_faults(Faults::seeded(1).rule(spoilt));
    let home = Home::new(&site.endpoints, &under_kms(&key), "");
    let mut agent = home.start_agent();
    agent.until("it says what KMS answers", |agent| {
        let said = agent.stderr();
        said.contains("answer could not be understood")
            .then_some(())
    });
    site.fake.set_faults(Faults::none());
    lines::append(&home.log(), 1..=10).wait().expect_success();
    home.until_settled(&mut agent, &home.log());
}

#[test]
fn a_state_directory_in_use_is_named_with_its_user() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let _first = home.start_agent();
    let said = refused(&home.spawn_agent().wait(), FAILED);
    let state = home.state();
    assert!(
        said.contains(&*state.to_string_lossy()) && said.contains("in use"),
        "{said}"
    );
}

#[test]
fn a_state_directory_that_is_a_file_is_named() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    fs::write(home.state(), "").expect("room for it");
    let said = refused(&home.spawn_agent().wait(), FAILED);
    assert!(said.contains(&*home.state().to_string_lossy()), "{said}");
}

#[test]
fn a_wrapping_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let site = site();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("wrapping.key");
    kinseal::seal::rawkey::WrappingKey::create(&path, "tests", "wrapping").expect("a new file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("our own file");
    let encryption = format!(
        "scope = \"record\"\nwrapping_key_file = \"{}\"",
        path.display()
    );
    let home = Home::new(&site.endpoints, &encryption, "");
    let said = refused(&home.spawn_agent().wait(), FAILED);
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn consuming_a_stream_that_does_not_exist_names_it() {
    let site = StandIn::start();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let said = refused(&home.try_consume(&[]), FAILED);
    assert!(said.contains(STREAM), "{said}");
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site
}

/// For what fails before anything is called.
fn nowhere() -> Endpoints {
    Endpoints {
        kinesis: "http://127.0.0.1:9".into(),
        kms: "http://127.0.0.1:9".into(),
    }
}

fn under_kms(key: &str) -> String {
    format!("scope = \"record\"\nkms_key = \"{key}\"")
}

/// It ended with this code, and said why in a few lines: no trace, no panic.
pub(super) fn refused(ended: &Ended, code: i32) -> String {
    let (found, said) = ended.refusal();
    assert_eq!(found, code, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let own: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains(" WARN "))
        .collect();
    assert!((1..=3).contains(&own.len()), "one message, not:\n{said}");
    own.join("\n")
}
