//! A stream that is not found, and one of its name that is found later: made anew, it numbers its shards from zero again.
//! That an entry landed on the shard that was predicted tells nothing then, until they have been listed anew.

use tokio::time::Instant;

use super::super::routes::WAIT_FOR_LISTING;
use super::{Owner, REFRESH_LOOK};
use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::{Reducer, Routes};
use crate::batch::Batch;
use crate::send::Ordering;

/// The latest that calls have found out, while there is no listing since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absent {
    since: Instant,
    /// Another call since then has found it.
    found: Option<Instant>,
}

impl Owner {
    pub(super) fn not_found(&mut self, now: Instant) {
        self.not_found_at = Some(now);
        self.absent = Some(Absent {
            since: now,
            found: None,
        });
        self.refresh.request();
    }

    pub(super) fn found(&mut self, now: Instant) {
        if self.is_sought_for_long(now)
            && let Some(absent) = &mut self.absent
        {
            absent.found = Some(now);
        }
    }

    /// It has been listed since it was not found, and what is known follows from that.
    pub(super) fn notice_that_it_is_listed(&mut self) {
        let is_listed = |absent: Absent| self.refresh.is_listed_since(absent.since);
        if self.absent.is_some_and(is_listed) && !self.facts.has_changed().unwrap_or(false) {
            self.absent = None;
        }
    }

    /// Nothing goes out by a map that may be another stream's. If no listing comes, single records find out whether the
    /// stream is there, but in ordered mode, where there is no order without shards.
    pub(super) fn waits_for_its_shards(&self, now: Instant) -> bool {
        self.is_sought()
            && (self.delivery.ordering == Ordering::PartitionKey || !self.is_sought_for_long(now))
    }

    /// When to look again.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.waits_for_its_shards(now).then(|| now + REFRESH_LOOK)
    }

    /// Of a batch, a record that is right wherever it lands; the rest waits.
    pub(super) fn seeking(&mut self, batch: Batch, now: Instant) -> Batch {
        if !self.is_sought() {
            return batch;
        }
        let (mut probe, mut waiting) = (batch.emptied(), batch.emptied());
        let mut entries = batch.into_entries().into_iter();
        if let Some(first) = entries.next() {
            let alone = self.first_of(first, now);
            assert!(probe.push(alone).is_ok(), "a part of a batch fits a batch");
        }
        for entry in entries {
            assert!(
                waiting.push(entry).is_ok(),
                "a part of a batch fits a batch"
            );
        }
        if !waiting.is_empty() {
            self.ready.push_front(waiting);
        }
        probe
    }

    fn first_of(&mut self, entry: AggregatedRecord, now: Instant) -> AggregatedRecord {
        if entry.members().len() == 1 {
            return entry;
        }
        let lane = entry.predicted().cloned();
        let mut members = entry.into_members();
        let rest = members.split_off(1);
        let first = members.pop().expect("an entry has members");
        let reducer = self.reducer.as_mut().expect("members come from it");
        let alone = reducer.alone(first, now, now);
        self.put_back(rest, now, now);
        self.lanes.release(&lane);
        alone.into()
    }

    /// It is there and takes records, and no listing comes: all go without the map there was.
    pub(super) fn go_on_without_shards(&mut self, now: Instant) {
        let is_found = self.absent.is_some_and(|absent| absent.found.is_some());
        if !self.is_sought() || !is_found || !self.is_sought_for_long(now) {
            return;
        }
        let reducer = self.reducer.as_mut().expect("it has a map");
        let mut closed = Vec::new();
        reducer.flush(now, &mut closed);
        reducer.adopt(Routes::Unpredictable);
        self.queue(closed);
        self.remake_waiting(now);
    }

    fn is_sought(&self) -> bool {
        let routes = self.reducer.as_ref().map(Reducer::routes);
        self.absent.is_some() && matches!(routes, Some(Routes::Known(_)))
    }

    fn is_sought_for_long(&self, now: Instant) -> bool {
        (self.absent)
            .is_some_and(|absent| now >= absent.found.unwrap_or(absent.since) + WAIT_FOR_LISTING)
    }

    /// Whether it may have members that do not belong on the very shard that was predicted for it.
    pub(super) fn may_be_misplaced_as_predicted(&self, entry: &AggregatedRecord) -> bool {
        if entry.members().len() == 1 || entry.predicted().is_none() {
            return false;
        }
        // Entries from before it was made anew are told by their members alone.
        let reducer = self.reducer.as_ref().expect("entries come from it");
        self.absent.is_some() || !reducer.is_for_its_own_shards(entry)
    }
}
