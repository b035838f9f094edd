//! What client-side encryption costs: the agent as it ships, a file of lines, a sink that only counts.
//!
//! ```text
//! lines, all there or at a pace ──► agent process ──TLS──► sink process (stand-in, null or keeping)
//!                                        │                     │          └──► reader process
//!                                        └── counts, CPU, memory, latencies ──► invariants ──► table, JSON, page, logs
//! ```
//!
//! Processes, so that each has its own CPU and memory: this one, and itself again as the agent (started from a
//! configuration file, or a program that uses the library), as the sink and as the reader. Every run ends with its invariants; one that
//! does not hold is named, and the exit code is 1.
//!
//! `bytes-per-line` measures without running anything: what a line costs in a stream, by line rate and linger.
//! `suites` measures one core: what a message costs in each algorithm suite. `sender` measures the calls alone, `daemon` the
//! one in the place of the KPL's.
//!
//! # Layout
//! `scenario` (data: what to run) and `target` (where to) → `lines` (the input) → `run` (one cell of the matrix) with `configuration`, `sink`,
//! `agent`, `bare` and `reader` (the other processes, both sides of each), `python` and `shipper` (other programs in the agent's place), `kpl` (a
//! client of the agent's), `answers` (what a line's sender is told), `other` (hears a process, in time), `process` (CPU and memory) and `curve`
//! (latencies) → `invariants` → `report`, `progress` and `out` meanwhile. Of what an interruption finds, `cleanup` leaves nothing. Beside:
//! `bytes_per_line`, with lines from `sample`, `suites`, `sender` and `daemon`.

mod agent;
mod answers;
mod bare;
mod bytes_per_line;
mod cleanup;
mod configuration;
mod curve;
mod daemon;
mod invariants;
mod kpl;
mod lines;
mod other;
mod out;
mod process;
mod progress;
mod python;
mod reader;
mod report;
mod run;
mod sample;
mod scenario;
mod sender;
mod shipper;
mod sink;
mod suites;
mod target;

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{ArgGroup, CommandFactory, Parser, Subcommand};

use crate::progress::Progress;
use crate::report::{Comparison, Prices, Report, Table};
use crate::scenario::{Case, Scenario};

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
    /// Write the results here, for programs and for --compare
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write each run's latencies here, as HdrHistogram logs
    #[arg(long, value_name = "FOLDER")]
    hdr_logs: Option<PathBuf>,
    /// Show an earlier run's --json beside this one
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Prices and workload for the estimate, instead of loadtest/prices.toml
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    #[command(flatten)]
    target: target::Args,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// Something else than a run. Hidden: the other processes of one, for this program's own use.
#[derive(Debug, Subcommand)]
enum Instead {
    BytesPerLine(bytes_per_line::Args),
    /// Bytes and time that a message costs in each algorithm suite
    Suites,
    /// What a PutRecords call costs over TLS, beside the SDK's own path and the floor of the protocol
    Sender(sender::Args),
    /// How fast the daemon is that takes the place of the KPL's, under a native driver
    Daemon(daemon::Args),
    #[command(hide = true)]
    Sink(sink::Args),
    #[command(hide = true)]
    Agent(agent::Args),
    #[command(hide = true)]
    Reader(reader::Args),
    #[command(hide = true)]
    Bare(bare::Args),
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p loadtest -- --quick --html report.html --json today.json
  cargo run --release -p loadtest -- --quick --compare yesterday.json
  cargo run --release -p loadtest -- --scenario loadtest/scenarios/peers.toml --only record --json out.json
  cargo run --release -p loadtest -- --quick --stream s --endpoint http://127.0.0.1:4567 --only \"off,\"
  cargo run --release -p loadtest -- bytes-per-line --sample /var/log/syslog";

fn main() -> ExitCode {
    // As the program itself does, whose memory this is to tell.
    kinseal::cli::heap::give_back_large_buffers();
    // The daemon, as `daemon` starts it.
    let given: Vec<_> = std::env::args_os().collect();
    if given.get(1).is_some_and(|arg| arg == "kpl-daemon") {
        return kinseal::cli::kpl::main(given);
    }
    let args = Args::parse_from(given);
    let ended = match args.instead {
        Some(Instead::BytesPerLine(args)) => bytes_per_line::print(&args).map(|()| true),
        Some(Instead::Suites) => suites::print().map(|()| true),
        Some(Instead::Sender(args)) => sender::print(&args).map(|()| true),
        Some(Instead::Daemon(args)) => daemon::print(&args).map(|()| true),
        Some(Instead::Sink(args)) => sink::serve(&args).map(|()| true),
        Some(Instead::Agent(args)) => agent::work(&args).map(|()| true),
        Some(Instead::Reader(args)) => reader::work(&args).map(|()| true),
        Some(Instead::Bare(args)) => bare::work(&args).map(|()| true),
        None => measure(&args),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            cleanup::wait_if_interrupted();
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every invariant held.
fn measure(args: &Args) -> anyhow::Result<bool> {
    // All mistakes are found before an hour's work, not after it.
    let cases = args.cases()?;
    args.check_files()?;
    let old = args.compare.as_deref().map(Report::load).transpose()?;
    let prices = Prices::load(args.prices.as_deref())?;
    let (target, cases) = match args.target.target(cases.runs, &prices) {
        Ok((target, runs)) => (target, Cases { runs, ..cases }),
        // As of any other mistake of usage.
        Err(refusal) => Args::command()
            .error(ErrorKind::ValueValidation, refusal)
            .exit(),
    };
    if let Some(old) = &old {
        Comparison::check(old, &cases.runs)?;
    }
    target.check(&cases.runs)?;
    let python = python::interpreter(&cases.runs)?;
    let mut report = Report::begin(&cases.scenario, &target, prices);
    let progress = RefCell::new(Progress::of(&cases.runs));
    let print = |line: String| progress.borrow().print(&line);
    let table = Table::begin(&report, &cases.runs, print);
    let mut logs = HashSet::new();
    for case in cases.runs {
        progress.borrow().begin(&case);
        let log = args
            .hdr_logs
            .as_deref()
            .map(|folder| hdr_log(folder, &case, &mut logs));
        let moved = |sample| progress.borrow().moved(&case, sample);
        let outcome = run::run(&case, &target, python.as_deref(), log.as_deref(), moved);
        let outcome = outcome.with_context(|| format!("run \"{case}\""))?;
        progress.borrow_mut().end(&case);
        let run = report.add(case, outcome).clone();
        table.row(&run, &report);
        // What has been measured outlives a run that fails.
        args.save(&report, old.as_ref(), false)?;
        cleanup::results_are_in(&args.files());
        progress.borrow().is_heard()?;
    }
    progress.borrow().finish();
    args.save(&report, old.as_ref(), true)?;
    let has_held = table.end(&report);
    if let Some(old) = &old {
        Comparison::of(old, &report).print(print);
    }
    progress.borrow().is_heard()?;
    Ok(has_held)
}

/// What is to be run.
struct Cases {
    scenario: String,
    runs: Vec<Case>,
}

impl Args {
    /// Those of the scenario whose programs are there.
    fn cases(&self) -> anyhow::Result<Cases> {
        let scenario = match &self.scenario {
            Some(path) => Scenario::load(path)?,
            None if self.smoke => Scenario::smoke(),
            None => Scenario::quick(),
        };
        let runs = scenario.cases(self.only.as_deref());
        anyhow::ensure!(
            !runs.is_empty(),
            "no run's name contains {:?}; leave out --only to see them all",
            self.only.as_deref().unwrap_or_default()
        );
        let (runs, absent) = shipper::on_the_path(runs);
        for program in &absent {
            eprintln!("{program} is not on the PATH: its runs are left out");
        }
        anyhow::ensure!(
            !runs.is_empty(),
            "no run is left: put {} on the PATH",
            absent.join(", ")
        );
        let scenario = scenario.name;
        Ok(Cases { scenario, runs })
    }

    /// Whether all that is asked for can be written, each to a place of its own.
    fn check_files(&self) -> anyhow::Result<()> {
        let files = self.files();
        for path in &files {
            report::may_write(path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let [json, html] = files[..] {
            anyhow::ensure!(
                !report::is_one_file(json, html),
                "--json and --html: {} for both; give two names",
                json.display()
            );
        }
        if let Some(folder) = &self.hdr_logs {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            report::may_write(&folder.join("x"))
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        Ok(())
    }

    fn files(&self) -> Vec<&Path> {
        let files = [&self.json, &self.html].into_iter();
        files.filter_map(|path| path.as_deref()).collect()
    }

    /// A file after each run; what is none, like a pipe, once at the end.
    fn save(&self, report: &Report, old: Option<&Report>, is_end: bool) -> anyhow::Result<()> {
        let is_due = |path: &&PathBuf| {
            let is_file = std::fs::metadata(path).map_or(true, |there| there.is_file());
            is_file != is_end
        };
        if let Some(path) = self.json.as_ref().filter(is_due) {
            let saved = report.save(path);
            saved.with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(path) = self.html.as_ref().filter(is_due) {
            let saved = report.save_page(path, old);
            saved.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Named after the run, in letters and at a length that every file system takes, and unlike the names `before` it.
fn hdr_log(folder: &Path, case: &Case, before: &mut HashSet<String>) -> PathBuf {
    const LONGEST: usize = 200;
    let name = case.to_string();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut name = words.join("-");
    name.truncate(LONGEST);
    let other = |n: u32| match n {
        1 => name.clone(),
        n => format!("{name}-{n}"),
    };
    let name = (1..).map(other).find(|name| !before.contains(name));
    let name = name.expect("numbers do not end");
    before.insert(name.clone());
    folder.join(name + ".hlog")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_log_of_its_own() {
        let case = &Scenario::smoke().cases(None)[0];
        let mut names = HashSet::new();
        let mut log = |case: &Case| hdr_log(Path::new("f"), case, &mut names);
        let first = log(case);
        assert_ne!(first, log(case), "of one name");
        let long = Case {
            text: crate::scenario::Text::Sample("x".repeat(300).into()),
            ..case.clone()
        };
        let name = log(&long);
        assert!(name.file_name().unwrap().len() < 255, "{name:?}");
    }

    #[test]
    fn arguments_go_together() {
        Args::command().debug_assert();
        let parsed = |args: &str| Args::try_parse_from(args.split(' '));
        assert!(parsed("loadtest --smoke --stream s --endpoint http://127.0.0.1").is_ok());
        // Where a stream is needed, and none is named.
        for alone in [
            "--endpoint u",
            "--kms-endpoint u",
            "--kms-key k",
            "--yes-this-costs-money",
        ] {
            let error = parsed(&format!("loadtest {alone}")).unwrap_err();
            assert!(error.to_string().contains("--stream <NAME>"), "{error}");
        }
    }
}
