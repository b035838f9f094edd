//! What the stand-ins have been asked and what they did, so that a test can say "one GenerateDataKey call".

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::protocol::Service;

/// A reading of all counters. Each counts from the start of the stand-ins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted (with TLS: before the handshake).
    pub connections: u64,
    /// Calls by service and operation, counted when the body has been read, whatever the answer.
    pub calls: BTreeMap<(Service, String), u64>,
    /// Of these calls, those that came in HTTP/2.
    pub http2_calls: u64,
    /// Bytes of request bodies.
    pub body_bytes: u64,
    /// Kinesis records stored (in null mode: counted).
    pub records_stored: u64,
    /// Data and partition keys of these records (in null mode: none, bodies are not read that closely).
    pub bytes_stored: u64,
    /// Entries a shard's quota refused.
    pub throttled_entries: u64,
    /// Entries a fault refused.
    pub faulted_entries: u64,
    /// Calls to which a fault was done, of whatever kind.
    pub faulted_calls: u64,
    /// Records handed out by GetRecords and to subscriptions.
    pub records_read: u64,
    /// Records that left a ring buffer because it was full.
    pub records_trimmed: u64,
    /// Calls that strict mode refused because of their signature.
    pub refused_signatures: u64,
}

impl Counters {
    /// Calls of one operation, such as `("Kinesis", "PutRecords")`.
    pub fn calls_of(&self, service: Service, operation: &str) -> u64 {
        self.calls
            .get(&(service, operation.to_owned()))
            .copied()
            .unwrap_or(0)
    }

    pub fn put_records_calls(&self) -> u64 {
        self.calls_of(Service::Kinesis, "PutRecords")
    }

    pub fn get_records_calls(&self) -> u64 {
        self.calls_of(Service::Kinesis, "GetRecords")
    }

    pub fn kms_calls(&self, operation: &str) -> u64 {
        self.calls_of(Service::Kms, operation)
    }

    /// All calls to KMS.
    pub fn kms_calls_total(&self) -> u64 {
        let of_kms = self
            .calls
            .iter()
            .filter(|((service, _), _)| *service == Service::Kms);
        of_kms.map(|(_, calls)| calls).sum()
    }
}

/// The counters as they run. Per call or per chunk, never per record.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: Mutex<BTreeMap<(Service, String), u64>>,
    pub(crate) connections: AtomicU64,
    pub(crate) http2_calls: AtomicU64,
    pub(crate) body_bytes: AtomicU64,
    pub(crate) records_stored: AtomicU64,
    pub(crate) bytes_stored: AtomicU64,
    pub(crate) throttled_entries: AtomicU64,
    pub(crate) faulted_entries: AtomicU64,
    pub(crate) faulted_calls: AtomicU64,
    pub(crate) records_read: AtomicU64,
    pub(crate) records_trimmed: AtomicU64,
    pub(crate) refused_signatures: AtomicU64,
}

impl Tally {
    pub(crate) fn call(&self, service: Service, operation: &str) {
        // Names come from outside: without a bound, a port scan would grow the map.
        const MOST_OPERATIONS: usize = 200;
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service, operation.to_owned());
        if calls.len() < MOST_OPERATIONS || calls.contains_key(&key) {
            *calls.entry(key).or_default() += 1;
        }
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        Counters {
            connections: self.connections.load(Relaxed),
            calls: calls.clone(),
            http2_calls: self.http2_calls.load(Relaxed),
            body_bytes: self.body_bytes.load(Relaxed),
            records_stored: self.records_stored.load(Relaxed),
            bytes_stored: self.bytes_stored.load(Relaxed),
            throttled_entries: self.throttled_entries.load(Relaxed),
            faulted_entries: self.faulted_entries.load(Relaxed),
            faulted_calls: self.faulted_calls.load(Relaxed),
            records_read: self.records_read.load(Relaxed),
            records_trimmed: self.records_trimmed.load(Relaxed),
            refused_signatures: self.refused_signatures.load(Relaxed),
        }
    }
}

/// Adds to a counter of [`Tally`].
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}
