//! Message → plaintext, with the keys that this process may use.
//!
//! Owns the choice of the key, the required context, and a cache of unwrapped data keys: a stream has one
//! data key per writer and cache period, and each would cost a call to KMS per record without it.
//!
//! Promises: one unwrap for any number of concurrent readers of the same data key; a key is forgotten after
//! `max_age`; data keys of suites that derive no key per message are never cached. Refuses: messages whose
//! stored context contradicts a required pair, before any key is asked.
//!
//! ```
//! use std::sync::Arc;
//! use kinseal::seal::message::message_in;
//! use kinseal::seal::open::{OpenSettings, Opener};
//! use kinseal::seal::EncryptionContext;
//! # use kinseal::seal::rawkey::WrappingKey;
//! # use kinseal::seal::sealer::Sealer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let key = Arc::new(WrappingKey::new("my-company", "laptop", &[7; 32])?);
//! # let expected = EncryptionContext::from([("app".into(), "shop".into())]);
//! # let sealer = Sealer::new(key.clone(), expected.clone(), Default::default(), Default::default())?;
//! # let record = bytes::Bytes::from(sealer.seal_to_string(b"AMZN").await?);
//! // Under KMS the expected key is `KmsUnwrap::new(clients.kms, ["arn:aws:kms:…"])`: no other is asked to open anything.
//! let expected = EncryptionContext::from([("app".into(), "shop".into())]);
//! let opener = Opener::new(vec![key], expected, OpenSettings::default())?;
//!
//! // A message, as it is or in base64; what is none was not encrypted.
//! let message = message_in(&record).ok_or("not encrypted")?;
//! let opened = opener.open(&message).await?;
//! assert_eq!(&opened.plaintext[..], b"AMZN");
//! assert_eq!(&*opened.wrapping_key, "my-company/laptop");
//! # Ok(())
//! # }
//! ```
//!
//! The work is in two halves, so that a caller may ask for the key on tokio and decrypt elsewhere:
//! [`Opener::data_key`] is async and does no cryptography on the record, [`Opener::open_with`] is pure.

mod cache;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use self::cache::KeyCache;
use super::key::{FirstError, KeyError, UnwrapDataKey};
use super::message::{
    ContextError, EncryptedDataKey, EncryptedDataKeyRef, EncryptionContext, Message, ReadError,
    ReadLimits, SecretKeyBytes, Suite, check_length,
};

use crate::metrics::{KeyCounts, Latency};

pub use super::message::looks_sealed;

/// How long unwrapped data keys are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSettings {
    /// How long a key whose access was revoked goes on opening.
    pub max_age: Duration,
    pub max_keys: usize,
    pub limits: ReadLimits,
}

impl Default for OpenSettings {
    /// 5 minutes, as on the writing side. 1,000 keys: so many writers in one cache period of theirs, at
    /// about 1 KB each.
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            max_keys: 1000,
            limits: ReadLimits::default(),
        }
    }
}

/// Opens messages.
#[derive(Debug)]
pub struct Opener {
    keys: Arc<[Arc<dyn UnwrapDataKey>]>,
    required: EncryptionContext,
    limits: ReadLimits,
    cache: KeyCache,
}

/// An unwrapped data key, and who unwrapped it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DataKey {
    secret: Arc<SecretKeyBytes>,
    wrapping_key: Arc<str>,
}

/// A message, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub plaintext: Bytes,
    /// As stored in the message: authenticated.
    pub context: EncryptionContext,
    /// The ARN of a KMS key, or `namespace/name`.
    pub wrapping_key: Arc<str>,
    pub suite: Suite,
}

/// Why a record was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error(transparent)]
    Message(#[from] ReadError),
    #[error(
        "wrong key: the data key was wrapped by {wrapped_by}, and no key given here is one of these; name it with --kms-key or --wrapping-key"
    )]
    NoKey { wrapped_by: String },
    #[error(transparent)]
    Key(Arc<KeyError>),
    /// Either the writer gave other values for these pairs, or none.
    #[error(
        "wrong encryption context: the message does not store the required {missing}, and its data key does not open with them"
    )]
    MissingPairs {
        missing: String,
        #[source]
        source: Arc<KeyError>,
    },
}

impl OpenError {
    /// The record may be fine: ask again later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Key(error) if error.is_outage())
    }
}

impl DataKey {
    /// Who unwrapped it: the ARN of a KMS key, or `namespace/name`.
    pub fn wrapping_key(&self) -> &Arc<str> {
        &self.wrapping_key
    }
}

impl Opener {
    /// Keys are asked in order. `required` pairs must be stored in the message and equal, or have been
    /// given by the writer without being stored.
    pub fn new(
        keys: Vec<Arc<dyn UnwrapDataKey>>,
        required: EncryptionContext,
        settings: OpenSettings,
    ) -> Result<Self, ContextError> {
        check_length(&required)?;
        Ok(Self {
            keys: keys.into(),
            required,
            limits: settings.limits,
            cache: KeyCache::new(settings.max_age, settings.max_keys),
        })
    }

    /// Both halves in one.
    pub async fn open(&self, record: &[u8]) -> Result<Opened, OpenError> {
        let message = self.parse(record)?;
        let key = self.data_key(&message).await?;
        self.open_with(&message, &key)
    }

    pub fn parse<'a>(&self, record: &'a [u8]) -> Result<Message<'a>, OpenError> {
        Ok(Message::parse(record, &self.limits)?)
    }

    /// From the cache, or from the first key that unwraps it. Cancel safe: another waiter, or the next,
    /// takes a started call over.
    pub async fn data_key(&self, message: &Message<'_>) -> Result<DataKey, OpenError> {
        // A hit needs no comparison with the required pairs: they are the same for every message of this
        // opener, and equal sections store equal pairs.
        let unwrapped = if message.suite().derives_key() {
            let flight = self
                .cache
                .find_or_start(message, || self.start_unwrap(message))?;
            flight.await
        } else {
            self.cache.passed_by();
            self.start_unwrap(message)?.await
        };
        unwrapped.map_err(|failure| self.explain(failure, message))
    }

    /// Pure: no clock, no I/O, no lock.
    pub fn open_with(&self, message: &Message<'_>, key: &DataKey) -> Result<Opened, OpenError> {
        let plaintext = message.open(key.secret.as_bytes(), &self.required)?;
        Ok(Opened {
            plaintext: plaintext.into(),
            context: message.context(),
            wrapping_key: Arc::clone(&key.wrapping_key),
            suite: message.suite(),
        })
    }

    /// The plaintexts alone, of messages under one data key: for several that came together, faster than one by one.
    pub fn open_all(
        &self,
        messages: &[Message<'_>],
        key: &DataKey,
    ) -> Vec<Result<Bytes, OpenError>> {
        let opened = Message::open_all(messages, key.secret.as_bytes(), &self.required);
        let opened = opened.into_iter();
        opened.map(|plaintext| Ok(plaintext?)).collect()
    }

    /// One hit or one miss for each data key asked for, and the calls made.
    pub fn counts(&self) -> KeyCounts {
        let calls = self.keys.iter().map(|key| key.calls());
        calls.fold(self.cache.counts(), KeyCounts::and_calls)
    }

    /// How long each call to a key service took.
    pub fn call_latency(&self) -> Latency {
        let mut latency = Latency::new();
        for calls in self.keys.iter().filter_map(|key| key.calls()) {
            latency.merge(&calls.latency());
        }
        latency
    }

    fn start_unwrap(&self, message: &Message<'_>) -> Result<Unwrapping, OpenError> {
        let context = message.full_context(&self.required)?;
        let edks = message
            .encrypted_data_keys()
            .map(EncryptedDataKeyRef::to_owned)
            .collect();
        let keys = Arc::clone(&self.keys);
        let key_len = message.suite().key_len();
        Ok(Box::pin(unwrap_any(keys, edks, context, key_len)))
    }

    fn explain(&self, failure: UnwrapFailure, message: &Message<'_>) -> OpenError {
        let source = match failure {
            UnwrapFailure::NotMine => {
                let wrapped_by = message
                    .encrypted_data_keys()
                    .map(|edk| edk.to_owned().wrapping_key());
                return OpenError::NoKey {
                    wrapped_by: wrapped_by.collect::<Vec<_>>().join(", "),
                };
            }
            UnwrapFailure::Key(error) => error,
        };
        let missing: Vec<_> = self
            .required
            .keys()
            .filter(|key| message.context_value(key).is_none())
            .map(|key| format!("\"{key}\""))
            .collect();
        if missing.is_empty() || !matches!(*source, KeyError::WrongContext { .. }) {
            return OpenError::Key(source);
        }
        OpenError::MissingPairs {
            missing: missing.join(", "),
            source,
        }
    }
}

type Unwrapping = BoxFuture<'static, Result<DataKey, UnwrapFailure>>;

/// Shared by all who wait for the same data key.
#[derive(Debug, Clone)]
enum UnwrapFailure {
    /// Every key said so.
    NotMine,
    Key(Arc<KeyError>),
}

/// One encrypted data key opened by one key is enough; an error of one does not stop the next.
async fn unwrap_any(
    keys: Arc<[Arc<dyn UnwrapDataKey>]>,
    edks: Vec<EncryptedDataKey>,
    context: EncryptionContext,
    key_len: usize,
) -> Result<DataKey, UnwrapFailure> {
    let mut told = FirstError::default();
    for edk in &edks {
        for key in keys.iter() {
            match key.unwrap(edk, &context, key_len).await {
                Ok(Some(secret)) => {
                    return Ok(DataKey {
                        secret: Arc::new(secret),
                        wrapping_key: edk.wrapping_key().into(),
                    });
                }
                Ok(None) => {}
                Err(error) => told.add(error),
            }
        }
    }
    Err(told.into_inner().map_or(UnwrapFailure::NotMine, |error| {
        UnwrapFailure::Key(Arc::new(error))
    }))
}

#[cfg(test)]
mod tests;
