//! The daemon in the place of the KPL's, under a native driver of its protocol: two pipes, a frame for each record, and
//! one answer to each. The Java client itself stops near 100,000 records a second.
//!
//! Records go over TLS to the null stand-in. The daemon is this program again, in a process of its own, started as Java
//! starts it; CPU and memory are that process's, from `/proc`.

mod watching;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use clap::value_parser;
use hdrhistogram::Histogram;
use kinseal::daemon::configuration::{Fields, LastFields};
use kinseal::daemon::message::{Answer, Credentials, PutRecord, Request, SetCredentials};

use self::watching::{Progress, Watching};
use crate::cleanup::{Folder, Group};
use crate::scenario::{Case, Scenario};
use crate::sink::Sink;
use crate::target::Place;
use crate::{out, process};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Records of each run
    #[arg(long, default_value_t = 3_000_000, value_parser = value_parser!(u64).range(1..=100_000_000))]
    records: u64,
    /// Bytes of each
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=50_000))]
    bytes: u32,
}

/// recordMaxBufferedTime of the runs at a pace, and what the KPL's collector adds to it.
const LINGER: Duration = Duration::from_millis(10);
const COLLECTOR: Duration = Duration::from_millis(2);
/// Frames are written so many at once: Java writes each by itself, and is what limits it.
const AT_ONCE: u64 = 500;

/// How records are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As fast as the daemon reads.
    Full,
    PerSecond(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Off,
    Record,
}

/// What a run came to.
struct Outcome {
    took: Duration,
    cpu: Duration,
    /// In microseconds, from a record's frame being written to its answer.
    latency: Histogram<u64>,
    /// Bytes.
    peak: u64,
}

/// In Markdown.
pub(crate) fn print(args: &Args) -> anyhow::Result<()> {
    out::warn_of_a_debug_build()?;
    out::line(format!(
        "Records of {} B with keys, 4 shards, over TLS; CPU and memory of the daemon alone\n",
        args.bytes
    ))?;
    out::line(
        "| encryption | records/s | records per CPU-s | at half of that: p50, p99 over linger | peak MiB |",
    )?;
    out::line("|---|--:|--:|--:|--:|")?;
    for scope in [Scope::Off, Scope::Record] {
        let full = run(args, scope, Pace::Full)?;
        let per_second = args.records as f64 / full.took.as_secs_f64();
        let pace = Pace::PerSecond(per_second as u64 / 2);
        let half = run(args, scope, pace)?;
        let over = |quantile| {
            let micros = half.latency.value_at_quantile(quantile);
            // A record that fills a container does not wait for its time.
            match micros.saturating_sub((LINGER + COLLECTOR).as_micros() as u64) {
                0 => "none".to_owned(),
                over => format!("{:.1} ms", over as f64 / 1000.0),
            }
        };
        out::line(format!(
            "| {} | {per_second:.0} | {:.0} | {}, {} | {} |",
            match scope {
                Scope::Off => "none",
                Scope::Record => "each record",
            },
            args.records as f64 / full.cpu.as_secs_f64(),
            over(0.5),
            over(0.99),
            full.peak >> 20,
        ))?;
    }
    out::line(format!("\n{}", stalled(args)?))?;
    out::line(idle()?)
}

fn run(args: &Args, scope: Scope, pace: Pace) -> anyhow::Result<Outcome> {
    let linger = match pace {
        Pace::Full => None,
        Pace::PerSecond(_) => Some(LINGER),
    };
    let mut daemon = Daemon::start(scope, linger, 0)?;
    // One record first: whatever is started once is not the run's.
    daemon.put(0..1, args.bytes)?;
    daemon.wait_for(1)?;
    let (began, cpu) = (Instant::now(), daemon.cpu()?);
    let records = match pace {
        Pace::Full => args.records,
        // As many as five seconds have.
        Pace::PerSecond(rate) => args.records.min(rate * 5),
    };
    let mut next = 1;
    while next <= records {
        let end = (next + AT_ONCE).min(records + 1);
        if let Pace::PerSecond(rate) = pace {
            let due = began + Duration::from_secs_f64(next as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        daemon.put(next..end, args.bytes)?;
        next = end;
    }
    daemon.wait_for(records + 1)?;
    let took = began.elapsed();
    let cpu = daemon.cpu()? - cpu;
    let peak = process::memory_of(daemon.process.id())?.peak;
    let answers = daemon.end()?;
    ensure!(
        answers.refused == 0 && answers.unasked == 0,
        "{} records were refused, {} answers were to nothing",
        answers.refused,
        answers.unasked
    );
    Ok(Outcome {
        took,
        cpu,
        latency: answers.latency,
        peak,
    })
}

/// With a service that answers nothing in time.
fn stalled(args: &Args) -> anyhow::Result<String> {
    let mut daemon = Daemon::start(Scope::Off, None, 60_000)?;
    // More than it may hold.
    let many = (200 << 20) / u64::from(args.bytes);
    let writing = daemon.frames(0..many.min(1_000_000), args.bytes);
    let mut pipe = daemon.to.take().expect("not taken yet");
    // It blocks, once memory is full; it ends with the daemon.
    let writer = std::thread::spawn(move || {
        let _ = pipe.write_all(&writing);
    });
    std::thread::sleep(Duration::from_secs(8));
    let peak = process::memory_of(daemon.process.id())?.peak >> 20;
    daemon.process.kill().context("the daemon")?;
    let _ = writer.join();
    Ok(format!(
        "With the service stalled, after 8 s: {peak} MiB at most."
    ))
}

fn idle() -> anyhow::Result<String> {
    const TIME: Duration = Duration::from_secs(20);
    let mut daemon = Daemon::start(Scope::Off, None, 0)?;
    daemon.put(0..1, 100)?;
    daemon.wait_for(1)?;
    std::thread::sleep(Duration::from_secs(1));
    let cpu = daemon.cpu()?;
    std::thread::sleep(TIME);
    let used = daemon.cpu()? - cpu;
    daemon.end()?;
    let percent = used.as_secs_f64() / TIME.as_secs_f64() * 100.0;
    Ok(format!("Idle, with one stream: {percent:.2} % of a core."))
}

/// A daemon that is running, and its client.
struct Daemon {
    process: Child,
    to: Option<File>,
    /// When each record's frame was written, by its number; microseconds since `began`.
    written: Arc<Mutex<Vec<u64>>>,
    began: Instant,
    answered: Arc<AtomicU64>,
    reading: Option<JoinHandle<anyhow::Result<Answers>>>,
    _group: Group,
    watching: Watching,
    _folder: Folder,
}

struct Answers {
    latency: Histogram<u64>,
    refused: u64,
    unasked: u64,
}

impl Daemon {
    fn start(scope: Scope, linger: Option<Duration>, sink_ms: u64) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let ca = folder.path().join("ca.pem");
        let case = Case {
            shards: 4,
            sink_ms,
            ..Scenario::smoke().cases(None).remove(0)
        };
        let (place, sink) = Sink::start(&case, false, Some(&ca))?;
        let (out, into) = (pipe(folder.path(), "out")?, pipe(folder.path(), "in")?);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("kpl-daemon")
            .arg("-o")
            .arg(&out)
            .arg("-i")
            .arg(&into);
        command.args(["-c", &hex(configuration(linger))]);
        command.args(["-k", &hex(credentials()), "-l", "warn"]);
        place.admit(&mut command, None);
        command.env("CA_FILE", &ca);
        for (name, url) in [("KINESIS", &place.kinesis_url), ("KMS", &place.kms_url)] {
            command.env(
                format!("AWS_ENDPOINT_URL_{name}"),
                url.as_deref().unwrap_or_default(),
            );
        }
        if scope == Scope::Record {
            let path = folder.path().join("kinseal.toml");
            fs::write(&path, encryption(&place))?;
            command.env("KINSEAL_CONFIG", path);
        }
        let process = process::apart(&mut command).stdin(Stdio::null()).spawn();
        let mut process = process.context("the daemon")?;
        let group = Group::of(&process);
        // In Java's order.
        let opening = std::thread::spawn(move || {
            let from = File::open(&into)?;
            io::Result::Ok((from, File::options().write(true).open(&out)?))
        });
        // Nobody opens the other ends of a daemon that has ended.
        while !opening.is_finished() {
            if process.try_wait()?.is_some() {
                return Err(process::gone(&mut process, "the daemon"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let pipes = opening
            .join()
            .map_err(|_| anyhow!("opening pipes panicked"))?;
        let (from, to) = pipes.context("the pipes of the daemon")?;
        let (written, answered) = (Arc::default(), Arc::default());
        let began = Instant::now();
        let reading = std::thread::spawn({
            let (written, answered) = (Arc::clone(&written), Arc::clone(&answered));
            move || read(from, &written, &answered, began)
        });
        let progress = Progress {
            written: Arc::clone(&written),
            answered: Arc::clone(&answered),
        };
        let watching = Watching::begin(&process, sink, progress);
        Ok(Self {
            process,
            to: Some(to),
            _group: group,
            watching,
            written,
            began,
            answered,
            reading: Some(reading),
            _folder: folder,
        })
    }

    /// One write for all of them.
    fn put(&mut self, numbers: std::ops::Range<u64>, bytes: u32) -> anyhow::Result<()> {
        let count = usize::try_from(numbers.end - numbers.start)?;
        let frames = self.frames(numbers, bytes);
        let now = u64::try_from(self.began.elapsed().as_micros())?;
        let mut written = self.written.lock().expect("no panic while held");
        written.extend(std::iter::repeat_n(now, count));
        drop(written);
        let to = self.to.as_mut().expect("not ended");
        let written = to.write_all(&frames).context("the daemon reads no more");
        written.map_err(|error| self.watching.why(error))
    }

    fn frames(&self, numbers: std::ops::Range<u64>, bytes: u32) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut data = vec![b'x'; bytes as usize];
        for number in numbers {
            let digits = format!("{number:016}");
            let len = digits.len().min(data.len());
            data[..len].copy_from_slice(&digits.as_bytes()[..len]);
            let record = PutRecord {
                stream_name: "loadtest".to_owned(),
                partition_key: Some(format!("{:05}", number * 7919 % 100_000)),
                explicit_hash_key: None,
                data: data.clone().into(),
            };
            record.encode(number, &mut frames);
        }
        frames
    }

    /// Until so many records have their answer.
    fn wait_for(&mut self, records: u64) -> anyhow::Result<()> {
        while self.answered.load(Ordering::Acquire) < records {
            if self.process.try_wait()?.is_some() {
                let gone = process::gone(&mut self.process, "the daemon");
                return Err(self.watching.why(gone));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu_of_process(self.process.id())
    }

    fn end(mut self) -> anyhow::Result<Answers> {
        self.to = None;
        self.watching.end();
        let answers = self.reading.take().expect("once").join();
        ensure!(self.process.wait()?.success(), "the daemon failed");
        answers.expect("reading does not panic")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.watching.end();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(
    mut from: File,
    written: &Mutex<Vec<u64>>,
    answered: &AtomicU64,
    began: Instant,
) -> anyhow::Result<Answers> {
    let mut answers = Answers {
        latency: Histogram::new(3)?,
        refused: 0,
        unasked: 0,
    };
    let (mut block, mut held) = (vec![0; 1 << 20], Vec::new());
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            return Ok(answers);
        }
        let now = u64::try_from(began.elapsed().as_micros())?;
        held.extend_from_slice(&block[..read]);
        let written = written.lock().expect("no panic while held");
        let mut at = 0;
        while let Some(length) = held[at..].first_chunk::<4>() {
            let end = at + 4 + u32::from_be_bytes(*length) as usize;
            let Some(body) = held.get(at + 4..end) else {
                break;
            };
            let answer = Answer::decode(body).context("no message")?;
            let asked = answer
                .to
                .and_then(|id| written.get(usize::try_from(id).ok()?));
            match (asked, answer.result) {
                (Some(asked), Some(result)) => {
                    answers.refused += u64::from(!result.success);
                    answers.latency.record((now - asked).max(1))?;
                }
                _ => answers.unasked += 1,
            }
            answered.fetch_add(1, Ordering::Release);
            at = end;
        }
        held.drain(..at);
    }
}

fn pipe(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let made = Command::new("mkfifo").arg(&path).status();
    ensure!(made.context("mkfifo")?.success(), "mkfifo failed");
    Ok(path)
}

fn encryption(place: &Place) -> String {
    let key = place.kms_key.as_deref().unwrap_or_default();
    format!("[encryption]\nscope = \"record\"\nkms_key = \"{key}\"\n")
}

/// Without quotas: the daemon's own speed is asked for. Nothing is uploaded.
fn configuration(linger: Option<Duration>) -> Request {
    let fields = Fields {
        rate_limit: Some(1_000_000),
        record_ttl: Some(600_000),
        record_max_buffered_time: linger.map(|linger| linger.as_millis() as u64),
        metrics_level: Some("none".to_owned()),
        region: Some("us-east-1".to_owned()),
        ..Fields::default()
    };
    Request::Configuration(fields.encode_with(LastFields::None))
}

fn credentials() -> Request {
    Request::Credentials(SetCredentials {
        for_metrics: None,
        credentials: Credentials {
            akid: "test".to_owned(),
            secret_key: "test".to_owned(),
            token: None,
        },
    })
}

fn hex(request: Request) -> String {
    let mut frame = Vec::new();
    request.encode(0, &mut frame);
    frame[4..]
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}
