//! What aggregation costs, beside its floor: 200-byte records in aggregates of 50 KiB, the default.
//!
//! - `encode`: laying an aggregate out and writing it;
//! - `floor`: MD5 over the same bytes, which the format demands of whoever writes or reads it;
//! - `reducer`: the stage as the agent runs it: sealed records in, closed aggregates out, tickets kept;
//! - `deaggregate`: the way back.
//!
//! Elements are user records.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest, Md5};
use tokio::time::Instant;

use kinseal::aggregate::format::{Layout, deaggregate};
use kinseal::aggregate::reducer::{Reducer, Routes};
use kinseal::aggregate::{AggregatedRecord, Settings};
use kinseal::delivery::{MemoryBudget, SpanSettled, Ticket};
use kinseal::record::{HashKey, PartitionKey, RecordKey};
use kinseal::seal::offload::{Sealing, seal_chunk};
use kinseal::seal::{self, CacheSettings, EncryptionContext, Scope, SealedRecord, message};
use kinseal::shard::{Shard, ShardId, ShardMap};
use kinseal::source::{Accepted, Chunk};

const RECORD: [u8; 200] = [0x5a; 200];
/// 50 KiB divided by 200 bytes and their 8 of framing.
const MEMBERS: usize = 246;

fn encode_and_back(c: &mut Criterion) {
    let key = PartitionKey::new("7").expect("short");
    let aggregate = Bytes::from(encode(&key));
    assert_eq!(deaggregate(&aggregate).map(|r| r.len()), Some(MEMBERS));

    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::ElementsAndBytes {
        elements: MEMBERS as u64,
        bytes: aggregate.len() as u64,
    });
    group.bench_function("encode", |b| b.iter(|| encode(black_box(&key))));
    group.bench_function("floor", |b| b.iter(|| Md5::digest(black_box(&aggregate))));
    group.bench_function("reducer", |b| {
        let mut reducer = reducer();
        let mut closed = Vec::new();
        b.iter_batched(
            sealed,
            |records| {
                let now = Instant::now();
                for record in records {
                    reducer.push(record, now, now, &mut closed);
                }
                reducer.flush(now, &mut closed);
                closed
                    .drain(..)
                    .map(AggregatedRecord::from)
                    .collect::<Vec<_>>()
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("deaggregate", |b| {
        b.iter(|| deaggregate(black_box(&aggregate)));
    });
    group.finish();
}

fn encode(key: &PartitionKey) -> Vec<u8> {
    let mut layout = Layout::new();
    for _ in 0..MEMBERS {
        layout.add(key, None, RECORD.len());
    }
    layout.encode((0..MEMBERS).map(|_| &RECORD[..])).0
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

/// One aggregate's worth of records, in plain: sealing has a bench of its own.
fn sealed() -> Vec<SealedRecord> {
    let memory = MemoryBudget::new(1 << 20).try_reserve(1).expect("free");
    let now = Instant::now();
    let mut ticket = Ticket::for_span(MEMBERS as u32 + 1, now, memory, Arc::new(Nobody), 0);
    let records = (0..MEMBERS).map(|_| Accepted {
        data: Bytes::from_static(&RECORD),
        key: RecordKey::Any,
        ticket: ticket.take_one(),
    });
    let chunk = Chunk {
        records: records.collect(),
        read_took: Duration::ZERO,
    };
    let plaintext = seal::Settings {
        scope: Scope::Off,
        context: EncryptionContext::new(),
        cache: CacheSettings::default(),
        message: message::Settings::default(),
    };
    let allowed = plaintext.plaintext_allowed().expect("the scope is off");
    seal_chunk(chunk, &Sealing::Plain(allowed), now).records
}

/// Nobody waits for these records.
struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

/// Four benchmarks in ten seconds.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
}

criterion_group! { name = benches; config = moment(); targets = encode_and_back }
criterion_main!(benches);
