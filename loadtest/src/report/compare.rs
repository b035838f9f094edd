//! Two reports side by side: the runs that both have.

use super::{Report, Run};
use crate::scenario::Case;

/// What has changed since an older report.
pub(crate) struct Comparison<'r> {
    pub(super) old: &'r Report,
    pub(super) rows: Vec<(&'r Run, &'r Run)>,
    /// Names of runs that only one of them has.
    pub(super) only_old: Vec<&'r str>,
    pub(super) only_new: Vec<&'r str>,
    /// Why the figures may not be set beside one another.
    pub(super) warnings: Vec<String>,
}

/// A figure of a run, and whether more of it is better.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) of: fn(&Run) -> f64,
    pub(super) more_is_better: bool,
    pub(super) digits: usize,
}

pub(super) const FIGURES: [Figure; 5] = [
    Figure {
        name: "lines/CPU-s",
        of: Run::lines_per_cpu_second,
        more_is_better: true,
        digits: 0,
    },
    Figure {
        name: "lines/s",
        of: Run::lines_per_second,
        more_is_better: true,
        digits: 0,
    },
    Figure {
        name: "B/line",
        of: Run::bytes_per_line,
        more_is_better: false,
        digits: 1,
    },
    Figure {
        name: "p99 ms",
        of: |run| run.latency(0.99).unwrap_or_default(),
        more_is_better: false,
        digits: 1,
    },
    Figure {
        name: "RSS MiB",
        of: |run| run.outcome.agent.peak_memory as f64 / f64::from(1 << 20),
        more_is_better: false,
        digits: 0,
    },
];

impl<'r> Comparison<'r> {
    pub(crate) fn of(old: &'r Report, new: &'r Report) -> Self {
        // How long a run was may differ; of runs of one name, the first is set beside the first.
        let like = |of: &'r Report, one: &'r Report, run: &'r Run| {
            let name = |other: &&Run| other.name == run.name;
            let before = one
                .runs
                .iter()
                .take_while(|other| !std::ptr::eq(*other, run));
            of.runs.iter().filter(name).nth(before.filter(name).count())
        };
        let only = |one: &'r Report, other: &'r Report| {
            let alone = one
                .runs
                .iter()
                .filter(|run| like(other, one, run).is_none());
            alone.map(|run| run.name.as_str()).collect()
        };
        let both = |run: &'r Run| Some((like(old, new, run)?, run));
        Self {
            old,
            rows: new.runs.iter().filter_map(both).collect(),
            only_old: only(old, new),
            only_new: only(new, old),
            warnings: warnings(old, new),
        }
    }

    /// An error, before anything is run, if the runs to come are none of the old ones.
    pub(crate) fn check(old: &Report, cases: &[Case]) -> anyhow::Result<()> {
        let is_old = |case: &Case| old.runs.iter().any(|run| run.name == case.to_string());
        anyhow::ensure!(
            cases.iter().any(is_old),
            "--compare: no run of that report (scenario {}) is among those to come, by its name; the first are \"{}\" and \"{}\"",
            old.scenario,
            old.runs[0].name,
            cases[0],
        );
        Ok(())
    }

    pub(crate) fn print(&self, print: impl Fn(String)) {
        print(String::new());
        print(format!(
            "Since {} ({}, {})",
            self.old.made, self.old.scenario, self.old.machine.processor
        ));
        for warning in &self.warnings {
            print(format!("    {warning}"));
        }
        for (old, new) in &self.rows {
            let figures = FIGURES.iter().map(|figure| {
                let (old, new) = ((figure.of)(old), (figure.of)(new));
                let digits = figure.digits;
                format!(
                    "{} {old:.digits$} → {new:.digits$} ({})",
                    figure.name,
                    change(old, new)
                )
            });
            let figures: Vec<_> = figures.collect();
            print(format!("{}\n    {}", new.name, figures.join(", ")));
        }
        for (names, which) in [(&self.only_old, "old"), (&self.only_new, "new")] {
            if !names.is_empty() {
                print(format!("only in the {which} one: {}", names.join("; ")));
            }
        }
    }
}

fn warnings(old: &Report, new: &Report) -> Vec<String> {
    let mut said = Vec::new();
    if !old.optimized {
        said.push("the old one is of a debug build: its figures mean nothing".to_owned());
    }
    match old.violations() {
        0 => {}
        n => said.push(format!("in the old one {n} invariants were violated")),
    }
    let machine = |of: &Report| (of.machine.processor.clone(), of.machine.cores);
    if machine(old) != machine(new) {
        let (processor, cores) = machine(old);
        said.push(format!(
            "the old one is of another machine: {cores} cores of {processor}"
        ));
    }
    said
}

pub(super) fn change(old: f64, new: f64) -> String {
    match old > 0.0 && (new / old).is_finite() {
        true => super::answer::signed((new / old - 1.0) * 100.0, "%"),
        false => "–".to_owned(),
    }
}
