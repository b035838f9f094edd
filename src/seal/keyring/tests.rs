//! The cache's laws, most of them on a paused clock.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use super::*;
use crate::seal::key::FreshKey;
use crate::seal::message::{EncryptedDataKey, Message, MessageIds, ReadLimits, SecretKeyBytes};

#[derive(Debug, Default)]
struct Source {
    calls: AtomicU64,
    down: AtomicBool,
    takes: Duration,
    asked_for: Mutex<Vec<(EncryptionContext, usize)>>,
}

impl Source {
    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
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
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<FreshKey, KeyError>> {
        async move {
            let asked = (context.clone(), key_len);
            self.asked_for.lock().expect("no panics").push(asked);
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
    taking(Duration::from_millis(50))
}

fn taking(takes: Duration) -> Arc<Source> {
    Arc::new(Source {
        takes,
        ..Source::default()
    })
}

async fn advance(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_make_one_call() {
    let source = slow();
    let keyring = keyring(&source, CacheSettings::default());
    let leases = (0..20).map(|_| keyring.lease(&[1, 2, 3]));
    for lease in join_all(leases).await {
        assert_eq!(lease.unwrap().messages, 3);
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn message_limit_is_never_exceeded_and_cuts_the_chunk() {
    let source = Arc::new(Source::default());
    let settings = CacheSettings {
        max_messages: 25,
        ..CacheSettings::default()
    };
    let keyring = keyring(&source, settings);
    let mut per_key = HashMap::new();
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
    let calls = source.calls();
    assert_eq!(keyring.lease(&[5000, 1]).await.unwrap().messages, 1);
    assert_eq!(source.calls(), calls + 1);
    assert_eq!(keyring.lease(&[1]).await.unwrap().messages, 1);
    assert!(source.calls() > calls + 1, "the large one's key is used up");
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
    assert_eq!(source.calls(), 2);
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

#[tokio::test(start_paused = true)]
async fn those_who_waited_for_a_failed_call_share_its_failure() {
    let source = slow();
    source.down.store(true, Ordering::Relaxed);
    let keyring = keyring(&source, CacheSettings::default());
    let leases = (0..20).map(|_| keyring.lease(&[1]));
    for lease in join_all(leases).await {
        assert!(lease.unwrap_err().is_outage());
    }
    assert_eq!(source.calls(), 1);
    // It is no memory: who comes later asks again.
    source.down.store(false, Ordering::Relaxed);
    assert!(keyring.lease(&[1]).await.is_ok());
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn exactly_one_task_refreshes_and_nobody_waits() {
    let source = slow();
    let keyring = keyring(&source, CacheSettings::default());
    let first = keyring.lease(&[1]).await.unwrap();
    advance(291).await;
    let began = Instant::now();
    let tasks = (0..50).map(|_| {
        let keyring = Arc::clone(&keyring);
        tokio::spawn(async move { keyring.lease(&[1]).await.unwrap() })
    });
    for lease in join_all(tasks).await {
        assert!(Arc::ptr_eq(&lease.unwrap().writer, &first.writer));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_pauses_and_the_old_key_goes_on() {
    let source = slow();
    let keyring = keyring(&source, CacheSettings::default());
    let first = keyring.lease(&[1]).await.unwrap();
    source.down.store(true, Ordering::Relaxed);
    advance(291).await;
    for _ in 0..80 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let lease = keyring.lease(&[1]).await.unwrap();
        assert!(Arc::ptr_eq(&lease.writer, &first.writer));
    }
    let refreshes = source.calls() - 1;
    assert!((6..=8).contains(&refreshes), "{refreshes} in 8 seconds");
}

#[tokio::test(start_paused = true)]
async fn who_misses_waits_for_a_refresh_under_way() {
    let source = taking(Duration::from_secs(20));
    let keyring = keyring(&source, CacheSettings::default());
    let first = keyring.lease(&[1]).await.unwrap();
    // The key is as old as its call: 20 s when it came.
    advance(271).await;
    keyring.lease(&[1]).await.unwrap();
    tokio::task::yield_now().await;
    advance(10).await;
    let second = keyring.lease(&[1]).await.unwrap();
    assert!(!Arc::ptr_eq(&first.writer, &second.writer));
    assert_eq!(source.calls(), 2, "the refresh, and no call beside it");
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_the_start_of_the_call() {
    let source = taking(Duration::from_secs(60));
    let keyring = keyring(&source, CacheSettings::default());
    keyring.lease(&[1]).await.unwrap();
    assert_eq!(keyring.in_use().unwrap().age, Duration::from_secs(60));
    advance(240).await;
    assert_eq!(keyring.in_use(), None);
    keyring.lease(&[1]).await.unwrap();
    assert_eq!(source.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_slower_than_the_age_serves_who_waited_and_no_other() {
    let source = taking(Duration::from_secs(7));
    let settings = CacheSettings {
        max_age: Duration::from_secs(5),
        ..CacheSettings::default()
    };
    let keyring = keyring(&source, settings);
    let mut writers = Vec::new();
    for calls in 1..=3 {
        writers.push(keyring.lease(&[1]).await.unwrap().writer);
        assert_eq!(source.calls(), calls);
    }
    assert!(!Arc::ptr_eq(&writers[0], &writers[1]));
    assert!(!Arc::ptr_eq(&writers[1], &writers[2]));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_bound_to_the_context_and_the_suite_of_its_keyring() {
    let source = Arc::new(Source::default());
    for (app, suite) in [("shop", "0478"), ("bank", "0114"), ("bank", "0578")] {
        let context = EncryptionContext::from([("app".to_owned(), app.to_owned())]);
        let message = message::Settings {
            suite: suite.parse().unwrap(),
            ..message::Settings::default()
        };
        let source: Arc<dyn GenerateDataKey> = Arc::<Source>::clone(&source);
        let keyring = Keyring::new(source, context, CacheSettings::default(), message);
        for _ in 0..5 {
            let lease = keyring.lease(&[1]).await.unwrap();
            let mut sealed = Vec::new();
            lease
                .writer
                .seal(MessageIds::new().draw(), b"x", &mut sealed);
            let sealed = Message::parse(&sealed, &ReadLimits::default()).unwrap();
            assert_eq!(sealed.suite(), message.suite);
            assert_eq!(sealed.context_value("app"), Some(app));
        }
    }
    let asked = source.asked_for.lock().unwrap();
    let asked: Vec<_> = asked
        .iter()
        .map(|(c, len)| (&*c["app"], c.len(), *len))
        .collect();
    // The third has the public key of a signature in its context.
    assert_eq!(asked, [("shop", 1, 32), ("bank", 1, 16), ("bank", 2, 32)]);
}

#[tokio::test(start_paused = true)]
async fn each_lease_is_a_hit_or_a_miss() {
    let source = slow();
    let keyring = keyring(&source, CacheSettings::default());
    join_all((0..3).map(|_| keyring.lease(&[1, 2]))).await;
    for _ in 0..5 {
        keyring.lease(&[10; 4]).await.unwrap();
    }
    let counts = keyring.counts();
    assert_eq!((counts.hits, counts.misses), (5, 3));
    let in_use = keyring.in_use().unwrap();
    assert_eq!(
        (in_use.messages, in_use.bytes),
        (3 * 2 + 5 * 4, 3 * 3 + 5 * 40)
    );
}

/// On real threads: what was handed out is added up per key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_limit_is_exceeded_by_threads_side_by_side() {
    let (max_messages, max_bytes) = (40, 1500);
    let settings = CacheSettings {
        max_messages,
        max_bytes,
        ..CacheSettings::default()
    };
    let source = Arc::new(Source::default());
    let keyring = keyring(&source, settings);
    let tasks = (1..=16_usize).map(|task| {
        let keyring = Arc::clone(&keyring);
        tokio::spawn(async move {
            let mut leases = Vec::new();
            for n in 0..200 {
                let sizes = vec![10 * task; 1 + (n + task) % 20];
                let lease = keyring.lease(&sizes).await.unwrap();
                leases.push((lease.writer, lease.messages, 10 * task));
            }
            leases
        })
    });
    let leases: Vec<_> = join_all(tasks)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    let mut used: HashMap<_, (usize, usize)> = HashMap::new();
    // The leases keep their keys, so that no address is used twice.
    for (writer, messages, size) in &leases {
        assert!(*messages >= 1);
        let (of_key, bytes) = used.entry(Arc::as_ptr(writer)).or_default();
        *of_key += messages;
        *bytes += messages * size;
    }
    for (messages, bytes) in used.values() {
        assert!(*messages as u64 <= max_messages, "{messages}");
        assert!(*bytes as u64 <= max_bytes, "{bytes}");
    }
    assert!(used.len() > 100, "{} keys", used.len());
    let counts = keyring.counts();
    assert_eq!(counts.hits + counts.misses, leases.len() as u64);
}
