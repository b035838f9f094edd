//! What aggregation costs, beside its floor: records of 200 bytes and 1 KiB in aggregates of 50 KiB, the default.
//!
//! One aggregate at a time:
//! - `encode`: laying an aggregate out and writing it;
//! - `floor`: MD5 over the same bytes, which the format demands of whoever writes or reads it, one by one;
//! - `reducer`: the stage for an aggregate that closes alone: sealed records in, closed aggregate out, tickets kept;
//! - `deaggregate`: the way back.
//!
//! Sixteen aggregates at once:
//! - `lanes, 16 together`: MD5 over the same bytes, side by side;
//! - `reducer, 16 together`: the stage as a busy agent runs it: sealed records in, closed aggregates out, tickets kept;
//! - `reducer, 16 together, own keys`: the same, and each record has a partition key that no other has.
//!
//! Elements are user records.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use md5::{Digest, Md5};
use tokio::time::Instant;

use kinseal::aggregate::format::{ENVELOPE, Layout, checksum, deaggregate};
use kinseal::aggregate::reducer::{Reducer, Routes};
use kinseal::aggregate::{AggregatedRecord, Settings};
use kinseal::delivery::{MemoryBudget, SpanSettled, Ticket};
use kinseal::record::{HashKey, PartitionKey, RecordKey};
use kinseal::seal::offload::{Sealing, seal_chunk};
use kinseal::seal::{self, SealedRecord};
use kinseal::shard::{Shard, ShardId, ShardMap};
use kinseal::source::{Accepted, Chunk};

static DATA: [u8; 1 << 10] = [0x5a; 1 << 10];
/// As many as the lanes that checksums have.
const TOGETHER: usize = 16;

fn encode_and_back(c: &mut Criterion) {
    for size in [200, 1 << 10] {
        let one = Aggregate::of(size);
        let mut group = c.benchmark_group(format!("aggregate/{size}"));
        one_at_a_time(&mut group, &one);
        sixteen_at_once(&mut group, &one);
        group.finish();
    }
}

fn one_at_a_time(group: &mut BenchmarkGroup<'_, WallTime>, one: &Aggregate) {
    let bytes = Bytes::from(one.encode());
    assert_eq!(deaggregate(&bytes).map(|r| r.len()), Some(one.members));
    group.throughput(Throughput::ElementsAndBytes {
        elements: one.members as u64,
        bytes: bytes.len() as u64,
    });
    group.bench_function("encode", |b| b.iter(|| black_box(one).encode()));
    group.bench_function("floor", |b| b.iter(|| Md5::digest(black_box(&bytes))));
    let mut reducer = reducer();
    group.bench_function("reducer", |b| {
        b.iter_batched(
            || one.sealed(1, |_| RecordKey::Any),
            |records| {
                let closed = reduce(&mut reducer, records);
                let entries = closed.into_iter().map(AggregatedRecord::from);
                entries.collect::<Vec<_>>()
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("deaggregate", |b| {
        b.iter(|| deaggregate(black_box(&bytes)));
    });
}

fn sixteen_at_once(group: &mut BenchmarkGroup<'_, WallTime>, one: &Aggregate) {
    let aggregates = vec![one.encode(); TOGETHER];
    let slices: Vec<_> = aggregates.iter().map(Vec::as_slice).collect();
    group.throughput(Throughput::ElementsAndBytes {
        elements: (one.members * TOGETHER) as u64,
        bytes: slices.iter().map(|s| s.len() as u64).sum(),
    });
    group.bench_function("lanes, 16 together", |b| {
        b.iter(|| checksum::of_each(black_box(&slices)));
    });
    let mut reducer = reducer();
    let mut together = |name, key: fn(usize) -> RecordKey| {
        group.bench_function(name, |b| {
            b.iter_batched(
                || one.sealed(TOGETHER, key),
                |records| AggregatedRecord::each(reduce(&mut reducer, records)),
                // Small: what the reducer gets comes from another core, but not from memory.
                BatchSize::PerIteration,
            );
        });
    };
    together("reducer, 16 together", |_| RecordKey::Any);
    together("reducer, 16 together, own keys", |n| {
        RecordKey::Keyed(PartitionKey::new(format!("{n:08}")).expect("short"))
    });
}

fn reduce(
    reducer: &mut Reducer<SealedRecord>,
    records: Vec<SealedRecord>,
) -> Vec<kinseal::aggregate::reducer::Closed<SealedRecord>> {
    let (now, mut closed) = (Instant::now(), Vec::new());
    for record in records {
        reducer.push(record, now, now, &mut closed);
    }
    reducer.flush(now, &mut closed);
    closed
}

/// A full aggregate of records of one size.
struct Aggregate {
    data: &'static [u8],
    key: PartitionKey,
    members: usize,
    layout: Layout,
}

impl Aggregate {
    fn of(size: usize) -> Self {
        let data = &DATA[..size];
        let key = PartitionKey::new("7").expect("short");
        let mut layout = Layout::new();
        while layout.wire_len_with(&key, None, size) <= Settings::default().max_size {
            layout.add(&key, None, size);
        }
        Self {
            data,
            key,
            members: layout.members(),
            layout,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut layout = Layout::new();
        for _ in 0..self.members {
            layout.add(&self.key, None, self.data.len());
        }
        assert!(layout.wire_len() > ENVELOPE && layout.wire_len() == self.layout.wire_len());
        layout.encode((0..self.members).map(|_| self.data)).0
    }

    /// The records of some aggregates, in plain: sealing has a bench of its own.
    fn sealed(&self, aggregates: usize, key: impl Fn(usize) -> RecordKey) -> Vec<SealedRecord> {
        let records = self.members * aggregates;
        let memory = MemoryBudget::new(1 << 20).try_reserve(1).expect("free");
        let now = Instant::now();
        let mut ticket = Ticket::for_span(records as u32 + 1, now, memory, Arc::new(Nobody), 0);
        let records = (0..records).map(|n| Accepted {
            data: Bytes::from_static(self.data),
            key: key(n),
            ticket: ticket.take_one(),
        });
        let chunk = Chunk {
            records: records.collect(),
            read_took: Duration::ZERO,
        };
        let plaintext = seal::Settings::off();
        let allowed = plaintext.plaintext_allowed().expect("the scope is off");
        seal_chunk(chunk, &Sealing::Plain(allowed), now).records
    }
}

fn reducer() -> Reducer<SealedRecord> {
    let shard = Shard {
        id: ShardId::new("shardId-000000000000"),
        start: HashKey(0),
        end: HashKey(u128::MAX),
    };
    let map = ShardMap::new(vec![shard]).expect("one shard is the whole ring");
    Reducer::new(
        Some(Settings::default().max_size),
        Routes::Known(Arc::new(map)),
    )
}

/// Nobody waits for these records.
struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

/// Fourteen benchmarks in forty seconds.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
}

criterion_group! { name = benches; config = moment(); targets = encode_and_back }
criterion_main!(benches);
