//! The data-key cache: one key for many messages, within age, message and byte limits.
//!
//! Semantics are those of the AWS Encryption SDK's caching CMM: a key is bound to its suite and its encryption
//! context, use is counted before it happens so that a limit is never exceeded, and what is expired or used up
//! is never handed out. A keyring has one suite and one context for its life, and one key at a time: each
//! stream has a keyring of its own. Concurrent misses make one call, and share its failure. Shortly before a
//! key expires or is used up, one task fetches the next, while the rest go on with the old.
//!
//! Age counts from the start of the call that brought the key: the key service agreed no later. Who waited for
//! that call uses its key however late it came, once, as with the caching CMM; otherwise a slow service and a
//! short age would let nothing pass.
//!
//! With the key service out of reach and the key expired there is no key: callers wait. Never a stale key,
//! never plaintext.

mod current;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use self::current::Current;
use super::key::{self, GenerateDataKey, KeyError};
use super::message::{self, Writer};
use super::{CacheSettings, EncryptionContext};
use crate::metrics::{KeyCalls, KeyCounts, KeyInUse, Latency};

/// Hands out [`Lease`]s on the current data key.
#[derive(Debug)]
pub struct Keyring {
    source: Arc<dyn GenerateDataKey>,
    context: EncryptionContext,
    settings: CacheSettings,
    message: message::Settings,
    state: Mutex<State>,
    /// Held while a key is fetched, so that all who miss wait for one call.
    fetching: tokio::sync::Mutex<()>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    fetched: u64,
    refreshing: bool,
    /// After a failed refresh: no further try before this.
    refresh_after: Option<Instant>,
    /// The last failure, for those who waited for that call.
    failed: Option<(Instant, KeyError)>,
}

/// The right to seal the first `messages` of the records asked for, already counted.
#[derive(Debug)]
pub struct Lease {
    pub writer: Arc<Writer>,
    pub messages: usize,
}

impl Keyring {
    /// How long before expiry the next key is fetched: time for a few tries.
    const GRACE: Duration = Duration::from_secs(10);
    const REFRESH_PAUSE: Duration = Duration::from_secs(1);

    pub fn new(
        source: Arc<dyn GenerateDataKey>,
        context: EncryptionContext,
        settings: CacheSettings,
        message: message::Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            source,
            context,
            settings,
            message,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Bytes that sealing adds to a record of one frame, before the first key is there to tell.
    pub fn overhead_hint(&self) -> usize {
        let overhead = self.message.overhead(&self.context) + self.source.encrypted_len_hint();
        self.message.encoding.encoded_len(overhead)
    }

    /// Data keys fetched so far.
    pub fn keys_fetched(&self) -> u64 {
        self.state().fetched
    }

    /// One hit or one miss for each lease; a lease is for a chunk.
    pub fn counts(&self) -> KeyCounts {
        let counts = KeyCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            ..KeyCounts::default()
        };
        counts.and_calls(self.source.calls())
    }

    /// How long each call to the key service took.
    pub fn call_latency(&self) -> Latency {
        self.source
            .calls()
            .map(KeyCalls::latency)
            .unwrap_or_default()
    }

    /// The current key, until it expires.
    pub fn in_use(&self) -> Option<KeyInUse> {
        let now = Instant::now();
        let key = self.state().current.as_ref()?.in_use(now);
        (key.age < self.settings.max_age).then_some(key)
    }

    /// The wrapping key's name, for messages.
    pub fn key_name(&self) -> &str {
        self.source.name()
    }

    /// Fetches the first key before anybody needs it, and so sees whether there is one. Cancel safe.
    pub async fn warm(&self) -> Result<(), KeyError> {
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.refresh(0).await
    }

    /// Reserves the current key for as many of these records, from the first, as it may still seal; at
    /// least one. Fetches a key where there is none. Cancel safe: what was reserved and not used is lost to
    /// the budget, which errs on the safe side.
    pub async fn lease(self: &Arc<Self>, sizes: &[usize]) -> Result<Lease, KeyError> {
        assert!(!sizes.is_empty(), "a lease is for at least one record");
        if let Some(lease) = self.take(sizes) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(lease);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let _one_at_a_time = self.fetching.lock().await;
        // Whoever was before us has brought a key, or the reason why there is none.
        if let Some(lease) = self.take(sizes) {
            return Ok(lease);
        }
        if let Some(error) = self.failed_since(asked) {
            return Err(error);
        }
        let mut key = self.fetch().await?;
        let lease = key.lease(sizes, &self.settings);
        self.install(key);
        Ok(lease.expect("a fresh key seals at least one record"))
    }

    /// From the current key, if it may be used at all.
    fn take(self: &Arc<Self>, sizes: &[usize]) -> Option<Lease> {
        let now = Instant::now();
        let mut state = self.state();
        let current = state.current.as_mut()?;
        if current.age(now) >= self.settings.max_age {
            state.current = None;
            return None;
        }
        let lease = current.lease(sizes, &self.settings)?;
        let ends_soon = current.ends_soon(now, self.grace(), &self.settings);
        let allowed = state.refresh_after.is_none_or(|t| now >= t);
        if ends_soon && allowed && !state.refreshing {
            state.refreshing = true;
            self.refresh_aside(state.fetched);
        }
        Some(lease)
    }

    /// For ages of a few seconds, a fifth of them.
    fn grace(&self) -> Duration {
        Self::GRACE.min(self.settings.max_age / 5)
    }

    /// Fetches the next key while the current one, the `nth`, goes on.
    fn refresh_aside(self: &Arc<Self>, nth: u64) {
        let keyring = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = keyring.refresh(nth).await;
            let mut state = keyring.state();
            state.refreshing = false;
            state.refresh_after = outcome
                .as_ref()
                .err()
                .map(|_| Instant::now() + Self::REFRESH_PAUSE);
            drop(state);
            if let Err(error) = outcome {
                tracing::warn!(%error, "cannot fetch the next data key yet; the current one goes on until it expires");
            }
        });
    }

    async fn refresh(&self, nth: u64) -> Result<(), KeyError> {
        let _one_at_a_time = self.fetching.lock().await;
        // The key may have ended before this task ran, and a caller who waited has fetched the next.
        if self.keys_fetched() == nth {
            let key = self.fetch().await?;
            self.install(key);
        }
        Ok(())
    }

    async fn fetch(&self) -> Result<Current, KeyError> {
        let started = Instant::now();
        match key::writer(&*self.source, &self.context, self.message).await {
            Ok(writer) => Ok(Current::new(writer, started)),
            Err(error) => {
                self.state().failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn install(&self, key: Current) {
        let mut state = self.state();
        state.current = Some(key);
        state.fetched += 1;
        state.failed = None;
    }

    /// Only of a call that ended after that moment.
    fn failed_since(&self, asked: Instant) -> Option<KeyError> {
        let state = self.state();
        let (when, error) = state.failed.as_ref()?;
        (*when > asked).then(|| error.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

#[cfg(test)]
mod tests;
