//! KMS out of reach for longer than a data key may be used: records wait, nothing is lost, nothing leaves
//! unencrypted or under a key that is too old.

use std::collections::BTreeSet;

use bytes::Bytes;
use kinseal::fake::{Action, Faults, Rule, Service};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::process::Running;
use crate::support::servers::StandIn;

const CACHE: &str = "[encryption.cache]\nmax_age = \"1s\"";
const BEFORE: u64 = 200;
const ALL: u64 = 5_000;

#[test]
fn records_wait_while_kms_is_out_of_reach_for_longer_than_the_keys_age() {
    outlast(Action::ResetBefore, "record", |_, agent| agent);
}

#[test]
fn records_wait_while_kms_denies_access_and_blocks_do_too() {
    outlast(Action::access_denied(), "block", |_, agent| agent);
}

/// The one that starts has no key at all.
#[test]
fn an_agent_that_is_killed_and_started_meanwhile_waits_too() {
    outlast(Action::ResetBefore, "record", |home, agent| {
        agent.kill();
        let mut agent = home.start_agent();
        until_without_key(&mut agent);
        agent
    });
}

fn outlast(outage: Action, scope: &str, meanwhile: impl FnOnce(&Home, Running) -> Running) {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"{scope}\"\nkms_key = \"{key}\"\n{CACHE}");
    let home = Home::new(&site.endpoints, &encryption, "");
    let mut agent = home.start_agent();
    lines::append(&home.log(), 1..=BEFORE)
        .wait()
        .expect_success();
    home.until_settled(&mut agent, &home.log());

    let down = Rule::new(outage)
        .service(Service::Kms)
        .on("GenerateDataKey");
    site.fake.set_faults(Faults::seeded(5).rule(down));
    // What the key still allows goes under it; a new line each time, until there is none.
    let mut written = BEFORE;
    while !agent.stderr().contains("no data key: ") {
        written += 1;
        lines::append(&home.log(), written..=written)
            .wait()
            .expect_success();
    }
    lines::append(&home.log(), written + 1..=ALL)
        .wait()
        .expect_success();
    let stored = || -> BTreeSet<Bytes> {
        let records = site.fake.records(STREAM).expect("it is there");
        records.into_iter().map(|record| record.data).collect()
    };
    let tries = || site.fake.counters().kms_calls("GenerateDataKey");
    let mut until_tried = |times: u64| {
        let tried = tries();
        agent.until("it has asked for a key again", |_| {
            (tries() >= tried + times).then_some(())
        });
    };
    // Seconds pass, in which what was sealed before arrives.
    until_tried(3);
    let then = stored();
    until_tried(3);
    let settled = home.settled(&home.log());
    assert_eq!(stored(), then, "nothing leaves without a key");
    assert!(settled < Some(lines::bytes(1..=ALL)), "{settled:?}");

    let mut agent = meanwhile(&home, agent);
    assert_eq!(stored(), then, "nor after a new start");
    site.fake.set_faults(Faults::none());
    home.until_settled(&mut agent, &home.log());
    let report = FinalReport::of(agent);
    assert!(
        report.said().contains("data keys are back"),
        "{}",
        report.said()
    );
    Arrived::of(home.consume(&[])).expect_all(1..=ALL);
}

fn until_without_key(agent: &mut Running) {
    agent.until("it says that there is no key", |agent| {
        agent.stderr().contains("no data key: ").then_some(())
    });
}
