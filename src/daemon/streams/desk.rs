//! Who answers a stream's records, and how a stream is seen by whoever measures it.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::aggregate::Trigger;
use crate::daemon::metrics::StreamMetrics;
use crate::daemon::results::{SharedOutbox, encode, encode_grown};
use crate::daemon::statistics::Statistics;
use crate::delivery::{Delivery, FailReason, RecordSettled, SettledRecord};
use crate::metrics::Counters;
use crate::pipeline::{Observer, View, Waited};
use crate::{aggregate, batch, send};

/// The streams there are, for whoever measures them.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct Watched(pub(super) Arc<Mutex<Vec<Measured>>>);

#[derive(Debug)]
pub(super) struct Measured {
    pub(super) desk: Arc<Desk>,
    pub(super) counters: Arc<Counters>,
    pub(super) view: View,
}

impl Watched {
    /// What is measured of each now.
    pub(in crate::daemon) fn measure(&self, now: Instant) {
        for measured in self.0.lock().expect("no panic while held").iter() {
            let pending = measured.counters.snapshot().pending;
            measured.desk.metrics.pending(pending, now);
            measured.desk.metrics.settle(now);
        }
    }

    /// It is not measured any more.
    pub(super) fn forget(&self, desk: &Arc<Desk>) {
        let mut all = self.0.lock().expect("no panic while held");
        all.retain(|measured| !Arc::ptr_eq(&measured.desk, desk));
    }

    pub(in crate::daemon) fn statistics(&self) -> Vec<Arc<Statistics>> {
        let all = self.0.lock().expect("no panic while held");
        let statistics = |measured: &Measured| Arc::clone(&measured.desk.statistics);
        all.iter().map(statistics).collect()
    }

    pub(in crate::daemon) fn views(&self) -> Vec<View> {
        let all = self.0.lock().expect("no panic while held");
        all.iter().map(|measured| measured.view.clone()).collect()
    }
}

/// Who answers a stream's records.
pub(in crate::daemon) struct Desk {
    pub(super) outbox: SharedOutbox,
    pub(in crate::daemon) metrics: StreamMetrics,
    pub(super) statistics: Arc<Statistics>,
    /// Whether records are longer in the stream than the client knows.
    pub(super) is_sealed: bool,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl RecordSettled for Desk {
    fn settled(&self, settled: SettledRecord<'_>) {
        let SettledRecord {
            id,
            bytes,
            born,
            delivery,
            tried,
        } = settled;
        self.metrics.answered_record(delivery, bytes, tried.len());
        let grew = match delivery {
            Delivery::Failed {
                reason: FailReason::TooLarge { limit, .. },
                ..
            } => self.is_sealed && bytes <= *limit,
            _ => false,
        };
        self.outbox.push(|frames| match grew {
            true => encode_grown(id, born, delivery, frames),
            false => encode(id, born, delivery, tried, frames),
        });
    }
}

impl Observer for Desk {
    fn answered(
        &self,
        batch: &batch::Batch,
        outcome: &send::CallOutcome,
        waited: &[Waited],
        started: Instant,
        ended: Instant,
    ) {
        self.statistics
            .answered(ended.saturating_duration_since(started));
        self.metrics
            .answered(batch, outcome, waited, started, ended);
    }

    fn gathered(&self, trigger: Trigger, records: usize) {
        self.statistics.gathered(trigger, records);
    }

    fn collected(&self, trigger: Trigger, entries: usize) {
        self.statistics.collected(trigger, entries);
    }

    fn misplaced(&self, entry: &aggregate::AggregatedRecord) {
        self.metrics.misplaced(entry);
    }
}
