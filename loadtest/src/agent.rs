//! The agent under test, in a process of its own, from a configuration file as a user would write it; or a program that puts
//! its lines by the library, with the settings of such a file. It reads until all lines have been stored, stops, and says what that took.

mod door;
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use anyhow::bail;
use kinseal::metrics::report::{Account, Calls, Latencies};
use kinseal::{config, metrics};
use serde::{Deserialize, Serialize};

use self::door::Door;
use crate::answers::Answers;
use crate::curve::{Curve, Log};
use crate::lines::Due;
use crate::other::Other;
use crate::scenario::{Case, Source};
use crate::target::Place;
use crate::{out, process};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    config: PathBuf,
    /// As JSON
    #[arg(long)]
    case: String,
    /// Write each second's latencies here, as an HdrHistogram log
    #[arg(long)]
    hdr_log: Option<PathBuf>,
}

/// A line of what the agent says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// Sources are open; when lines are due, if it makes them itself.
    Started(Option<Due>),
    Sample(Sample),
    Work(Box<Work>),
}

/// A moment of its work.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Since the agent was started.
    pub(crate) seconds: f64,
    pub(crate) stored: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) memory: u64,
}

/// What the agent says of its work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    /// From the start of the agent until the last line was stored, and where they are answered, until the last answer.
    pub(crate) seconds: f64,
    /// In the same time, with the start of the process.
    pub(crate) cpu_seconds: f64,
    /// Of that, by the names of threads; some have ended before.
    pub(crate) cpu_by_thread: BTreeMap<String, f64>,
    pub(crate) peak_memory: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of each stage, in the order of a line's journey.
    pub(crate) latencies: Vec<Curve>,
    pub(crate) counts: Counts,
    /// Filled in by the other side.
    #[serde(default)]
    pub(crate) samples: Vec<Sample>,
    /// Where a line's sender is told what became of it.
    #[serde(default)]
    pub(crate) answers: Option<Answers>,
    /// Of lines that its process made itself, newlines included.
    #[serde(default)]
    pub(crate) made_bytes: u64,
}

/// The agent's own account of records, entries and calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) stored: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
    pub(crate) abandoned: u64,
    pub(crate) pending: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) entries_stored: u64,
    pub(crate) entries_retried: u64,
    pub(crate) calls: u64,
    pub(crate) calls_failed: u64,
    pub(crate) calls_unknown: u64,
    pub(crate) data_keys: u64,
}

/// How often to look whether all is stored: a few per mille of a core.
const LOOK: Duration = Duration::from_millis(50);
/// How often a sample is told.
const SAMPLE: Duration = Duration::from_millis(100);
/// Without any progress, something is broken.
const STUCK: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

#[tokio::main]
pub(crate) async fn work(args: &Args) -> anyhow::Result<()> {
    let all_answered = process::end_with_parent();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    let settings = config::load(&args.config, &config::System)?;
    let case: Case = serde_json::from_str(&args.case)?;
    let is_answered = case.source.is_answered();
    let program = (case.source == Source::Library).then(|| case.clone());
    let started = Instant::now();
    let mut door = Door::open(&settings, program).await?;
    out::json(&Said::Started(door.due()))?;
    let mut log = args.hdr_log.as_deref().map(Log::create).transpose()?;
    let mut done = all_stored(&door, case.lines, started, log.as_mut()).await;
    if done.is_ok() {
        let answered = door.all_answered(is_answered.then_some(all_answered));
        let answered = tokio::time::timeout(STUCK, answered).await;
        done = answered
            .unwrap_or_else(|_| bail!("stuck: all lines are stored, and not all are answered"));
    }
    let (took, cpu) = (started.elapsed(), door.cpu()?);
    let cpu_by_thread = door.cpu_by_thread()?;
    let ended = door.close(GRACE).await;
    done?;

    let ended = ended?;
    if let Some(log) = &mut log {
        log.add(&ended.histograms, started.elapsed())?;
    }
    let latency = |q| ended.histograms.line_to_stored.quantile(q).as_secs_f64() * 1e3;
    out::json(&Said::Work(Box::new(Work {
        seconds: took.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        cpu_by_thread,
        peak_memory: process::memory()?.peak,
        p50_ms: latency(0.5),
        p99_ms: latency(0.99),
        latencies: Curve::of_stages(&ended.histograms),
        counts: Counts::of(&ended.counts),
        samples: Vec::new(),
        answers: ended.answers,
        made_bytes: ended.made_bytes,
    })))
}

impl Work {
    /// Of another program, which times no stages and tells nobody what became of lines.
    pub(crate) fn of_another(
        seconds: f64,
        cpu_seconds: f64,
        peak_memory: u64,
        counts: Counts,
    ) -> Self {
        Self {
            seconds,
            cpu_seconds,
            cpu_by_thread: BTreeMap::new(),
            peak_memory,
            p50_ms: 0.0,
            p99_ms: 0.0,
            latencies: Vec::new(),
            counts,
            samples: Vec::new(),
            answers: None,
            made_bytes: 0,
        }
    }
}

impl Counts {
    /// Each sent by itself.
    pub(crate) fn of_single_lines(lines: u64, bytes: u64) -> Self {
        Self {
            accepted: lines,
            stored: lines,
            dead_lettered: 0,
            failed: 0,
            dropped: 0,
            abandoned: 0,
            pending: 0,
            bytes_stored: bytes,
            entries_stored: lines,
            entries_retried: 0,
            calls: lines,
            calls_failed: 0,
            calls_unknown: 0,
            data_keys: 0,
        }
    }

    fn of(counts: &metrics::Counts) -> Self {
        Self {
            accepted: counts.accepted,
            stored: counts.stored,
            dead_lettered: counts.dead_lettered,
            failed: counts.failed,
            dropped: counts.dropped,
            abandoned: counts.abandoned,
            pending: counts.pending,
            bytes_stored: counts.bytes_stored,
            entries_stored: counts.entries_stored,
            entries_retried: counts.entries_retried,
            calls: counts.calls,
            calls_failed: counts.calls_failed,
            calls_unknown: counts.calls_unknown,
            data_keys: counts.data_keys,
        }
    }
}

async fn all_stored(
    door: &Door,
    lines: u64,
    started: Instant,
    mut log: Option<&mut Log>,
) -> anyhow::Result<()> {
    let mut moved = (0, Instant::now());
    let mut sampled = started;
    loop {
        let counts = door.counts();
        let stored = counts.stored;
        let is_done = stored >= lines;
        if is_done || sampled.elapsed() >= SAMPLE {
            sampled = Instant::now();
            out::json(&Said::Sample(Sample {
                seconds: started.elapsed().as_secs_f64(),
                stored,
                cpu_seconds: door.cpu()?.as_secs_f64(),
                memory: process::memory()?.now,
            }))?;
        }
        if is_done {
            return Ok(());
        }
        if let Some(log) = log.as_deref_mut() {
            log.add_if_due(&door.histograms().await, started.elapsed())?;
        }
        if stored > moved.0 {
            moved = (stored, Instant::now());
        }
        if moved.1.elapsed() >= STUCK {
            bail!(
                "stuck: {stored} of {lines} lines stored, and none more in {STUCK:?}\n{}\n{}\n{}",
                Account(&counts),
                Calls(&counts),
                Latencies(&door.histograms().await)
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The other side: an agent that is running. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    process: Other,
    /// When lines are due that it makes itself.
    pub(crate) due: Option<Due>,
}

/// Its own word, if it is stuck, comes before.
const PATIENCE: Duration = Duration::from_secs(STUCK.as_secs() + 30);

impl Running {
    /// Resolves when its sources are open. `ca` is what it is to trust of `place`.
    pub(crate) fn start(
        config: &Path,
        case: &Case,
        place: &Place,
        ca: Option<&Path>,
        hdr_log: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["agent", "--case", &serde_json::to_string(case)?, "--config"])
            .arg(config);
        if let Some(path) = hdr_log {
            command.arg("--hdr-log").arg(path);
        }
        place.admit(&mut command, ca);
        let mut process = Other::start(&mut command, "the agent")?;
        match process.hear(PATIENCE, || Ok(()))? {
            Said::Started(due) => Ok(Self { process, due }),
            Said::Sample(_) | Said::Work(_) => {
                bail!("the agent said something else than its start")
            }
        }
    }

    /// What tells it that all answers have come, when something is written there. It ends with it.
    pub(crate) fn answered(&mut self) -> ChildStdin {
        self.process.input()
    }

    /// Waits for its end, and tells each moment of it. `look` says what else of the run has failed meanwhile.
    pub(crate) fn work(
        mut self,
        mut told: impl FnMut(Sample),
        mut look: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Work> {
        let mut samples = Vec::new();
        loop {
            match self.process.hear(PATIENCE, &mut look)? {
                Said::Started(_) => {}
                Said::Sample(sample) => {
                    samples.push(sample);
                    told(sample);
                }
                Said::Work(work) => return Ok(Work { samples, ..*work }),
            }
        }
    }
}
