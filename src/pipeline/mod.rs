//! The wiring of one stream: its tasks and the channels between them.
//!
//! ```text
//! Intake ─chunks─► sealing ─sealed, in order─► owner ─batches─► PutRecords calls
//!                  keys,                       all state,   ◄─outcomes─┘
//!                  pool                        no locks      ─dead─► dead letter writer
//!                                               ▲  │  ▲
//!                              shard map ─facts─┘  │  └─entries─┐
//!                                                  └─closed─► encoding (pool)
//! ```
//!
//! In block scope a packer (`blocks.rs`) stands before sealing; what cannot be read again goes over the disk behind it
//! (`spooling.rs`).
//!
//! The owner (`owner.rs`) holds every record between sealing and its answer. It ends when all intakes
//! are gone and everything has been answered.

mod blocks;
mod encoding;
mod lanes;
mod meter;
mod observer;
mod owner;
mod routes;
mod sealing;
mod spooling;
mod standing;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use meter::Meter;
pub use observer::{Observer, Waited};
pub use view::View;

use self::encoding::Encoder;
use self::spooling::Spooling;
use crate::deadletter::DeadLetters;
use crate::delivery::MemoryBudget;
use crate::metrics::{Counters, Histograms};
use crate::record::StreamName;
use crate::seal::keyring::Keyring;
use crate::seal::offload::{InOrder, SealPool};
use crate::seal::{PlaintextAllowed, block};
use crate::send::PutRecords;
use crate::shard::ListShards;
use crate::source::{Costs, Intake};
use crate::spool::Spool;
use crate::{aggregate, batch, seal, send};

/// How records reach one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    pub name: StreamName,
    pub encryption: seal::Settings,
    pub aggregation: aggregate::Settings,
    pub batch: batch::Settings,
    pub delivery: send::Settings,
}

/// What a stream's pipeline is made of.
#[derive(Debug)]
pub struct Parts {
    pub stream: StreamName,
    pub aggregation: aggregate::Settings,
    pub batch: batch::Settings,
    pub delivery: send::Settings,
    pub sealer: Sealer,
    pub pool: SealPool,
    pub budget: MemoryBudget,
    pub put_records: Arc<dyn PutRecords>,
    /// Bounds calls beside what bounds those of this stream.
    pub connections: send::Connections,
    pub shards: Arc<dyn ListShards>,
    /// For records that nobody waits for. Without it, none may come from a source.
    pub dead_letters: Option<DeadLetters>,
    /// For sources that cannot be read again.
    pub spool: Option<Spooled>,
    pub counters: Arc<Counters>,
    /// Chunks that may wait at the intake.
    pub waiting: usize,
    /// Told of each call; tickets are told of attempts only where there is one.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Parts {
    /// How long records wait for the shards to be listed before they go on without; `None`: for ever, since order is kept
    /// per shard. Who gives them a time to live wants an answer within that.
    fn unlisted_after(&self) -> Option<Duration> {
        let wait = self.undescribed_after().unwrap_or(routes::WAIT_FOR_LISTING);
        (self.delivery.ordering == send::Ordering::None).then_some(wait)
    }

    /// The same for the stream's description, for which those without a time to live wait as long as it takes.
    fn undescribed_after(&self) -> Option<Duration> {
        let is_unordered = self.delivery.ordering == send::Ordering::None;
        self.delivery
            .record_ttl
            .filter(|_| is_unordered)
            .map(routes::wait_within)
    }
}

/// A spool, and the memory on both sides of it.
#[derive(Debug)]
pub struct Spooled {
    pub spool: Spool,
    /// Of what is on its way to the disk.
    pub sources: MemoryBudget,
    /// Of what is on its way from there.
    pub reader: MemoryBudget,
}

/// How records are made fit to leave.
#[derive(Debug, Clone)]
pub enum Sealer {
    Encrypt(Arc<Keyring>),
    Blocks(Arc<Keyring>, block::Settings),
    Plain(PlaintextAllowed),
}

impl Sealer {
    fn overhead(&self) -> usize {
        match self {
            Self::Encrypt(keyring) => keyring.overhead_hint(),
            // Its share of a block's, and its place in it.
            Self::Blocks(..) => 32,
            Self::Plain(_) => 0,
        }
    }
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    stream: StreamName,
    intake: Intake,
    spooling: Option<Spooling>,
    control: mpsc::UnboundedSender<Control>,
    counters: Arc<Counters>,
    meter: Meter,
    facts: watch::Receiver<Option<routes::Facts>>,
    tasks: Tasks,
}

/// What an owner can be asked.
#[derive(Debug)]
enum Control {
    /// Linger for nothing; answered when nothing is pending.
    Flush(oneshot::Sender<()>),
    Snapshot(oneshot::Sender<Histograms>),
    /// In an outage: see now whether it is over.
    Probe,
    /// End at once.
    Abandon,
}

impl Pipeline {
    /// Chunks that may wait between tasks: enough to keep them all busy. The bound that counts is memory.
    pub const CHUNKS: usize = 16;

    /// Starts the tasks of a stream. Must be called within a tokio runtime.
    pub fn start(mut parts: Parts) -> Self {
        let spooled = parts.spool.take();
        let costs = Costs::new(parts.sealer.overhead(), parts.aggregation.enabled);
        let (chunk_tx, chunk_rx) = mpsc::channel(parts.waiting);
        let (sealed_tx, sealed_rx) = mpsc::channel(Self::CHUNKS);
        let (control_tx, control_rx) = mpsc::unbounded_channel();
        let intake = Intake::new(chunk_tx, parts.budget.clone(), costs)
            .counting(Arc::clone(&parts.counters))
            .lingering(parts.aggregation.linger);
        let budgets = spooled.iter().flat_map(|s| [&s.sources, &s.reader]);
        let smallest = budgets.fold(parts.budget.limit(), |least, budget| {
            least.min(budget.limit())
        });
        let (refresh, facts, facts_task) = routes::watch(
            Arc::clone(&parts.shards),
            parts.stream.clone(),
            parts.batch.clone(),
            smallest / Costs::COPIES_OF_A_RECORD,
            routes::Waiting {
                unlisted_after: parts.unlisted_after(),
                undescribed_after: parts.undescribed_after(),
                counters: Arc::clone(&parts.counters),
                when_idle: parts.observer.is_none(),
            },
        );
        let spooling = spooled.map(|spooled| {
            Spooling::start(spooled, &parts, costs, facts.clone(), sealed_tx.clone())
        });
        let (mut helpers, packer) = sealing::stages(&parts, chunk_rx, sealed_tx, Self::CHUNKS);
        helpers.push(facts_task);
        let standing = standing::hold(facts.clone(), parts.budget.clone());
        helpers.push(tokio::spawn(standing));
        let stream = parts.stream.clone();
        let counters = Arc::clone(&parts.counters);
        let measured = spooling.as_ref().map(Spooling::histograms);
        let meter = Meter::new(&counters, &parts.sealer, measured);
        let encoder = match parts.delivery.ordering {
            send::Ordering::PartitionKey => Encoder::in_order(),
            send::Ordering::None => {
                let (encoder, task) = Encoder::aside(parts.pool.clone());
                helpers.push(task);
                encoder
            }
        };
        let known = facts.clone();
        let owner = owner::Owner::new(
            parts,
            InOrder::new(sealed_rx),
            packer,
            encoder,
            control_rx,
            facts,
            refresh,
        );
        Self {
            stream,
            intake,
            spooling,
            control: control_tx,
            counters,
            meter,
            facts: known,
            tasks: Tasks {
                owner: Some(tokio::spawn(owner.run())),
                helpers,
            },
        }
    }

    /// Whether records go by their keys, which each must have then; `None`: that is not known yet.
    pub fn needs_keys(&self) -> Option<bool> {
        let facts = self.facts.borrow();
        facts.as_ref().and_then(routes::Facts::are_by_keys)
    }

    /// The same, for whoever waits for it to be known or to change.
    pub fn distribution(&self) -> Distribution {
        Distribution {
            facts: self.facts.clone(),
            told: None,
        }
    }

    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// The way in for sources that cannot be read again: over the disk, where there is a spool.
    pub fn spooled_intake(&self) -> Intake {
        let spooled = self.spooling.as_ref().map(Spooling::intake);
        spooled.unwrap_or_else(|| self.intake())
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Outlives the pipeline.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Puts everything on its way without lingering, and resolves when nothing is pending. While others
    /// keep putting records, that can be never.
    pub async fn flush(&self) {
        let _hurry = self.spooling.as_ref().map(Spooling::hurry);
        let (tx, rx) = oneshot::channel();
        if self.control.send(Control::Flush(tx)).is_ok() {
            let _ = rx.await;
        }
    }

    /// The same; where there is a spool, also once all that is pending is on disk and none of it moves. To be called before
    /// [`close`](Self::close), where no next run is sure to come: closing leaves on disk what is there.
    pub async fn drain(&self) {
        tokio::select! {
            () = self.flush() => {}
            () = spooling::stuck_with_all_on_disk(&self.counters) => {}
        }
    }

    /// Something has changed that an outage may have been for.
    pub fn probe(&self) {
        let _ = self.control.send(Control::Probe);
    }

    /// Asks for the same from elsewhere, and does not wait for it.
    pub fn flusher(&self) -> Arc<dyn Fn() + Send + Sync> {
        let control = self.control.clone();
        Arc::new(move || {
            let (tx, _) = oneshot::channel();
            let _ = control.send(Control::Flush(tx));
        })
    }

    /// The latencies so far.
    pub async fn histograms(&self) -> Histograms {
        self.meter.complete(view::asked(&self.control).await)
    }

    /// Waits until every record has its answer, at most `grace`, and ends. All other intakes must be gone, or
    /// go meanwhile. What is still pending after the grace period is abandoned: its source has it still.
    ///
    /// Not cancel safe: cancelled, it abandons what is pending at once.
    pub async fn close(self, grace: Duration) -> Histograms {
        let Self {
            intake,
            mut spooling,
            control,
            counters,
            meter,
            mut tasks,
            stream,
            facts: _,
        } = self;
        drop(intake);
        if let Some(spooling) = &mut spooling {
            spooling.end_intake();
        }
        let owner = tasks.owner.as_mut().expect("set until closed");
        let ended = tokio::select! {
            biased;
            ended = owner => Some(ended),
            () = tokio::time::sleep(grace) => None,
            () = spooling::stuck_with_all_on_disk(&counters) => None,
        };
        if let Some(ended) = ended {
            tasks.owner = None;
            if let Some(spooling) = spooling {
                spooling.finish().await;
            }
            return meter.complete(ended.unwrap_or_default());
        }
        let histograms = view::asked(&control).await;
        let before = counters.snapshot().abandoned;
        tasks.abandon(&control).await;
        if let Some(spooling) = spooling {
            spooling.finish().await;
        }
        let abandoned = counters.snapshot().abandoned - before;
        if abandoned > 0 {
            tracing::warn!(%stream, abandoned, "stopped before all was stored; the rest was not acknowledged as stored");
        }
        meter.complete(histograms)
    }
}

/// Whether records go by their keys.
#[derive(Debug)]
pub struct Distribution {
    facts: watch::Receiver<Option<routes::Facts>>,
    told: Option<bool>,
}

impl Distribution {
    /// Once it is known, and then once it has changed; `None` when the pipeline has ended. Cancel safe.
    pub async fn changed(&mut self) -> Option<bool> {
        let told = self.told;
        let is_new = |facts: &Option<routes::Facts>| {
            let by_keys = facts.as_ref().and_then(routes::Facts::are_by_keys);
            by_keys.is_some() && by_keys != told
        };
        let facts = self.facts.wait_for(is_new).await.ok()?;
        let by_keys = facts.as_ref().and_then(routes::Facts::are_by_keys);
        drop(facts);
        self.told = by_keys;
        by_keys
    }
}

/// The pipeline's tasks, which do not outlive it.
#[derive(Debug)]
struct Tasks {
    owner: Option<JoinHandle<Histograms>>,
    helpers: Vec<JoinHandle<()>>,
}

impl Tasks {
    /// Ends all, and waits until they have dropped what they held, also in calls that were under way.
    async fn abandon(mut self, control: &mpsc::UnboundedSender<Control>) {
        if let Some(owner) = self.owner.take() {
            // If nobody hears it, it has ended.
            let _ = control.send(Control::Abandon);
            let _ = owner.await;
        }
        for helper in std::mem::take(&mut self.helpers) {
            helper.abort();
            let _ = helper.await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Some(owner) = &self.owner {
            owner.abort();
        }
        for helper in &self.helpers {
            helper.abort();
        }
    }
}
