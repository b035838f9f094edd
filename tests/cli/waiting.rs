//! What is missing at the start, and may come: told at once with the way out, and waited for.

use std::fs;

use kinseal::fake::{Action, Fake, Faults, Rule, Service};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{self, Arrived};
use crate::support::servers::StandIn;

const LINES: u64 = 100;

#[test]
fn a_stream_that_does_not_exist_is_named_with_its_place_and_waited_for() {
    let site = StandIn::start();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let words = [STREAM, &site.endpoints.kinesis, "create it, or correct"];
    waits(&home, &words, || site.endpoints.create_stream(STREAM, 1));
}

#[test]
fn credentials_that_are_refused_are_named_and_waited_for() {
    let site = site();
    let expired = Rule::new(Action::expired_token()).service(Service::Kinesis);
    site.fake.set_faults(Faults::seeded(1).rule(expired));
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let words = ["the AWS credentials are refused", "renew or correct them"];
    waits(&home, &words, || site.fake.set_faults(Faults::none()));
}

#[test]
fn credentials_that_are_mended_in_their_file_are_used_without_a_restart() {
    let site = StandIn::built(Fake::builder().verify_signatures(true));
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(
        &site.endpoints,
        &under_kms(&site.endpoints.create_key()),
        "",
    );
    let file = home.path().join("credentials");
    let write = |id: &str, secret: &str| {
        let profile =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        fs::write(&file, profile).expect("room for it");
    };
    write("test", "another");
    let mut program = kinseal();
    program
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    program.env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let mut agent = home.start_agent_as(program);
    lines::append(&home.log(), 1..=LINES)
        .wait()
        .expect_success();
    agent.until("they are refused", |agent| {
        agent
            .stderr()
            .contains("credentials are refused")
            .then_some(())
    });
    write("test", "test");
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(LINES);
}

/// The SDK logs such a file whole, byte by byte.
#[test]
fn a_credentials_file_that_is_not_utf_8_shows_no_secret_and_is_read_once_it_is_mended() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let (file, secret) = (home.path().join("credentials"), "SECRETsecretSECRET");
    let profile =
        format!("[default]\naws_access_key_id = test\naws_secret_access_key = {secret}\n");
    let latin = [b"# Schl\xfcssel\n", profile.as_bytes()].concat();
    for log in ["info", "aws_runtime=trace,aws_config=trace,kinseal=info"] {
        fs::write(&file, &latin).expect("room for it");
        let mut program = kinseal();
        program
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY");
        program.env("AWS_SHARED_CREDENTIALS_FILE", &file);
        program.env("KINSEAL_LOG", log);
        let mut agent = home.start_agent_as(program);
        agent.until("there are none", |agent| {
            agent.stderr().contains("no AWS credentials").then_some(())
        });
        let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
        let said = agent.stderr();
        assert!(
            !said.contains(secret) && !said.contains(&bytes.join(", ")),
            "{said}"
        );
        lines::append(&home.log(), 1..=LINES)
            .wait()
            .expect_success();
        fs::write(&file, &profile).expect("room for it");
        home.until_settled(&mut agent, &home.log());
        FinalReport::of(agent);
    }
}

#[test]
fn a_kms_that_denies_is_told_with_the_missing_permission_and_waited_for() {
    let site = site();
    let key = site.endpoints.create_key();
    let denied = Rule::new(Action::access_denied()).on("GenerateDataKey");
    site.fake.set_faults(Faults::seeded(1).rule(denied));
    let home = Home::new(&site.endpoints, &under_kms(&key), "");
    let words = [key.as_str(), "kms:GenerateDataKey"];
    waits(&home, &words, || site.fake.set_faults(Faults::none()));
}

#[test]
fn a_key_that_does_not_exist_is_named_and_waited_for() {
    let site = site();
    let home = Home::new(&site.endpoints, &under_kms("alias/shop"), "");
    let words = ["alias/shop", "does not exist"];
    waits(&home, &words, || {
        let key = site.endpoints.create_key();
        site.endpoints.create_alias("alias/shop", &key);
    });
}

/// Says these words as an error, ends as ever when it is asked to, and sends everything once all is there.
fn waits(home: &Home, words: &[&str], mend: impl FnOnce()) {
    let mut agent = home.start_agent();
    let is_it =
        |line: &&str| line.contains("ERROR") && words.iter().all(|word| line.contains(word));
    agent.until("it says what is missing", |agent| {
        agent.stderr().lines().find(is_it).map(drop)
    });
    agent.signal("TERM");
    agent.wait().expect_success();

    lines::append(&home.log(), 1..=LINES)
        .wait()
        .expect_success();
    let mut agent = home.start_agent();
    agent.until("it says so again", |agent| {
        agent.stderr().lines().find(is_it).map(drop)
    });
    mend();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(LINES);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site
}

fn under_kms(key: &str) -> String {
    format!("scope = \"record\"\nkms_key = \"{key}\"")
}
