//! The agent under test, in a process of its own: the library's front door, from a configuration file as a
//! user would write it. It tails its file until all lines have been stored, stops, and says what that took.
//!
//! What is measured is catching up: one file, read from its beginning, as fast as it goes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kinseal::agent::Agent;
use kinseal::config;
use serde::{Deserialize, Serialize};

use crate::process;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    config: PathBuf,
    /// In the file
    #[arg(long)]
    lines: u64,
}

/// What the agent says of its work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    /// From the start of the agent until the last line was stored.
    pub(crate) seconds: f64,
    /// In the same time, with the start of the process.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_memory: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) counts: Counts,
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

/// How often to look whether all is stored: a copy of the histograms each time, a few per mille of a core.
const LOOK: Duration = Duration::from_millis(50);
/// Without any progress, something is broken.
const STUCK: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(10);

#[tokio::main]
pub(crate) async fn work(args: &Args) -> anyhow::Result<()> {
    process::end_with_parent();
    let settings = config::load(&args.config, &config::System)?;
    let started = Instant::now();
    let agent = Agent::start(&settings).await?;
    let stored = all_stored(&agent, args.lines).await;
    let (took, cpu) = (started.elapsed(), process::cpu()?);
    let report = agent.stop(GRACE).await?;
    stored?;

    let [stream] = &report.streams[..] else {
        bail!("the configuration has {} streams", report.streams.len());
    };
    let latency = |q| stream.histograms.line_to_stored.quantile(q).as_secs_f64() * 1e3;
    let counts = &stream.counts;
    let work = Work {
        seconds: took.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        peak_memory: process::peak_memory()?,
        p50_ms: latency(0.5),
        p99_ms: latency(0.99),
        counts: Counts {
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
        },
    };
    println!("{}", serde_json::to_string(&work)?);
    Ok(())
}

async fn all_stored(agent: &Agent, lines: u64) -> anyhow::Result<()> {
    let mut moved = (0, Instant::now());
    loop {
        let report = agent.report().await;
        let stored = report.streams.iter().map(|s| s.counts.stored).sum();
        if stored >= lines {
            return Ok(());
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

/// The other side: runs an agent to its end. `ca` is what it is to trust.
pub(crate) fn run(config: &Path, lines: u64, ca: Option<&Path>) -> anyhow::Result<Work> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["agent", "--lines", &lines.to_string(), "--config"])
        .arg(config)
        .env("AWS_ACCESS_KEY_ID", kinseal::fake::DEFAULT_CREDENTIAL)
        .env("AWS_SECRET_ACCESS_KEY", kinseal::fake::DEFAULT_CREDENTIAL)
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE");
    if let Some(ca) = ca {
        command.env("AWS_CA_BUNDLE", ca);
    }
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the agent")?;
    // Standard input stays open until it has ended: `wait_with_output` would close it.
    let _until_ended = process.stdin.take();
    let output = process.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the agent failed; it says why above"
    );
    serde_json::from_slice(&output.stdout).context("the agent ended without an answer")
}
