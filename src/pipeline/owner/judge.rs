//! What the owner does with an answer: settles what was stored, and leaves the rest to its neighbours.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::lanes::LaneId;
use super::super::routes::{WAIT_FOR_LISTING, wait_within};
use super::{Answered, Misplaced, Owner};
use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::Routes;
use crate::delivery::{Delivery, FailReason, Ticket};
use crate::metrics::{Counters, Histograms};
use crate::send::{CallOutcome, EntryOutcome, Ordering, is_throttling};
use crate::shard::{ByShard, ShardId};

impl Owner {
    pub(super) fn judge(&mut self, answered: Answered, now: Instant) {
        let Answered {
            batch,
            outcome,
            sent,
            beside,
        } = answered;
        let took = now.saturating_duration_since(sent);
        self.histograms.request.record(took, 1);
        self.observe(&batch, &outcome, sent, now);
        match outcome {
            CallOutcome::Answered(outcomes) => {
                self.window.answered(took, beside);
                self.heal(now);
                self.found(now);
                self.judge_entries(batch.into_entries(), outcomes, now);
            }
            CallOutcome::Failed(error) => self.judge_failed(batch, error, sent, now),
        }
    }

    fn judge_entries(
        &mut self,
        entries: Vec<AggregatedRecord>,
        outcomes: Vec<EntryOutcome>,
        now: Instant,
    ) {
        let mut throttled = 0;
        // Lanes with a throttled entry, and whether any other was stored.
        let mut lanes: ByShard<LaneId, bool> = ByShard::default();
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            if outcome.is_throttled() {
                throttled += 1;
                lanes.entry(entry.predicted().cloned()).or_insert(false);
            }
        }
        self.notice_throttling(throttled, now);
        for (entry, outcome) in entries.iter().zip(&outcomes) {
            let id = entry.lane();
            // Other refusals tell nothing of the shard.
            let throttled = outcome.is_throttled();
            if throttled || matches!(outcome, EntryOutcome::Stored { .. }) {
                self.lanes.answered(id, entry.size(), throttled, now);
            }
            if let Some(stored) = lanes.get_mut(id) {
                *stored |= matches!(outcome, EntryOutcome::Stored { .. });
            }
        }
        let mut dead: Vec<LaneId> = Vec::new();
        let mut entries = entries.into_iter();
        for outcome in outcomes {
            let Some(entry) = entries.next() else {
                break;
            };
            if let Some(next) = entries.as_slice().first() {
                next.bring_members();
            }
            match outcome {
                EntryOutcome::Stored { shard, sequence } => {
                    self.stored(entry, shard, sequence, now);
                }
                EntryOutcome::Refused { code, message }
                    if self.delivery.fail_if_throttled && is_throttling(&code) =>
                {
                    self.give_up_entry(entry, &FailReason::Refused { code, message });
                }
                EntryOutcome::Refused { code, message } => {
                    let id = entry.predicted().cloned();
                    let until = match lanes.get(&id) {
                        // The shard took nothing: it is left in peace, and all that is for it waits.
                        Some(false) if id.is_some() => {
                            let backoff = &mut self.backoff;
                            let until = self.lanes.hold(&id, |time| backoff.delay_after(time), now);
                            if self.lanes.is_dead(&id) {
                                if !dead.contains(&id) {
                                    dead.push(id.clone());
                                }
                                // None has to wait for the shard: another one will ask.
                                if self.may_go_elsewhere(&entry) {
                                    Counters::add(&self.counters.entries_retried, 1);
                                    self.remake(entry, now);
                                    continue;
                                }
                            }
                            until
                        }
                        _ => now + self.backoff.delay(entry.attempts),
                    };
                    self.retry(entry, until, format!("{code}: {message}"), now);
                }
            }
        }
        if !dead.is_empty() {
            self.leave(&dead, now);
        }
    }

    pub(super) fn stored(
        &mut self,
        entry: AggregatedRecord,
        shard: Arc<str>,
        sequence: Arc<str>,
        now: Instant,
    ) {
        let as_predicted = entry.predicted().is_none_or(|p| p.as_str() == &*shard);
        if !as_predicted || self.may_be_misplaced_as_predicted(&entry) {
            // A map that was read since may predict just this; then it is not the one that is wrong.
            let explained_by = match self.absent {
                None => self.routes_that_predict(entry.hash_key(), &shard),
                Some(_) => None,
            };
            let is_alone = entry.members().len() == 1;
            // Nor is one that waits to be adopted.
            let is_outdated = is_alone && self.facts.has_changed().unwrap_or(false);
            if explained_by.is_none() && !is_outdated {
                self.refresh.request();
            }
            if !is_alone {
                let misplaced = Misplaced {
                    at: now,
                    entry,
                    shard: ShardId::new(&shard),
                    sequence,
                };
                match explained_by {
                    Some(routes) => self.settle_misplaced(vec![misplaced], &routes, now),
                    None => {
                        self.unlisted_since.get_or_insert(now);
                        self.misplaced.push(misplaced);
                    }
                }
                return;
            }
        }
        self.settle_stored(entry, shard, sequence, now);
    }

    /// The map tells whether what was stored on an unexpected shard belongs there after all. Where there is none
    /// any more, nobody can tell, and it is sent again.
    pub(super) fn settle_misplaced(
        &mut self,
        misplaced: Vec<Misplaced>,
        routes: &Routes,
        now: Instant,
    ) {
        for Misplaced {
            at,
            entry,
            shard,
            sequence,
        } in misplaced
        {
            // A stream that was gone since then, and made anew, gives the name to another range.
            let may_be_another = self.not_found_at.is_some_and(|gone| gone >= at);
            let range = match routes {
                Routes::Known(map) if !may_be_another => map.find(shard.as_str()),
                Routes::Known(_) | Routes::Unpredictable | Routes::Auto => None,
            };
            if range.is_some_and(|range| entry.belongs_on(range)) {
                self.settle_stored(entry, shard.to_shared(), sequence, now);
                continue;
            }
            // The KCL would drop the whole aggregate: all members again, for their right shards.
            self.observe_misplaced(&entry);
            let lane = entry.predicted().cloned();
            self.put_back(entry.into_members(), now + self.linger, now);
            self.lanes.release(&lane);
        }
    }

    /// How long what may be misplaced waits for a listing: records with a time to live not for all of it.
    pub(super) fn wait_for_listing(&self) -> Duration {
        let ttl = self.delivery.record_ttl;
        ttl.map_or(WAIT_FOR_LISTING, wait_within)
    }

    /// No listing comes that tells where the shards are now. A shard that is not in the map came of a reshard: what may
    /// go anywhere was led there by its own hash key, and is where it belongs, unless the service distributes by itself
    /// by now; so it waits until the stream has been described, but in ordered mode, where others wait for it. All else
    /// goes again, record by record: alone it is right wherever it lands, and is not misplaced once more.
    pub(super) fn go_on_unlisted(&mut self, now: Instant) {
        let wait = self.wait_for_listing();
        let is_waiting = |since: Instant| now < since + wait;
        // What there is by now is adopted first.
        let is_told = self.facts.has_changed().unwrap_or(false);
        if is_told || self.unlisted_since.is_none_or(is_waiting) {
            return;
        }
        for misplaced in std::mem::take(&mut self.misplaced) {
            let reducer = self.reducer.as_ref().expect("entries come from it");
            let is_new = match reducer.routes() {
                Routes::Known(map) => map.find(misplaced.shard.as_str()).is_none(),
                Routes::Unpredictable | Routes::Auto => false,
            };
            let is_at_home = is_new && misplaced.entry.is_for_any();
            let is_described = self.refresh.is_described_since(misplaced.at);
            let may_wait = self.delivery.ordering == Ordering::None && now < misplaced.at + wait;
            if is_at_home && !is_described && may_wait {
                self.misplaced.push(misplaced);
                continue;
            }
            let Misplaced {
                entry,
                shard,
                sequence,
                ..
            } = misplaced;
            if is_at_home && is_described {
                self.settle_stored(entry, shard.to_shared(), sequence, now);
                continue;
            }
            self.observe_misplaced(&entry);
            let lane = entry.predicted().cloned();
            let members = entry.into_members();
            if self.delivery.ordering == Ordering::PartitionKey {
                // Record by record too.
                self.put_back(members, now, now);
            } else {
                let reducer = self.reducer.as_mut().expect("entries come from it");
                let alone = members.into_iter().map(|m| reducer.alone(m, now, now));
                let alone = alone.collect();
                self.queue(alone);
            }
            self.lanes.release(&lane);
        }
    }

    pub(super) fn settle_stored(
        &mut self,
        entry: AggregatedRecord,
        shard: Arc<str>,
        sequence: Arc<str>,
        now: Instant,
    ) {
        Counters::add(&self.counters.entries_stored, 1);
        Counters::add(&self.counters.bytes_stored, entry.size() as u64);
        self.lanes.release(entry.lane());
        Counters::add(&self.counters.stored, entry.user_records());
        for member in entry.into_members() {
            let attempts = member.attempts();
            for ticket in member.into_tickets() {
                if let Err(of_caller) = self.to_tell.take(ticket) {
                    time(&mut self.histograms, &of_caller, now);
                    of_caller.settle(&Delivery::Stored {
                        shard: Arc::clone(&shard),
                        sequence: Arc::clone(&sequence),
                        attempts,
                    });
                }
            }
        }
    }

    /// Tells sources what was stored since it was last done.
    pub(super) fn tell_sources(&mut self, now: Instant) {
        let histograms = &mut self.histograms;
        self.to_tell.settle(|ticket| time(histograms, ticket, now));
    }
}

/// How long they took.
fn time(histograms: &mut Histograms, stored: &Ticket, now: Instant) {
    let latency = now.saturating_duration_since(stored.born());
    let records = u64::from(stored.records());
    histograms.line_to_stored.record(latency, records);
}
