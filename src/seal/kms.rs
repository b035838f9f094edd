//! Data keys from AWS KMS: the one place that speaks to it.
//!
//! [`KmsKey`] asks `GenerateDataKey` and needs that permission only; [`KmsUnwrap`] asks `Decrypt` and needs
//! that one only. No `DescribeKey`: what a key is called is compared with the ARN in the message, and for
//! an alias KMS compares.
//!
//! Promises: the whole encryption context goes with each call, so KMS binds the data key to it; the answer's
//! key and length are checked; retries and time-outs are the client's, this adds none. Refuses: data keys
//! wrapped by a key that was not named.
//!
//! Source: AWS KMS API reference, `GenerateDataKey`, `Decrypt` and "Common errors"; AWS Encryption SDK
//! specification, `framework/aws-kms/`.

mod error;

use std::collections::HashMap;
use std::fmt;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use futures_util::future::BoxFuture;

use super::key::{FreshKey, GenerateDataKey, KeyError, UnwrapDataKey};
use super::message::{EncryptedDataKey, EncryptionContext, SecretKeyBytes};

/// A KMS key that makes data keys.
#[derive(Debug)]
pub struct KmsKey {
    client: Client,
    key_id: String,
}

impl KmsKey {
    /// `key_id` is an ARN, a key id, an alias (`alias/…`) or an alias ARN.
    pub fn new(client: Client, key_id: impl Into<String>) -> Self {
        Self {
            client,
            key_id: key_id.into(),
        }
    }

    async fn ask(&self, context: &EncryptionContext, key_len: usize) -> Result<FreshKey, KeyError> {
        let answer = self
            .client
            .generate_data_key()
            .key_id(&self.key_id)
            .number_of_bytes(i32::try_from(key_len).expect("at most 32"))
            .set_encryption_context(as_argument(context))
            .send()
            .await
            .map_err(|error| error::judge(&error, &self.key_id, "kms:GenerateDataKey"))?;
        let plaintext =
            SecretKeyBytes::new(answer.plaintext.map(Blob::into_inner).unwrap_or_default());
        if plaintext.len() != key_len {
            return Err(self.malformed(format_args!(
                "KMS answered a data key of {} bytes, not {key_len}",
                plaintext.len()
            )));
        }
        // The ARN, whatever name was asked for: a reader compares it, and aliases move.
        let (Some(arn), Some(ciphertext)) = (answer.key_id, answer.ciphertext_blob) else {
            return Err(self.malformed("KMS answered without key ARN or encrypted data key"));
        };
        Ok(FreshKey {
            plaintext,
            encrypted: vec![EncryptedDataKey {
                provider: EncryptedDataKey::KMS.to_owned(),
                info: arn.into(),
                ciphertext: ciphertext.into_inner().into(),
            }],
        })
    }

    fn malformed(&self, message: impl fmt::Display) -> KeyError {
        malformed(&self.key_id, message)
    }
}

impl GenerateDataKey for KmsKey {
    fn name(&self) -> &str {
        &self.key_id
    }

    /// A key ARN has 75 bytes in most regions and a blob 184; some for longer region names.
    fn encrypted_len_hint(&self) -> usize {
        2 + 6 + EncryptedDataKey::KMS.len() + 85 + 184
    }

    fn generate<'a>(
        &'a self,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<FreshKey, KeyError>> {
        Box::pin(self.ask(context, key_len))
    }
}

/// The KMS keys whose data keys may be unwrapped.
#[derive(Debug)]
pub struct KmsUnwrap {
    client: Client,
    allowed: Vec<KeyName>,
}

impl KmsUnwrap {
    /// Each an ARN, a key id, an alias (`alias/…`) or an alias ARN.
    pub fn new<S: Into<String>>(client: Client, allowed: impl IntoIterator<Item = S>) -> Self {
        Self {
            client,
            allowed: allowed
                .into_iter()
                .map(|key| KeyName::of(key.into()))
                .collect(),
        }
    }

    /// Keys named by ARN or id are compared here; only where none fits, aliases are asked about, because
    /// each costs a call.
    async fn try_all(
        &self,
        edk: &EncryptedDataKey,
        context: &EncryptionContext,
        key_len: usize,
    ) -> Result<Option<SecretKeyBytes>, KeyError> {
        if edk.provider != EncryptedDataKey::KMS {
            return Ok(None);
        }
        let arn = edk.wrapping_key();
        if self.allowed.iter().any(|key| key.is(&arn)) {
            return self.ask(&arn, &arn, edk, context, key_len).await.map(Some);
        }
        let mut told = None;
        for key in &self.allowed {
            if let KeyName::Alias(alias) = key {
                match self.ask(alias, &arn, edk, context, key_len).await {
                    Ok(secret) => return Ok(Some(secret)),
                    Err(error) => drop(told.get_or_insert(error)),
                }
            }
        }
        told.map_or(Ok(None), Err)
    }

    /// `Decrypt` with the named key and no other: without a name, KMS would take whatever key the blob
    /// says.
    async fn ask(
        &self,
        key_id: &str,
        arn: &str,
        edk: &EncryptedDataKey,
        context: &EncryptionContext,
        key_len: usize,
    ) -> Result<SecretKeyBytes, KeyError> {
        let answer = self
            .client
            .decrypt()
            .key_id(key_id)
            .encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault)
            .ciphertext_blob(Blob::new(edk.ciphertext.to_vec()))
            .set_encryption_context(as_argument(context))
            .send()
            .await
            .map_err(|error| error::judge(&error, key_id, "kms:Decrypt"))?;
        let secret =
            SecretKeyBytes::new(answer.plaintext.map(Blob::into_inner).unwrap_or_default());
        let used = answer.key_id.unwrap_or_default();
        if used != arn {
            return Err(KeyError::WrongKey {
                key: key_id.to_owned(),
                message: format!("the message names {arn}, and KMS used {used}"),
            });
        }
        if secret.len() != key_len {
            return Err(malformed(
                key_id,
                format_args!(
                    "KMS answered a data key of {} bytes, and the suite takes {key_len}",
                    secret.len()
                ),
            ));
        }
        Ok(secret)
    }
}

impl UnwrapDataKey for KmsUnwrap {
    fn unwrap<'a>(
        &'a self,
        edk: &'a EncryptedDataKey,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<Option<SecretKeyBytes>, KeyError>> {
        Box::pin(self.try_all(edk, context, key_len))
    }
}

/// A KMS key as its user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyName {
    Arn(String),
    Id(String),
    /// By name or ARN.
    Alias(String),
}

impl KeyName {
    fn of(name: String) -> Self {
        if name.starts_with("alias/") || (name.starts_with("arn:") && name.contains(":alias/")) {
            Self::Alias(name)
        } else if name.starts_with("arn:") {
            Self::Arn(name)
        } else {
            Self::Id(name)
        }
    }

    /// Whether it is the key of this ARN, as far as the words say: `arn:aws:kms:region:account:key/id`.
    fn is(&self, arn: &str) -> bool {
        match self {
            Self::Arn(own) => own == arn,
            Self::Id(id) => arn
                .split_once(":key/")
                .is_some_and(|(_, found)| found == id),
            Self::Alias(_) => false,
        }
    }
}

fn as_argument(context: &EncryptionContext) -> Option<HashMap<String, String>> {
    let pairs = context.iter().map(|(k, v)| (k.clone(), v.clone()));
    (!context.is_empty()).then(|| pairs.collect())
}

fn malformed(key: &str, message: impl fmt::Display) -> KeyError {
    KeyError::Malformed {
        key: key.to_owned(),
        message: message.to_string(),
    }
}

#[cfg(test)]
mod tests;
