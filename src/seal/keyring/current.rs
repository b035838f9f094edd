//! The data key in use, and what its limits leave of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Lease;
use crate::metrics::KeyInUse;
use crate::seal::CacheSettings;
use crate::seal::message::Writer;

#[derive(Debug)]
pub(super) struct Current {
    writer: Arc<Writer>,
    /// When the call that brought it began.
    asked_for: Instant,
    messages: u64,
    bytes: u64,
}

impl Current {
    pub(super) fn new(writer: Writer, asked_for: Instant) -> Self {
        Self {
            writer: Arc::new(writer),
            asked_for,
            messages: 0,
            bytes: 0,
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.asked_for)
    }

    pub(super) fn in_use(&self, now: Instant) -> KeyInUse {
        KeyInUse {
            age: self.age(now),
            messages: self.messages,
            bytes: self.bytes,
        }
    }

    /// For as many of these records, from the first, as the limits still allow; `None` for none. Whoever asks
    /// has looked at the age.
    pub(super) fn lease(&mut self, sizes: &[usize], limits: &CacheSettings) -> Option<Lease> {
        let left = limits.max_messages.saturating_sub(self.messages);
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let mut bytes = self.bytes;
        let mut messages = 0;
        for size in sizes.iter().take(most) {
            let with = bytes.saturating_add(*size as u64);
            // A record larger than any key's byte limit gets a key of its own, as in the caching CMM.
            let own_key = self.messages == 0 && messages == 0;
            if with > limits.max_bytes && !own_key {
                break;
            }
            bytes = with;
            messages += 1;
        }
        if messages == 0 {
            return None;
        }
        self.bytes = bytes;
        self.messages += messages as u64;
        Some(Lease {
            writer: Arc::clone(&self.writer),
            messages,
        })
    }

    /// Within `grace` of its age, or with less than a tenth of its uses left.
    pub(super) fn ends_soon(&self, now: Instant, grace: Duration, limits: &CacheSettings) -> bool {
        self.age(now) + grace >= limits.max_age
            || limits.max_messages.saturating_sub(self.messages) < limits.max_messages / 10
            || limits.max_bytes.saturating_sub(self.bytes) < limits.max_bytes / 10
    }
}
