//! Block scope: records are routed, packed per shard by the owner, and sealed block by block.
//!
//! ```text
//! chunks ─► route ─routed─► owner's Packer ─closed blocks─► BlockSealing (key, pool) ─sealed─► owner
//! ```
//!
//! A block never mixes records of different shards. Its bytes never change once it is sealed: a retry sends
//! the same message.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Observer;
use super::sealing::{Expiry, next_chunk};
use crate::aggregate::reducer::{Closed, Reducer, Routes};
use crate::delivery::Tickets;
use crate::seal::block::Packing;
use crate::seal::keyring::Keyring;
use crate::seal::message::Writer;
use crate::seal::offload::{SealPool, SealedChunk};
use crate::seal::{PackedBlock, Route, RoutedRecord, SealedRecord};
use crate::source::Chunk;

/// A chunk's records, routed and still plain.
#[derive(Debug)]
pub(super) struct RoutedChunk {
    pub(super) records: Vec<RoutedRecord>,
    pub(super) plain_bytes: u64,
    pub(super) read_took: Duration,
}

/// Resolves where records go. Ends when the chunks end or the owner is gone.
pub(super) async fn route(mut chunks: mpsc::Receiver<Chunk>, routed: mpsc::Sender<RoutedChunk>) {
    let mut waiting = Vec::new();
    while let Some(chunk) = next_chunk(&mut chunks, &mut waiting).await {
        let plain_bytes = chunk.records.iter().map(|r| r.data.len() as u64).sum();
        let records = chunk.records.into_iter().map(|record| RoutedRecord {
            data: record.data,
            route: Route::of(record.key),
            ticket: record.ticket,
        });
        let chunk = RoutedChunk {
            records: records.collect(),
            plain_bytes,
            read_took: chunk.read_took,
        };
        if routed.send(chunk).await.is_err() {
            return;
        }
    }
}

/// The owner's part: plain records waiting for their block to fill.
#[derive(Debug)]
pub(super) struct Packer {
    max_size: usize,
    linger: Duration,
    /// `None` when nothing more will come.
    routed: Option<mpsc::Receiver<RoutedChunk>>,
    /// `None` when nothing more will be sealed.
    blocks: Option<mpsc::UnboundedSender<Closed<RoutedRecord>>>,
    /// `None` until the first shard map.
    reducer: Option<Reducer<RoutedRecord>>,
    observer: Option<Arc<dyn Observer>>,
}

impl Packer {
    pub(super) fn new(
        max_size: usize,
        linger: Duration,
        routed: mpsc::Receiver<RoutedChunk>,
        blocks: mpsc::UnboundedSender<Closed<RoutedRecord>>,
    ) -> Self {
        Self {
            max_size,
            linger,
            routed: Some(routed),
            blocks: Some(blocks),
            reducer: None,
            observer: None,
        }
    }

    /// Somebody is told of each block.
    pub(super) fn observed(self, observer: Option<Arc<dyn Observer>>) -> Self {
        Self { observer, ..self }
    }

    /// The next chunk; `None`: there will be no more. Pending until there is a shard map, and after the
    /// end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<RoutedChunk> {
        match &mut self.routed {
            Some(routed) if self.reducer.is_some() => routed.recv().await,
            _ => std::future::pending().await,
        }
    }

    /// New routes close what is open; the same ones again close nothing.
    pub(super) fn adopt(&mut self, routes: Routes, now: Instant) {
        if (self.reducer.as_ref()).is_some_and(|reducer| *reducer.routes() == routes) {
            return;
        }
        self.flush(now);
        match &mut self.reducer {
            Some(reducer) => reducer.adopt(routes),
            None => {
                let reducer = Reducer::new(Some(self.max_size), routes);
                self.reducer = Some(reducer.for_any_shard());
            }
        }
    }

    pub(super) fn pack(&mut self, chunk: RoutedChunk, now: Instant) {
        let reducer = self
            .reducer
            .as_mut()
            .expect("chunks are taken only with a map");
        let mut closed = Vec::new();
        for record in chunk.records {
            let deadline = record.ticket.born() + self.linger;
            // A block of its own: all that is in it has one fate.
            let is_doomed = record.ticket.doom().is_some();
            if is_doomed {
                reducer.flush(now, &mut closed);
            }
            reducer.push(record, deadline, now, &mut closed);
            if is_doomed {
                reducer.flush(now, &mut closed);
            }
        }
        self.hand_over(closed);
    }

    pub(super) fn close_due(&mut self, now: Instant) {
        let mut closed = Vec::new();
        if let Some(reducer) = &mut self.reducer {
            reducer.close_due(now, &mut closed);
        }
        self.hand_over(closed);
    }

    pub(super) fn flush(&mut self, now: Instant) {
        let mut closed = Vec::new();
        if let Some(reducer) = &mut self.reducer {
            reducer.flush(now, &mut closed);
        }
        self.hand_over(closed);
    }

    /// Nothing more comes: what is open is closed, and the sealing ends with it.
    pub(super) fn end(&mut self, now: Instant) {
        self.flush(now);
        self.routed = None;
        self.blocks = None;
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.reducer.as_ref().and_then(Reducer::next_deadline)
    }

    fn hand_over(&self, closed: Vec<Closed<RoutedRecord>>) {
        for block in closed {
            if let (Some(observer), Some(trigger)) = (&self.observer, block.trigger) {
                observer.gathered(trigger, block.members.len());
            }
            let blocks = self.blocks.as_ref().expect("open until the end");
            // Its receiver only ends with us or by a panic, which drops the tickets as abandoned.
            let _ = blocks.send(block);
        }
    }
}

/// Seals blocks, in order: one use of the data key each.
#[derive(Debug)]
pub(super) struct BlockSealing {
    pub(super) keyring: Arc<Keyring>,
    pub(super) packing: Packing,
    pub(super) pool: SealPool,
    pub(super) sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
    pub(super) expiry: Expiry,
}

impl BlockSealing {
    /// Blocks sealed by one job at most: their keys are derived side by side, and each is work enough for a
    /// thread, so that no more than these wait for one of them.
    const TOGETHER: usize = 8;

    /// Ends when the blocks end or the owner is gone.
    pub(super) async fn run(self, mut blocks: mpsc::UnboundedReceiver<Closed<RoutedRecord>>) {
        let mut waiting = Vec::new();
        while blocks.recv_many(&mut waiting, Self::TOGETHER).await > 0 {
            while !waiting.is_empty() {
                let sizes: Vec<_> = waiting.iter().map(|b| b.layout.wire_len()).collect();
                let tickets = waiting
                    .iter()
                    .filter(|b| is_told(b))
                    .flat_map(|b| &b.members);
                let until = self.expiry.next(tickets.map(|record| &record.ticket));
                let lease = (self.expiry).lease_at_last(&self.keyring, &sizes, until);
                let Some(lease) = lease.await else {
                    self.expire(&mut waiting);
                    continue;
                };
                let later = waiting.split_off(lease.messages.min(waiting.len()));
                let together = std::mem::replace(&mut waiting, later);
                let packing = self.packing;
                let seal = move || seal_blocks(together, packing, &lease.writer);
                if self.sealed.send(self.pool.run(seal).await).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl BlockSealing {
    /// Gives up the blocks in which a record is over, as a whole: none is packed anew.
    fn expire(&self, blocks: &mut Vec<Closed<RoutedRecord>>) {
        let now = Instant::now();
        let is_over = |block: &mut Closed<RoutedRecord>| {
            let mut members = block.members.iter();
            is_told(block) && members.any(|record| self.expiry.is_over(&record.ticket, now))
        };
        for block in blocks.extract_if(.., is_over) {
            for record in block.members {
                self.expiry.give_up(record.ticket);
            }
        }
    }
}

/// Whether somebody is told of each record in it. Others have to wait.
fn is_told(block: &Closed<RoutedRecord>) -> bool {
    block
        .members
        .iter()
        .all(|record| record.ticket.has_caller())
}

/// Packs, compresses and seals, on whichever thread.
fn seal_blocks(
    blocks: Vec<Closed<RoutedRecord>>,
    packing: Packing,
    writer: &Writer,
) -> SealedChunk {
    let closed_at = blocks.iter().map(|block| block.closed_at).min();
    let packed = blocks.into_iter().map(|block| pack(block, packing));
    let records = SealedRecord::encrypt_blocks(writer, packed.collect());
    SealedChunk {
        sealed_bytes: records.iter().map(|r| r.data().len() as u64).sum(),
        // Counted when they were routed.
        plain_bytes: 0,
        read_took: Duration::ZERO,
        seal_took: closed_at.map_or(Duration::ZERO, |at| at.elapsed()),
        is_replayed: false,
        records,
    }
}

fn pack(block: Closed<RoutedRecord>, packing: Packing) -> PackedBlock {
    let data = block.members.iter().map(|m| &m.data[..]);
    let bytes = packing.pack(&block.layout, data);
    let mut members = block.members.into_iter();
    let first = members.next().expect("a block has a member");
    let mut tickets = Tickets::one(first.ticket);
    for member in members {
        tickets.join(member.ticket);
    }
    PackedBlock {
        bytes,
        route: first.route,
        tickets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{MemoryBudget, Ticket};
    use crate::record::RecordKey;
    use crate::shard::map::tests::even;

    #[test]
    fn routes_close_open_blocks_only_where_they_are_new() {
        let (_routed, routed) = mpsc::channel(1);
        let (tx, mut blocks) = mpsc::unbounded_channel();
        let now = Instant::now();
        let mut packer = Packer::new(1000, Duration::from_secs(1), routed, tx);
        let known = |shards| Routes::Known(Arc::new(even(shards)));
        packer.adopt(known(2), now);
        let memory = MemoryBudget::new(1000).try_reserve(1).unwrap();
        let record = RoutedRecord {
            data: "data".into(),
            route: Route::of(RecordKey::Any),
            ticket: Ticket::for_caller(now, memory).0,
        };
        let chunk = RoutedChunk {
            records: vec![record],
            plain_bytes: 4,
            read_took: Duration::ZERO,
        };
        packer.pack(chunk, now);
        packer.adopt(known(2), now);
        assert!(blocks.try_recv().is_err());
        packer.adopt(known(3), now);
        assert_eq!(blocks.try_recv().unwrap().members.len(), 1);
    }
}
