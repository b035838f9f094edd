//! What client-side encryption costs: the agent as it ships, a file of lines, a sink that only counts.
//!
//! ```text
//! file of lines ──► agent process ──TLS──► sink process (null stand-in)
//!                        │                     │
//!                        └── counts, CPU, memory, latencies ──► invariants ──► table, JSON
//! ```
//!
//! Three processes, so that each has its own CPU and memory: this one, and itself again as the agent (the
//! library's front door, started from a configuration file) and as the sink. Every run ends with its
//! invariants; one that does not hold is named, and the exit code is 1.
//!
//! `bytes-per-line` measures without running anything: what a line costs in a stream, by line rate and linger.
//! `suites` measures one core: what a message costs in each algorithm suite.
//!
//! # Layout
//! `scenario` (data: what to run) → `lines` (the input) → `run` (one cell of the matrix) with `sink` and
//! `agent` (the two other processes, both sides of each), `process` (CPU and memory) → `invariants` → `report`. Beside: `bytes_per_line`,
//! with its own lines from `sample`, and `suites`.

mod agent;
mod bytes_per_line;
mod configuration;
mod curve;
mod invariants;
mod lines;
mod process;
mod reader;
mod report;
mod run;
mod sample;
mod scenario;
mod sink;
mod suites;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Parser, Subcommand};

use crate::report::Report;
use crate::scenario::Scenario;

/// Measures what client-side encryption costs, on this machine
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").args(["quick", "smoke", "scenario"]))]
struct Args {
    /// The core of the matrix, in less than two minutes (the default)
    #[arg(long)]
    quick: bool,
    /// A moment of it, to see that it runs
    #[arg(long)]
    smoke: bool,
    /// A scenario of your own, like those in loadtest/scenarios
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Only the runs whose name contains this, like "record" or "200 B"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the results here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// Something else than a run. Hidden: the other processes of one, for this program's own use.
#[derive(Debug, Subcommand)]
enum Instead {
    BytesPerLine(bytes_per_line::Args),
    /// Bytes and time that a message costs in each algorithm suite
    Suites,
    #[command(hide = true)]
    Sink(sink::Args),
    #[command(hide = true)]
    Agent(agent::Args),
    #[command(hide = true)]
    Reader(reader::Args),
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p loadtest -- --quick
  cargo run --release -p loadtest -- --scenario loadtest/scenarios/peers.toml --only record --json out.json
  cargo run --release -p loadtest -- bytes-per-line --sample /var/log/syslog";

fn main() -> ExitCode {
    // As the program itself does, whose memory this is to tell.
    kinseal::cli::heap::give_back_large_buffers();
    let args = Args::parse();
    let ended = match args.instead {
        Some(Instead::BytesPerLine(args)) => bytes_per_line::print(&args).map(|()| true),
        Some(Instead::Suites) => suites::print().map(|()| true),
        Some(Instead::Sink(args)) => sink::serve(&args).map(|()| true),
        Some(Instead::Agent(args)) => agent::work(&args).map(|()| true),
        Some(Instead::Reader(args)) => reader::work(&args).map(|()| true),
        None => measure(&args),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every invariant held.
fn measure(args: &Args) -> anyhow::Result<bool> {
    let scenario = match &args.scenario {
        Some(path) => Scenario::load(path)?,
        None if args.smoke => Scenario::smoke(),
        None => Scenario::quick(),
    };
    let cases = scenario.cases(args.only.as_deref());
    anyhow::ensure!(
        !cases.is_empty(),
        "no run's name contains {:?}; leave out --only to see them all",
        args.only.as_deref().unwrap_or_default()
    );
    let mut report = Report::begin();
    for case in cases {
        let outcome = run::run(&case, None, |_| {}).with_context(|| format!("run \"{case}\""))?;
        report.add(case, outcome);
    }
    if let Some(path) = &args.json {
        report
            .save(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.end())
}
