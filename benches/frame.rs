//! Reading a file and splitting it into lines, alone: what a source does before there are records. The file is in the
//! page cache; reads of the size that `tail` makes. Times are CPU time, the system's part included.
//!
//! - `memchr`: counting the newlines of the same bytes in memory, in a buffer as large as a read: the floor of
//!   looking at each byte once;
//! - `copy`: reading the file into a buffer that is used again: the system's copy alone;
//! - `floor`: both;
//! - `frame`: reading into a `Framer` and taking all lines from it, each a slice of what was read.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memchr::memchr_iter;
use rustix::time::{ClockId, clock_gettime};

use kinseal::source::frame::{Framer, MAX_LINE};

/// As `tail` reads.
const BLOCK: usize = 96 << 10;
const FILE: usize = 64 << 20;
const LINES: [usize; 3] = [100, 200, 1000];

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for len in LINES {
        group.throughput(Throughput::ElementsAndBytes {
            elements: (FILE / len) as u64,
            bytes: FILE as u64,
        });
        let mut file = file_of_lines(len);
        let mut block = vec![0; BLOCK];
        let per_block = BLOCK / len;
        block.fill(b'x');
        (block.iter_mut().step_by(len).take(per_block)).for_each(|byte| *byte = b'\n');
        group.bench_function(BenchmarkId::new("memchr", len), |b| {
            cpu_of(b, || {
                for _ in 0..FILE / BLOCK {
                    black_box(memchr_iter(b'\n', black_box(&block)).count());
                }
            });
        });
        group.bench_function(BenchmarkId::new("copy", len), |b| {
            cpu_of(b, || {
                file.rewind().expect("a file");
                while file.read(&mut block).expect("readable") > 0 {
                    black_box(&block);
                }
            });
        });
        group.bench_function(BenchmarkId::new("floor", len), |b| {
            cpu_of(b, || {
                file.rewind().expect("a file");
                loop {
                    let read = file.read(&mut block).expect("readable");
                    if read == 0 {
                        break;
                    }
                    black_box(memchr_iter(b'\n', &block[..read]).count());
                }
            });
        });
        group.bench_function(BenchmarkId::new("frame", len), |b| {
            cpu_of(b, || assert_eq!(split(&mut file), FILE / len));
        });
    }
}

fn cpu_of(bencher: &mut Bencher<'_>, mut work: impl FnMut()) {
    bencher.iter_custom(|times| {
        let now = || {
            let time = clock_gettime(ClockId::ProcessCPUTime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let before = now();
        for _ in 0..times {
            work();
        }
        now() - before
    });
}

/// As `source::tail` does it, but for what becomes of the lines: they are dropped together, as those of a chunk are.
fn split(file: &mut File) -> usize {
    file.rewind().expect("a file");
    let mut framer = Framer::new(0, MAX_LINE);
    let mut count = 0;
    let mut lines = Vec::with_capacity(BLOCK);
    loop {
        let read = framer.fill(BLOCK, |held| {
            let begins = held.len();
            held.resize(begins + BLOCK, 0);
            let read = file.read(&mut held[begins..]).expect("readable");
            held.truncate(begins + read);
            read
        });
        if read == 0 {
            return count;
        }
        while let Some(line) = framer.next_line() {
            lines.push(line);
        }
        count += black_box(&lines).len();
        lines.clear();
    }
}

fn file_of_lines(len: usize) -> File {
    let mut line = vec![b'x'; len];
    line[len - 1] = b'\n';
    let mut text = line.repeat(FILE / len);
    // The rest of the file is a line that has no newline yet.
    text.resize(FILE, b'x');
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&text).expect("room for it");
    file
}

/// Twelve benchmarks in a minute.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
}

criterion_group! { name = benches; config = moment(); targets = frame }
criterion_main!(benches);
