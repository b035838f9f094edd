//! Who wants to know of each call, and not only what became of a record.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::aggregate::{AggregatedRecord, Trigger};
use crate::batch::Batch;
use crate::send::CallOutcome;

/// Told of calls as they come back. Called on the owner loop: must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Before its records have their answers. `waited`: of each entry, how long its records had waited for the call.
    fn answered(
        &self,
        batch: &Batch,
        outcome: &CallOutcome,
        waited: &[Waited],
        started: Instant,
        ended: Instant,
    );

    /// So many records were put together, and why just then. Not told of those that go alone at once.
    fn gathered(&self, _trigger: Trigger, _records: usize) {}

    /// So many entries make a call.
    fn collected(&self, _trigger: Trigger, _entries: usize) {}

    /// An entry was stored where a member does not belong: all its members go again.
    fn misplaced(&self, _entry: &AggregatedRecord) {}
}

/// How long several records have waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waited {
    pub records: u64,
    pub sum: Duration,
    pub least: Duration,
    pub most: Duration,
}

impl Waited {
    pub(super) fn add(&mut self, records: u64, waited: Duration) {
        self.least = match self.records {
            0 => waited,
            _ => self.least.min(waited),
        };
        self.most = self.most.max(waited);
        self.sum += waited * u32::try_from(records).unwrap_or(u32::MAX);
        self.records += records;
    }
}
