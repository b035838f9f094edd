//! What was not stored: sent again, split, kept for later, or given up.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::expiry::earliest;
use super::{Owner, Waiting};
use crate::aggregate::AggregatedRecord;
use crate::batch::{Batch, Full, Refused, TooLarge};
use crate::deadletter::DeadRecord;
use crate::delivery::{Delivery, FailReason};
use crate::metrics::Counters;
use crate::retry::{Class, Verdict, judge};
use crate::seal::SealedRecord;
use crate::send::{CallError, Ordering};

impl Owner {
    pub(super) fn judge_failed(
        &mut self,
        batch: Batch,
        error: CallError,
        sent: Instant,
        now: Instant,
    ) {
        Counters::add(&self.counters.calls_failed, 1);
        let verdict = judge(&error.code, error.status, &self.history);
        if matches!(verdict, Verdict::Retry(_)) {
            self.notice_trouble(&error, now);
        }
        tracing::debug!(stream = %self.stream, %error, ?verdict, entries = batch.len(), "call failed");
        match verdict {
            Verdict::Retry(Class::Throttled) if self.delivery.fail_if_throttled => {
                self.window.failed(sent, now);
                self.notice_throttling(batch.len() as u64, now);
                let reason = FailReason::Refused {
                    code: error.code,
                    message: error.message,
                };
                for entry in batch.into_entries() {
                    self.give_up_entry(entry, &reason);
                }
            }
            Verdict::Retry(class) => {
                self.window.failed(sent, now);
                match class {
                    Class::Unknown => Counters::add(&self.counters.calls_unknown, 1),
                    Class::Throttled => {
                        self.notice_throttling(batch.len() as u64, now);
                    }
                    Class::Fault => {}
                }
                // One delay for the whole call: its entries did nothing wrong one by one.
                let attempts = batch.entries().iter().map(|e| e.attempts).min();
                let delay = self.backoff.delay(attempts.unwrap_or(1));
                for entry in batch.into_entries() {
                    self.retry(entry, now + delay, error.to_string(), now);
                }
            }
            Verdict::Outage => {
                if error.code == "ResourceNotFoundException" {
                    self.not_found(now);
                }
                self.declare_outage(&error, now);
                self.ready.push_front(batch);
                self.expire_ready(&error, now);
            }
            Verdict::Isolate | Verdict::Suspect if batch.len() > 1 => {
                self.probe_again_later(&error, now);
                let (head, tail) = batch.split();
                self.ready.push_front(tail);
                self.ready.push_front(head);
            }
            Verdict::Isolate | Verdict::Suspect if batch.entries()[0].members().len() > 1 => {
                self.probe_again_later(&error, now);
                for entry in batch.into_entries() {
                    self.take_apart(entry, now);
                }
            }
            Verdict::Isolate => {
                self.history.refused_alone();
                self.probe_again_later(&error, now);
                let reason = FailReason::Refused {
                    code: error.code,
                    message: error.message,
                };
                for entry in batch.into_entries() {
                    self.give_up_entry(entry, &reason);
                }
            }
            Verdict::Suspect => {
                self.declare_outage(&error, now);
                self.set_aside(batch, &error);
                self.expire_ready(&error, now);
            }
        }
    }

    /// The call was refused for this record alone, as others before it were. Whether others pass is not known before
    /// they are tried: so it makes room for them.
    fn set_aside(&mut self, batch: Batch, error: &CallError) {
        if self.delivery.ordering == Ordering::PartitionKey {
            // In its lane, which it would hold up.
            for mut entry in batch.into_entries() {
                let lane = entry.predicted().cloned();
                entry.last_refusal = Some(error.to_string());
                self.lanes.push_behind(entry);
                self.lanes.release(&lane);
            }
            return;
        }
        let outage = self.outage.as_mut().expect("declared with the refusal");
        outage.suspects.push_back(batch);
    }

    /// The call was refused for this aggregate alone: no other entry can be at fault. Its members go on one by
    /// one, so that a refused one does not take the others with it.
    pub(super) fn take_apart(&mut self, entry: AggregatedRecord, now: Instant) {
        let lane = entry.predicted().cloned();
        let reducer = self.reducer.as_mut().expect("entries come from it");
        let members = entry.into_members().into_iter();
        let alone: Vec<AggregatedRecord> = members
            .map(|member| reducer.alone(member, now, now).into())
            .collect();
        if self.delivery.ordering == Ordering::PartitionKey {
            // One after the other: they wait in front of their lane again.
            for entry in alone.into_iter().rev() {
                self.lanes.push_front(entry);
            }
            self.lanes.release(&lane);
            return;
        }
        for entry in alone {
            // In a batch of its own: one bad member must not need another round of splitting.
            let mut batch = Batch::new(self.limits.clone());
            match batch.push(entry) {
                Ok(()) => self.ready.push_back(batch),
                Err(Refused::TooLarge(TooLarge(entry)) | Refused::Full(Full(entry))) => {
                    let reason = self.limits.too_large(entry.size());
                    self.give_up_entry(*entry, &reason);
                }
            }
        }
        self.lanes.release(&lane);
    }

    pub(super) fn retry(
        &mut self,
        mut entry: AggregatedRecord,
        until: Instant,
        refusal: String,
        now: Instant,
    ) {
        entry.last_refusal = Some(refusal);
        let Some(entry) = self.unless_expired(entry, now) else {
            return;
        };
        let over = self.delivery.record_ttl.map(|ttl| earliest(&entry) + ttl);
        let until = over.map_or(until, |over| until.min(over));
        Counters::add(&self.counters.entries_retried, 1);
        self.retry_number += 1;
        self.retries.push(Reverse(Waiting {
            until,
            number: self.retry_number,
            entry,
        }));
    }

    /// The last word on a record that will not be stored.
    pub(super) fn give_up(&self, record: SealedRecord, reason: FailReason) {
        let attempts = record.attempts();
        let (callers, rest) = record.part();
        for ticket in callers {
            Counters::add(&self.counters.failed, u64::from(ticket.records()));
            ticket.settle(&Delivery::Failed {
                reason: reason.clone(),
                attempts,
            });
        }
        if let Some(record) = rest {
            let letters = self.dead_letters.as_ref();
            letters
                .expect("a pipeline with sources has a dead letter file")
                .bury(DeadRecord {
                    record,
                    reason,
                    attempts,
                });
        }
    }

    pub(super) fn give_up_entry(&mut self, entry: AggregatedRecord, reason: &FailReason) {
        self.lanes.release(entry.lane());
        for member in entry.into_members() {
            self.give_up(member, reason.clone());
        }
    }
}
