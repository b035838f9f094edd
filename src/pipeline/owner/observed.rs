//! What is told of each call to whoever wants to know more than what became of a record.

use std::sync::Arc;

use tokio::time::Instant;

use super::Owner;
use crate::aggregate::reducer::Closed;
use crate::aggregate::{AggregatedRecord, Trigger};
use crate::batch::Batch;
use crate::delivery::{CallRefused, Tried};
use crate::metrics::Counters;
use crate::pipeline::Waited;
use crate::seal::SealedRecord;
use crate::send::{CallOutcome, EntryOutcome};

/// The KPL's name for what was stored where its readers would not take it.
const WRONG_SHARD: &str = "Wrong Shard";

impl Owner {
    /// A call has come back. Its entries are told of it before they have their answers.
    pub(super) fn observe(
        &self,
        batch: &Batch,
        outcome: &CallOutcome,
        started: Instant,
        ended: Instant,
    ) {
        let Some(observer) = &self.observer else {
            return;
        };
        let tried = |error| Tried {
            started,
            ended,
            error,
        };
        let entries = batch.entries().iter();
        let waited: Vec<Waited> = match outcome {
            CallOutcome::Answered(outcomes) => entries
                .zip(outcomes)
                .map(|(entry, outcome)| note(entry, &tried(refused(outcome))))
                .collect(),
            CallOutcome::Failed(error) => {
                let error = CallRefused {
                    code: error.code.clone(),
                    message: error.message.clone(),
                };
                let tried = tried(Some(Arc::new(error)));
                entries.map(|entry| note(entry, &tried)).collect()
            }
        };
        observer.answered(batch, outcome, &waited, started, ended);
    }

    /// Containers were closed. In block scope the blocks are what was put together.
    pub(super) fn observe_gathered(&self, closed: &[Closed<SealedRecord>]) {
        let (Some(observer), None) = (&self.observer, &self.packer) else {
            return;
        };
        for closed in closed {
            if let Some(trigger) = closed.trigger {
                observer.gathered(trigger, closed.members.len());
            }
        }
    }

    /// A batch takes no more.
    pub(super) fn observe_collected(&self, trigger: Trigger, batch: &Batch) {
        if let Some(observer) = &self.observer {
            observer.collected(trigger, batch.len());
        }
    }

    /// Stored, and told as that; now it goes again.
    pub(super) fn observe_misplaced(&self, entry: &AggregatedRecord) {
        Counters::add(&self.counters.entries_misplaced, 1);
        let Some(observer) = &self.observer else {
            return;
        };
        observer.misplaced(entry);
        let error = Arc::new(CallRefused {
            code: WRONG_SHARD.to_owned(),
            message: "did not end up in expected shard.".to_owned(),
        });
        for ticket in entry.members().iter().flat_map(|m| m.tickets().iter()) {
            ticket.tried_in_vain(&error);
        }
    }
}

fn refused(outcome: &EntryOutcome) -> Option<Arc<CallRefused>> {
    match outcome {
        EntryOutcome::Stored { .. } => None,
        EntryOutcome::Refused { code, message } => Some(Arc::new(CallRefused {
            code: code.clone(),
            message: message.clone(),
        })),
    }
}

/// Tells an entry's records of an attempt, and how long they had waited for it.
fn note(entry: &AggregatedRecord, tried: &Tried) -> Waited {
    let mut waited = Waited::default();
    for ticket in entry.members().iter().flat_map(|m| m.tickets().iter()) {
        let since = ticket.tried(tried);
        let records = u64::from(ticket.records());
        waited.add(records, tried.started.saturating_duration_since(since));
    }
    waited
}
