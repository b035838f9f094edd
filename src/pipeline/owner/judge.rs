//! What the owner does with an answer: settle, retry, split, wait, or give up.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answered, Misplaced, Outage, Owner, Throttled, Trouble, Waiting};
use crate::aggregate::AggregatedRecord;
use crate::batch::{Batch, Full, Refused, TooLarge};
use crate::delivery::{Delivery, FailReason};
use crate::metrics::Counters;
use crate::retry::{Class, Verdict, judge};
use crate::send::{CallError, CallOutcome, EntryOutcome, Ordering};
use crate::shard::ShardId;

/// The log hears of a lasting outage this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

impl Owner {
    pub(super) fn judge(&mut self, answered: Answered, now: Instant) {
        let Answered {
            batch,
            outcome,
            took,
        } = answered;
        self.histograms.request.record(took, 1);
        match outcome {
            CallOutcome::Answered(outcomes) => {
                self.heal(now);
                let throttled = outcomes.iter().filter(|o| o.is_throttled()).count();
                self.notice_throttling(throttled as u64, now);
                for (entry, outcome) in batch.into_entries().into_iter().zip(outcomes) {
                    self.judge_one(entry, outcome, now);
                }
            }
            CallOutcome::Failed(error) => self.judge_failed(batch, error, now),
        }
    }

    fn judge_one(&mut self, entry: AggregatedRecord, outcome: EntryOutcome, now: Instant) {
        match outcome {
            EntryOutcome::Stored { shard, sequence } => self.stored(entry, shard, sequence, now),
            EntryOutcome::Refused { code, message } => {
                let delay = self.backoff.delay(entry.attempts);
                self.retry(entry, now + delay, format!("{code}: {message}"), now);
            }
        }
    }

    fn stored(
        &mut self,
        entry: AggregatedRecord,
        shard: Arc<str>,
        sequence: Arc<str>,
        now: Instant,
    ) {
        let as_predicted = entry.predicted().is_none_or(|p| p.as_str() == &*shard);
        if !as_predicted {
            // A map that was read since may predict just this; then it is not the one that is wrong.
            let explained_by = self.routes_that_predict(entry.hash_key(), &shard);
            if explained_by.is_none() {
                self.refresh.request();
            }
            if entry.members().len() > 1 {
                self.lanes.release(&entry.predicted().cloned());
                let misplaced = Misplaced {
                    entry,
                    shard: ShardId::new(&shard),
                    sequence,
                };
                match explained_by {
                    Some(routes) => self.settle_misplaced(vec![misplaced], &routes, now),
                    None => self.misplaced.push(misplaced),
                }
                return;
            }
        }
        self.settle_stored(entry, shard, sequence, now);
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
        let delivery = Delivery::Stored {
            shard,
            sequence,
            attempts: entry.attempts,
        };
        self.lanes.release(&entry.predicted().cloned());
        let mut stored = 0;
        // Neighbours mostly come from one chunk and share its clock: one histogram entry for each run.
        let mut run = (now, 0);
        for member in entry.into_members() {
            for ticket in member.into_tickets() {
                let (born, records) = (ticket.born(), u64::from(ticket.records()));
                stored += records;
                if born == run.0 {
                    run.1 += records;
                } else {
                    self.record_latency(run, now);
                    run = (born, records);
                }
                ticket.settle(&delivery);
            }
        }
        self.record_latency(run, now);
        Counters::add(&self.counters.stored, stored);
    }

    fn record_latency(&mut self, (born, records): (Instant, u64), now: Instant) {
        if records > 0 {
            let latency = now.saturating_duration_since(born);
            self.histograms.line_to_stored.record(latency, records);
        }
    }

    fn judge_failed(&mut self, batch: Batch, error: CallError, now: Instant) {
        Counters::add(&self.counters.calls_failed, 1);
        let verdict = judge(&error.code, error.status, &self.history);
        if matches!(verdict, Verdict::Retry(_)) {
            self.notice_trouble(&error, now);
        }
        tracing::debug!(stream = %self.stream, %error, ?verdict, entries = batch.len(), "call failed");
        match verdict {
            Verdict::Retry(class) => {
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
                    self.refresh.request();
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
                self.history.refused_alone(&error.code);
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
                let outage = self.outage.as_mut().expect("declared just now");
                outage.suspects.push_back(batch);
                self.expire_ready(&error, now);
            }
        }
    }

    /// A probe found out something, but not that the outage is over.
    fn probe_again_later(&mut self, error: &CallError, now: Instant) {
        if self.outage.is_some() {
            self.declare_outage(error, now);
        }
    }

    /// The call was refused for this aggregate alone: no other entry can be at fault. Its members go on one by
    /// one, so that a refused one does not take the others with it.
    fn take_apart(&mut self, entry: AggregatedRecord, now: Instant) {
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
                    let (bytes, limit) = (entry.size(), self.limits.max_record_bytes);
                    self.give_up_entry(*entry, &FailReason::TooLarge { bytes, limit });
                }
            }
        }
        self.lanes.release(&lane);
    }

    fn retry(
        &mut self,
        mut entry: AggregatedRecord,
        until: Instant,
        refusal: String,
        now: Instant,
    ) {
        entry.last_refusal = Some(refusal);
        if let Some(ttl) = self.delivery.record_ttl
            && entry
                .members()
                .iter()
                .any(|m| m.tickets().born() + ttl <= now)
        {
            self.expire(entry, ttl, now);
            return;
        }
        Counters::add(&self.counters.entries_retried, 1);
        self.retry_number += 1;
        self.retries.push(Reverse(Waiting {
            until,
            number: self.retry_number,
            entry,
        }));
    }

    /// Passes an entry on, or gives up those of its members whose time is over.
    pub(super) fn unless_expired(
        &mut self,
        entry: AggregatedRecord,
        now: Instant,
    ) -> Option<AggregatedRecord> {
        match self.delivery.record_ttl {
            Some(ttl)
                if entry
                    .members()
                    .iter()
                    .any(|m| m.tickets().born() + ttl <= now) =>
            {
                self.expire(entry, ttl, now);
                None
            }
            _ => Some(entry),
        }
    }

    /// Members whose time is over are given up; the others are aggregated anew.
    fn expire(&mut self, entry: AggregatedRecord, ttl: Duration, now: Instant) {
        let attempts = entry.attempts;
        let last = entry.last_refusal.clone();
        let last = last.unwrap_or_else(|| "none, it was never sent".to_owned());
        self.lanes.release(&entry.predicted().cloned());
        let mut closed = Vec::new();
        for member in entry.into_members() {
            if member.tickets().born() + ttl <= now {
                let last = last.clone();
                self.give_up(member, FailReason::Expired { last }, attempts);
            } else {
                let reducer = self.reducer.as_mut().expect("entries come from it");
                reducer.push(member, now, now, &mut closed);
            }
        }
        self.queue(closed);
    }

    /// An outage may outlast the time that records have: gives up those among the waiting batches.
    fn expire_ready(&mut self, error: &CallError, now: Instant) {
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

    fn unexpired(
        &mut self,
        batches: VecDeque<Batch>,
        ttl: Duration,
        error: &CallError,
        now: Instant,
    ) -> VecDeque<Batch> {
        let mut unexpired = VecDeque::new();
        for batch in batches {
            let mut kept = batch.emptied();
            for mut entry in batch.into_entries() {
                entry.last_refusal = Some(error.to_string());
                if entry
                    .members()
                    .iter()
                    .any(|m| m.tickets().born() + ttl <= now)
                {
                    self.expire(entry, ttl, now);
                } else {
                    assert!(kept.push(entry).is_ok(), "a part of a batch fits a batch");
                }
            }
            if !kept.is_empty() {
                unexpired.push_back(kept);
            }
        }
        unexpired
    }

    fn declare_outage(&mut self, error: &CallError, now: Instant) {
        let probes = self.outage.as_ref().map_or(0, |o| o.probes);
        let delay = self.backoff.delay(probes + 1);
        let outage = self.outage.get_or_insert(Outage {
            since: now,
            probes: 0,
            next_probe: now,
            reminded: now,
            suspects: VecDeque::new(),
        });
        if outage.probes == 0 || now.saturating_duration_since(outage.reminded) >= REMIND_EVERY {
            outage.reminded = now;
            tracing::error!(
                stream = %self.stream, %error, way_out = way_out(&error.code),
                "the stream takes no records: nothing is lost, sources wait, probing"
            );
        }
        outage.probes += 1;
        outage.next_probe = now + delay;
    }

    /// Calls fail that may succeed when tried again: said at once, and each minute while none succeeds.
    fn notice_trouble(&mut self, error: &CallError, now: Instant) {
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            calls: 0,
            said: None,
        });
        trouble.calls += 1;
        if trouble
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= REMIND_EVERY)
        {
            trouble.said = Some(now);
            tracing::warn!(
                stream = %self.stream, %error, calls = trouble.calls,
                "PutRecords fails: nothing is lost, sources wait, it is tried again until it succeeds"
            );
        }
    }

    /// In sums: single throttled entries are daily bread.
    fn notice_throttling(&mut self, entries: u64, now: Instant) {
        Counters::add(&self.counters.entries_throttled, entries);
        self.throttled.entries += entries;
        let due = now.saturating_duration_since(self.throttled.said) >= REMIND_EVERY;
        if self.throttled.entries > 0 && due {
            tracing::warn!(
                stream = %self.stream, entries = self.throttled.entries,
                "entries were throttled since this was last said, and are sent again: if that goes on, add \
                 shards, or see who else writes to the stream"
            );
            self.throttled = Throttled {
                entries: 0,
                said: now,
            };
        }
    }

    fn heal(&mut self, now: Instant) {
        self.history.succeeded();
        if let Some(trouble) = self.trouble.take() {
            let down_for = now.saturating_duration_since(trouble.since);
            tracing::warn!(
                stream = %self.stream, ?down_for, calls = trouble.calls, "PutRecords succeeds again"
            );
        }
        if let Some(outage) = self.outage.take() {
            self.ready.extend(outage.suspects);
            let down_for = now.saturating_duration_since(outage.since);
            tracing::warn!(stream = %self.stream, ?down_for, "the stream takes records again");
        }
    }
}

fn way_out(code: &str) -> &'static str {
    match code {
        "ResourceNotFoundException" => "create the stream, or correct its name, account or region",
        "AccessDeniedException" | "AccessDenied" => {
            "allow kinesis:PutRecords on the stream for this identity"
        }
        kms if kms.starts_with("KMS") => {
            "the stream's server-side encryption key is out of reach: see its state and policy"
        }
        "ValidationException"
        | "ValidationError"
        | "InvalidArgumentException"
        | "InvalidParameterValue"
        | "SerializationException"
        | "RequestEntityTooLargeException"
        | "" => {
            "every record is refused alike, so it is not the records: see what the message says of the \
             stream, and what stands between this host and the service"
        }
        "UnknownOperationException" => "what answers is not Kinesis: correct the endpoint",
        _ => "renew or correct the credentials, and check this host's clock",
    }
}
