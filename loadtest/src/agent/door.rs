//! The ways into the library that are measured: the agent, and the producer in a program.

use std::collections::BTreeMap;
use std::time::Duration;

use kinseal::agent::{Agent, Settings};
use kinseal::metrics;
use tokio::sync::oneshot;

use super::program::Program;
use crate::answers::Answers;
use crate::lines::Due;
use crate::process;
use crate::scenario::Case;

pub(super) enum Door {
    Agent(Agent),
    Program(Box<Program>),
}

/// What lines came to, when all is done.
pub(super) struct Ended {
    pub(super) counts: metrics::Counts,
    pub(super) histograms: metrics::Histograms,
    /// A program's.
    pub(super) answers: Option<Answers>,
    /// Of lines that it made itself, newlines included.
    pub(super) made_bytes: u64,
}

impl Door {
    pub(super) async fn open(settings: &Settings, program: Option<Case>) -> anyhow::Result<Self> {
        Ok(match program {
            None => Self::Agent(Agent::start(settings).await?),
            Some(case) => Self::Program(Box::new(Program::start(settings, case).await?)),
        })
    }

    /// When lines are due, if they are made here.
    pub(super) fn due(&self) -> Option<Due> {
        match self {
            Self::Agent(_) => None,
            Self::Program(program) => Some(program.due),
        }
    }

    /// Of all streams.
    pub(super) fn counts(&self) -> metrics::Counts {
        match self {
            Self::Agent(agent) => sum(agent.counts()),
            Self::Program(program) => program.counts(),
        }
    }

    /// The same.
    pub(super) async fn histograms(&self) -> metrics::Histograms {
        match self {
            Self::Agent(agent) => of_all_streams(agent.report().await).1,
            Self::Program(program) => program.histograms().await,
        }
    }

    /// Of this process, without what makes the lines.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let cpu = process::cpu()?;
        Ok(match self {
            Self::Agent(_) => cpu,
            Self::Program(_) => cpu.saturating_sub(process::cpu_of(Program::MAKER)?),
        })
    }

    /// The same by the names of threads.
    pub(super) fn cpu_by_thread(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let mut by_thread = process::cpu_by_thread()?;
        if let Self::Program(_) = self {
            by_thread.remove(Program::MAKER);
        }
        Ok(by_thread)
    }

    /// Resolves when each line has its answer, where it has one. `told` says so where another process reads them.
    pub(super) async fn all_answered(
        &mut self,
        told: Option<oneshot::Receiver<()>>,
    ) -> anyhow::Result<()> {
        match (self, told) {
            (Self::Program(program), _) => program.all_answered().await,
            // It lives as long as this process.
            (Self::Agent(_), Some(told)) => Ok(told.await?),
            (Self::Agent(_), None) => Ok(()),
        }
    }

    pub(super) async fn close(self, grace: Duration) -> anyhow::Result<Ended> {
        match self {
            Self::Agent(agent) => {
                let (counts, histograms) = of_all_streams(agent.stop(grace).await?);
                Ok(Ended {
                    counts,
                    histograms,
                    answers: None,
                    made_bytes: 0,
                })
            }
            Self::Program(program) => program.close(grace).await,
        }
    }
}

fn of_all_streams(report: kinseal::agent::Report) -> (metrics::Counts, metrics::Histograms) {
    let mut histograms = metrics::Histograms::new();
    for stream in &report.streams {
        histograms.merge(&stream.histograms);
    }
    let counts = report.streams.into_iter().map(|stream| stream.counts);
    (sum(counts), histograms)
}

fn sum(each: impl IntoIterator<Item = metrics::Counts>) -> metrics::Counts {
    let mut all = metrics::Counts::default();
    each.into_iter().for_each(|counts| all += counts);
    all
}
