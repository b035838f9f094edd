//! What was made for a stream that has changed since: found out when it is stored, or before it is sent.

use tokio::time::Instant;

use super::Owner;
use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::Routes;
use crate::batch::{Batch, Limits};
use crate::record::HashKey;

impl Owner {
    /// What is collected goes as it is.
    pub(super) fn adopt_limits(&mut self, limits: Limits) {
        if self.limits == limits {
            return;
        }
        let collected = std::mem::replace(&mut self.collecting, Batch::new(limits.clone()));
        if !collected.is_empty() {
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

    fn remake(&mut self, entry: AggregatedRecord, now: Instant) {
        self.lanes.release(&entry.predicted().cloned());
        let reducer = self.reducer.as_mut().expect("entries come from it");
        let mut closed = Vec::new();
        for member in entry.into_members() {
            reducer.push(member, now, now, &mut closed);
        }
        self.queue(closed);
    }
}
