//! Record → message, one at a time, for a program that calls PutRecord or PutRecords itself.
//!
//! The counterpart of [`super::open`]. Owns nothing but a [`Keyring`]: a data key is fetched once and used within its
//! limits, so that a record costs no call to KMS. Promises: what comes out is a whole message of the AWS Encryption SDK,
//! bound to the context, and never plaintext. Refuses: context pairs whose names are this program's own or the SDK's.
//! Aggregating, retrying and the rest of a record's way are [`crate::producer`]'s.
//!
//! ```
//! use std::sync::Arc;
//! use kinseal::batch::Limits;
//! use kinseal::record::PartitionKey;
//! use kinseal::seal::rawkey::WrappingKey;
//! use kinseal::seal::sealer::Sealer;
//! use kinseal::seal::{CacheSettings, EncryptionContext, message};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Under KMS it is `KmsKeys::new(clients.kms, ["alias/shop"])`.
//! let key = Arc::new(WrappingKey::new("my-company", "laptop", &[7; 32])?);
//! let context = EncryptionContext::from([("app".into(), "shop".into())]);
//! let sealer = Sealer::new(key, context, CacheSettings::default(), message::Settings::default())?;
//!
//! let message = sealer.seal(br#"{"tickerSymbol":"AMZN"}"#).await?;
//! // Before the call: the service would refuse it, and all that it has to say is a ValidationException.
//! Limits::default().check(message.len(), &PartitionKey::new("order-1")?)?;
//!
//! // As text, for consumers that are built on `decryptString`.
//! assert!(sealer.seal_to_string(b"AMZN").await?.starts_with("AgR4"));
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use super::key::{GenerateDataKey, KeyError};
use super::keyring::Keyring;
use super::message::{self, ContextError, Encoding, EncryptionContext, MessageIds};
use super::{CacheSettings, block};

/// Seals records, each as a message of its own.
#[derive(Debug, Clone)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    encoding: Encoding,
}

/// Why a context can not be sealed with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealerError {
    #[error("{}", block::Reserved(key))]
    ReservedContext { key: String },
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl Sealer {
    /// Makes no call: the first record does.
    pub fn new(
        keys: Arc<dyn GenerateDataKey>,
        context: EncryptionContext,
        cache: CacheSettings,
        message: message::Settings,
    ) -> Result<Self, SealerError> {
        if let Some(key) = block::reserved_key(&context) {
            let key = key.to_owned();
            return Err(SealerError::ReservedContext { key });
        }
        message.check_context(&context, None)?;
        Ok(Self {
            keyring: Keyring::new(keys, context, cache, message),
            encoding: message.encoding,
        })
    }

    /// The message, in the encoding of the settings. Fails where there is no data key to be had; ask again later.
    pub async fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, KeyError> {
        let writer = self.keyring.lease(&[plaintext.len()]).await?.writer;
        let mut message = Vec::with_capacity(writer.sealed_len(plaintext.len()));
        let id = MessageIds::for_messages(1).draw();
        writer.seal(id, plaintext, &mut message);
        Ok(message)
    }

    /// The message in base64 without line breaks, whatever the encoding of the settings: what the AWS Encryption SDK for
    /// Java makes with `encryptString`.
    pub async fn seal_to_string(&self, plaintext: &[u8]) -> Result<String, KeyError> {
        let sealed = self.seal(plaintext).await?;
        Ok(match self.encoding {
            Encoding::Binary => base64_simd::STANDARD.encode_to_string(sealed),
            Encoding::Base64 => String::from_utf8(sealed).expect("base64 is ASCII"),
        })
    }

    /// How long [`seal`](Self::seal) would make a record of so many bytes, exactly and without sealing it. Like a record
    /// it takes a use of the data key, which knows how long it is when wrapped.
    pub async fn sealed_len(&self, plaintext_len: usize) -> Result<usize, KeyError> {
        let writer = self.keyring.lease(&[plaintext_len]).await?.writer;
        Ok(writer.sealed_len(plaintext_len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::open::{OpenSettings, Opener, looks_sealed};
    use crate::seal::rawkey::WrappingKey;

    fn key() -> Arc<WrappingKey> {
        Arc::new(WrappingKey::new("tests", "wrapping", &[7; 32]).unwrap())
    }

    fn context(name: &str) -> EncryptionContext {
        EncryptionContext::from([(name.to_owned(), "shop".to_owned())])
    }

    fn sealer(encoding: Encoding) -> Sealer {
        let settings = message::Settings {
            encoding,
            ..message::Settings::default()
        };
        Sealer::new(key(), context("app"), CacheSettings::default(), settings).unwrap()
    }

    #[tokio::test]
    async fn what_is_sealed_is_opened_with_the_expected_key_and_context_alone() {
        let message = sealer(Encoding::Binary).seal(b"AMZN").await.unwrap();
        let opener = |key, context| {
            Opener::new(vec![key], context, OpenSettings::default()).expect("a short context")
        };
        let opened = opener(key(), context("app")).open(&message).await.unwrap();
        assert_eq!(opened.plaintext, &b"AMZN"[..]);
        assert_eq!(&*opened.wrapping_key, "tests/wrapping");
        assert_eq!(opened.context, context("app"));

        let another = Arc::new(WrappingKey::new("tests", "another", &[8; 32]).unwrap());
        assert!(
            opener(another, context("app"))
                .open(&message)
                .await
                .is_err()
        );
        assert!(opener(key(), context("team")).open(&message).await.is_err());
    }

    #[tokio::test]
    async fn the_length_told_is_the_length_sealed_in_either_encoding() {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let sealer = sealer(encoding);
            for len in [0, 1, 200, 4096, 4097, 50_000] {
                let message = sealer.seal(&vec![b'x'; len]).await.unwrap();
                let told = sealer.sealed_len(len).await.unwrap();
                assert_eq!(message.len(), told, "{encoding:?} {len}");
            }
        }
    }

    #[tokio::test]
    async fn a_string_is_base64_of_one_message_in_either_encoding() {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let text = sealer(encoding).seal_to_string(b"AMZN").await.unwrap();
            let message = base64_simd::STANDARD.decode_to_vec(&text).unwrap();
            assert!(looks_sealed(&message), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn many_records_are_sealed_under_one_data_key_and_no_two_alike() {
        let sealer = sealer(Encoding::Binary);
        let first = sealer.seal(b"AMZN").await.unwrap();
        let second = sealer.seal(b"AMZN").await.unwrap();
        assert_ne!(first, second);
        assert_eq!(sealer.keyring.keys_fetched(), 1);
    }

    #[test]
    fn names_of_others_are_refused_in_a_context() {
        let error = |name: &str| {
            let settings = message::Settings::default();
            let made = Sealer::new(key(), context(name), CacheSettings::default(), settings);
            made.expect_err("it is reserved")
        };
        let ours = error("kinseal-block");
        assert!(matches!(ours, SealerError::ReservedContext { key } if key == "kinseal-block"));
        let sdk = error("aws-crypto-public-key");
        assert!(matches!(
            sdk,
            SealerError::Context(ContextError::Reserved { .. })
        ));
    }
}
