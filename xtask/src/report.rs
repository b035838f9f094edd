//! What each step came to: said when it ends, and once more in a table at the end.

use std::fmt;
use std::time::{Duration, Instant};

use crate::step::{Step, Tests};

/// Steps done so far.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    rows: Vec<Row>,
    skipped: Vec<String>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    took: Duration,
    /// What it did, or why it failed.
    ended: Result<String, String>,
    tests: Tests,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            rows: Vec::new(),
            skipped: Vec::new(),
        }
    }

    pub(crate) fn run(&mut self, step: Step) {
        println!("\n== {}: {}", step.name, step.line());
        let started = Instant::now();
        let (name, ended) = (step.name, step.run());
        let (ended, tests) = match ended {
            Ok((status, tests)) if status.success() => (Ok(tests.to_string()), tests),
            Ok((status, tests)) => (Err(format!("{status} {tests}")), tests),
            Err(e) => (Err(format!("{e:#}")), Tests::default()),
        };
        self.add(name, started, ended, tests);
    }

    /// Runs what is not a cargo command; nothing if it failed.
    pub(crate) fn run_with<T>(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> anyhow::Result<T>,
    ) -> Option<T> {
        println!("\n== {name}");
        let started = Instant::now();
        let (ended, value) = match step() {
            Ok(value) => (Ok(String::new()), Some(value)),
            Err(e) => (Err(format!("{e:#}")), None),
        };
        self.add(name, started, ended, Tests::default());
        value
    }

    /// Lines of tests that could not run here.
    pub(crate) fn skipped(&mut self, lines: &str) {
        self.skipped.extend(lines.lines().map(str::to_owned));
    }

    /// Prints the table; true if nothing failed.
    pub(crate) fn finish(self) -> bool {
        print!("\n{self}");
        self.failed_steps() == 0
    }

    fn add(
        &mut self,
        name: &'static str,
        started: Instant,
        ended: Result<String, String>,
        tests: Tests,
    ) {
        let row = Row {
            name,
            took: started.elapsed(),
            ended,
            tests,
        };
        println!("-- {row}");
        self.rows.push(row);
    }

    fn failed_steps(&self) -> usize {
        self.rows.iter().filter(|row| row.ended.is_err()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== summary")?;
        let mut tests = Tests::default();
        for row in &self.rows {
            writeln!(f, "   {row}")?;
            tests += row.tests;
        }
        for line in &self.skipped {
            writeln!(f, "   skipped  {line}")?;
        }
        let failed = self.failed_steps();
        writeln!(
            f,
            "steps: {} passed, {failed} failed; tests: {} passed, {} failed, {} skipped; {:.0} s",
            self.rows.len() - failed,
            tests.passed,
            tests.failed,
            self.skipped.len(),
            self.started.elapsed().as_secs_f64(),
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, more) = match &self.ended {
            Ok(more) => ("ok", more),
            Err(why) => ("FAILED", why),
        };
        let line = format!(
            "{word:<7} {:>6.1} s  {:<24} {more}",
            self.took.as_secs_f64(),
            self.name
        );
        f.write_str(line.trim_end())
    }
}
