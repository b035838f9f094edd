//! What calls and answers say of a stream's metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::{Metrics, Name, Of, Stat};
use crate::aggregate::AggregatedRecord;
use crate::batch::Batch;
use crate::delivery::{Delivery, FailReason};
use crate::pipeline::{Observer, Waited};
use crate::send::{CallOutcome, EntryOutcome};

/// Of one stream: told of each call, and of each record's answer.
#[derive(Debug)]
pub struct StreamMetrics {
    stream: Arc<str>,
    metrics: Arc<Metrics>,
    nowhere: Arc<str>,
    /// Of answers since they were last put among the others: by shard, empty where none is known.
    answers: Mutex<ByShard>,
}

/// Records of one aggregate come one after the other, and name their shard by the same memory.
#[derive(Debug, Default)]
struct ByShard {
    last: Option<(Arc<str>, Answers)>,
    others: HashMap<Arc<str>, Answers>,
}

impl ByShard {
    fn of(&mut self, shard: &Arc<str>) -> &mut Answers {
        let is_last = |(last, _): &(Arc<str>, Answers)| Arc::ptr_eq(last, shard);
        if !self.last.as_ref().is_some_and(is_last) {
            self.put_back();
            let answers = self.others.remove(shard).unwrap_or_default();
            self.last = Some((Arc::clone(shard), answers));
        }
        &mut self.last.as_mut().expect("set just now").1
    }

    fn put_back(&mut self) {
        if let Some((shard, answers)) = self.last.take() {
            self.others.insert(shard, answers);
        }
    }

    fn take(&mut self) -> HashMap<Arc<str>, Answers> {
        self.put_back();
        std::mem::take(&mut self.others)
    }
}

#[derive(Debug, Default)]
struct Answers {
    put: Stat,
    bytes: Stat,
    retries: Stat,
    expired: Stat,
}

impl StreamMetrics {
    pub fn new(stream: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            stream: stream.into(),
            metrics,
            nowhere: Arc::from(""),
            answers: Mutex::default(),
        }
    }

    /// A record has its answer, after so many attempts.
    pub fn answered_record(&self, delivery: &Delivery, bytes: usize, attempts: usize) {
        let mut answers = self.answers.lock().expect("no panic while held");
        let retries = attempts.saturating_sub(1) as f64;
        match delivery {
            Delivery::Stored { shard, .. } => {
                let of_shard = answers.of(shard);
                of_shard.put.add(1.0);
                of_shard.bytes.add(bytes as f64);
                of_shard.retries.add(retries);
            }
            // Where it will lie is not known.
            Delivery::Spooled => {
                let of_none = answers.of(&self.nowhere);
                of_none.put.add(1.0);
                of_none.bytes.add(bytes as f64);
            }
            Delivery::Failed { reason, .. } => {
                let of_none = answers.of(&self.nowhere);
                of_none.put.add(0.0);
                of_none.retries.add(retries);
                if matches!(reason, FailReason::Expired { .. }) {
                    of_none.expired.add(1.0);
                }
            }
        }
    }

    pub fn received(&self, records: usize, now: Instant) {
        let stat = Stat::equal(records as u64, 1.0);
        self.put(Name::UserRecordsReceived, None, stat, now);
    }

    /// They came, and go nowhere.
    pub fn refused(&self, records: usize, now: Instant) {
        self.received(records, now);
        let stat = Stat::equal(records as u64, 0.0);
        self.put(Name::UserRecordsPut, None, stat, now);
    }

    pub fn pending(&self, records: u64, now: Instant) {
        self.put(
            Name::UserRecordsPending,
            None,
            Stat::one(records as f64),
            now,
        );
    }

    /// Puts what was told of records among the other metrics. To be called several times a second.
    pub fn settle(&self, now: Instant) {
        let answers = self.answers.lock().expect("no panic while held").take();
        for (shard, answers) in answers {
            let shard = (!shard.is_empty()).then_some(&*shard);
            for (name, stat) in [
                (Name::UserRecordsPut, answers.put),
                (Name::UserRecordsDataPut, answers.bytes),
                (Name::RetriesPerRecord, answers.retries),
                (Name::UserRecordExpired, answers.expired),
            ] {
                self.put(name, shard, stat, now);
            }
        }
    }

    fn put(&self, name: Name, shard: Option<&str>, stat: Stat, now: Instant) {
        let of = Of {
            stream: Some(&self.stream),
            shard,
            ..Of::default()
        };
        self.metrics.put(name, of, stat, now);
    }

    fn error(&self, code: &str, shard: Option<&str>, count: u64, now: Instant) {
        let of = Of {
            error: Some(code),
            stream: Some(&self.stream),
            shard,
        };
        let stat = Stat::equal(count, 1.0);
        self.metrics.put(Name::ErrorsByCode, of, stat, now);
        self.put(Name::AllErrors, shard, stat, now);
    }

    fn entries(&self, batch: &Batch, outcomes: &[EntryOutcome], waited: &[Waited], now: Instant) {
        let mut shards: HashMap<&str, Entries> = HashMap::new();
        let answered = batch.entries().iter().zip(outcomes).zip(waited);
        for ((entry, outcome), waited) in answered {
            let predicted = entry.predicted().map_or("", |shard| shard.as_str());
            match outcome {
                EntryOutcome::Stored { shard, .. } => {
                    let of_shard = shards.entry(shard).or_default();
                    of_shard.put.add(1.0);
                    of_shard.bytes.add(entry.size() as f64);
                    of_shard.tried(waited);
                }
                EntryOutcome::Refused { code, .. } => {
                    let of_shard = shards.entry(predicted).or_default();
                    of_shard.put.add(0.0);
                    of_shard.tried(waited);
                    self.error(code, (!predicted.is_empty()).then_some(predicted), 1, now);
                }
            }
        }
        for (shard, entries) in shards {
            let shard = (!shard.is_empty()).then_some(shard);
            let stored = Stat::equal(entries.put.sum as u64, 0.0);
            for (name, stat) in [
                (Name::KinesisRecordsPut, entries.put),
                (Name::KinesisRecordsDataPut, entries.bytes),
                (Name::UserRecordsPerKinesisRecord, entries.members),
                (Name::BufferingTime, entries.waited),
                (Name::AllErrors, stored),
            ] {
                self.put(name, shard, stat, now);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    put: Stat,
    bytes: Stat,
    members: Stat,
    waited: Stat,
}

impl Entries {
    fn tried(&mut self, waited: &Waited) {
        self.members.add(waited.records as f64);
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        self.waited.merge(Stat {
            count: waited.records as f64,
            sum: millis(waited.sum),
            min: millis(waited.least),
            max: millis(waited.most),
        });
    }
}

impl Observer for StreamMetrics {
    fn answered(
        &self,
        batch: &Batch,
        outcome: &CallOutcome,
        waited: &[Waited],
        started: Instant,
        ended: Instant,
    ) {
        let took = ended.saturating_duration_since(started).as_millis() as f64;
        let entries = batch.entries();
        let members: u64 = entries.iter().map(AggregatedRecord::user_records).sum();
        for (name, value) in [
            (Name::RequestTime, took),
            (
                Name::KinesisRecordsPerPutRecordsRequest,
                entries.len() as f64,
            ),
            (Name::UserRecordsPerPutRecordsRequest, members as f64),
        ] {
            self.put(name, None, Stat::one(value), ended);
        }
        match outcome {
            CallOutcome::Answered(outcomes) => self.entries(batch, outcomes, waited, ended),
            CallOutcome::Failed(error) => self.error(&error.code, None, 1, ended),
        }
    }

    fn misplaced(&self, _: &AggregatedRecord) {
        self.error("Wrong Shard", None, 1, Instant::now());
    }
}
