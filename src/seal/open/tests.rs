//! Messages of other implementations, and the cache's laws.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::*;
use crate::seal::key::{self, GenerateDataKey};
use crate::seal::message::{Content, MessageIds, Version};
use crate::seal::rawkey::WrappingKey;

#[derive(Deserialize)]
struct Manifest {
    keys: BTreeMap<String, HexKey>,
    tests: Vec<Vector>,
}

#[derive(Deserialize)]
struct HexKey {
    hex: String,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    ciphertext: PathBuf,
    key: String,
    namespace: String,
    key_name: String,
    plaintext: Option<PathBuf>,
    expect: String,
    full_context: EncryptionContext,
    required_context: EncryptionContext,
    version: Option<u8>,
    suite: Option<String>,
    content_type: Option<String>,
    frame_length: Option<u32>,
    header_context: Option<EncryptionContext>,
    overhead: Option<usize>,
}

fn vectors() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

fn manifest() -> Manifest {
    let text = fs::read_to_string(vectors().join("manifest.json")).expect("the manifest is there");
    serde_json::from_str(&text).expect("the manifest parses")
}

impl Vector {
    fn message(&self) -> Vec<u8> {
        fs::read(vectors().join(&self.ciphertext)).expect("the ciphertext is there")
    }

    fn opener(&self, manifest: &Manifest) -> Opener {
        let hex = &manifest.keys[&self.key].hex;
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let key = WrappingKey::new(&self.namespace, &self.key_name, &bytes).expect("valid");
        opener(vec![Arc::new(key)], self.required_context.clone())
    }
}

fn opener(keys: Vec<Arc<dyn UnwrapDataKey>>, required: EncryptionContext) -> Opener {
    Opener::new(keys, required, OpenSettings::default()).expect("short context")
}

#[tokio::test]
async fn messages_of_other_implementations_open_or_are_refused() {
    let manifest = manifest();
    for vector in &manifest.tests {
        let name = &vector.name;
        let message = vector.message();
        let opened = vector.opener(&manifest).open(&message).await;
        if vector.expect == "reject" {
            assert!(opened.is_err(), "{name} opened");
            continue;
        }
        let opened = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        let path = vector
            .plaintext
            .as_ref()
            .expect("what opens has a plaintext");
        let plaintext = fs::read(vectors().join(path)).expect("the plaintext is there");
        assert!(opened.plaintext == plaintext, "{name}: another plaintext");
        assert_eq!(Some(opened.suite.to_string()), vector.suite, "{name}");
        assert_eq!(
            Some(&opened.context),
            vector.header_context.as_ref(),
            "{name}"
        );
        let overhead = message.len() - plaintext.len();
        assert_eq!(Some(overhead), vector.overhead, "{name}");

        let parsed = Message::parse(&message, &ReadLimits::default()).expect("opened before");
        let version = match parsed.suite().version() {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        assert_eq!(Some(version), vector.version, "{name}");
        let (content_type, frame_length) = match parsed.content() {
            Content::Framed { frame_length } => ("framed", frame_length),
            Content::Unframed => ("non-framed", 0),
        };
        assert_eq!(Some(content_type), vector.content_type.as_deref(), "{name}");
        assert_eq!(Some(frame_length), vector.frame_length, "{name}");
    }
    assert!(manifest.tests.len() >= 71);
}

/// The pairs were given when the message was made, so the reader may insist on them.
#[tokio::test]
async fn messages_of_other_implementations_keep_their_context() {
    let manifest = manifest();
    let insists = |vector: &Vector, required| {
        let mut opener = vector.opener(&manifest);
        opener.required = required;
        opener
    };
    for vector in manifest.tests.iter().filter(|vector| vector.expect == "ok") {
        let message = vector.message();
        let opened = insists(vector, vector.full_context.clone())
            .open(&message)
            .await;
        assert!(opened.is_ok(), "{}: {opened:?}", vector.name);
        let mut other = vector.full_context.clone();
        other.insert("Kinesis".to_owned(), "bikes".to_owned());
        let opened = insists(vector, other).open(&message).await;
        assert!(opened.is_err(), "{} opened", vector.name);
    }
}

/// One framed message of each suite, every bit: in header, keys, frames and signature.
#[tokio::test]
async fn any_flipped_bit_is_refused_in_every_suite() {
    let manifest = manifest();
    let of_each_suite = |vector: &&Vector| vector.name.ends_with("-framed4096-200");
    for vector in manifest.tests.iter().filter(of_each_suite) {
        let message = vector.message();
        let key = vector.opener(&manifest);
        for bit in 0..message.len() * 8 {
            let mut bytes = message.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let opened = key.open(&bytes).await;
            assert!(opened.is_err(), "{}: bit {bit}", vector.name);
        }
    }
}

fn context() -> EncryptionContext {
    EncryptionContext::from([("app".to_owned(), "shop".to_owned())])
}

fn wrapping_key() -> Arc<WrappingKey> {
    Arc::new(WrappingKey::new("shop", "orders", &[7; 32]).expect("valid"))
}

async fn sealed_by(key: &dyn GenerateDataKey) -> Vec<u8> {
    let writer = key::writer(key, &context(), Default::default())
        .await
        .expect("generated");
    let mut message = Vec::new();
    writer.seal(MessageIds::new().draw(), b"a sale", &mut message);
    message
}

/// Counts, waits for permits, and fails when told to.
#[derive(Debug)]
struct Watched {
    key: Arc<WrappingKey>,
    calls: AtomicUsize,
    gate: Semaphore,
    failure: Option<KeyError>,
}

impl Watched {
    fn new(permits: usize, failure: Option<KeyError>) -> Arc<Self> {
        Arc::new(Self {
            key: wrapping_key(),
            calls: AtomicUsize::new(0),
            gate: Semaphore::new(permits),
            failure,
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl UnwrapDataKey for Watched {
    fn unwrap<'a>(
        &'a self,
        edk: &'a EncryptedDataKey,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<Option<SecretKeyBytes>, KeyError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let _permit = self.gate.acquire().await;
            match &self.failure {
                Some(failure) => Err(failure.clone()),
                None => self.key.unwrap(edk, context, key_len).await,
            }
        })
    }
}

#[tokio::test]
async fn concurrent_misses_make_one_unwrap() {
    let watched = Watched::new(0, None);
    let opener = opener(vec![Arc::<Watched>::clone(&watched)], context());
    let message = sealed_by(&*wrapping_key()).await;
    let readers = join_all((0..50).map(|_| opener.open(&message)));
    let (opened, ()) = tokio::join!(readers, async {
        tokio::task::yield_now().await;
        watched.gate.add_permits(1);
    });
    assert!(
        opened
            .iter()
            .all(|opened| opened.as_ref().is_ok_and(|o| o.plaintext == "a sale"))
    );
    assert_eq!(watched.calls(), 1);
    assert_eq!((opener.counts().hits, opener.counts().misses), (0, 50));
}

#[tokio::test]
async fn a_dropped_reader_leaves_its_call_to_the_next() {
    let watched = Watched::new(0, None);
    let opener = opener(vec![Arc::<Watched>::clone(&watched)], context());
    let message = sealed_by(&*wrapping_key()).await;
    let mut first = Box::pin(opener.open(&message));
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    watched.gate.add_permits(1);
    assert!(opener.open(&message).await.is_ok());
    assert_eq!(watched.calls(), 1);
}

#[tokio::test]
async fn an_error_of_one_key_does_not_stop_the_next_and_an_outage_is_told_first() {
    let error = |outage: bool| {
        let (key, message) = ("alias/shop".to_owned(), "told so".to_owned());
        Some(match outage {
            true => KeyError::Throttled { key, message },
            false => KeyError::WrongKey { key, message },
        })
    };
    let refusing = || Watched::new(1, error(false));
    let out = || Watched::new(1, error(true));
    let message = sealed_by(&*wrapping_key()).await;
    let reader = opener(vec![refusing(), out(), wrapping_key()], context());
    assert!(reader.open(&message).await.is_ok());
    for keys in [[refusing(), out()], [out(), refusing()]] {
        let keys = keys.map(|key| key as Arc<dyn UnwrapDataKey>);
        let refused = opener(keys.into(), context()).open(&message).await;
        assert!(refused.expect_err("no key left").is_outage());
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_forgotten_after_its_age() {
    let watched = Watched::new(1, None);
    let opener = opener(vec![Arc::<Watched>::clone(&watched)], context());
    let message = sealed_by(&*wrapping_key()).await;
    for (advance, calls) in [(0, 1), (299, 1), (1, 2), (299, 2)] {
        tokio::time::advance(Duration::from_secs(advance)).await;
        assert!(opener.open(&message).await.is_ok());
        assert_eq!(watched.calls(), calls);
    }
}

#[tokio::test]
async fn the_longest_unused_key_makes_room() {
    let watched = Watched::new(1, None);
    let settings = OpenSettings {
        max_keys: 2,
        ..OpenSettings::default()
    };
    let opener = Opener::new(vec![Arc::<Watched>::clone(&watched)], context(), settings)
        .expect("short context");
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(sealed_by(&*wrapping_key()).await);
    }
    for (message, calls) in [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)] {
        assert!(opener.open(&messages[message]).await.is_ok());
        assert_eq!(watched.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_asked_again_and_a_refusal_is_remembered_for_a_while() {
    let key = || "alias/shop".to_owned();
    let message = || "told so".to_owned();
    let outage = KeyError::Unreachable {
        key: key(),
        message: message(),
    };
    let refusal = KeyError::NotFound {
        key: key(),
        message: message(),
    };
    let sealed = sealed_by(&*wrapping_key()).await;

    let watched = Watched::new(1, Some(outage));
    let reader = opener(vec![Arc::<Watched>::clone(&watched)], context());
    for calls in [1, 2] {
        assert!(reader.open(&sealed).await.expect_err("fails").is_outage());
        assert_eq!(watched.calls(), calls);
    }

    let watched = Watched::new(1, Some(refusal));
    let reader = opener(vec![Arc::<Watched>::clone(&watched)], context());
    for (advance, calls) in [(0, 1), (9, 1), (1, 2)] {
        tokio::time::advance(Duration::from_secs(advance)).await;
        assert!(!reader.open(&sealed).await.expect_err("fails").is_outage());
        assert_eq!(watched.calls(), calls);
    }
}

#[tokio::test]
async fn keys_without_derivation_are_never_cached() {
    let manifest = manifest();
    let vector = manifest
        .tests
        .iter()
        .find(|vector| vector.suite.as_deref() == Some("0014"))
        .expect("there is one");
    let reader = vector.opener(&manifest);
    for misses in [1, 2] {
        assert!(reader.open(&vector.message()).await.is_ok());
        assert_eq!((reader.counts().hits, reader.counts().misses), (0, misses));
    }
    assert!(reader.cache.is_empty());
}

#[tokio::test]
async fn errors_name_key_and_context() {
    let message = sealed_by(&*wrapping_key()).await;
    let refused = async |keys: Vec<Arc<dyn UnwrapDataKey>>, required| {
        opener(keys, required)
            .open(&message)
            .await
            .expect_err("refused")
            .to_string()
    };
    let pair =
        |key: &str, value: &str| EncryptionContext::from([(key.to_owned(), value.to_owned())]);

    let other = Arc::new(WrappingKey::new("bank", "orders", &[7; 32]).expect("valid"));
    let error = refused(vec![other], context()).await;
    assert!(
        error.contains("wrong key") && error.contains("shop/orders"),
        "{error}"
    );

    let error = refused(vec![wrapping_key()], pair("app", "bank")).await;
    assert!(
        error.contains("wrong encryption context") && error.contains("\"app\""),
        "{error}"
    );

    let error = refused(vec![wrapping_key()], pair("tenant", "7")).await;
    assert!(
        error.contains("wrong encryption context") && error.contains("\"tenant\""),
        "{error}"
    );

    let plain = opener(vec![wrapping_key()], context())
        .open(b"{\"a\":1}")
        .await;
    assert_eq!(plain, Err(OpenError::Message(ReadError::NotAMessage)));
}
