//! The data-key cache: one key for many messages, within age, message and byte limits.
//!
//! Semantics are those of the AWS Encryption SDK's caching CMM: a key is bound to its encryption context,
//! use is counted before it happens so that a limit is never exceeded, and what is expired or used up is
//! never handed out. Concurrent misses make one call. Shortly before a key expires or is used up, one task
//! fetches the next, while the rest go on with the old.
//!
//! With the key service out of reach and the key expired there is no key: callers wait. Never a stale key,
//! never plaintext.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::key::{self, GenerateDataKey, KeyError};
use super::message::{self, Writer};
use super::{CacheSettings, EncryptionContext};

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
    fetched: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    refreshing: bool,
    /// After a failed refresh: no further try before this.
    refresh_after: Option<Instant>,
}

#[derive(Debug)]
struct Current {
    writer: Arc<Writer>,
    fetched: Instant,
    messages_left: u64,
    bytes_left: u64,
    fresh: bool,
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
            fetched: AtomicU64::new(0),
        })
    }

    /// Bytes that sealing adds to a record of one frame, before the first key is there to tell.
    pub fn overhead_hint(&self) -> usize {
        let overhead = self.message.overhead(&self.context) + self.source.encrypted_len_hint();
        self.message.encoding.encoded_len(overhead)
    }

    /// Data keys fetched so far.
    pub fn keys_fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// The wrapping key's name, for messages.
    pub fn key_name(&self) -> &str {
        self.source.name()
    }

    /// Reserves the current key for as many of these records, from the first, as it may still seal; at
    /// least one. Fetches a key where there is none. Cancel safe: what was reserved and not used is lost to
    /// the budget, which errs on the safe side.
    pub async fn lease(self: &Arc<Self>, sizes: &[usize]) -> Result<Lease, KeyError> {
        assert!(!sizes.is_empty(), "a lease is for at least one record");
        if let Some(lease) = self.take(sizes) {
            return Ok(lease);
        }
        let _one_at_a_time = self.fetching.lock().await;
        // Someone else may have fetched it meanwhile.
        if let Some(lease) = self.take(sizes) {
            return Ok(lease);
        }
        self.fetch().await?;
        Ok(self
            .take(sizes)
            .expect("a fresh key seals at least one record"))
    }

    /// From the current key, if it may be used at all.
    fn take(self: &Arc<Self>, sizes: &[usize]) -> Option<Lease> {
        let now = Instant::now();
        let mut state = self.state.lock().expect("no panic while held");
        let current = state.current.as_mut()?;
        let age = now.saturating_duration_since(current.fetched);
        if age >= self.settings.max_age {
            state.current = None;
            return None;
        }
        let (messages, bytes) = current.affordable(sizes);
        if messages == 0 {
            return None;
        }
        current.fresh = false;
        current.messages_left -= messages as u64;
        current.bytes_left = current.bytes_left.saturating_sub(bytes);
        let writer = Arc::clone(&current.writer);

        let ends_soon = age + self.grace() >= self.settings.max_age
            || current.messages_left < self.settings.max_messages / 10
            || current.bytes_left < self.settings.max_bytes / 10;
        let allowed = state.refresh_after.is_none_or(|t| now >= t);
        if ends_soon && allowed && !state.refreshing {
            state.refreshing = true;
            drop(state);
            self.refresh_aside();
        }
        Some(Lease { writer, messages })
    }

    /// For ages of a few seconds, a fifth of them.
    fn grace(&self) -> Duration {
        Self::GRACE.min(self.settings.max_age / 5)
    }

    /// Fetches the next key while the current one goes on.
    fn refresh_aside(self: &Arc<Self>) {
        let keyring = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = keyring.fetch().await;
            let mut state = keyring.state.lock().expect("no panic while held");
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

    /// A fresh key, made the current one.
    async fn fetch(&self) -> Result<(), KeyError> {
        let writer = key::writer(&*self.source, &self.context, self.message).await?;
        self.fetched.fetch_add(1, Ordering::Relaxed);
        self.state.lock().expect("no panic while held").current = Some(Current {
            writer: Arc::new(writer),
            fetched: Instant::now(),
            messages_left: self.settings.max_messages,
            bytes_left: self.settings.max_bytes,
            fresh: true,
        });
        Ok(())
    }
}

impl Current {
    /// How many of these records, from the first, the limits still allow, and their bytes.
    fn affordable(&self, sizes: &[usize]) -> (usize, u64) {
        let most = usize::try_from(self.messages_left).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut messages = 0;
        for size in sizes.iter().take(most) {
            let with = bytes + *size as u64;
            // A record larger than any key's byte limit gets a key of its own, as in the caching CMM.
            let own_key = self.fresh && messages == 0;
            if with > self.bytes_left && !own_key {
                break;
            }
            bytes = with;
            messages += 1;
        }
        (messages, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::key::FreshKey;
    use crate::seal::message::{EncryptedDataKey, SecretKeyBytes};
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use std::sync::atomic::AtomicBool;

    #[derive(Debug, Default)]
    struct Source {
        calls: AtomicU64,
        down: AtomicBool,
        takes: Duration,
    }

    impl GenerateDataKey for Source {
        fn name(&self) -> &str {
            "test key"
        }

        fn encrypted_len_hint(&self) -> usize {
            40
        }

        fn generate<'a>(
            &'a self,
            _: &'a EncryptionContext,
            key_len: usize,
        ) -> BoxFuture<'a, Result<FreshKey, KeyError>> {
            async move {
                self.calls.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(self.takes).await;
                if self.down.load(Ordering::Relaxed) {
                    return Err(KeyError::Unreachable {
                        key: "test key".to_owned(),
                        message: "down".to_owned(),
                    });
                }
                Ok(FreshKey {
                    plaintext: SecretKeyBytes::new(vec![7; key_len]),
                    encrypted: vec![EncryptedDataKey {
                        provider: "test".to_owned(),
                        info: "key".into(),
                        ciphertext: "wrapped".into(),
                    }],
                })
            }
            .boxed()
        }
    }

    fn keyring(source: &Arc<Source>, settings: CacheSettings) -> Arc<Keyring> {
        let source: Arc<dyn GenerateDataKey> = Arc::<Source>::clone(source);
        Keyring::new(
            source,
            EncryptionContext::new(),
            settings,
            message::Settings::default(),
        )
    }

    fn slow() -> Arc<Source> {
        Arc::new(Source {
            takes: Duration::from_millis(50),
            ..Source::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_misses_make_one_call() {
        let source = slow();
        let keyring = keyring(&source, CacheSettings::default());
        let leases = (0..20).map(|_| keyring.lease(&[1, 2, 3]));
        for lease in futures_util::future::join_all(leases).await {
            assert_eq!(lease.unwrap().messages, 3);
        }
        assert_eq!(source.calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn message_limit_is_never_exceeded_and_cuts_the_chunk() {
        let source = Arc::new(Source::default());
        let settings = CacheSettings {
            max_messages: 25,
            ..CacheSettings::default()
        };
        let keyring = keyring(&source, settings);
        let mut per_key = std::collections::HashMap::new();
        for _ in 0..30 {
            let lease = keyring.lease(&[1; 10]).await.unwrap();
            *per_key.entry(Arc::as_ptr(&lease.writer)).or_insert(0) += lease.messages;
            // Keep every key alive, so that no address is used twice.
            std::mem::forget(lease);
        }
        assert!(per_key.values().all(|n| *n <= 25), "{per_key:?}");
        assert!(
            per_key.values().any(|n| *n > 10),
            "keys are shared: {per_key:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn byte_limit_holds_and_a_larger_record_gets_a_key_of_its_own() {
        let source = Arc::new(Source::default());
        let settings = CacheSettings {
            max_bytes: 1000,
            ..CacheSettings::default()
        };
        let keyring = keyring(&source, settings);
        assert_eq!(keyring.lease(&[400, 400, 400]).await.unwrap().messages, 2);
        let calls = source.calls.load(Ordering::Relaxed);
        assert_eq!(keyring.lease(&[5000, 1]).await.unwrap().messages, 1);
        assert_eq!(source.calls.load(Ordering::Relaxed), calls + 1);
        assert_eq!(keyring.lease(&[1]).await.unwrap().messages, 1);
        assert!(
            source.calls.load(Ordering::Relaxed) > calls + 1,
            "the large one's key is used up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn next_key_is_fetched_aside_before_the_current_one_expires() {
        let source = slow();
        let keyring = keyring(&source, CacheSettings::default());
        let first = keyring.lease(&[1]).await.unwrap();
        tokio::time::advance(Duration::from_secs(291)).await;
        let began = Instant::now();
        let second = keyring.lease(&[1]).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        assert!(Arc::ptr_eq(&first.writer, &second.writer));
        tokio::time::sleep(Duration::from_millis(60)).await;
        let third = keyring.lease(&[1]).await.unwrap();
        assert!(!Arc::ptr_eq(&first.writer, &third.writer));
        assert_eq!(source.calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_key_is_not_used_even_if_there_is_no_other() {
        let source = slow();
        let keyring = keyring(&source, CacheSettings::default());
        keyring.lease(&[1]).await.unwrap();
        source.down.store(true, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(295)).await;
        assert!(keyring.lease(&[1]).await.is_ok(), "still young enough");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(keyring.lease(&[1]).await.unwrap_err().is_outage());
        source.down.store(false, Ordering::Relaxed);
        assert!(keyring.lease(&[1]).await.is_ok());
    }
}
