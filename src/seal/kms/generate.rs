//! Data keys for writing: `GenerateDataKey` with the first key, `Encrypt` with each other.

use std::fmt;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use futures_util::future::{BoxFuture, join_all};

use super::client::{Key, as_argument, timed};
use super::error::judge;
use super::name::KeyArn;
use crate::metrics::KeyCalls;
use crate::seal::key::{FreshKey, GenerateDataKey, KeyError};
use crate::seal::message::{EncryptedDataKey, EncryptionContext, SecretKeyBytes};

/// KMS keys that make data keys, each of which opens the messages.
#[derive(Debug)]
pub struct KmsKeys {
    first: Key,
    others: Vec<Key>,
    names: String,
    calls: KeyCalls,
}

impl KmsKeys {
    /// Each an ARN, a key id, an alias (`alias/…`) or an alias ARN; an ARN is asked for in its own Region.
    /// `None` where there is none.
    pub fn new<S: Into<String>>(client: Client, keys: impl IntoIterator<Item = S>) -> Option<Self> {
        let mut keys = Key::all(&client, keys).into_iter();
        let first = keys.next()?;
        let others: Vec<_> = keys.collect();
        let names = std::iter::once(&first).chain(&others).map(Key::name);
        Some(Self {
            names: names.collect::<Vec<_>>().join(", "),
            first,
            others,
            calls: KeyCalls::default(),
        })
    }

    /// All of them or none: a message that a named key can not open would be found out when it is needed.
    async fn ask(&self, context: &EncryptionContext, key_len: usize) -> Result<FreshKey, KeyError> {
        let (plaintext, first) = self.generate_with_first(context, key_len).await?;
        let wraps = self
            .others
            .iter()
            .map(|key| self.wrap(key, &plaintext, context));
        let mut encrypted = vec![first];
        for wrapped in join_all(wraps).await {
            encrypted.push(wrapped?);
        }
        Ok(FreshKey {
            plaintext,
            encrypted,
        })
    }

    async fn generate_with_first(
        &self,
        context: &EncryptionContext,
        key_len: usize,
    ) -> Result<(SecretKeyBytes, EncryptedDataKey), KeyError> {
        let key = &self.first;
        let call = key
            .client
            .generate_data_key()
            .key_id(key.name())
            .number_of_bytes(i32::try_from(key_len).expect("at most 32"))
            .set_encryption_context(as_argument(context))
            .send();
        let answer = timed(&self.calls, call)
            .await
            .map_err(|error| judge(&error, key.name(), "kms:GenerateDataKey"))?;
        let plaintext =
            SecretKeyBytes::new(answer.plaintext.map(Blob::into_inner).unwrap_or_default());
        if plaintext.len() != key_len {
            return Err(malformed(
                key,
                format_args!(
                    "KMS answered a data key of {} bytes, not {key_len}",
                    plaintext.len()
                ),
            ));
        }
        let wrapped = encrypted_data_key(key, answer.key_id, answer.ciphertext_blob)?;
        Ok((plaintext, wrapped))
    }

    /// The client's own copies of the data key, in the request, are out of our reach: only ours are wiped.
    async fn wrap(
        &self,
        key: &Key,
        plaintext: &SecretKeyBytes,
        context: &EncryptionContext,
    ) -> Result<EncryptedDataKey, KeyError> {
        let call = key
            .client
            .encrypt()
            .key_id(key.name())
            .plaintext(Blob::new(plaintext.as_bytes()))
            .set_encryption_context(as_argument(context))
            .send();
        let answer = timed(&self.calls, call)
            .await
            .map_err(|error| judge(&error, key.name(), "kms:Encrypt"))?;
        encrypted_data_key(key, answer.key_id, answer.ciphertext_blob)
    }
}

/// With the ARN, whatever name was asked for: a reader compares it, and aliases move.
fn encrypted_data_key(
    key: &Key,
    arn: Option<String>,
    blob: Option<Blob>,
) -> Result<EncryptedDataKey, KeyError> {
    let arn = arn.filter(|arn| KeyArn::parse(arn).is_some());
    let (Some(arn), Some(ciphertext)) = (arn, blob) else {
        return Err(malformed(
            key,
            "KMS answered without key ARN or encrypted data key",
        ));
    };
    Ok(EncryptedDataKey {
        provider: EncryptedDataKey::KMS.to_owned(),
        info: arn.into(),
        ciphertext: ciphertext.into_inner().into(),
    })
}

fn malformed(key: &Key, message: impl fmt::Display) -> KeyError {
    KeyError::Malformed {
        key: key.name().to_owned(),
        message: message.to_string(),
    }
}

impl GenerateDataKey for KmsKeys {
    fn name(&self) -> &str {
        &self.names
    }

    /// A key ARN has 75 bytes in most Regions, 86 in the longest of 2026, and a blob 184.
    fn encrypted_len_hint(&self) -> usize {
        2 + (1 + self.others.len()) * (6 + EncryptedDataKey::KMS.len() + 86 + 184)
    }

    fn generate<'a>(
        &'a self,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<FreshKey, KeyError>> {
        Box::pin(self.ask(context, key_len))
    }

    fn calls(&self) -> Option<&KeyCalls> {
        Some(&self.calls)
    }
}
