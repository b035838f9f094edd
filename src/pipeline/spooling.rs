//! The way of records that cannot be read again: sealed like the others, onto disk, and from there to the owner.
//!
//! ```text
//! Intake ─chunks─► sealing ─► spool writer ─► disk ─► spool reader ─► owner
//!                  (packing in between, in block scope: blocks of their own)
//! ```

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::blocks::{Packer, RoutedChunk};
use super::routes::Facts;
use super::{Parts, Pipeline, Spooled, sealing};
use crate::metrics::{Counters, Histograms};
use crate::seal::offload::{InOrder, SealedChunk};
use crate::source::{Costs, Intake};
use crate::spool::{Keeper, Reader, Writer};

/// The tasks before the owner, and what they are asked. They do not outlive it.
#[derive(Debug)]
pub(super) struct Spooling {
    /// `None` once nothing more is to come.
    intake: Option<Intake>,
    histograms: Arc<Mutex<Histograms>>,
    /// How many wait for everything to be stored: meanwhile no block waits to fill.
    hurry: watch::Sender<usize>,
    tasks: Vec<JoinHandle<()>>,
    keeper: Keeper,
}

/// While it lives, nothing lingers.
#[derive(Debug)]
pub(super) struct Hurry<'a>(&'a watch::Sender<usize>);

impl Spooling {
    pub(super) fn start(
        spooled: Spooled,
        parts: &Parts,
        costs: Costs,
        facts: watch::Receiver<Option<Facts>>,
        sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
    ) -> Self {
        let Spooled {
            spool,
            sources,
            reader,
        } = spooled;
        let histograms: Arc<Mutex<Histograms>> = Arc::default();
        let (hurry, hurried) = watch::channel(0);
        let counters = || Arc::clone(&parts.counters);

        let (chunk_tx, chunk_rx) = mpsc::channel(parts.waiting);
        let (writer_tx, writer_rx) = mpsc::channel(Pipeline::CHUNKS);
        let intake = Intake::new(chunk_tx, sources.clone(), costs)
            .counting(counters())
            .lingering(parts.aggregation.linger);
        let (mut tasks, packer) = sealing::stages(parts, chunk_rx, writer_tx, Pipeline::CHUNKS);
        if let Some(packer) = packer {
            let packing = Packing {
                packer,
                facts,
                hurried,
                counters: counters(),
                histograms: Arc::clone(&histograms),
            };
            tasks.push(tokio::spawn(packing.run()));
        }
        let measured = Arc::clone(&histograms);
        let writer = Writer::new(&spool, sources, sealed.clone(), counters(), measured);
        tasks.push(tokio::spawn(writer.run(InOrder::new(writer_rx))));
        // Sealed already: only its own bytes and their copies.
        let costs = Costs::new(0, parts.aggregation.enabled);
        let reader = Reader::new(&spool, reader, costs, counters(), sealed);
        tasks.push(tokio::spawn(reader.run()));
        let keeper = spool.keeper();
        tasks.push(tokio::spawn(keeper.clone().run()));
        Self {
            intake: Some(intake),
            histograms,
            hurry,
            tasks,
            keeper,
        }
    }

    /// # Panics
    ///
    /// After [`end_intake`](Self::end_intake).
    pub(super) fn intake(&self) -> Intake {
        self.intake.clone().expect("asked for before the end")
    }

    pub(super) fn histograms(&self) -> Arc<Mutex<Histograms>> {
        Arc::clone(&self.histograms)
    }

    pub(super) fn hurry(&self) -> Hurry<'_> {
        self.hurry.send_modify(|waiting| *waiting += 1);
        Hurry(&self.hurry)
    }

    /// Once all other intakes are gone too, what was read goes onto disk, and reading from there ends.
    pub(super) fn end_intake(&mut self) {
        self.intake = None;
    }

    /// After the owner: notes what is settled for the next run.
    pub(super) async fn finish(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
        let keeper = self.keeper.clone();
        let finished = tokio::task::spawn_blocking(move || keeper.finish());
        if let Ok(Err(error)) = finished.await {
            tracing::error!(
                %error, "what is stored of the spool could not be noted: the next run sends it again"
            );
        }
    }
}

/// Resolves when all that is pending is on disk and none of it moves: the next run sends it, and there is nothing to wait
/// for. What is under way may still be answered, which saves doubles.
pub(super) async fn stuck_with_all_on_disk(counters: &Counters) {
    let mut before = counters.snapshot();
    loop {
        tokio::time::sleep(STILL).await;
        let now = counters.snapshot();
        if now.spooled > 0 && now.pending == now.spooled && now.spooled == before.spooled {
            return;
        }
        before = now;
    }
}

/// Longer than a call takes that will succeed, mostly.
const STILL: Duration = Duration::from_secs(2);

impl Drop for Spooling {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// Fills blocks, as the owner does for records that need no spool.
struct Packing {
    packer: Packer,
    facts: watch::Receiver<Option<Facts>>,
    hurried: watch::Receiver<usize>,
    counters: Arc<Counters>,
    histograms: Arc<Mutex<Histograms>>,
}

impl Packing {
    async fn run(mut self) {
        loop {
            let deadline = self.packer.next_deadline();
            tokio::select! {
                biased;
                changed = self.facts.changed() => match changed {
                    Ok(()) => self.adopt(),
                    // Before there were any routes: the pipeline is gone.
                    Err(_) => return,
                },
                Ok(()) = self.hurried.changed() => {}
                () = super::owner::until(deadline) => {}
                routed = self.packer.next() => match routed {
                    Some(chunk) => self.pack(chunk),
                    None => {
                        self.packer.end(tokio::time::Instant::now());
                        return;
                    }
                },
            }
            let now = tokio::time::Instant::now();
            match *self.hurried.borrow_and_update() {
                0 => self.packer.close_due(now),
                _ => self.packer.flush(now),
            }
        }
    }

    fn adopt(&mut self) {
        let facts = self.facts.borrow_and_update().clone();
        if let Some(Facts { routes, .. }) = facts {
            self.packer.adopt(routes, tokio::time::Instant::now());
        }
    }

    fn pack(&mut self, chunk: RoutedChunk) {
        Counters::add(&self.counters.plain_bytes, chunk.plain_bytes);
        let mut histograms = self.histograms.lock().expect("no panic while held");
        histograms.read.record(chunk.read_took, 1);
        drop(histograms);
        self.packer.pack(chunk, tokio::time::Instant::now());
    }
}
