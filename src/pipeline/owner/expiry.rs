//! `delivery.record_ttl`: what could not be stored in time is given up, wherever it waits.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Misplaced, Owner};
use crate::aggregate::AggregatedRecord;
use crate::batch::Batch;
use crate::delivery::FailReason;
use crate::send::CallError;

/// Between two looks at all that waits, at most.
const LONGEST_SWEEP: Duration = Duration::from_millis(200);

impl Owner {
    /// Passes an entry on, or gives up those of its members whose time is over.
    pub(super) fn unless_expired(
        &mut self,
        entry: AggregatedRecord,
        now: Instant,
    ) -> Option<AggregatedRecord> {
        match self.delivery.record_ttl {
            Some(ttl) if earliest(&entry) + ttl <= now => {
                let lane = entry.predicted().cloned();
                self.expire(entry, ttl, now);
                self.lanes.release(&lane);
                None
            }
            _ => Some(entry),
        }
    }

    /// Members whose time is over are given up; the others are aggregated anew.
    pub(super) fn expire(&mut self, entry: AggregatedRecord, ttl: Duration, now: Instant) {
        let last = entry.last_refusal.clone();
        let members = entry.into_members().into_iter();
        let (over, kept): (Vec<_>, Vec<_>) =
            members.partition(|member| member.tickets().born() + ttl <= now);
        for member in over {
            let last = last.clone().unwrap_or_else(|| match member.attempts() {
                0 => "none, it was never sent".to_owned(),
                _ => "none since it was aggregated anew".to_owned(),
            });
            self.give_up(member, FailReason::Expired { last });
        }
        self.put_back(kept, now, now);
    }

    /// Gives up what waits in lanes and is over: it would take the tokens that others need, and be thrown away then.
    pub(super) fn expire_waiting(&mut self, now: Instant) {
        let Some(ttl) = self.delivery.record_ttl else {
            return;
        };
        if self.next_sweep > now {
            return;
        }
        self.next_sweep = now + (ttl / 10).min(LONGEST_SWEEP);
        let is_over = |entry: &AggregatedRecord| earliest(entry) + ttl <= now;
        for entry in self.lanes.take_where(is_over) {
            self.expire(entry, ttl, now);
        }
        // Stored, but where readers drop it, as far as is known.
        let is_late = |misplaced: &mut Misplaced| is_over(&misplaced.entry);
        let late: Vec<_> = self.misplaced.extract_if(.., is_late).collect();
        for Misplaced { entry, .. } in late {
            self.observe_misplaced(&entry);
            let lane = entry.predicted().cloned();
            self.expire(entry, ttl, now);
            self.lanes.release(&lane);
        }
        // While calls hang, batches wait for each other.
        let mut waiting = std::mem::take(&mut self.ready);
        let collecting = self.collecting.emptied();
        let collecting = std::mem::replace(&mut self.collecting, collecting);
        for batch in waiting.drain(..) {
            if let Some(batch) = self.without_what_is_over(batch, ttl, now) {
                self.ready.push_back(batch);
            }
        }
        if let Some(batch) = self.without_what_is_over(collecting, ttl, now) {
            assert!(self.collecting.is_empty(), "nothing is collected meanwhile");
            self.collecting = batch;
        }
    }

    /// A batch without the entries in which a record is over, if others are in it.
    fn without_what_is_over(&mut self, batch: Batch, ttl: Duration, now: Instant) -> Option<Batch> {
        let is_over = |entry: &AggregatedRecord| earliest(entry) + ttl <= now;
        if !batch.entries().iter().any(is_over) {
            return (!batch.is_empty()).then_some(batch);
        }
        let mut kept = batch.emptied();
        for entry in batch.into_entries() {
            if let Some(entry) = self.unless_expired(entry, now) {
                assert!(kept.push(entry).is_ok(), "a part of a batch fits a batch");
            }
        }
        (!kept.is_empty()).then_some(kept)
    }

    /// An outage may outlast the time that records have: gives up those among the waiting batches.
    pub(super) fn expire_ready(&mut self, error: &CallError, now: Instant) {
        let Some(ttl) = self.delivery.record_ttl else {
            return;
        };
        let batches = std::mem::take(&mut self.ready);
        self.ready = self.unexpired(batches, ttl, error, now);
        if let Some(outage) = &mut self.outage {
            let suspects = std::mem::take(&mut outage.suspects);
            let suspects = self.unexpired(suspects, ttl, error, now);
            let outage = self.outage.as_mut().expect("looked at just now");
            outage.suspects = suspects;
        }
    }

    pub(super) fn unexpired(
        &mut self,
        batches: VecDeque<Batch>,
        ttl: Duration,
        error: &CallError,
        now: Instant,
    ) -> VecDeque<Batch> {
        let mut unexpired = VecDeque::new();
        for mut batch in batches {
            for entry in batch.entries_mut() {
                entry.last_refusal = Some(error.to_string());
            }
            unexpired.extend(self.without_what_is_over(batch, ttl, now));
        }
        unexpired
    }
}

/// When the first of its records was read.
pub(super) fn earliest(entry: &AggregatedRecord) -> Instant {
    let born = entry.members().iter().map(|member| member.tickets().born());
    born.min().expect("an entry has a member")
}
