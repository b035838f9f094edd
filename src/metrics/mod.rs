//! What is counted and what is timed.
//!
//! Counters are shared and atomic, added to once per chunk or batch, never per record. Histograms belong to
//! the one owner loop of a stream: nothing locks on the hot path, because a snapshot is asked of the owner
//! like anything else.

mod figures;
mod keys;
mod latency;
pub mod prometheus;
pub mod report;
mod trouble;

use std::sync::atomic::{AtomicU64, Ordering};

pub use figures::Figures;
pub use keys::{KeyCalls, KeyCounts, KeyInUse};
pub use latency::Latency;
pub use trouble::{Trouble, Troubles};

/// Latency of each stage, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Histograms {
    /// Reading and splitting one chunk.
    pub read: Latency,
    /// Per record: from its chunk being handed over to being sealed, waiting included.
    pub seal: Latency,
    /// Per record: its group's writing to the spool, and syncing, waiting for room included.
    pub spool: Latency,
    /// Per record: from when the first of its entry was sealed to when that went out in a request, for the first time.
    pub aggregate_wait: Latency,
    /// One PutRecords call.
    pub request: Latency,
    /// Per record: from read to acknowledged.
    pub line_to_stored: Latency,
    /// One call to the key service, off the records' way but where the cache has no key.
    pub key_call: Latency,
}

impl Histograms {
    pub fn new() -> Self {
        Self::default()
    }

    /// Each stage by the name it is reported under, in the order of a record's journey; then what lies beside
    /// it.
    pub fn stages(&self) -> [(&'static str, &Latency); 7] {
        [
            ("read", &self.read),
            ("seal", &self.seal),
            ("spool", &self.spool),
            ("aggregate wait", &self.aggregate_wait),
            ("request", &self.request),
            ("line to stored", &self.line_to_stored),
            ("KMS call", &self.key_call),
        ]
    }

    /// Those that timed anything, by a word for programs.
    pub fn timed(&self) -> impl Iterator<Item = (String, &Latency)> {
        let timed = self.stages().into_iter();
        let timed = timed.filter(|(_, latency)| latency.count() > 0);
        timed.map(|(name, latency)| (name.to_lowercase().replace(' ', "_"), latency))
    }

    pub fn merge(&mut self, other: &Self) {
        self.read.merge(&other.read);
        self.seal.merge(&other.seal);
        self.spool.merge(&other.spool);
        self.aggregate_wait.merge(&other.aggregate_wait);
        self.request.merge(&other.request);
        self.line_to_stored.merge(&other.line_to_stored);
        self.key_call.merge(&other.key_call);
    }
}

/// One stream's counters. `accepted = stored + dead_lettered + failed + dropped + abandoned + pending`, at any moment;
/// each of them is counted for itself, none is made of the others. They are read one after the other: while records
/// move, a snapshot may be off by those that moved meanwhile.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that were given a ticket, or dropped.
    pub accepted: AtomicU64,
    /// Records that are owed an answer: counted by their tickets, for as long as these live.
    pub pending: AtomicU64,
    /// Of these, records in which their source's rule found no partition key.
    pub unkeyed: AtomicU64,
    pub stored: AtomicU64,
    /// On disk, with their reason.
    pub dead_lettered: AtomicU64,
    /// Of those: removed again to make room, since `dead_letter.when_full` says so.
    pub dead_letters_dropped: AtomicU64,
    /// Told to their caller.
    pub failed: AtomicU64,
    /// Thrown away for want of room, since `when_full` of their source says so.
    pub dropped: AtomicU64,
    /// Their tickets went without an answer, as when a pipeline is stopped; their source has them.
    pub abandoned: AtomicU64,
    /// Of those: were in the spool, and are there no more, or cannot be read.
    pub lost_in_spool: AtomicU64,
    /// In the spool now, and without an answer: a part of what is pending.
    pub spooled: AtomicU64,

    /// Bytes of the records as read, and as they were sealed.
    pub plain_bytes: AtomicU64,
    pub sealed_bytes: AtomicU64,
    /// Kinesis records stored and their bytes, keys included: what shards are billed for.
    pub entries_stored: AtomicU64,
    pub bytes_stored: AtomicU64,

    pub calls: AtomicU64,
    pub calls_failed: AtomicU64,
    /// Calls after which nobody knows whether the records were stored: the only cause of doubles but one.
    pub calls_unknown: AtomicU64,
    pub entries_throttled: AtomicU64,
    pub entries_retried: AtomicU64,
    /// Aggregates that a reshard put where a member does not belong: sent again, so doubled.
    pub entries_misplaced: AtomicU64,

    /// No count: what is wrong now.
    pub troubles: Troubles,
}

/// Counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    /// Records that still wait for their answer.
    pub pending: u64,
    pub unkeyed: u64,
    pub stored: u64,
    pub dead_lettered: u64,
    pub dead_letters_dropped: u64,
    pub failed: u64,
    pub dropped: u64,
    pub abandoned: u64,
    pub lost_in_spool: u64,
    pub spooled: u64,
    pub plain_bytes: u64,
    pub sealed_bytes: u64,
    pub entries_stored: u64,
    pub bytes_stored: u64,
    pub calls: u64,
    pub calls_failed: u64,
    pub calls_unknown: u64,
    pub entries_throttled: u64,
    pub entries_retried: u64,
    pub entries_misplaced: u64,
    pub data_keys: u64,
    pub keys: KeyCounts,
}

impl Counters {
    /// Release, as a snapshot's loads acquire: who sees a record's answer also sees that it was accepted.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Release);
    }

    /// So many records are on disk, and owed an answer from there.
    pub fn spool(&self, records: u64) {
        Self::add(&self.pending, records);
        Self::add(&self.spooled, records);
    }

    /// So many of them have theirs.
    pub fn unspool(&self, records: u64) {
        self.spooled.fetch_sub(records, Ordering::Release);
        self.pending.fetch_sub(records, Ordering::Release);
    }

    /// So many that should be in the spool are not.
    pub fn lose(&self, records: u64) {
        Self::add(&self.abandoned, records);
        Self::add(&self.lost_in_spool, records);
    }

    pub fn snapshot(&self) -> Counts {
        let read = |c: &AtomicU64| c.load(Ordering::Acquire);
        Counts {
            stored: read(&self.stored),
            dead_lettered: read(&self.dead_lettered),
            dead_letters_dropped: read(&self.dead_letters_dropped),
            failed: read(&self.failed),
            dropped: read(&self.dropped),
            abandoned: read(&self.abandoned),
            lost_in_spool: read(&self.lost_in_spool),
            spooled: read(&self.spooled),
            pending: read(&self.pending),
            accepted: read(&self.accepted),
            unkeyed: read(&self.unkeyed),
            plain_bytes: read(&self.plain_bytes),
            sealed_bytes: read(&self.sealed_bytes),
            entries_stored: read(&self.entries_stored),
            bytes_stored: read(&self.bytes_stored),
            calls: read(&self.calls),
            calls_failed: read(&self.calls_failed),
            calls_unknown: read(&self.calls_unknown),
            entries_throttled: read(&self.entries_throttled),
            entries_retried: read(&self.entries_retried),
            entries_misplaced: read(&self.entries_misplaced),
            // The cache of data keys counts for itself: `Meter::counts` adds it.
            data_keys: 0,
            keys: KeyCounts::default(),
        }
    }
}

impl Counts {
    /// Whether every record is accounted for, once.
    pub fn balance(&self) -> bool {
        let told = self.stored + self.dead_lettered + self.failed;
        self.accepted == told + self.dropped + self.abandoned + self.pending
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.pending += other.pending;
        self.unkeyed += other.unkeyed;
        self.stored += other.stored;
        self.dead_lettered += other.dead_lettered;
        self.dead_letters_dropped += other.dead_letters_dropped;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.abandoned += other.abandoned;
        self.lost_in_spool += other.lost_in_spool;
        self.spooled += other.spooled;
        self.plain_bytes += other.plain_bytes;
        self.sealed_bytes += other.sealed_bytes;
        self.entries_stored += other.entries_stored;
        self.bytes_stored += other.bytes_stored;
        self.calls += other.calls;
        self.calls_failed += other.calls_failed;
        self.calls_unknown += other.calls_unknown;
        self.entries_throttled += other.entries_throttled;
        self.entries_retried += other.entries_retried;
        self.entries_misplaced += other.entries_misplaced;
        self.data_keys += other.data_keys;
        self.keys += other.keys;
    }
}
