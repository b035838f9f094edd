//! Who wants to know of each call, and not only what became of a record.

use std::fmt;

use tokio::time::Instant;

use crate::aggregate::AggregatedRecord;
use crate::batch::Batch;
use crate::send::CallOutcome;

/// Told of calls as they come back. Called on the owner loop: must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Before its records have their answers, and before their tickets are told of this attempt.
    fn answered(&self, batch: &Batch, outcome: &CallOutcome, started: Instant, ended: Instant);

    /// An entry was stored where a member does not belong: all its members go again.
    fn misplaced(&self, _entry: &AggregatedRecord) {}
}
