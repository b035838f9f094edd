//! Closed containers → entries, aside from the owner: on the pool, and several together, so that their checksums are
//! computed side by side.
//!
//! One job or two are under way at a time. What closes meanwhile goes together into the next one: the busier a
//! stream is, the more of them, and the cheaper each.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::Closed;
use crate::seal::SealedRecord;
use crate::seal::offload::SealPool;

/// In one job at most: as many as there are lanes.
const TOGETHER: usize = 16;
/// Bytes that are encoded where they are: in the time of a few hops to a thread and back. A guess.
const AT_ONCE: usize = 8 << 10;

/// The owner's end.
#[derive(Debug)]
pub(super) struct Encoder {
    /// `None`: everything at once, since entries must not overtake one another.
    aside: Option<Aside>,
}

#[derive(Debug)]
struct Aside {
    closed: mpsc::UnboundedSender<Closed<SealedRecord>>,
    jobs: mpsc::Receiver<Job>,
    job: Option<Job>,
    /// Containers that were given and have not come back.
    inside: usize,
}

#[derive(Debug)]
struct Job {
    containers: usize,
    entries: oneshot::Receiver<Vec<AggregatedRecord>>,
}

impl Encoder {
    /// Encodes in order, when asked.
    pub(super) fn in_order() -> Self {
        Self { aside: None }
    }

    /// Encodes on `pool`. The task ends with the encoder.
    pub(super) fn aside(pool: SealPool) -> (Self, JoinHandle<()>) {
        // Unbounded, but what waits in it holds its memory permits.
        let (closed_tx, closed_rx) = mpsc::unbounded_channel();
        let (jobs_tx, jobs_rx) = mpsc::channel(1);
        let aside = Aside {
            closed: closed_tx,
            jobs: jobs_rx,
            job: None,
            inside: 0,
        };
        let task = tokio::spawn(work(closed_rx, jobs_tx, pool));
        (Self { aside: Some(aside) }, task)
    }

    /// The entries that can be had now; the others will be among the [`next`](Self::next) ones.
    pub(super) fn encode(
        &mut self,
        mut closed: Vec<Closed<SealedRecord>>,
    ) -> Vec<AggregatedRecord> {
        let Some(aside) = &mut self.aside else {
            return AggregatedRecord::each(closed);
        };
        let has_company = |closed: &Closed<_>| closed.members.len() > 1;
        let to_encode = closed.iter().filter(|closed| has_company(closed));
        let bytes: usize = to_encode.map(|closed| closed.layout.wire_len()).sum();
        if aside.inside > 0 || bytes > AT_ONCE {
            for closed in closed.extract_if(.., |closed| has_company(closed)) {
                aside.inside += 1;
                // Its receiver only ends with us or by a panic, which drops the tickets as abandoned.
                let _ = aside.closed.send(closed);
            }
        }
        AggregatedRecord::each(closed)
    }

    /// The entries of the next job. Pending while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Vec<AggregatedRecord> {
        match &mut self.aside {
            Some(aside) if aside.inside > 0 => aside.next().await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.aside.as_ref().is_none_or(|aside| aside.inside == 0)
    }
}

impl Aside {
    /// Cancel safe: the job that is waited for stays in `job`.
    async fn next(&mut self) -> Vec<AggregatedRecord> {
        if self.job.is_none() {
            self.job = self.jobs.recv().await;
        }
        let Some(job) = &mut self.job else {
            // The task has ended before us: a panic, which has dropped what was inside.
            self.inside = 0;
            return Vec::new();
        };
        let entries = (&mut job.entries).await;
        self.inside -= job.containers;
        self.job = None;
        entries.unwrap_or_else(|_| {
            tracing::error!("an encoding job failed; its records are read again after a restart");
            Vec::new()
        })
    }
}

async fn work(
    mut closed: mpsc::UnboundedReceiver<Closed<SealedRecord>>,
    jobs: mpsc::Sender<Job>,
    pool: SealPool,
) {
    let mut waiting = Vec::new();
    loop {
        // A place first: what closes until there is one goes together.
        let Ok(place) = jobs.reserve().await else {
            return;
        };
        if closed.recv_many(&mut waiting, TOGETHER).await == 0 {
            return;
        }
        let together = std::mem::take(&mut waiting);
        let containers = together.len();
        let entries = pool.run(move || AggregatedRecord::each(together)).await;
        place.send(Job {
            containers,
            entries,
        });
    }
}
