//! Chunks → sealed chunks, in order: reserves the data key, cuts the chunk to what the key allows, and gives
//! it to the pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::blocks::{self, BlockSealing, Packer};
use super::owner::meanwhile;
use super::{Parts, Sealer};
use crate::delivery::{Delivery, FailReason, Ticket};
use crate::metrics::{Counters, Trouble};
use crate::recurring::Recurring;
use crate::seal::key::KeyError;
use crate::seal::keyring::{Keyring, Lease};
use crate::seal::offload::{self, SealPool, SealedChunk, seal_chunk};
use crate::source::{Accepted, Chunk};

/// Between tries while there is no data key.
const KEY_PAUSE: Duration = Duration::from_secs(1);
/// Chunks sealed as one at most.
const MOST_TOGETHER: usize = 64;

/// Starts the tasks between a stream's intake and its owner. In block scope the owner packs in between, and
/// has a [`Packer`] for that.
pub(super) fn stages(
    parts: &Parts,
    chunks: mpsc::Receiver<Chunk>,
    sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
    depth: usize,
) -> (Vec<JoinHandle<()>>, Option<Packer>) {
    let Sealer::Blocks(keyring, settings) = &parts.sealer else {
        let sealing = Sealing {
            sealer: parts.sealer.clone(),
            pool: parts.pool.clone(),
            sealed,
            expiry: Expiry::of(parts),
        };
        return (vec![tokio::spawn(sealing.run(chunks))], None);
    };
    let (routed_tx, routed_rx) = mpsc::channel(depth);
    // Unbounded, but what waits in it holds its memory permits.
    let (blocks_tx, blocks_rx) = mpsc::unbounded_channel();
    let sealing = BlockSealing {
        keyring: Arc::clone(keyring),
        packing: settings.packing,
        pool: parts.pool.clone(),
        sealed,
        expiry: Expiry::of(parts),
    };
    let tasks = vec![
        tokio::spawn(blocks::route(chunks, routed_tx)),
        tokio::spawn(sealing.run(blocks_rx)),
    ];
    let linger = settings.linger.unwrap_or(parts.aggregation.linger);
    let packer = Packer::new(settings.max_size, linger, routed_rx, blocks_tx);
    (tasks, Some(packer.observed(parts.observer.clone())))
}

/// The stage between a stream's intake and its owner, where each record is sealed by itself.
#[derive(Debug)]
pub(super) struct Sealing {
    pub(super) sealer: Sealer,
    pub(super) pool: SealPool,
    pub(super) sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
    expiry: Expiry,
}

/// Gives up what could not be sealed in its time, for callers who are told so. Sources wait: a dead letter is sealed.
#[derive(Debug)]
pub(super) struct Expiry {
    ttl: Option<Duration>,
    counters: Arc<Counters>,
}

impl Expiry {
    fn of(parts: &Parts) -> Self {
        Self {
            ttl: parts.delivery.unsealed_ttl.or(parts.delivery.record_ttl),
            counters: Arc::clone(&parts.counters),
        }
    }

    /// When the first of these is over, of those whose callers are told.
    pub(super) fn next<'a>(&self, tickets: impl Iterator<Item = &'a Ticket>) -> Option<Instant> {
        let ttl = self.ttl?;
        let told = tickets.filter(|ticket| ticket.has_caller());
        told.map(|ticket| ticket.born() + ttl).min()
    }

    pub(super) fn is_over(&self, ticket: &Ticket, now: Instant) -> bool {
        self.ttl
            .is_some_and(|ttl| ticket.has_caller() && ticket.born() + ttl <= now)
    }

    pub(super) fn give_up(&self, ticket: Ticket) {
        Counters::add(&self.counters.failed, u64::from(ticket.records()));
        ticket.settle(&Delivery::Failed {
            reason: FailReason::Expired {
                last: "none, there was no data key".to_owned(),
            },
            attempts: 0,
        });
    }

    /// Waits out an outage of the key service: records wait, and with them their sources; `None` where none comes in
    /// time.
    pub(super) async fn lease_at_last(
        &self,
        keyring: &Arc<Keyring>,
        sizes: &[usize],
        until: Option<Instant>,
    ) -> Option<Lease> {
        let whenever = self.lease_whenever(keyring, sizes);
        let Some(until) = until else {
            return Some(whenever.await);
        };
        tokio::time::timeout_at(until, whenever).await.ok()
    }

    /// Whether there is one, and why not.
    fn tell_key(&self, error: Option<&KeyError>) {
        let troubles = &self.counters.troubles;
        match error {
            // Whoever sends knows about credentials too, and says when they are taken: but only once there is a key again.
            None if troubles.has(Trouble::NoDataKey) => {
                troubles.end(Trouble::NoDataKey);
                troubles.end(Trouble::RefusedCredentials);
            }
            None => {}
            Some(error) => {
                troubles.begin(Trouble::NoDataKey);
                if let KeyError::Credentials { .. } = error {
                    troubles.begin(Trouble::RefusedCredentials);
                }
            }
        }
    }

    async fn lease_whenever(&self, keyring: &Arc<Keyring>, sizes: &[usize]) -> Lease {
        let mut outage = Recurring::default();
        loop {
            match keyring.lease(sizes).await {
                Ok(lease) => {
                    self.tell_key(None);
                    if let Some(down_for) = outage.end(Instant::now()) {
                        tracing::warn!(key = keyring.key_name(), ?down_for, "data keys are back");
                    }
                    return lease;
                }
                Err(error) => {
                    self.tell_key(Some(&error));
                    if outage.goes_on(Instant::now()).is_some() {
                        let meanwhile = meanwhile(self.ttl);
                        tracing::error!(%error, "no data key: nothing is sent, {meanwhile}");
                    }
                }
            }
            tokio::time::sleep(KEY_PAUSE).await;
        }
    }
}

/// The owner is gone.
struct Gone;

impl Sealing {
    /// Ends when the chunks end or the owner is gone.
    pub(super) async fn run(self, mut chunks: mpsc::Receiver<Chunk>) {
        let mut waiting = Vec::new();
        while let Some(chunk) = next_chunk(&mut chunks, &mut waiting).await {
            let received = Instant::now();
            let given = match &self.sealer {
                Sealer::Plain(allowed) => {
                    // Nothing to compute but routes: a hop to the pool would cost more.
                    let how = offload::Sealing::Plain(*allowed);
                    let (tx, rx) = oneshot::channel();
                    let _ = tx.send(seal_chunk(chunk, &how, received));
                    self.sealed.send(rx).await.map_err(|_| Gone)
                }
                Sealer::Encrypt(keyring) => self.encrypt(chunk, keyring, received).await,
                // Sealed one by one, records would carry a block's context and be none.
                Sealer::Blocks(..) => unreachable!("blocks have a stage of their own"),
            };
            if given.is_err() {
                return;
            }
        }
    }

    /// Cuts the chunk into pieces that one data key each may seal.
    async fn encrypt(
        &self,
        chunk: Chunk,
        keyring: &Arc<Keyring>,
        received: Instant,
    ) -> Result<(), Gone> {
        let mut rest = chunk.records;
        let mut read_took = chunk.read_took;
        while !rest.is_empty() {
            let sizes: Vec<usize> = rest.iter().map(|r| r.data.len()).collect();
            let until = self.expiry.next(rest.iter().map(|record| &record.ticket));
            let Some(lease) = self.expiry.lease_at_last(keyring, &sizes, until).await else {
                let now = Instant::now();
                let is_over = |record: &mut Accepted| self.expiry.is_over(&record.ticket, now);
                for record in rest.extract_if(.., is_over) {
                    self.expiry.give_up(record.ticket);
                }
                continue;
            };
            let later = rest.split_off(lease.messages.min(rest.len()));
            let piece = Chunk {
                records: std::mem::replace(&mut rest, later),
                read_took: std::mem::take(&mut read_took),
            };
            let how = offload::Sealing::Encrypted(lease.writer);
            let job = self.pool.seal(piece, how, received).await;
            self.sealed.send(job).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// Single records, as callers put them, are sealed together where several wait: a job each would cost more
/// than its work.
pub(super) async fn next_chunk(
    chunks: &mut mpsc::Receiver<Chunk>,
    waiting: &mut Vec<Chunk>,
) -> Option<Chunk> {
    chunks.recv_many(waiting, MOST_TOGETHER).await;
    let mut together = waiting.drain(..);
    let mut first = together.next()?;
    for chunk in together {
        first.read_took += chunk.read_took;
        first.records.extend(chunk.records);
    }
    Some(first)
}
