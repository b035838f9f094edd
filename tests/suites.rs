//! Every suite that is written, held against AWS's Encryption SDK for Python in both directions: what we seal it
//! opens, what it seals we open, under a raw AES key and under moto's KMS.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kinseal::aws::{self, Clients, Credentials, TimeOuts};
use kinseal::seal::EncryptionContext;
use kinseal::seal::key::{self, GenerateDataKey, UnwrapDataKey};
use kinseal::seal::kms::{KmsKeys, KmsUnwrap};
use kinseal::seal::message::{Encoding, MessageIds, Settings, Suite, message_in};
use kinseal::seal::open::{OpenError, OpenSettings, Opener};
use kinseal::seal::rawkey::WrappingKey;

use crate::support::peers::{self, PeerKey};
use crate::support::servers::{Endpoints, Moto};

const CONTEXT: [(&str, &str); 2] = [("Kinesis", "cars"), ("stream", "orders")];
const FRAME: usize = 128;

#[tokio::test]
async fn python_opens_what_we_seal_under_a_wrapping_key() {
    let raw = RawKey::create();
    let key = WrappingKey::load(&raw.path).expect("just made");
    for suite in Suite::written() {
        let messages = seal_all(&key, suite, Encoding::Binary).await;
        expect_opened_by_python(PeerKey::Raw(&raw.words()), suite, &messages);
    }
}

#[test]
fn python_opens_what_we_seal_under_kms() {
    let moto = Moto::start();
    let arn = moto.endpoints.create_key();
    block_on(async {
        let key = KmsKeys::new(clients(&moto.endpoints).await.kms, [&arn]).expect("one key");
        for suite in Suite::written() {
            let messages = seal_all(&key, suite, Encoding::Binary).await;
            let peer = PeerKey::Kms {
                endpoint: &moto.endpoints.kms,
                arn: &arn,
            };
            expect_opened_by_python(peer, suite, &messages);
        }
    });
}

#[tokio::test]
async fn we_open_what_python_seals_under_a_wrapping_key() {
    let raw = RawKey::create();
    let key = WrappingKey::load(&raw.path).expect("just made");
    let opener = opener(Arc::new(key), &CONTEXT);
    for suite in Suite::written() {
        let messages = sealed_by_python(PeerKey::Raw(&raw.words()), suite);
        expect_opened_here(&opener, suite, &messages).await;
    }
}

#[test]
fn we_open_what_python_seals_under_kms() {
    let moto = Moto::start();
    let arn = moto.endpoints.create_key();
    block_on(async {
        let unwrap = KmsUnwrap::new(clients(&moto.endpoints).await.kms, [&arn]);
        let opener = opener(Arc::new(unwrap), &CONTEXT);
        let peer = PeerKey::Kms {
            endpoint: &moto.endpoints.kms,
            arn: &arn,
        };
        for suite in Suite::written() {
            expect_opened_here(&opener, suite, &sealed_by_python(peer, suite)).await;
        }
    });
}

/// Python's keyrings are strict: each knows one of the keys only.
#[test]
fn each_of_several_keys_opens_alone_what_was_sealed_under_all() {
    let moto = Moto::start();
    let arns = [(); 3].map(|()| moto.endpoints.create_key());
    block_on(async {
        let kms = clients(&moto.endpoints).await.kms;
        let keys = KmsKeys::new(kms.clone(), &arns).expect("three keys");
        for suite in Suite::written() {
            let messages = seal_all(&keys, suite, Encoding::Binary).await;
            for arn in &arns {
                let unwrap = KmsUnwrap::new(kms.clone(), [arn]);
                let opener = opener(Arc::new(unwrap), &CONTEXT);
                expect_opened_here(&opener, suite, &messages).await;
            }
            let last = PeerKey::Kms {
                endpoint: &moto.endpoints.kms,
                arn: &arns[2],
            };
            expect_opened_by_python(last, suite, &messages);
        }
    });
}

/// Each way with its own words for it.
#[tokio::test]
async fn both_refuse_what_is_bound_to_another_context() {
    let raw = RawKey::create();
    let other = [("Kinesis", "boats")];
    let suite = Suite::default();
    let key = WrappingKey::load(&raw.path).expect("just made");

    let message = seal_all(&key, suite, Encoding::Binary).await.swap_remove(0);
    let opened = peers::open_messages(PeerKey::Raw(&raw.words()), &other, [message]);
    let error = opened[0].error.as_deref().expect("refused");
    assert!(error.contains("context"), "{error}");

    let message = sealed_by_python(PeerKey::Raw(&raw.words()), suite).swap_remove(0);
    let error = opener(Arc::new(key), &other).open(&message).await;
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("wrong encryption context"), "{error}");
}

/// As programs of the time before keyrings read and write: strings in base64 under a master key provider, signed,
/// without commitment, and with the key's ARN compared.
#[test]
fn strings_pass_between_us_and_a_master_key_provider() {
    let moto = Moto::start();
    let arn = moto.endpoints.create_key();
    block_on(async {
        let kms = clients(&moto.endpoints).await.kms;
        let peer = PeerKey::Kms {
            endpoint: &moto.endpoints.kms,
            arn: &arn,
        };
        for suite in Suite::written().filter(|suite| !suite.commits()) {
            let texts = seal_all(
                &KmsKeys::new(kms.clone(), [&arn]).expect("one key"),
                suite,
                Encoding::Base64,
            )
            .await;
            let messages: Vec<Vec<u8>> = texts.iter().map(|text| from_base64(text)).collect();
            let more = ["--master-key-provider", "--allow-uncommitted"];
            let opened = peers::open_messages_with(peer, &CONTEXT, &more, &messages);
            for (plaintext, opened) in plaintexts().iter().zip(&opened) {
                assert_eq!(&opened.plaintext(), plaintext);
                assert_eq!(opened.key, arn);
            }

            let id = suite.to_string();
            let more = ["--master-key-provider", "--encrypt-string", "--suite", &id];
            let texts = peers::seal_messages(peer, &CONTEXT, &more, plaintexts());
            let unwrap = KmsUnwrap::new(kms.clone(), [&arn]);
            let opener = opener(Arc::new(unwrap), &CONTEXT);
            let messages: Vec<_> = texts
                .into_iter()
                .map(|text| message_in(&Bytes::from(text)).expect("recognised").to_vec())
                .collect();
            expect_opened_here(&opener, suite, &messages).await;
        }
    });
}

/// None, one, a frame, a frame and a bit, several frames, and no text.
fn plaintexts() -> Vec<Vec<u8>> {
    let text = |len| b"stock sale ".iter().copied().cycle().take(len).collect();
    let mut all: Vec<Vec<u8>> = [0, 1, FRAME, FRAME + 1, 5 * FRAME + 7].map(text).into();
    all.push((0..=255).collect());
    all
}

async fn seal_all(key: &dyn GenerateDataKey, suite: Suite, encoding: Encoding) -> Vec<Vec<u8>> {
    let settings = Settings {
        suite,
        frame_length: FRAME as u32,
        encoding,
        ..Settings::default()
    };
    let writer = key::writer(key, &context(&CONTEXT), settings)
        .await
        .expect("a data key");
    let mut ids = MessageIds::new();
    let seal = |plaintext: &Vec<u8>| {
        let mut message = Vec::new();
        writer.seal(ids.draw(), plaintext, &mut message);
        message
    };
    plaintexts().iter().map(seal).collect()
}

fn expect_opened_by_python(key: PeerKey<'_>, suite: Suite, messages: &[Vec<u8>]) {
    let more: &[&str] = match suite.commits() {
        true => &[],
        false => &["--allow-uncommitted"],
    };
    let opened = peers::open_messages_with(key, &CONTEXT, more, messages);
    assert_eq!(opened.len(), messages.len());
    for (plaintext, opened) in plaintexts().iter().zip(&opened) {
        assert_eq!(&opened.plaintext(), plaintext, "{suite}");
        assert_eq!(opened.suite, suite.to_string());
    }
}

fn sealed_by_python(key: PeerKey<'_>, suite: Suite) -> Vec<Vec<u8>> {
    let (id, frame) = (suite.to_string(), FRAME.to_string());
    let more = ["--suite", &id, "--frame-length", &frame];
    peers::seal_messages(key, &CONTEXT, &more, plaintexts())
}

async fn expect_opened_here(opener: &Opener, suite: Suite, messages: &[Vec<u8>]) {
    assert_eq!(messages.len(), plaintexts().len());
    for (plaintext, message) in plaintexts().iter().zip(messages) {
        let opened: Result<_, OpenError> = opener.open(message).await;
        let opened = opened.unwrap_or_else(|error| panic!("{suite}: {error}"));
        assert_eq!(opened.plaintext, plaintext, "{suite}");
        assert_eq!(opened.suite, suite);
    }
}

fn opener(key: Arc<dyn UnwrapDataKey>, required: &[(&str, &str)]) -> Opener {
    Opener::new(vec![key], context(required), OpenSettings::default()).expect("a short context")
}

/// For tests whose servers have a runtime of their own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    owned.collect()
}

fn from_base64(text: &[u8]) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(text).expect("base64")
}

async fn clients(endpoints: &Endpoints) -> Clients {
    let settings = aws::Settings {
        region: Some("eu-west-1".to_owned()),
        kinesis_endpoint_url: Some(endpoints.kinesis.clone()),
        kms_endpoint_url: Some(endpoints.kms.clone()),
        credentials: Some(Credentials::new("test", "test")),
        ..aws::Settings::default()
    };
    aws::clients(&settings, TimeOuts::default())
        .await
        .expect("settings that need no looking up")
}

struct RawKey {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl RawKey {
    fn create() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("wrapping.key");
        WrappingKey::create(&path, "shop", "orders").expect("nothing there before");
        Self {
            _folder: folder,
            path,
        }
    }

    fn words(&self) -> String {
        peers::raw_key(Path::new(&self.path))
    }
}
