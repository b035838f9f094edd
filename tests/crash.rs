//! kill -9 at any moment costs a second's worth of doubles, and no line.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::servers::StandIn;

const LINES: u64 = 100_000;
const KILLS: usize = 5;

#[test]
fn no_line_is_missing_after_kill_9_at_random_moments() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let site = StandIn::start();
    // Two shards at their quota take 20 seconds for all lines: time for each kill to be in mid-run.
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let home = Home::new(
        &site.endpoints,
        &format!("scope = \"record\"\nkms_key = \"{key}\""),
        "",
    );
    let writer = lines::append(&home.log(), 1..=LINES);

    // How far the checkpoint on disk had come at each kill.
    let mut settled = Vec::new();
    let mut before = 0;
    while settled.len() < KILLS {
        let mut agent = home.start_agent();
        agent.until("the checkpoint has moved", |_| {
            home.settled(&home.log()).filter(|offset| *offset > before)
        });
        let stored = site.fake.counters().records_stored;
        let enough = stored + random.random_range(0..30);
        agent.until("more is stored", |_| {
            (site.fake.counters().records_stored >= enough).then_some(())
        });
        agent.kill();
        before = home.settled(&home.log()).expect("it was there before");
        settled.push(before);
    }
    writer.wait().expect_success();
    assert!(
        *settled.last().expect("five") < lines::bytes(1..=LINES),
        "killed in mid-run"
    );

    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    let mut end = 0;
    for number in 1..=LINES {
        end += lines::bytes(number..=number);
        let again = settled.iter().filter(|settled| **settled < end).count() as u64;
        assert!(
            arrived.count(number) <= 1 + again,
            "line {number} ends at {end} and is there {} times; the kills left the checkpoint at \
             {settled:?}",
            arrived.count(number)
        );
    }
}
