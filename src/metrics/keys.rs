//! What data keys cost: how often the cache had one, and the calls to the key service where it had not.
//!
//! The lease of a data key locks nothing here. A call does, which takes milliseconds and is made once for
//! thousands of records.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Latency;

/// Calls to a key service, counted by who makes them.
#[derive(Debug, Default)]
pub struct KeyCalls {
    made: AtomicU64,
    failed: AtomicU64,
    latency: Mutex<Latency>,
}

impl KeyCalls {
    /// One call with the tries that its client made, answered or failed.
    pub fn record(&self, took: Duration, failed: bool) {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.record(took, 1);
    }

    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Of those made.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn latency(&self) -> Latency {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.clone()
    }
}

/// A cache of data keys at one moment, of a writer or of a reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// Asked for a key, and it was there.
    pub hits: u64,
    /// Asked for a key, and had to wait for a call.
    pub misses: u64,
    /// Calls to the key service.
    pub calls: u64,
    /// Of those.
    pub calls_failed: u64,
}

impl KeyCounts {
    /// With the calls of one more that makes them.
    #[must_use]
    pub fn and_calls(mut self, calls: Option<&KeyCalls>) -> Self {
        // Failures first, so that a call in between does not fail more often than it was made.
        self.calls_failed += calls.map_or(0, KeyCalls::failed);
        self.calls += calls.map_or(0, KeyCalls::made);
        self
    }
}

impl std::ops::AddAssign for KeyCounts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.calls += other.calls;
        self.calls_failed += other.calls_failed;
    }
}

/// The data key in use: how old it is, and what it was reserved for. Of blocks, bytes before compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInUse {
    pub age: Duration,
    pub messages: u64,
    /// Of plaintext.
    pub bytes: u64,
}
