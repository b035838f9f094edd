//! What a person reads, row by row as the runs end, and what a program reads.

use std::fs;
use std::io;
use std::path::Path;

use kinseal::metrics::report::Thousands;
use serde::Serialize;

use crate::run::Outcome;
use crate::scenario::{Case, Encryption};

/// The runs so far.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// A debug build's figures mean nothing.
    optimized: bool,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    case: Case,
    outcome: Outcome,
    lines_per_second: f64,
    lines_per_cpu_second: f64,
    stored_bytes_per_line: f64,
}

impl Report {
    pub(crate) fn begin() -> Self {
        let optimized = !cfg!(debug_assertions);
        if !optimized {
            println!("A debug build: what follows shows that it works, not how fast (--release).");
        }
        println!(
            "{:<38}{:>9}{:>8}{:>8}{:>12}{:>9}{:>9}{:>7}{:>7}{:>8}{:>8}{:>7}{:>6}",
            "encryption, entries, line",
            "lines/s",
            "MB/s",
            "CPU s",
            "lines/CPU-s",
            "B stored",
            "RSS MiB",
            "calls",
            "keys",
            "p50 ms",
            "p99 ms",
            "sink s",
            "twice",
        );
        Self {
            optimized,
            runs: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, case: Case, outcome: Outcome) {
        let (lines, agent) = (case.lines as f64, &outcome.agent);
        let run = Run {
            lines_per_second: lines / agent.seconds,
            lines_per_cpu_second: lines / agent.cpu_seconds,
            stored_bytes_per_line: agent.counts.bytes_stored as f64 / lines,
            case,
            outcome,
        };
        self.print(&run);
        self.runs.push(run);
    }

    fn print(&self, run: &Run) {
        let Run { case, outcome, .. } = run;
        let (agent, sink) = (&outcome.agent, &outcome.sink);
        println!(
            "{:<38}{:>9}{:>8.0}{:>8.2}{:>12}{:>9.0}{:>9}{:>7}{:>7}{:>8.1}{:>8.1}{:>7.2}{:>6}",
            case.to_string(),
            Thousands(run.lines_per_second as u64).to_string(),
            outcome.log_bytes as f64 / 1e6 / agent.seconds,
            agent.cpu_seconds,
            Thousands(run.lines_per_cpu_second as u64).to_string(),
            run.stored_bytes_per_line,
            agent.peak_memory >> 20,
            agent.counts.calls,
            agent.counts.data_keys,
            agent.p50_ms,
            agent.p99_ms,
            sink.cpu_seconds,
            outcome.duplicates,
        );
        if let Some(plain) = self.plain_like(case) {
            println!(
                "{:<38}CPU x {:.2}, bytes stored x {:.2}, calls x {:.2}",
                "    against off",
                plain.lines_per_cpu_second / run.lines_per_cpu_second,
                run.stored_bytes_per_line / plain.stored_bytes_per_line,
                agent.counts.calls as f64 / plain.outcome.agent.counts.calls as f64,
            );
        }
        let without_faults = self.runs.iter().find(|r| case.is_like_but_failing(&r.case));
        if let Some(without) = without_faults {
            println!(
                "{:<38}speed x {:.2}, entries sent again {}",
                "    against 0 %",
                run.lines_per_second / without.lines_per_second,
                Thousands(agent.counts.entries_retried),
            );
        }
        for violation in &outcome.violations {
            println!("    VIOLATED  {violation}");
        }
    }

    /// The run that an encrypted one is compared with.
    fn plain_like(&self, case: &Case) -> Option<&Run> {
        let like = |run: &&Run| case.without_encryption() == run.case;
        let encrypted = case.encryption != Encryption::Off;
        self.runs.iter().find(like).filter(|_| encrypted)
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// Says the verdict; true if every invariant held in every run.
    pub(crate) fn end(&self) -> bool {
        let violated: usize = self.runs.iter().map(|r| r.outcome.violations.len()).sum();
        let lines = Thousands(self.runs.iter().map(|r| r.case.lines).sum());
        if violated == 0 {
            println!("{lines} lines: none lost, none pending, none twice.");
        } else {
            println!("{violated} invariants violated, see above.");
        }
        violated == 0
    }
}
