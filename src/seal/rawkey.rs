//! A wrapping key in a local file, for hosts without KMS, for tests and for the demo.
//!
//! Owns the file's form and the raw AES wrapping of data keys. Promises: a key file is created with mode
//! 0600 and never overwritten, and one that group or others may use is refused; the key is wiped from
//! memory and never printed, not even in the message about a file that does not parse.
//!
//! Source: `framework/raw-aes-keyring.md` of the AWS Encryption SDK specification, so any AWS Encryption
//! SDK with a raw AES keyring of the same namespace, name and key opens what this wraps.
//!
//! ```text
//! provider    namespace
//! info        name | tag bits(4)=128 | iv length(4)=12 | iv(12)
//! ciphertext  AES-GCM(key, data key, AAD = encryption context) | tag(16)
//! ```

mod beside;
mod file;

use std::fmt;

use aws_lc_rs::rand;
use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::key::{FreshKey, GenerateDataKey, KeyError, UnwrapDataKey};
use super::message::{
    Aead, Backend, Cipher, EncryptedDataKey, EncryptionContext, IV_LEN, Iv, SecretKeyBytes,
    TAG_LEN, check_length, serialize_pairs,
};

pub use beside::WrappedBeside;
pub(crate) use file::redacted;
pub use file::{KeySize, WrappingKeyFileError};

/// A raw AES wrapping key of 128, 192 or 256 bits.
pub struct WrappingKey {
    namespace: String,
    key_name: String,
    /// `namespace/name`, for messages.
    label: String,
    key: Zeroizing<Vec<u8>>,
}

/// In constant time, as far as the key goes.
impl PartialEq for WrappingKey {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label && bool::from(self.key.ct_eq(&other.key))
    }
}

/// Why parts do not make a wrapping key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrappingKeyError {
    #[error("namespace begins with \"aws-kms\", which belongs to KMS keys: choose another")]
    ReservedNamespace { found: String },
    #[error("{part} must have from 1 to 1024 bytes and no control characters")]
    Name { part: &'static str },
    #[error("key has {found} bytes, and AES takes 16, 24 or 32 (32, 48 or 64 hexadecimal digits)")]
    KeyLength { found: usize },
}

/// Of 256 bits.
const MAX_DATA_KEY: usize = 32;

impl WrappingKey {
    pub fn new(namespace: &str, name: &str, key: &[u8]) -> Result<Self, WrappingKeyError> {
        if namespace.starts_with(EncryptedDataKey::KMS) {
            return Err(WrappingKeyError::ReservedNamespace {
                found: namespace.to_owned(),
            });
        }
        for (part, text) in [("namespace", namespace), ("name", name)] {
            if text.is_empty() || text.len() > 1024 || text.contains(char::is_control) {
                return Err(WrappingKeyError::Name { part });
            }
        }
        if !matches!(key.len(), 16 | 24 | 32) {
            return Err(WrappingKeyError::KeyLength { found: key.len() });
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            key_name: name.to_owned(),
            label: format!("{namespace}/{name}"),
            key: Zeroizing::new(key.to_owned()),
        })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn key_name(&self) -> &str {
        &self.key_name
    }

    pub fn bits(&self) -> usize {
        self.key.len() * 8
    }

    /// Bytes of a data key of `key_len` bytes, wrapped, in a message; the lengths of its fields included.
    pub fn wrapped_len(&self, key_len: usize) -> usize {
        let info = self.key_name.len() + INFO_LENGTHS.len() + IV_LEN;
        6 + self.namespace.len() + info + key_len + TAG_LEN
    }

    fn fresh(&self, context: &EncryptionContext, key_len: usize) -> Result<FreshKey, KeyError> {
        check_length(context).map_err(|error| self.malformed(error))?;
        let mut plaintext = Zeroizing::new(vec![0; key_len]);
        rand::fill(&mut plaintext).expect(RANDOM);
        Ok(FreshKey {
            encrypted: vec![self.wrap(&plaintext, context)],
            plaintext: SecretKeyBytes::new(std::mem::take(&mut *plaintext)),
        })
    }

    /// The IV is random: safe for 2^32 data keys, which at one each five minutes is not a bound.
    fn wrap(&self, data_key: &[u8], context: &EncryptionContext) -> EncryptedDataKey {
        let mut iv: Iv = [0; IV_LEN];
        rand::fill(&mut iv).expect(RANDOM);
        let mut ciphertext = data_key.to_vec();
        let tag = self
            .cipher()
            .seal(&iv, &associated_data(context), &mut ciphertext);
        ciphertext.extend_from_slice(&tag);
        EncryptedDataKey {
            provider: self.namespace.clone(),
            info: [self.key_name.as_bytes(), &INFO_LENGTHS, &iv]
                .concat()
                .into(),
            ciphertext: Bytes::from(ciphertext),
        }
    }

    fn open(
        &self,
        edk: &EncryptedDataKey,
        context: &EncryptionContext,
        key_len: usize,
    ) -> Result<Option<SecretKeyBytes>, KeyError> {
        let Some(iv) = self.iv_of(edk) else {
            return Ok(None);
        };
        let Some((wrapped, tag)) = edk
            .ciphertext
            .split_last_chunk::<TAG_LEN>()
            .filter(|(wrapped, _)| wrapped.len() == key_len)
        else {
            return Err(self.malformed(format_args!(
                "the encrypted data key has {} bytes, and the suite's takes {}",
                edk.ciphertext.len(),
                key_len + TAG_LEN,
            )));
        };
        let mut data_key = Zeroizing::new(wrapped.to_vec());
        self.cipher()
            .open(&iv, &associated_data(context), &mut data_key, tag)
            .map_err(|_| KeyError::WrongContext {
                key: self.label.clone(),
                message: "the tag does not match; where the context is right, this is another key of the same \
                          namespace and name"
                    .to_owned(),
            })?;
        Ok(Some(SecretKeyBytes::new(std::mem::take(&mut *data_key))))
    }

    /// `None` where another key wrapped it.
    fn iv_of(&self, edk: &EncryptedDataKey) -> Option<Iv> {
        if edk.provider != self.namespace {
            return None;
        }
        let rest = edk.info.strip_prefix(self.key_name.as_bytes())?;
        rest.strip_prefix(&INFO_LENGTHS)?.try_into().ok()
    }

    fn cipher(&self) -> Cipher {
        Cipher::new(Backend::Auto, &self.key)
            .expect("the key's length was checked when it was made")
    }

    fn malformed(&self, message: impl fmt::Display) -> KeyError {
        KeyError::Malformed {
            key: self.label.clone(),
            message: message.to_string(),
        }
    }
}

impl GenerateDataKey for WrappingKey {
    fn name(&self) -> &str {
        &self.label
    }

    fn encrypted_len_hint(&self) -> usize {
        2 + self.wrapped_len(MAX_DATA_KEY)
    }

    fn generate<'a>(
        &'a self,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<FreshKey, KeyError>> {
        Box::pin(ready(self.fresh(context, key_len)))
    }
}

impl UnwrapDataKey for WrappingKey {
    fn unwrap<'a>(
        &'a self,
        edk: &'a EncryptedDataKey,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<Option<SecretKeyBytes>, KeyError>> {
        Box::pin(ready(self.open(edk, context, key_len)))
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({}, {} bits)", self.label, self.bits())
    }
}

/// Tag length in bits, IV length in bytes.
const INFO_LENGTHS: [u8; 8] = [0, 0, 0, 128, 0, 0, 0, 12];

const RANDOM: &str = "the system's random generator does not fail";

fn associated_data(context: &EncryptionContext) -> Vec<u8> {
    let mut aad = Vec::new();
    serialize_pairs(context, &mut aad);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> WrappingKey {
        WrappingKey::new("shop", name, &[7; 32]).expect("valid")
    }

    fn context(value: &str) -> EncryptionContext {
        EncryptionContext::from([("app".to_owned(), value.to_owned())])
    }

    #[test]
    fn what_is_wrapped_unwraps_for_its_context_only() {
        let key = key("orders");
        let fresh = key.fresh(&context("a"), 32).expect("generated");
        let edk = &fresh.encrypted[0];
        let unwrapped = key.open(edk, &context("a"), 32).expect("opens");
        assert_eq!(
            unwrapped.expect("mine").as_bytes(),
            fresh.plaintext.as_bytes()
        );
        let error = key.open(edk, &context("b"), 32).expect_err("refused");
        assert!(matches!(error, KeyError::WrongContext { .. }), "{error}");
        let error = key.open(edk, &context("a"), 16).expect_err("refused");
        assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
    }

    #[test]
    fn a_name_that_begins_like_mine_is_not_mine() {
        let fresh = key("orders-2").fresh(&context("a"), 32).expect("generated");
        let opened = key("orders").open(&fresh.encrypted[0], &context("a"), 32);
        assert!(matches!(opened, Ok(None)));
    }

    #[test]
    fn the_length_hint_is_exact() {
        let key = key("orders");
        let fresh = key.fresh(&context("a"), 32).expect("generated");
        let edk = &fresh.encrypted[0];
        let fields = edk.provider.len() + edk.info.len() + edk.ciphertext.len();
        assert_eq!(key.encrypted_len_hint(), 2 + 6 + fields);
        assert_eq!(edk.wrapping_key(), "shop/orders");
    }

    #[test]
    fn bad_parts_are_refused() {
        let made = |namespace: &str, name: &str, len| {
            WrappingKey::new(namespace, name, &vec![0; len]).map(drop)
        };
        assert_eq!(
            made("aws-kms", "a", 32),
            Err(WrappingKeyError::ReservedNamespace {
                found: "aws-kms".into()
            })
        );
        assert_eq!(
            made("", "a", 32),
            Err(WrappingKeyError::Name { part: "namespace" })
        );
        assert_eq!(
            made("a", "b\n", 32),
            Err(WrappingKeyError::Name { part: "name" })
        );
        assert_eq!(
            made("a", "b", 31),
            Err(WrappingKeyError::KeyLength { found: 31 })
        );
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(
            format!("{:?}", key("orders")),
            "WrappingKey(shop/orders, 256 bits)"
        );
    }
}
