//! What was made for a stream that has changed since: found out when it is stored, or before it is sent.

use tokio::time::Instant;

use super::super::lanes::LaneId;
use super::Owner;
use crate::aggregate::reducer::{Reducer, Routes};
use crate::aggregate::{AggregatedRecord, Trigger};
use crate::batch::{Batch, Limits};
use crate::record::HashKey;
use crate::seal::SealedRecord;
use crate::send::Ordering;

impl Owner {
    /// What is collected goes as it is.
    pub(super) fn adopt_limits(&mut self, limits: Limits) {
        if self.limits == limits {
            return;
        }
        let collected = std::mem::replace(&mut self.collecting, Batch::new(limits.clone()));
        if !collected.is_empty() {
            self.observe_collected(Trigger::Asked, &collected);
            self.ready.push_back(collected);
        }
        self.limits = limits;
    }

    /// The routes by which an entry with this hash key does belong on this shard, if they are the present ones.
    pub(super) fn routes_that_predict(&self, hash_key: HashKey, shard: &str) -> Option<Routes> {
        let routes = self.reducer.as_ref()?.routes();
        match routes {
            Routes::Known(map) if map.predict(hash_key).id.as_str() == shard => {
                Some(routes.clone())
            }
            Routes::Known(_) | Routes::Unpredictable | Routes::Auto => None,
        }
    }

    /// What of a batch may go as it is; the rest is made anew, and goes with what is collected. Asked last before
    /// sending, so that no way to a batch, from a lane, a retry or an outage, can be forgotten.
    pub(super) fn remake_unsuited(&mut self, batch: Batch, now: Instant) -> Batch {
        let reducer = self.reducer.as_ref().expect("entries come from it");
        if batch.entries().iter().all(|entry| reducer.suits(entry)) {
            return batch;
        }
        let mut suited = batch.emptied();
        for entry in batch.into_entries() {
            let reducer = self.reducer.as_ref().expect("entries come from it");
            if reducer.suits(&entry) {
                assert!(suited.push(entry).is_ok(), "a part of a batch fits a batch");
            } else {
                self.remake(entry, now);
            }
        }
        while let Some(entry) = self.lanes.pop(now) {
            self.collect(entry, now);
        }
        suited
    }

    /// An entry that was given by its lane goes again, by the routes there are.
    pub(super) fn remake(&mut self, entry: AggregatedRecord, now: Instant) {
        let lane = entry.predicted().cloned();
        self.put_back(entry.into_members(), now, now);
        self.lanes.release(&lane);
    }

    /// What waits for shards that are no more, in its order: before anything that comes later is routed.
    pub(super) fn remake_waiting(&mut self, now: Instant) {
        let Some(reducer) = &mut self.reducer else {
            return;
        };
        let mut closed = Vec::new();
        for entry in self.lanes.take_where(|entry| !reducer.suits(entry)) {
            for member in entry.into_members() {
                reducer.push(member, now, now, &mut closed);
            }
        }
        self.queue(closed);
    }

    /// Whether an entry may as well go to another shard. In ordered mode it would have to go in single records.
    pub(super) fn may_go_elsewhere(&self, entry: &AggregatedRecord) -> bool {
        self.delivery.ordering == Ordering::None && entry.is_for_any() && self.is_elsewhere()
    }

    /// Whether there is a shard that takes something: else all would go round and round.
    fn is_elsewhere(&self) -> bool {
        match self.reducer.as_ref().map(Reducer::routes) {
            Some(Routes::Known(map)) => self.lanes.are_some_alive(map.shards().len()),
            _ => false,
        }
    }

    /// What waits for shards that take nothing, and may go elsewhere, does: it would hold the memory that records for
    /// other shards need.
    pub(super) fn leave(&mut self, dead: &[LaneId], now: Instant) {
        if self.delivery.ordering != Ordering::None || !self.is_elsewhere() {
            return;
        }
        let leaves = |entry: &AggregatedRecord| {
            let id = entry.predicted().cloned();
            entry.is_for_any() && dead.contains(&id)
        };
        for entry in self.lanes.take_where(leaves) {
            self.put_back(entry.into_members(), now, now);
        }
    }

    /// Members of an entry that had been given by its lane. In ordered mode they go before all that waits, one by one:
    /// an aggregate of them would stand behind what is older than itself and younger than they are.
    pub(super) fn put_back(&mut self, members: Vec<SealedRecord>, deadline: Instant, now: Instant) {
        let reducer = self.reducer.as_mut().expect("members come from it");
        if self.delivery.ordering == Ordering::PartitionKey {
            for member in members.into_iter().rev() {
                let entry = reducer.alone(member, deadline, now);
                self.lanes.push_front(entry.into());
            }
            return;
        }
        let mut closed = Vec::new();
        for member in members {
            reducer.push(member, deadline, now, &mut closed);
        }
        self.queue(closed);
    }
}
