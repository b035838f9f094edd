//! What a stream's pipeline costs: routing, aggregating, encoding with its checksums, limiting, batching and accounting.
//! Plain records go in and calls come out that are answered at once; neither sealing nor the request is in it. Times are
//! **CPU time of all threads**, so that elements per second are those of one core.
//!
//! - `floor`: MD5 over as many bytes, one after the other, which the format demands of whoever does it singly;
//! - `any shard`: records without a key, the default: one open aggregate;
//! - `keyed`: records whose keys go round the shards, so that each has an open aggregate; 20 records to each, however
//!   many shards there are, so that only their number differs. They are full at different times, and what is open at a
//!   run's end goes on filling in the next: a stream that flows. (Filled together from nothing and flushed, the page
//!   faults of memory that is given back each time are in it, five times as many for 10,000 shards.)
//!
//! Elements are user records.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use md5::{Digest, Md5};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use kinseal::batch::Batch;
use kinseal::delivery::{MemoryBudget, SpanSettled, Ticket};
use kinseal::pipeline::{Parts, Pipeline, Sealer};
use kinseal::record::{HashKey, PartitionKey, RecordKey, StreamName};
use kinseal::seal;
use kinseal::seal::offload::SealPool;
use kinseal::send::{CallOutcome, EntryOutcome, PutRecords};
use kinseal::shard::{Description, Distribution, ListShards, ListShardsError, Shard, ShardId};
use kinseal::source::{Accepted, Chunk};

/// Forty for each of the most shards: two aggregates of twenty.
const RECORDS: usize = 400_000;
const IN_A_CHUNK: usize = 1000;
const IN_AN_AGGREGATE: usize = 20;
/// Of such aggregates: what waits for company in a request.
const A_BATCH: u64 = 500 * IN_AN_AGGREGATE as u64;
const MANY: [usize; 4] = [1, 100, 1000, 10_000];

fn pipelines(c: &mut Criterion) {
    // As in the product.
    kinseal::cli::heap::give_back_large_buffers();
    let runtime = Runtime::new().expect("threads");
    for size in [200, 1 << 10] {
        // As many bytes as 200,000 records of 200 have.
        let records = RECORDS / 2 * 200 / size / IN_A_CHUNK * IN_A_CHUNK;
        let mut group = c.benchmark_group(format!("pipeline/{size}"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: records as u64,
            bytes: (records * size) as u64,
        });
        let bytes = vec![0x5a; 50 << 10];
        let times = records * size / bytes.len();
        group.bench_function("floor", |b| {
            b.iter_custom(|iterations| {
                cpu_of(|| {
                    for _ in 0..iterations * times as u64 {
                        black_box(Md5::digest(black_box(&bytes)));
                    }
                })
            });
        });
        for shards in MANY {
            group.bench_function(BenchmarkId::new("any shard", shards), |b| {
                let rig = Rig::start(&runtime, shards, None);
                b.iter_custom(|n| rig.run(n, records, size, |_| RecordKey::Any));
            });
        }
    }
    let mut group = c.benchmark_group("pipeline/200");
    group.throughput(Throughput::ElementsAndBytes {
        elements: RECORDS as u64,
        bytes: (RECORDS * 200) as u64,
    });
    for shards in MANY {
        let map = even(shards);
        let keys: Vec<_> = (map.iter().enumerate())
            .map(|(n, shard)| {
                let key = PartitionKey::new(format!("{n:04}")).expect("short");
                RecordKey::Explicit(key, shard.start)
            })
            .collect();
        group.bench_function(BenchmarkId::new("keyed", shards), |b| {
            let mut rig = Rig::start(&runtime, shards, Some(IN_AN_AGGREGATE));
            rig.open_apart(&keys);
            b.iter_custom(|n| rig.run(n, RECORDS, 200, |i| keys[i % shards].clone()));
        });
    }
}

/// CPU time of all of this process's threads meanwhile.
fn cpu_of(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = now();
    work();
    now() - before
}

struct Rig<'r> {
    runtime: &'r Runtime,
    pipeline: Pipeline,
    /// Records in open aggregates, after each run.
    open: u64,
    /// Each run ends with one.
    flushes: bool,
}

impl<'r> Rig<'r> {
    fn start(runtime: &'r Runtime, shards: usize, max_count: Option<usize>) -> Self {
        let plaintext = seal::Settings::off();
        let mut parts = Parts {
            stream: StreamName::new("shop-logs").expect("a name"),
            aggregation: Default::default(),
            batch: Default::default(),
            delivery: Default::default(),
            sealer: Sealer::Plain(plaintext.plaintext_allowed().expect("the scope is off")),
            pool: SealPool::new(2).expect("threads"),
            budget: MemoryBudget::new(4 << 30),
            put_records: Arc::new(AtOnce),
            connections: Default::default(),
            shards: Arc::new(Shards(shards)),
            dead_letters: None,
            spool: None,
            counters: Arc::default(),
            waiting: Pipeline::CHUNKS,
            observer: None,
        };
        // Neither time nor a quota decides here.
        parts.aggregation.linger = Duration::from_secs(3600);
        parts.delivery.rate_limit = u32::MAX;
        if let Some(max_count) = max_count {
            parts.aggregation.max_count = max_count;
        }
        let pipeline = runtime.block_on(async { Pipeline::start(parts) });
        Self {
            runtime,
            pipeline,
            open: 0,
            flushes: max_count.is_none(),
        }
    }

    /// Gives each shard a record more than the one before, up to what fills an aggregate.
    fn open_apart(&mut self, keys: &[RecordKey]) {
        let rounds = 0..IN_AN_AGGREGATE;
        let given = rounds.flat_map(|round| {
            let behind = move |(place, _): &(usize, _)| place % IN_AN_AGGREGATE > round;
            keys.iter()
                .enumerate()
                .filter(behind)
                .map(|(_, key)| key.clone())
        });
        let given: Vec<_> = given.collect();
        self.open = given.len() as u64;
        self.run(1, given.len(), 200, |i| given[i].clone());
    }

    fn run(
        &self,
        iterations: u64,
        records: usize,
        size: usize,
        key: impl Fn(usize) -> RecordKey,
    ) -> Duration {
        let mut took = Duration::ZERO;
        let mut due = self.pipeline.counters().snapshot().plain_bytes;
        for _ in 0..iterations {
            let chunks = self.chunks(records, size, &key);
            took += cpu_of(|| {
                self.runtime.block_on(async {
                    let intake = self.pipeline.intake();
                    for chunk in chunks {
                        intake.send(chunk).await.expect("it runs");
                    }
                    // Not before all are where they belong: a flush closes what has hardly been opened.
                    due += (records * size) as u64;
                    while !self.has_caught_up(due) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    if self.flushes {
                        self.pipeline.flush().await;
                    }
                });
            });
        }
        took
    }

    /// All is taken in and, without a flush, no more waits than open aggregates and the batch that is being filled hold.
    fn has_caught_up(&self, taken_in: u64) -> bool {
        let counts = self.pipeline.counters().snapshot();
        let waits_for_company = self.open + A_BATCH;
        counts.plain_bytes >= taken_in && (self.flushes || counts.pending <= waits_for_company)
    }

    /// Made beforehand: what a source costs is another matter.
    fn chunks(&self, records: usize, size: usize, key: impl Fn(usize) -> RecordKey) -> Vec<Chunk> {
        let now = Instant::now();
        let intake = self.pipeline.intake();
        let chunk = |first: usize| {
            let count = IN_A_CHUNK.min(records - first);
            let memory = intake.try_reserve(count, count * size);
            let memory = memory.expect("there is room");
            let mut ticket = Ticket::for_span(count as u32 + 1, now, memory, Arc::new(Nobody), 0);
            // As lines lie in what was read.
            let read = Bytes::from(vec![0x5a; count * size]);
            let records = (0..count).map(|i| Accepted {
                data: read.slice(i * size..(i + 1) * size),
                key: key(first + i),
                ticket: ticket.take_one(),
            });
            Chunk {
                records: records.collect(),
                read_took: Duration::ZERO,
            }
        };
        (0..records).step_by(IN_A_CHUNK).map(chunk).collect()
    }
}

/// Nobody waits for these records.
struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

/// Stores everything where it belongs, in no time.
#[derive(Debug)]
struct AtOnce;

impl PutRecords for AtOnce {
    fn put_records<'a>(
        &'a self,
        _: &'a StreamName,
        batch: &'a Batch,
    ) -> BoxFuture<'a, CallOutcome> {
        let stored = batch.entries().iter().map(|entry| EntryOutcome::Stored {
            shard: entry.predicted().expect("there is a map").to_shared(),
            sequence: "1".into(),
        });
        std::future::ready(CallOutcome::Answered(stored.collect())).boxed()
    }
}

#[derive(Debug)]
struct Shards(usize);

fn even(shards: usize) -> Vec<Shard> {
    let shards = shards as u128;
    let width = u128::MAX / shards;
    let shard = |n: u128| Shard {
        id: ShardId::new(&format!("shardId-{n:012}")),
        start: HashKey(n * width),
        end: HashKey(if n == shards - 1 {
            u128::MAX
        } else {
            (n + 1) * width - 1
        }),
    };
    (0..shards).map(shard).collect()
}

impl ListShards for Shards {
    fn list_shards<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Shard>, ListShardsError>> {
        std::future::ready(Ok(even(self.0))).boxed()
    }

    fn describe<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Description, ListShardsError>> {
        std::future::ready(Ok(Description {
            distribution: Distribution::ByKey,
            max_record_bytes: None,
        }))
        .boxed()
    }
}

/// Thirteen benchmarks in two minutes.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(6))
        .sample_size(10)
}

criterion_group! { name = benches; config = moment(); targets = pipelines }
criterion_main!(benches);
