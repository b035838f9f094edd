//! A stream that is not found, and one of its name that is found later: made anew, it numbers its shards from zero again.
//! That an entry landed on the shard that was predicted tells nothing then, until they have been listed anew.

use std::time::Duration;

use tokio::time::Instant;

use super::super::routes::WAIT_FOR_LISTING;
use super::Owner;
use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::Routes;
use crate::send::Ordering;

/// How often it is looked whether there is a listing.
const LOOK: Duration = Duration::from_millis(200);

impl Owner {
    pub(super) fn not_found(&mut self, now: Instant) {
        self.absent_since = Some(now);
        self.refresh.request();
    }

    /// It has been listed since it was not found, and what is known follows from that.
    pub(super) fn notice_that_it_is_there(&mut self) {
        let is_listed = |since| self.refresh.is_listed_since(since);
        if self.absent_since.is_some_and(is_listed) && !self.facts.has_changed().unwrap_or(false) {
            self.absent_since = None;
        }
    }

    /// Nothing goes out by a map that may be another stream's.
    pub(super) fn waits_for_its_shards(&self) -> bool {
        self.absent_since.is_some() && self.has_a_map()
    }

    /// When to look again.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.waits_for_its_shards().then(|| now + LOOK)
    }

    /// No listing comes: records go without the map they had, alone, but in ordered mode, where there is no order without
    /// shards.
    pub(super) fn go_on_without_shards(&mut self, now: Instant) {
        let is_over = |since: Instant| now >= since + WAIT_FOR_LISTING;
        let is_ordered = self.delivery.ordering == Ordering::PartitionKey;
        if is_ordered || !self.has_a_map() || !self.absent_since.is_some_and(is_over) {
            return;
        }
        let reducer = self.reducer.as_mut().expect("it has a map");
        let mut closed = Vec::new();
        reducer.flush(now, &mut closed);
        reducer.adopt(Routes::Unpredictable);
        self.queue(closed);
        self.remake_waiting(now);
    }

    /// Whether it may have members that do not belong on the very shard that was predicted for it.
    pub(super) fn may_be_misplaced_as_predicted(&self, entry: &AggregatedRecord) -> bool {
        if entry.members().len() == 1 || entry.predicted().is_none() {
            return false;
        }
        self.absent_since.is_some() || !self.is_made_for_its_shards(entry)
    }

    /// Entries from before it was made anew are told by their members alone.
    fn is_made_for_its_shards(&self, entry: &AggregatedRecord) -> bool {
        (self.reducer.as_ref()).is_none_or(|reducer| reducer.is_for_its_own_shards(entry))
    }

    fn has_a_map(&self) -> bool {
        let routes = self.reducer.as_ref().map(|reducer| reducer.routes());
        matches!(routes, Some(Routes::Known(_)))
    }
}
