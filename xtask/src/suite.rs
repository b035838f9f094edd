//! Which steps there are, in the order that fails soonest.

use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

use anyhow::Context;

use crate::logrotate;
use crate::peers;
use crate::report::Report;
use crate::room;
use crate::step::{self, Step};

/// Where a test that cannot run here says so, a line each: `test: why`.
const SKIPPED: &str = "KINSEAL_SKIPPED";
/// The program.
const LOGROTATE: &str = "KINSEAL_LOGROTATE";
/// The interpreter of the peers' environment.
const PEERS_PYTHON: &str = "KINSEAL_PEERS_PYTHON";

/// Goes through all steps, whatever fails; true if none did.
pub(crate) fn ci() -> anyhow::Result<bool> {
    let mut report = Report::new();
    if report.run_with("room on disk", room::ensure).is_none() {
        return Ok(report.finish());
    }
    for step in lints() {
        report.run(step);
    }
    report.run(Step::clippy(
        "build without features",
        &["--package", "kinseal", "--no-default-features"],
    ));
    report.run(unit_tests());
    // On stand-ins of their own; each fails if what it put does not come back, or lies there in clear.
    for example in ["producer", "ticker_producer", "ticker_consumer"] {
        report.run(Step::cargo(
            "example",
            &["run", "--quiet", "--example", example],
        ));
    }
    report.run(Step::test("doc tests", &["--workspace", "--doc"]));
    report.run(Step::test("hostile input", &["--test", "hostile"]));
    run_end_to_end(&mut report, &[])?;
    // Without `--bench` in their arguments, criterion's benches run each routine once.
    report.run(Step::test("benches, once each", &["--benches"]));
    report.run(Step::cargo(
        "load test, a moment",
        &["run", "--package", "loadtest", "--", "--smoke"],
    ));
    report.run(
        Step::cargo(
            "documentation",
            &[
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ],
        )
        .env("RUSTDOCFLAGS", "-D warnings"),
    );
    Ok(report.finish())
}

/// What to run between edits.
pub(crate) fn quick() -> anyhow::Result<bool> {
    let mut report = Report::new();
    for step in lints() {
        report.run(step);
    }
    report.run(unit_tests());
    report.run(Step::test("hostile input", &["--test", "hostile"]));
    Ok(report.finish())
}

/// The end-to-end tests alone, those whose names contain one of `filter`.
pub(crate) fn end_to_end(filter: &[String]) -> anyhow::Result<bool> {
    let mut report = Report::new();
    run_end_to_end(&mut report, filter)?;
    Ok(report.finish())
}

fn lints() -> [Step; 2] {
    [
        Step::cargo("format", &["fmt", "--all", "--check"]),
        Step::clippy("lints", &["--workspace", "--all-targets"]),
    ]
}

/// Unit and property tests: they lie beside the code.
fn unit_tests() -> Step {
    Step::test(
        "unit tests",
        &["--workspace", "--lib", "--bins", "--examples"],
    )
}

fn run_end_to_end(report: &mut Report, filter: &[String]) -> anyhow::Result<()> {
    let python = report.run_with("python peers", peers::ensure);
    let logrotate = report.run_with("logrotate", logrotate::ensure);
    let skipped = skipped_file()?;
    // They wait for processes and for time to pass more than they compute.
    let threads = (3 * thread::available_parallelism().map_or(1, NonZero::get)).to_string();
    let mut args = vec!["--test", "e2e", "--", "--test-threads", &threads];
    args.extend(filter.iter().map(String::as_str));
    let mut tests = Step::test("end-to-end tests", &args).env(SKIPPED, &skipped);
    // Without them, each test that wants them fails, and says so.
    if let Some(python) = python {
        tests = tests.env(PEERS_PYTHON, python);
    }
    if let Some(logrotate) = logrotate {
        tests = tests.env(LOGROTATE, logrotate);
    }
    report.run(tests);
    report.skipped(&fs::read_to_string(&skipped).context("reading what was skipped")?);
    Ok(())
}

/// An empty file for what this run skips.
fn skipped_file() -> anyhow::Result<PathBuf> {
    let path = step::target_dir()?.join(format!("skipped-{}.txt", std::process::id()));
    fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
