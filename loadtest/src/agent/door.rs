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

    /// Of the one stream that there is.
    pub(super) async fn so_far(&self) -> (metrics::Counts, metrics::Histograms) {
        match self {
            Self::Agent(agent) => of_one_stream(agent.report().await),
            Self::Program(program) => program.so_far().await,
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
                let (counts, histograms) = of_one_stream(agent.stop(grace).await?);
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

fn of_one_stream(report: kinseal::agent::Report) -> (metrics::Counts, metrics::Histograms) {
    let stream = report.streams.into_iter().next();
    let stream = stream.expect("a configuration of this program's has one stream");
    (stream.counts, stream.histograms)
}
