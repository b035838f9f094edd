//! The pipeline against shards with quotas: used to the full, with few throttles, and none in another's way.

use super::*;
use crate::shard::ShardMap;

const MIB: f64 = (1 << 20) as f64;
const THROTTLED: &str = "ProvisionedThroughputExceededException";
const RECORD: usize = 10 << 10;

/// What each shard still takes, as the service counts it: a second's worth at most.
struct Quotas {
    map: ShardMap,
    tokens: Vec<f64>,
    per_second: Vec<f64>,
    filled: Instant,
    /// Until then the last shard takes nothing.
    dead_until: Option<Instant>,
}

impl Quotas {
    fn new(shards: u128) -> Self {
        Self {
            map: even(shards),
            tokens: vec![MIB; shards as usize],
            per_second: vec![MIB; shards as usize],
            filled: Instant::now(),
            dead_until: None,
        }
    }

    /// The last shard takes nothing for so long.
    fn dead_for(self, time: Duration) -> Self {
        let dead_until = Some(Instant::now() + time);
        Self { dead_until, ..self }
    }

    /// Which entries are throttled.
    fn refuse(&mut self, batch: &Batch) -> Vec<bool> {
        let elapsed = self.filled.elapsed().as_secs_f64();
        self.filled = Instant::now();
        for (tokens, per_second) in self.tokens.iter_mut().zip(&self.per_second) {
            *tokens = (*tokens + elapsed * per_second).min(*per_second);
        }
        if self.dead_until.is_some_and(|until| until > self.filled) {
            *self.tokens.last_mut().unwrap() = 0.0;
        }
        let entries = batch.entries().iter().map(|entry| {
            let tokens = &mut self.tokens[self.map.predict_index(entry.hash_key())];
            let size = entry.size() as f64;
            let throttled = *tokens < size;
            if !throttled {
                *tokens -= size;
            }
            throttled
        });
        entries.collect()
    }
}

/// Entries that were stored and throttled, and bytes stored, of each shard.
#[derive(Debug, Clone, Default)]
struct Seen {
    stored: u64,
    throttled: u64,
    bytes: Vec<f64>,
}

impl Seen {
    fn since(&self, before: &Self) -> Self {
        let bytes = self.bytes.iter().zip(&before.bytes);
        Self {
            stored: self.stored - before.stored,
            throttled: self.throttled - before.throttled,
            bytes: bytes.map(|(now, before)| now - before).collect(),
        }
    }

    fn throttled_share(&self) -> f64 {
        self.throttled as f64 / (self.stored + self.throttled) as f64
    }
}

/// A service with quotas, which also refuses `at_random` of each thousand entries.
fn with_quotas(quotas: Quotas, at_random: u32) -> (Arc<Service>, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen {
        bytes: vec![0.0; quotas.tokens.len()],
        ..Seen::default()
    }));
    let shards = quotas.tokens.len() as u128;
    let (mut quotas, told) = (quotas, Arc::clone(&seen));
    let mut rng = StdRng::seed_from_u64(u64::from(at_random));
    let service = Service::new(shards, move |batch| {
        let mut refused = quotas.refuse(batch);
        let mut seen = told.lock().unwrap();
        for (entry, refused) in batch.entries().iter().zip(&mut refused) {
            *refused |= rng.random_range(0..1000) < at_random;
            if *refused {
                seen.throttled += 1;
            } else {
                seen.stored += 1;
                seen.bytes[quotas.map.predict_index(entry.hash_key())] += entry.size() as f64;
            }
        }
        Plan::Entries(Box::new(move |n| refused[n].then_some(THROTTLED)))
    });
    (service, seen)
}

fn with_default_rate(parts: &mut Parts) {
    parts.delivery.rate_limit = send::Settings::default().rate_limit;
}

struct Nobody;

impl crate::delivery::SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

/// As many as are read of a file at once.
const IN_A_CHUNK: usize = 25;

/// Puts records as fast as they are taken, until it is stopped.
fn offer_without_end(pipeline: &Pipeline) -> tokio::task::JoinHandle<()> {
    let intake = pipeline.intake();
    tokio::spawn(async move {
        let data = Bytes::from(vec![b'x'; RECORD]);
        loop {
            let memory = intake.reserve(IN_A_CHUNK, IN_A_CHUNK * RECORD).await;
            let count = IN_A_CHUNK as u32 + 1;
            let mut ticket = Ticket::for_span(count, Instant::now(), memory, Arc::new(Nobody), 0);
            let records = (0..IN_A_CHUNK).map(|_| Accepted {
                data: data.clone(),
                key: any(),
                ticket: ticket.take_one(),
            });
            let chunk = Chunk {
                records: records.collect(),
                read_took: Duration::ZERO,
            };
            ticket.settle(&Delivery::Failed {
                reason: FailReason::Abandoned,
                attempts: 0,
            });
            if intake.send(chunk).await.is_err() {
                return;
            }
        }
    })
}

/// What was seen in `seconds`, after as many as it takes to settle.
async fn settled(seen: &Mutex<Seen>, seconds: u64) -> Seen {
    tokio::time::sleep(Duration::from_secs(8)).await;
    let before = seen.lock().unwrap().clone();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    seen.lock().unwrap().since(&before)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_offered_all_it_can_take_takes_its_quota_with_few_throttles() {
    for aggregated in [true, false] {
        let (service, seen) = with_quotas(Quotas::new(8), 0);
        let pipeline = start(&service, |p| {
            with_default_rate(p);
            p.aggregation.enabled = aggregated;
        });
        let offering = offer_without_end(&pipeline);
        let seen = settled(&seen, 30).await;
        offering.abort();
        let used: Vec<f64> = seen.bytes.iter().map(|bytes| bytes / MIB / 30.0).collect();
        assert!(used.iter().all(|used| *used > 0.95), "{used:?}");
        assert!(seen.throttled_share() < 0.02, "{seen:?}");
        drop(pipeline);
    }
}

#[tokio::test(start_paused = true)]
async fn where_others_use_half_of_a_shard_the_rest_is_used_with_few_throttles() {
    let mut quotas = Quotas::new(4);
    quotas.per_second[1] /= 2.0;
    let (service, seen) = with_quotas(quotas, 0);
    let pipeline = start(&service, with_default_rate);
    let offering = offer_without_end(&pipeline);
    let seen = settled(&seen, 60).await;
    offering.abort();
    let used: Vec<f64> = seen.bytes.iter().map(|bytes| bytes / MIB / 60.0).collect();
    // Records that may go to any shard pass it over while more waits for it than for others.
    assert!(used[1] > 0.45, "{used:?}");
    let others = [used[0], used[2], used[3]];
    assert!(others.iter().all(|used| *used > 0.95), "{used:?}");
    // Half of what goes to the one shard would be throttled at the full rate: an eighth of all.
    assert!(seen.throttled_share() < 0.02, "{seen:?}");
    drop(pipeline);
}

#[tokio::test(start_paused = true)]
async fn agents_that_share_a_shard_settle_with_few_throttles() {
    // At their full rates it would be a half, two thirds and four fifths. What is learned in one run is a matter of chance, and one in
    // twenty has twice the mean, which over twelve runs is 2.9, 3.2 and 3.7 %: so it is the mean that is asked for.
    const RUNS: u32 = 6;
    for (agents, most) in [(2, 0.06), (3, 0.07), (5, 0.08)] {
        let mut throttled = Vec::new();
        for _ in 0..RUNS {
            let (service, seen) = with_quotas(Quotas::new(1), 0);
            let pipelines: Vec<_> = (0..agents)
                .map(|_| start(&service, with_default_rate))
                .collect();
            let offering: Vec<_> = pipelines.iter().map(offer_without_end).collect();
            let seen = settled(&seen, 60).await;
            for offering in offering {
                offering.abort();
            }
            let used = seen.bytes[0] / MIB / 60.0;
            assert!(used > 0.95, "{agents}: {used:.3}");
            throttled.push(seen.throttled_share());
        }
        let mean = throttled.iter().sum::<f64>() / f64::from(RUNS);
        assert!(mean < most, "{agents}: {throttled:.3?} throttled");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_shard_leaves_the_others_at_full_rate_while_its_backlog_has_room() {
    const SHARDS: u128 = 8;
    let (service, seen) = with_quotas(Quotas::new(SHARDS), 0);
    let pipeline = start(&service, with_default_rate);
    let map = even(SHARDS);
    let intake = pipeline.intake();
    let mut latencies = Vec::new();
    let began = Instant::now();
    // Three times what the first shard takes, and nine tenths of it for each of the others.
    let tick = Duration::from_millis(100);
    for n in 0..60 {
        for shard in 0..SHARDS as usize {
            let bytes = MIB * if shard == 0 { 0.3 } else { 0.09 };
            let data = Bytes::from(vec![b'x'; bytes as usize / 4]);
            for _ in 0..4 {
                let hash_key = map.shards()[shard].start;
                let key = RecordKey::Explicit(PartitionKey::new("k").unwrap(), hash_key);
                let memory = intake
                    .try_reserve(1, data.len())
                    .expect("the backlog has room");
                let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
                let record = Accepted {
                    data: data.clone(),
                    key,
                    ticket,
                };
                let chunk = Chunk {
                    records: vec![record],
                    read_took: Duration::ZERO,
                };
                intake.send(chunk).await.unwrap();
                let put = Instant::now();
                latencies.push(tokio::spawn(async move {
                    assert!(receipt.await.is_stored());
                    (shard, put.elapsed())
                }));
            }
        }
        tokio::time::sleep_until(began + tick * (n + 1)).await;
    }
    let hot = seen.lock().unwrap().bytes[0] / MIB / 6.0;
    assert!(hot > 0.95, "the hot one has its quota: {hot}");
    let mut others = Vec::new();
    for latency in latencies {
        let (shard, took) = latency.await.unwrap();
        if shard > 0 {
            others.push(took);
        }
    }
    others.sort();
    let p99 = others[others.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(400), "{p99:?}");
}

#[tokio::test(start_paused = true)]
async fn entries_refused_at_random_cost_little_more_than_themselves() {
    let mut speeds = Vec::new();
    for at_random in [0, 10, 200] {
        let (service, seen) = with_quotas(Quotas::new(8), at_random);
        let pipeline = start(&service, with_default_rate);
        let offering = offer_without_end(&pipeline);
        let seen = settled(&seen, 60).await;
        offering.abort();
        speeds.push(seen.bytes.iter().sum::<f64>());
        drop(pipeline);
    }
    assert!(speeds[1] > 0.95 * speeds[0], "1 %: {speeds:?}");
    assert!(speeds[2] > 0.7 * speeds[0], "20 %: {speeds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_takes_nothing_is_asked_seldom_and_the_others_as_ever() {
    // Of two, the other gets everything that may go anywhere; of more, the others share it.
    for shards in [2, 3, 4] {
        let quotas = Quotas::new(shards).dead_for(Duration::from_secs(3600));
        let (service, seen) = with_quotas(quotas, 0);
        let pipeline = start(&service, with_default_rate);
        let offering = offer_without_end(&pipeline);
        tokio::time::sleep(Duration::from_secs(120)).await;
        offering.abort();
        let seen = seen.lock().unwrap().clone();
        let (dead, others) = seen.bytes.split_last().unwrap();
        assert_eq!(*dead, 0.0);
        // Full jitter up to 10 s, and each time no more than tokens let pass at once.
        assert!(seen.throttled < 600, "{shards}: {seen:?}");
        let all = others.iter().all(|bytes| *bytes > 0.95 * 120.0 * MIB);
        assert!(all, "{shards}: {seen:?}");
        drop(pipeline);
    }
}

/// What was over took the tokens of what was not, at a rate that had come down to nothing: no call was made any more, and
/// so nothing was heard that could have brought it up.
#[tokio::test(start_paused = true)]
async fn a_shard_that_was_dead_for_longer_than_records_live_is_used_again() {
    const DEAD: Duration = Duration::from_secs(60);
    let (service, seen) = with_quotas(Quotas::new(1).dead_for(DEAD), 0);
    let pipeline = start(&service, |p| {
        with_default_rate(p);
        p.delivery.record_ttl = Some(Duration::from_secs(30));
    });
    // Each told to a caller: dead letters would be written by a thread, and a paused clock does not wait for it.
    let intake = pipeline.intake();
    let offering = tokio::spawn(async move {
        let data = Bytes::from(vec![b'x'; RECORD]);
        loop {
            let memory = intake.reserve(1, RECORD).await;
            let (ticket, _) = Ticket::for_caller(Instant::now(), memory);
            let record = Accepted {
                data: data.clone(),
                key: any(),
                ticket,
            };
            let chunk = Chunk {
                records: vec![record],
                read_took: Duration::ZERO,
            };
            if intake.send(chunk).await.is_err() {
                return;
            }
        }
    });
    tokio::time::sleep(DEAD + Duration::from_secs(15)).await;
    let before = seen.lock().unwrap().clone();
    assert!(pipeline.counters().snapshot().failed > 0);
    tokio::time::sleep(Duration::from_secs(20)).await;
    offering.abort();
    let seen = seen.lock().unwrap().since(&before);
    assert!(seen.bytes[0] > 0.9 * 20.0 * MIB, "{seen:?}");
    drop(pipeline);
}
