//! The agent under test, in a process of its own: the library's front door, from a configuration file as a
//! user would write it. It reads until all lines have been stored, stops, and says what that took.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kinseal::agent::Agent;
use kinseal::{config, metrics};
use serde::{Deserialize, Serialize};

use crate::answers::Answers;
use crate::curve::{Curve, Log};
use crate::scenario::Case;
use crate::{process, sink};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    config: PathBuf,
    /// That come to it in all
    #[arg(long)]
    lines: u64,
    /// Stop only when told on standard input that all answers have come
    #[arg(long)]
    answered: bool,
    /// Write each second's latencies here, as an HdrHistogram log
    #[arg(long)]
    hdr_log: Option<PathBuf>,
}

/// A line of what the agent says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// Sources are open.
    Started,
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
    let settings = config::load(&args.config, &config::System)?;
    let started = Instant::now();
    let agent = Agent::start(&settings).await?;
    say(&Said::Started)?;
    let mut log = args.hdr_log.as_deref().map(Log::create).transpose()?;
    let mut stored = all_stored(&agent, args.lines, started, log.as_mut()).await;
    if stored.is_ok() && args.answered {
        let answered = tokio::time::timeout(STUCK, all_answered).await;
        stored = answered
            .map(|_| ())
            .context("stuck: all lines are stored, and not all of their answers come");
    }
    let (took, cpu) = (started.elapsed(), process::cpu()?);
    let cpu_by_thread = process::cpu_by_thread()?;
    let report = agent.stop(GRACE).await?;
    stored?;

    let [stream] = &report.streams[..] else {
        bail!("the configuration has {} streams", report.streams.len());
    };
    if let Some(log) = &mut log {
        log.add(&stream.histograms, started.elapsed())?;
    }
    let latency = |q| stream.histograms.line_to_stored.quantile(q).as_secs_f64() * 1e3;
    say(&Said::Work(Box::new(Work {
        seconds: took.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        cpu_by_thread,
        peak_memory: process::peak_memory()?,
        p50_ms: latency(0.5),
        p99_ms: latency(0.99),
        latencies: Curve::of_stages(&stream.histograms),
        counts: Counts::of(&stream.counts),
        samples: Vec::new(),
        answers: None,
    })))
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

fn say(what: &Said) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

async fn all_stored(
    agent: &Agent,
    lines: u64,
    started: Instant,
    mut log: Option<&mut Log>,
) -> anyhow::Result<()> {
    let mut moved = (0, Instant::now());
    let mut sampled = started;
    loop {
        let report = agent.report().await;
        let stored = report.streams.iter().map(|s| s.counts.stored).sum();
        let is_done = stored >= lines;
        if is_done || sampled.elapsed() >= SAMPLE {
            sampled = Instant::now();
            say(&Said::Sample(Sample {
                seconds: started.elapsed().as_secs_f64(),
                stored,
                cpu_seconds: process::cpu()?.as_secs_f64(),
                memory: process::memory()?,
            }))?;
        }
        if is_done {
            return Ok(());
        }
        if let (Some(log), Some(stream)) = (log.as_deref_mut(), report.streams.first()) {
            log.add_if_due(&stream.histograms, started.elapsed())?;
        }
        if stored > moved.0 {
            moved = (stored, Instant::now());
        }
        ensure!(
            moved.1.elapsed() < STUCK,
            "stuck: {stored} of {lines} lines stored, and none more in {STUCK:?}\n{report}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// The other side: an agent that is running. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    /// Ends it when dropped.
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Running {
    /// Resolves when its sources are open. `ca` is what it is to trust.
    pub(crate) fn start(
        config: &Path,
        case: &Case,
        ca: Option<&Path>,
        hdr_log: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["agent", "--lines", &case.lines.to_string(), "--config"])
            .arg(config);
        if case.source.is_answered() {
            command.arg("--answered");
        }
        if let Some(path) = hdr_log {
            command.arg("--hdr-log").arg(path);
        }
        sink::trust(&mut command, ca);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the agent")?;
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        let ask = process.stdin.take();
        let mut running = Self {
            process,
            ask,
            answers,
        };
        match running.hear()? {
            Said::Started => Ok(running),
            Said::Sample(_) | Said::Work(_) => {
                bail!("the agent said something else than its start")
            }
        }
    }

    /// What tells it that all answers have come, when something is written there. It ends with it.
    pub(crate) fn answered(&mut self) -> ChildStdin {
        self.ask.take().expect("asked for once")
    }

    /// Waits for its end, and tells each moment of it.
    pub(crate) fn work(mut self, mut told: impl FnMut(Sample)) -> anyhow::Result<Work> {
        let mut samples = Vec::new();
        loop {
            match self.hear()? {
                Said::Started => {}
                Said::Sample(sample) => {
                    samples.push(sample);
                    told(sample);
                }
                Said::Work(work) => return Ok(Work { samples, ..*work }),
            }
        }
    }

    fn hear(&mut self) -> anyhow::Result<Said> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the agent failed; it says why above");
        serde_json::from_str(&line).context("the agent said something else than it should")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its end follows from that, if it has not come yet.
        self.ask = None;
        let _ = self.process.wait();
    }
}
