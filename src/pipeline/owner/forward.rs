//! The way forward: sealed records into aggregates, aggregates into batches, batches on their way.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Answered, LATE_SHARE, Owner};
use crate::aggregate::reducer::Closed;
use crate::aggregate::{AggregatedRecord, Trigger};
use crate::batch::{Batch, Full, Refused, TooLarge};
use crate::metrics::Counters;
use crate::pipeline::blocks::RoutedChunk;
use crate::record::PartitionKey;
use crate::seal::SealedRecord;
use crate::seal::offload::SealedChunk;
use crate::send::{CallError, CallOutcome};
use crate::shard::ShardMap;

/// What they need of the cache is a small part of the second level's.
const PREPARED_AT_ONCE: usize = 64;

impl Owner {
    pub(super) fn take_in(&mut self, chunk: SealedChunk, now: Instant) {
        if self.reducer.is_none() {
            self.early = Some(chunk);
            return;
        }
        if !chunk.is_replayed {
            self.measure(&chunk);
        }
        let mut closed = Vec::new();
        let mut records = chunk.records.into_iter();
        while !records.as_slice().is_empty() {
            let reducer = self.reducer.as_ref().expect("taken in only with a map");
            let next = records.as_slice();
            reducer.prepare(&next[..next.len().min(PREPARED_AT_ONCE)]);
            for record in records.by_ref().take(PREPARED_AT_ONCE) {
                self.gather(record, now, &mut closed);
            }
        }
        self.queue(closed);
    }

    fn measure(&mut self, chunk: &SealedChunk) {
        if self.packer.is_none() {
            self.histograms.read.record(chunk.read_took, 1);
        }
        let records = chunk.user_records();
        self.histograms.seal.record(chunk.seal_took, records);
        Counters::add(&self.counters.plain_bytes, chunk.plain_bytes);
        Counters::add(&self.counters.sealed_bytes, chunk.sealed_bytes);
    }

    /// Into the aggregate that is open for it, unless it is not to be stored, or is larger than any record may be.
    fn gather(
        &mut self,
        record: SealedRecord,
        now: Instant,
        closed: &mut Vec<Closed<SealedRecord>>,
    ) {
        if let Some(reason) = record.tickets().doom().cloned() {
            self.give_up(record, reason);
            return;
        }
        // Its own or, in an entry of its own, one that is drawn.
        let key_len =
            (record.route().partition_key()).map_or(ShardMap::SPREAD_KEY_LEN, PartitionKey::len);
        if let Err(reason) = self.limits.check_bytes(record.data().len() + key_len) {
            self.give_up(record, reason);
            return;
        }
        let deadline = record.tickets().born() + self.linger;
        let reducer = self.reducer.as_mut().expect("taken in only with a map");
        reducer.push(record, deadline, now, closed);
    }

    pub(super) fn pack(&mut self, routed: Option<RoutedChunk>, now: Instant) {
        let packer = self
            .packer
            .as_mut()
            .expect("only a packer gives routed chunks");
        match routed {
            Some(chunk) => {
                self.histograms.read.record(chunk.read_took, 1);
                Counters::add(&self.counters.plain_bytes, chunk.plain_bytes);
                packer.pack(chunk, now);
            }
            None => packer.end(now),
        }
    }

    pub(super) fn close_blocks(&mut self, now: Instant) {
        let hurry = !self.flushes.is_empty();
        match &mut self.packer {
            Some(packer) if hurry => packer.flush(now),
            Some(packer) => packer.close_due(now),
            None => {}
        }
    }

    pub(super) fn close_aggregates(&mut self, now: Instant) {
        let Some(reducer) = &mut self.reducer else {
            return;
        };
        let mut closed = Vec::new();
        if self.draining || !self.flushes.is_empty() {
            reducer.flush(now, &mut closed);
        } else {
            reducer.close_due(now, &mut closed);
        }
        self.queue(closed);
    }

    pub(super) fn queue(&mut self, closed: Vec<Closed<SealedRecord>>) {
        self.observe_gathered(&closed);
        for entry in self.encoder.encode(closed) {
            self.lanes.push(entry);
        }
    }

    /// Puts an entry into the batch that is being filled.
    pub(super) fn collect(&mut self, entry: AggregatedRecord, now: Instant) {
        let Some(entry) = self.unless_expired(entry, now) else {
            return;
        };
        if self.collecting.is_empty() {
            self.collecting_since = now;
        }
        match self.collecting.push(entry) {
            Ok(()) => {}
            Err(Refused::Full(Full(entry))) => {
                let full = std::mem::replace(&mut self.collecting, Batch::new(self.limits.clone()));
                let trigger = match full.len() >= self.limits.max_records {
                    true => Trigger::Count,
                    false => Trigger::Size,
                };
                self.observe_collected(trigger, &full);
                self.ready.push_back(full);
                self.collecting_since = now;
                assert!(
                    self.collecting.push(*entry).is_ok(),
                    "an empty batch has room"
                );
            }
            Err(Refused::TooLarge(TooLarge(entry))) => {
                // Aggregates are kept below the limit, and records were measured when they came.
                let reason = self.limits.too_large(entry.size());
                self.give_up_entry(*entry, &reason);
            }
        }
    }

    pub(super) fn send_what_is_due(&mut self, now: Instant) {
        while self.has_slot(now) {
            let batch = match self.ready.pop_front() {
                Some(batch) => batch,
                None if self.collecting_is_due(now) => {
                    let due =
                        std::mem::replace(&mut self.collecting, Batch::new(self.limits.clone()));
                    let trigger = match self.draining || !self.flushes.is_empty() {
                        true => Trigger::Asked,
                        false => Trigger::Time,
                    };
                    self.observe_collected(trigger, &due);
                    due
                }
                None => match self.outage.as_mut().and_then(|o| o.suspects.pop_front()) {
                    Some(suspect) => suspect,
                    None => return,
                },
            };
            let batch = self.remake_unsuited(batch, now);
            let batch = self.seeking(batch, now);
            if batch.is_empty() {
                continue;
            }
            if let Some(outage) = &mut self.outage {
                outage.next_probe = now + self.delivery.request_timeout;
            }
            self.send(batch, now);
        }
    }

    /// When the batch that is being filled should go. While a call is under way it gets a little longer: entries
    /// that come late, because tokens or the CPU were short, would otherwise each make a call of their own.
    pub(super) fn collecting_deadline(&self) -> Option<Instant> {
        let deadline = self.collecting.deadline()?;
        if self.in_flight.is_empty() {
            return Some(deadline);
        }
        Some(deadline.max(self.collecting_since + self.linger / LATE_SHARE))
    }

    /// During an outage one call at a time probes whether it is over.
    fn has_slot(&self, now: Instant) -> bool {
        match &self.outage {
            _ if self.waits_for_its_shards(now) => false,
            None => self.in_flight.len() < self.window.size(),
            Some(outage) => self.in_flight.is_empty() && outage.next_probe <= now,
        }
    }

    fn collecting_is_due(&self, now: Instant) -> bool {
        let hurry = self.draining || !self.flushes.is_empty();
        self.collecting_deadline()
            .is_some_and(|deadline| hurry || deadline <= now)
    }

    fn send(&mut self, mut batch: Batch, now: Instant) {
        for entry in batch.entries_mut() {
            entry.attempts += 1;
            if entry.attempts == 1 {
                let waited = now.saturating_duration_since(entry.opened_at);
                self.histograms
                    .aggregate_wait
                    .record(waited, entry.user_records());
            }
        }
        Counters::add(&self.counters.calls, 1);
        let put_records = Arc::clone(&self.put_records);
        let stream = self.stream.clone();
        let timeout = self.delivery.request_timeout;
        let (connections, beside) = (self.connections.clone(), self.in_flight.len() + 1);
        self.in_flight.spawn(async move {
            // Its time runs from when it may go.
            let (_turn, sent) = match connections.one().await {
                None => (None, now),
                turn => (turn, Instant::now()),
            };
            let call = put_records.put_records(&stream, &batch);
            let outcome = tokio::time::timeout(timeout, call).await;
            let outcome = outcome.unwrap_or_else(|_| {
                CallOutcome::Failed(CallError {
                    code: "Timeout".to_owned(),
                    message: format!("no answer within delivery.request_timeout, {timeout:?}"),
                    status: None,
                })
            });
            Answered {
                batch,
                outcome,
                sent,
                beside,
            }
        });
    }
}
