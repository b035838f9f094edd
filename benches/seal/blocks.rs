//! Whole blocks of log lines: packed, compressed, sealed; and two threads beside one.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use zstd::bulk::Compressor;

use kinseal::aggregate::format::Layout;
use kinseal::record::PartitionKey;
use kinseal::seal::block::{Packing, Settings};
use kinseal::seal::message::{MessageIds, Writer};
use kinseal::seal::offload::SealPool;

use super::writer;

const BLOCKS: usize = 8;
const LEVEL: i32 = 1;

/// Times are for eight blocks, elements are lines, and bytes those of the packed blocks.
pub(crate) fn packed(c: &mut Criterion) {
    let settings = Settings::default();
    let blocks = blocks(settings.max_size);
    let frame = settings.frame_length() as usize;
    let writer = writer(frame, Default::default());

    let packed: Vec<_> = blocks.iter().map(|b| b.pack(Packing::Kpl)).collect();
    let mut group = c.benchmark_group("8 blocks of 48 KiB of log lines");
    group.throughput(Throughput::ElementsAndBytes {
        elements: blocks.iter().map(|block| block.lines.len() as u64).sum(),
        bytes: packed.iter().map(|p| p.len() as u64).sum(),
    });

    group.bench_function("floor", |b| {
        let mut compressor = Compressor::new(LEVEL).expect("a level");
        let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(2 * settings.max_size));
        b.iter(|| {
            for packed in &packed {
                out.clear();
                let written = compressor.compress_to_buffer(black_box(&packed[..]), &mut out);
                black_box(written.expect("room enough"));
            }
        });
    });
    let ways = [
        ("zstd, ", Packing::KplZstd { level: LEVEL }),
        ("", Packing::Kpl),
    ];
    for (compress, packing) in ways {
        bench_packed(
            &mut group,
            &format!("pack, {compress}seal"),
            &writer,
            packing,
            &blocks,
        );
    }
}

fn bench_packed(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    writer: &Writer,
    packing: Packing,
    blocks: &[Block],
) {
    let mut ids = MessageIds::new();
    group.bench_function(name, |b| {
        b.iter(|| {
            let packed: Vec<_> = black_box(blocks).iter().map(|b| b.pack(packing)).collect();
            writer.seal_apart(&mut ids, packed.iter().map(|packed| &packed[..]))
        });
    });
}

/// The same records through the agent's pool of one thread, and of two: jobs, their queue and their answers are
/// part of it.
pub(crate) fn threads(c: &mut Criterion) {
    const RECORDS: usize = 16 << 10;
    const CHUNK: usize = 256;
    let writer = Arc::new(writer(4096, Default::default()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("seal stage, 16384 records of 200 B");
    group.throughput(Throughput::ElementsAndBytes {
        elements: RECORDS as u64,
        bytes: (RECORDS * 200) as u64,
    });
    for workers in [1, 2] {
        let name = ["one thread", "two threads"][workers - 1];
        let pool = SealPool::new(workers).expect("threads");
        group.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let mut jobs = Vec::new();
                    for _ in 0..RECORDS / CHUNK {
                        let writer = Arc::clone(&writer);
                        jobs.push(pool.run(move || seal_chunk(&writer, CHUNK)).await);
                    }
                    for job in jobs {
                        black_box(job.await.expect("sealed"));
                    }
                });
            });
        });
    }
}

fn seal_chunk(writer: &Writer, records: usize) -> Vec<u8> {
    let mut ids = MessageIds::for_messages(records);
    let mut out = Vec::with_capacity(records * writer.sealed_len(200));
    let mut ends = Vec::with_capacity(records);
    let plaintexts = (0..records).map(|_| black_box(&[0x5a; 200][..]));
    writer.seal_all(&mut ids, plaintexts, &mut out, &mut ends);
    out
}

struct Block {
    lines: Vec<String>,
    key: PartitionKey,
}

impl Block {
    /// With the layout, which the agent builds as lines arrive.
    fn pack(&self, packing: Packing) -> Vec<u8> {
        let mut layout = Layout::new();
        for line in &self.lines {
            layout.add(&self.key, None, line.len());
        }
        packing.pack(&layout, self.lines.iter().map(String::as_bytes))
    }
}

/// Lines as a web server writes them, some 170 bytes each.
fn blocks(size: usize) -> Vec<Block> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let block = |_| {
        let mut lines = Vec::new();
        let mut len = 0;
        while len < size {
            let line = line(&mut random);
            len += line.len();
            lines.push(line);
        }
        let key = PartitionKey::new("web-1.example").expect("short");
        Block { lines, key }
    };
    (0..BLOCKS).map(block).collect()
}

fn line(random: &mut Random) -> String {
    const PATHS: [&str; 5] = [
        "/",
        "/cart",
        "/api/v2/orders",
        "/static/app.js",
        "/images/logo.svg",
    ];
    const AGENTS: [&str; 3] = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36",
        "curl/8.14.1",
    ];
    format!(
        "10.{}.{}.{} - - [23/Nov/2026:{:02}:{:02}:{:02} +0000] \"GET {}?id={} HTTP/1.1\" {} {} \"-\" \"{}\" {}.{:03}",
        random.below(4),
        random.below(256),
        random.below(256),
        random.below(24),
        random.below(60),
        random.below(60),
        PATHS[random.below(PATHS.len())],
        random.below(1 << 30),
        [200, 200, 200, 200, 304, 404, 500][random.below(7)],
        random.below(50_000),
        AGENTS[random.below(AGENTS.len())],
        random.below(2),
        random.below(1000),
    )
}

/// Marsaglia's xorshift: the same lines in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("below a usize")
    }
}
