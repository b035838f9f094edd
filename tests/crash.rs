//! kill -9 at any moment costs no line; and doubles only of what was stored behind the checkpoint.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::servers::StandIn;

const LINES: u64 = 100_000;
const KILLS: usize = 5;
const SHARDS: i32 = 2;

/// What a kill left behind.
#[derive(Debug)]
struct Kill {
    /// How far the checkpoint on disk had come.
    settled: u64,
    /// Since before it was taken.
    age: Duration,
    /// All that the stream held.
    arrived: Arrived,
}

#[test]
fn kill_9_at_random_moments_loses_no_line_and_doubles_what_was_stored_behind_the_checkpoint() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let site = StandIn::start();
    // Two shards at their quota take 20 seconds for all lines: time for each kill to be in mid-run.
    site.endpoints.create_stream(STREAM, SHARDS);
    let key = site.endpoints.create_key();
    let home = Home::new(
        &site.endpoints,
        &format!("scope = \"record\"\nkms_key = \"{key}\""),
        "",
    );
    let writer = lines::append(&home.log(), 1..=LINES);

    let mut kills: Vec<Kill> = Vec::new();
    while kills.len() < KILLS {
        let before = kills.last().map_or(0, |kill| kill.settled);
        let mut checkpoint = Checkpoint::found_at(before);
        let mut agent = home.start_agent();
        let look = |checkpoint: &mut Checkpoint| {
            let settled = home.settled(&home.log()).unwrap_or(0);
            checkpoint.seen_at(settled);
            settled
        };
        agent.until("the checkpoint has moved", |_| {
            (look(&mut checkpoint) > before).then_some(())
        });
        let stored = site.fake.counters().records_stored;
        let enough = stored + random.random_range(0..30);
        agent.until("more is stored", |_| {
            look(&mut checkpoint);
            (site.fake.counters().records_stored >= enough).then_some(())
        });
        agent.kill();
        let settled = look(&mut checkpoint);
        kills.push(Kill {
            settled,
            age: checkpoint.age(),
            arrived: all_there(&site, &home),
        });
    }
    writer.wait().expect_success();
    let last = kills.last().expect("five");
    assert!(last.settled < lines::bytes(1..=LINES), "killed in mid-run");

    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);

    expect_doubles_of_what_was_behind(&kills, &arrived);
    let sealed = site.fake.counters().bytes_stored / arrived.copies();
    for (n, kill) in kills.iter().enumerate() {
        let before = n.checked_sub(1).map(|before| &kills[before].arrived);
        expect_behind_for_as_long_as_it_was_old(kill, before, sealed);
    }
}

/// Each run goes on at the checkpoint: it stores once what lies behind it, and nothing of what lies before. So no line is
/// doubled but those that a kill found stored behind the checkpoint, and these once for each such kill.
fn expect_doubles_of_what_was_behind(kills: &[Kill], at_last: &Arrived) {
    let runs = kills.iter().map(|kill| &kill.arrived).chain([at_last]);
    let nothing = Arrived::of([b""; 0]);
    let before = std::iter::once(&nothing).chain(kills.iter().map(|kill| &kill.arrived));
    let from = std::iter::once(0).chain(kills.iter().map(|kill| kill.settled));
    for (n, ((run, before), from)) in runs.zip(before).zip(from).enumerate() {
        let mut end = 0;
        for number in 1..=LINES {
            end += lines::bytes(number..=number);
            let stored = run.count(number) - before.count(number);
            assert!(
                stored <= u64::from(end > from),
                "run {n} began at {from} and stored line {number}, which ends at {end}, {stored} times"
            );
        }
    }
}

/// What the killed run had stored without a gap behind its checkpoint was answered after that was taken. The two shards
/// take no more in this time than their quota, and a second's worth of it that they had saved up.
fn expect_behind_for_as_long_as_it_was_old(kill: &Kill, before: Option<&Arrived>, sealed: u64) {
    let first = (1..=LINES)
        .scan(0, |end, number| {
            *end += lines::bytes(number..=number);
            Some((number, *end))
        })
        .find(|(_, end)| *end > kill.settled);
    let first = first.expect("killed in mid-run").0;
    let here = |number: &u64| {
        let before = before.map_or(0, |before| before.count(*number));
        kill.arrived.count(*number) > before
    };
    let behind = (first..=LINES).take_while(here).count() as u64;
    let seconds = 1.0 + kill.age.as_secs_f64();
    let bytes = f64::from(SHARDS) * f64::from(1 << 20) * seconds;
    println!(
        "checkpoint at {}, {:?} old: {behind} lines behind it",
        kill.settled, kill.age
    );
    assert!(
        (behind * sealed) as f64 <= bytes,
        "{behind} lines of {sealed} bytes behind a checkpoint that is {:?} old",
        kill.age
    );
}

/// What was under way at the kill may yet be stored: reads until a whole reading has found nothing new.
fn all_there(site: &StandIn, home: &Home) -> Arrived {
    loop {
        let stored = site.fake.counters().records_stored;
        let arrived = Arrived::of(home.consume(&[]));
        if site.fake.counters().records_stored == stored {
            return arrived;
        }
    }
}

/// A checkpoint on disk, as it is looked at from time to time.
#[derive(Debug)]
struct Checkpoint {
    settled: u64,
    looked: Instant,
    /// It was written after this; and the one before it too, after the other.
    written_after: Instant,
    taken_after: Instant,
}

impl Checkpoint {
    fn found_at(settled: u64) -> Self {
        let now = Instant::now();
        Self {
            settled,
            looked: now,
            written_after: now,
            taken_after: now,
        }
    }

    /// One is taken when the one before has been written.
    fn seen_at(&mut self, settled: u64) {
        if settled != self.settled {
            self.settled = settled;
            self.taken_after = std::mem::replace(&mut self.written_after, self.looked);
        }
        self.looked = Instant::now();
    }

    fn age(&self) -> Duration {
        self.taken_after.elapsed()
    }
}
