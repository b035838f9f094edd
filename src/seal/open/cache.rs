//! Unwrapped data keys, by what the message says about them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{OpenError, UnwrapFailure, Unwrapping};
use crate::metrics::KeyCounts;
use crate::seal::message::Message;

/// One unwrap, running or done, for all who need it.
pub(super) type Flight = Shared<Unwrapping>;

/// Bounded by age and number. Of the lock's holders none waits.
pub(super) struct KeyCache {
    max_age: Duration,
    max_keys: usize,
    entries: Mutex<HashMap<Id, Entry>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// SHA-256 of what the message says: a stranger's may be hundreds of kilobytes.
type Id = [u8; 32];

struct Entry {
    flight: Flight,
    started: Instant,
    used: Instant,
}

/// How long a refusal answers for KMS, so that a stream full of foreign records does not cost a call each.
/// Guess: short enough for an operator who mends a policy.
const REFUSAL_AGE: Duration = Duration::from_secs(10);

impl KeyCache {
    pub(super) fn new(max_age: Duration, max_keys: usize) -> Self {
        Self {
            max_age,
            max_keys: max_keys.max(1),
            entries: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Found and started under one lock: of concurrent misses only the first starts.
    pub(super) fn find_or_start(
        &self,
        message: &Message<'_>,
        start: impl FnOnce() -> Result<Unwrapping, OpenError>,
    ) -> Result<Flight, OpenError> {
        // The suite belongs to it: under another, a key of another length would be asked for.
        let id: Id = Sha256::new()
            .chain_update(message.suite().id().to_be_bytes())
            .chain_update(message.key_section())
            .finalize()
            .into();
        let now = Instant::now();
        let mut entries = self.entries.lock().expect("no holder panics");
        if let Some(entry) = entries.get_mut(&id).filter(|entry| self.serves(entry, now)) {
            entry.used = now;
            match entry.flight.peek() {
                Some(_) => self.hits.fetch_add(1, Ordering::Relaxed),
                None => self.misses.fetch_add(1, Ordering::Relaxed),
            };
            return Ok(entry.flight.clone());
        }
        let flight = start()?.shared();
        self.misses.fetch_add(1, Ordering::Relaxed);
        entries.remove(&id);
        self.make_room(&mut entries, now);
        entries.insert(
            id,
            Entry {
                flight: flight.clone(),
                started: now,
                used: now,
            },
        );
        Ok(flight)
    }

    /// For a key that is never kept.
    pub(super) fn passed_by(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Its own; the calls are counted by who makes them.
    pub(super) fn counts(&self) -> KeyCounts {
        KeyCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            ..KeyCounts::default()
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.lock().expect("no holder panics").is_empty()
    }

    /// Age is counted from the start of the call: a key must not live longer for a slow answer.
    fn serves(&self, entry: &Entry, now: Instant) -> bool {
        let age = now.duration_since(entry.started);
        let limit = match entry.flight.peek() {
            None | Some(Ok(_)) => self.max_age,
            Some(Err(UnwrapFailure::Key(error))) if error.is_outage() => return false,
            Some(Err(_)) => REFUSAL_AGE.min(self.max_age),
        };
        age < limit
    }

    /// The scan costs nothing beside the call to KMS that follows.
    fn make_room(&self, entries: &mut HashMap<Id, Entry>, now: Instant) {
        if entries.len() < self.max_keys {
            return;
        }
        entries.retain(|_, entry| self.serves(entry, now));
        while entries.len() >= self.max_keys {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(id) = oldest.map(|(id, _)| *id) else {
                return;
            };
            entries.remove(&id);
        }
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache")
            .field("max_age", &self.max_age)
            .field("max_keys", &self.max_keys)
            .finish_non_exhaustive()
    }
}
