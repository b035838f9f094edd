//! What a person reads in the terminal, row by row as the runs end.

use kinseal::metrics::report::Thousands;

use super::{Report, Run};
use crate::scenario::{Case, Encryption};

/// Of the column of names.
const LEAST_WIDTH: usize = 46;

/// Prints rows above whatever else is at the screen's end.
pub(crate) struct Table<P: Fn(String)> {
    print: P,
    /// Of the names of runs.
    width: usize,
}

impl<P: Fn(String)> Table<P> {
    pub(crate) fn begin(report: &Report, cases: &[Case], print: P) -> Self {
        let names = cases.iter().map(|case| case.to_string().len());
        let width = names.max().unwrap_or_default().max(LEAST_WIDTH);
        if let Some(target) = &report.target {
            print(format!(
                "To {target}. Sink: not ours, so what arrives there is not counted."
            ));
        }
        if cfg!(debug_assertions) {
            print(
                "A debug build: what follows shows that it works, not how fast (--release).".into(),
            );
        }
        print(format!(
            "One core of this machine hashes {} MB/s (SHA-256, of every byte that is sent).",
            Thousands(report.machine.sha256_mb_per_s as u64)
        ));
        print(format!(
            "{:<width$}{:>11}{:>7}{:>12}{:>8}{:>8}{:>8}{:>6}{:>9}{:>9}{:>7}",
            "encryption, entries, lines",
            "lines/s",
            "CPU s",
            "lines/CPU-s",
            "B/line",
            "RSS MiB",
            "calls",
            "keys",
            "p50 ms",
            "p99 ms",
            "sink s",
        ));
        Self { print, width }
    }

    pub(crate) fn row(&self, run: &Run, report: &Report) {
        let (agent, width) = (&run.outcome.agent, self.width);
        (self.print)(format!(
            "{:<width$}{:>11}{:>7.2}{:>12}{:>8.0}{:>8}{:>8}{:>6}{:>9}{:>9}{:>7}",
            run.name,
            Thousands(run.lines_per_second() as u64).to_string(),
            agent.cpu_seconds,
            Thousands(run.lines_per_cpu_second() as u64).to_string(),
            run.bytes_per_line(),
            agent.peak_memory >> 20,
            agent.counts.calls,
            agent.counts.data_keys,
            run.latency_shown(0.5),
            run.latency_shown(0.99),
            run.sink_cpu(),
        ));
        self.beside(run, report);
        for violation in &run.outcome.violations {
            (self.print)(format!("    VIOLATED  {violation}"));
        }
    }

    /// What the row says beside another.
    fn beside(&self, run: &Run, report: &Report) {
        let mut said = Vec::new();
        if let Some(plain) = report.plain_like(&run.case) {
            said.push(format!(
                "against off: CPU × {:.2}, bytes × {:.2}",
                run.cpu_per_megabyte() / plain.cpu_per_megabyte(),
                run.bytes_per_line() / plain.bytes_per_line(),
            ));
        }
        let ours = run.case.by_kinseal();
        if let Some(ours) = report
            .runs
            .iter()
            .find(|other| Some(&other.case) == ours.as_ref())
        {
            said.push(format!(
                "against kinseal: CPU × {:.1}, bytes × {:.2}",
                run.cpu_per_megabyte() / ours.cpu_per_megabyte(),
                run.bytes_per_line() / ours.bytes_per_line(),
            ));
        }
        let without = |other: &&Run| run.case.is_like_but_failing(&other.case);
        if let Some(without) = report.runs.iter().find(without) {
            said.push(format!(
                "against 0 %: speed × {:.2}, entries sent again {}",
                run.lines_per_second() / without.lines_per_second(),
                Thousands(run.outcome.agent.counts.entries_retried),
            ));
        }
        if run.case.encryption == Encryption::BlockZstd {
            let ratio = run.outcome.zstd_ratio;
            said.push(format!(
                "48 KiB of the lines alone: {ratio:.1} times smaller"
            ));
        }
        if let Some(back) = &run.outcome.read_back {
            said.push(format!(
                "reading back: {:.1} CPU-s/GB, {} Decrypt calls",
                back.read.cpu_seconds * 1e9 / back.log_bytes as f64,
                back.read.kms_calls,
            ));
        }
        if let Some(twice) = run.outcome.duplicates.filter(|entries| *entries > 0) {
            said.push(format!("{twice} entries twice"));
        }
        if !said.is_empty() {
            (self.print)(format!("    {}", said.join("; ")));
        }
    }

    /// Says the verdict; true if every invariant held in every run.
    pub(crate) fn end(&self, report: &Report) -> bool {
        let answers = report.answers();
        if !answers.is_empty() {
            (self.print)(String::new());
        }
        for answer in &answers {
            (self.print)(answer.to_string());
        }
        if !answers.is_empty() {
            let workload = &report.prices.workload;
            (self.print)(format!(
                "(shards and dollars for {} lines a second of {} hosts, prices of {})",
                Thousands(workload.lines_per_second),
                workload.hosts,
                report.prices.as_of
            ));
        }
        report.roughness().into_iter().for_each(&self.print);
        let violated = report.violations();
        let lines = Thousands(report.runs.iter().map(|r| r.case.lines).sum());
        (self.print)(match violated {
            0 => format!("{lines} lines: {}.", report.verdict()),
            _ => format!("{violated} invariants violated, see above."),
        });
        violated == 0
    }
}
