//! An hour in which Kinesis takes nothing, and logs are rotated and the oldest deleted all the while; the agent's clock runs
//! ahead two minutes at a time, so that each of its own waits comes to its end.

use std::fs;
use std::time::Duration;

use kinseal::fake::{Action, Faults, Rule, Service};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::clock::Clock;
use crate::support::lines::{self, Arrived};
use crate::support::servers::StandIn;

const STEP: Duration = Duration::from_secs(120);
const STEPS: u64 = 30;
/// Of each step: more in an hour than there is memory for.
const LINES: u64 = 4_000;
/// Rotated files that are kept.
const KEPT: u64 = 5;

#[test]
fn an_hour_without_kinesis_and_a_rotation_every_other_minute() {
    outlast("sales.log");
}

#[test]
fn the_same_hour_where_rotated_files_have_names_that_are_read_too() {
    outlast("sales.log*");
}

fn outlast(include: &str) {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let home = Home::new(
        &site.endpoints,
        &encryption,
        "[metrics]\nlog_interval = \"60s\"\n[delivery]\nmax_in_flight = 1",
    );
    home.set_memory_limit("8MiB");
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), config.replace("*.log", include)).expect("room for it");
    let mut clock = Clock::new();
    let mut command = kinseal();
    clock.rule(&mut command);
    let mut agent = home.start_agent_as(command);
    lines::append(&home.log(), 1..=LINES)
        .wait()
        .expect_success();
    home.until_settled(&mut agent, &home.log());

    let before = site.fake.counters().records_stored;
    let down = Rule::new(Action::ResetBefore).service(Service::Kinesis);
    site.fake.set_faults(Faults::seeded(1).rule(down));
    let rotated = |n: u64| home.logs().join(format!("sales.log.{n}"));
    for step in 1..=STEPS {
        let _ = fs::remove_file(rotated(KEPT));
        for n in (1..KEPT).rev() {
            let _ = fs::rename(rotated(n), rotated(n + 1));
        }
        fs::rename(home.log(), rotated(1)).expect("it is there");
        let more = step * LINES + 1..=(step + 1) * LINES;
        lines::append(&home.log(), more).wait().expect_success();
        let calls = site.fake.counters().put_records_calls();
        clock.advance(STEP);
        agent.until("it has tried again", |_| {
            (site.fake.counters().put_records_calls() > calls).then_some(())
        });
        // It looks for files also while there is no room for what it finds.
        agent.until_open(&home.log());
    }
    assert_eq!(
        site.fake.counters().records_stored,
        before,
        "nothing is taken meanwhile"
    );

    // A call that is under way when the clock jumps is given up as too long: were it taken, it would be repeated. One is under
    // way at a time, and the second from now on has been made after the jump.
    let calls = site.fake.counters().put_records_calls();
    clock.advance(STEP);
    agent.until("it has tried twice", |_| {
        (site.fake.counters().put_records_calls() >= calls + 2).then_some(())
    });
    site.fake.set_faults(Faults::none());
    home.until_settled(&mut agent, &home.log());
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=(STEPS + 1) * LINES);
    arrived.expect_no_doubles();
    FinalReport::of(agent).expect_stored((STEPS + 1) * LINES);
}
