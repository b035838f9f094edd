//! The limiter against a model of a shard, on a clock of its own.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Bytes and records admitted in `seconds`, offered without end.
fn admitted(percent: u32, record: usize, seconds: u64) -> (f64, f64) {
    let start = Instant::now();
    let mut limiter = Limiter::new(percent, start);
    let (mut now, mut records) = (start, 0.0);
    while now < start + Duration::from_secs(seconds) {
        match limiter.admit(record, now) {
            Ok(()) => records += 1.0,
            Err(later) => now = later,
        }
    }
    (records * record as f64, records)
}

#[test]
fn rate_settles_at_the_share_of_the_quota_whichever_binds() {
    // Ten seconds, and the full bucket at the start.
    let (_, records) = admitted(100, 10, 10);
    assert!((10_790.0..=10_810.0).contains(&records), "{records}");
    let (bytes, _) = admitted(150, 51_200, 10);
    let quota = 1.5 * BYTES_PER_SECOND * 10.8;
    assert!((quota * 0.98..=quota * 1.01).contains(&bytes), "{bytes}");
}

#[test]
fn a_record_larger_than_the_bucket_passes_and_is_paid_for() {
    let (bytes, records) = admitted(10, 1 << 20, 100);
    assert!(records >= 10.0, "{records}");
    assert!(bytes <= 0.1 * BYTES_PER_SECOND * 112.0, "{bytes}");
}

#[test]
fn a_clock_that_stands_still_or_steps_back_gives_no_tokens() {
    let start = Instant::now() + Duration::from_secs(10);
    let mut limiter = Limiter::new(100, start);
    while limiter.admit(51_200, start).is_ok() {}
    assert!(
        limiter
            .admit(51_200, start - Duration::from_secs(5))
            .is_err()
    );
    assert!(limiter.admit(51_200, start).is_err());
}

/// A shard as the service has it, and hosts that send as much to it as their limiters let them. Answers come
/// after a call's time, which varies.
struct Shard {
    now: Instant,
    rng: StdRng,
    hosts: Vec<Host>,
    bucket: Bucket,
    /// Refused whatever the rate.
    refusing: f64,
    stored: f64,
    throttled: f64,
}

struct Host {
    limiter: Limiter,
    /// On their way, by when they are answered; and what comes again when.
    on_their_way: Vec<Instant>,
    again: Vec<Instant>,
    backlog: bool,
}

/// What is learned is a matter of chance: means of so many runs tell.
const CHANCES: u64 = 10;
const ENTRY: usize = 50 << 10;
const TICK: Duration = Duration::from_millis(5);

impl Shard {
    fn shared_by(hosts: usize) -> Self {
        Self::with_chance(hosts as u64, hosts)
    }

    fn with_chance(seed: u64, hosts: usize) -> Self {
        let now = Instant::now();
        let host = || Host {
            limiter: Limiter::new(100, now),
            on_their_way: Vec::new(),
            again: Vec::new(),
            backlog: true,
        };
        let mut bucket = Bucket::new(BYTES_PER_SECOND, now);
        // A whole second's worth, as the service has it.
        bucket.tokens = BYTES_PER_SECOND;
        Self {
            now,
            rng: StdRng::seed_from_u64(seed),
            hosts: (0..hosts).map(|_| host()).collect(),
            bucket,
            refusing: 0.0,
            stored: 0.0,
            throttled: 0.0,
        }
    }

    /// Lets time pass; the shares of the shard's quota that were used, and of the entries that were throttled.
    fn run(&mut self, seconds: u64) -> (f64, f64) {
        (self.stored, self.throttled) = (0.0, 0.0);
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.now += TICK;
            self.tick();
        }
        let bytes = self.stored * ENTRY as f64;
        let used = bytes / (BYTES_PER_SECOND * seconds as f64);
        (used, self.throttled / (self.stored + self.throttled))
    }

    /// How long it takes until so many entries are stored, in seconds.
    fn time_to_store(&mut self, entries: u32) -> f64 {
        let began = self.now;
        while self.stored < f64::from(entries) {
            self.now += TICK;
            self.tick();
        }
        (self.now - began).as_secs_f64()
    }

    fn tick(&mut self) {
        let now = self.now;
        let elapsed = TICK.as_secs_f64() * BYTES_PER_SECOND;
        self.bucket.tokens = (self.bucket.tokens + elapsed).min(BYTES_PER_SECOND);
        for host in &mut self.hosts {
            let arrived = host.on_their_way.extract_if(.., |at| *at <= now).count();
            for _ in 0..arrived {
                let refused = self.rng.random::<f64>() < self.refusing;
                let throttled = refused || self.bucket.tokens < ENTRY as f64;
                if throttled {
                    self.throttled += 1.0;
                    let delay = self.rng.random_range(0..100);
                    host.again.push(now + Duration::from_millis(delay));
                } else {
                    self.bucket.take(ENTRY as f64);
                    self.stored += 1.0;
                }
                host.limiter.answered(ENTRY, throttled, now);
            }
            loop {
                let due = host.again.iter().position(|at| *at <= now);
                if due.is_none() && !host.backlog || host.limiter.admit(ENTRY, now).is_err() {
                    break;
                }
                if let Some(due) = due {
                    host.again.swap_remove(due);
                }
                let took = self.rng.random_range(10..60);
                host.on_their_way.push(now + Duration::from_millis(took));
            }
        }
    }
}

#[test]
fn a_shard_shared_by_hosts_that_know_nothing_of_each_other_is_used_up_with_few_throttles() {
    for (hosts, most) in [(1, 0.001), (2, 0.035), (3, 0.035), (5, 0.04), (10, 0.075)] {
        let mut throttled = 0.0;
        for seed in 0..CHANCES {
            let mut shard = Shard::with_chance(seed, hosts);
            shard.run(15);
            let seen = shard.run(120);
            assert!(seen.0 > 0.95, "{hosts}: {:.3} used", seen.0);
            throttled += seen.1 / CHANCES as f64;
        }
        assert!(throttled < most, "{hosts}: {throttled:.3} throttled");
    }
}

#[test]
fn a_host_that_comes_late_gets_its_part() {
    let mut part = 0.0;
    for seed in 0..CHANCES {
        let mut shard = Shard::with_chance(seed, 2);
        shard.hosts[1].backlog = false;
        shard.run(30);
        shard.hosts[1].backlog = true;
        shard.run(60);
        let levels = [0, 1].map(|n: usize| shard.hosts[n].limiter.level());
        let late = levels[1] / (levels[0] + levels[1]);
        assert!(late > 0.1, "{levels:?}");
        part += late / CHANCES as f64;
    }
    assert!((0.3..0.7).contains(&part), "{part:.2}");
}

#[test]
fn rate_is_back_soon_after_the_others_have_gone() {
    let mut shard = Shard::shared_by(5);
    shard.run(30);
    for host in &mut shard.hosts[1..] {
        host.backlog = false;
    }
    shard.run(50);
    assert_eq!(shard.hosts[0].limiter.level(), 1.0);
    let (used, throttled) = shard.run(20);
    assert!(used > 0.97 && throttled < 0.01, "{used} {throttled}");
}

#[test]
fn refusals_that_do_not_depend_on_the_rate_do_not_bring_it_down() {
    for refusing in [0.01, 0.03, 0.1, 0.2] {
        let possible = 1.0 - refusing;
        let (mut soon, mut later) = (0.0, 0.0);
        for seed in 0..CHANCES {
            let mut shard = Shard::with_chance(seed, 1);
            shard.refusing = refusing;
            soon += shard.run(30).0 / possible / CHANCES as f64;
            later += shard.run(300).0 / possible / CHANCES as f64;
        }
        assert!(
            soon > 0.85 && later > 0.85,
            "{refusing}: {soon:.3} and {later:.3} of what is possible"
        );
    }
}

/// 500,000 lines of 200 bytes, on four shards: done when the last of them is. It is no mean that counts, but each run.
#[test]
fn work_of_half_a_minute_is_done_nearly_as_fast_where_entries_are_refused_at_random() {
    const ENTRIES: u32 = 496;
    let time = |refusing, seed| {
        let mut shard = Shard::with_chance(seed, 1);
        shard.refusing = refusing;
        shard.time_to_store(ENTRIES)
    };
    for (refusing, least) in [(0.01, 0.9), (0.2, 0.65)] {
        let fault_free = time(0.0, 0);
        for run in 0..10 * CHANCES {
            let times = (0..4).map(|shard| time(refusing, 4 * run + shard));
            let speed = fault_free / times.fold(0.0, f64::max);
            assert!(speed >= least, "{refusing}, run {run}: {speed:.3}");
        }
    }
}

#[test]
fn what_was_usual_is_forgotten_when_it_ends() {
    let mut shard = Shard::shared_by(1);
    shard.refusing = 0.3;
    shard.run(60);
    shard.refusing = 0.0;
    shard.run(20);
    // From there on the shard takes half, and this is seen again.
    shard.hosts.push(Shard::shared_by(1).hosts.remove(0));
    shard.hosts[1].limiter = Limiter::new(100, shard.now);
    shard.run(20);
    let (used, throttled) = shard.run(60);
    assert!(used > 0.95 && throttled < 0.05, "{used} {throttled}");
}

/// They come while a host has good reason to take what is refused for the service's own affair, and then it is not. It once
/// went on so for two minutes, and a third of all was refused.
#[test]
fn who_takes_others_for_an_ailment_of_the_service_finds_out_in_seventy_seconds() {
    for hosts in [2, 3, 5] {
        for seed in 0..2 * CHANCES {
            let mut shard = Shard::with_chance(seed, 1);
            shard.refusing = 0.3;
            shard.run(14);
            shard.refusing = 0.0;
            for _ in 1..hosts {
                let mut host = Shard::shared_by(1).hosts.remove(0);
                host.limiter = Limiter::new(100, shard.now);
                shard.hosts.push(host);
            }
            shard.run(70);
            let (used, throttled) = shard.run(60);
            assert!(
                used > 0.95 && throttled < 0.1,
                "{hosts}, {seed}: {used:.3} used, {throttled:.3} throttled"
            );
        }
    }
}

#[test]
fn one_entry_now_and_then_is_no_evidence() {
    let start = Instant::now();
    let mut limiter = Limiter::new(100, start);
    for n in 0..600u64 {
        let now = start + Duration::from_secs(n * 3);
        limiter.answered(ENTRY, n % 3 == 0, now);
    }
    assert_eq!(limiter.level(), 1.0);
}
