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
