//! Data keys for reading: `Decrypt`, with the keys that were named and no other.

use std::ops::RangeInclusive;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use futures_util::future::BoxFuture;

use super::client::{Key, as_argument, region_of, timed};
use super::error::{DECRYPT, judge};
use super::name::{KeyArn, KeyName};
use crate::metrics::KeyCalls;
use crate::seal::key::{FirstError, KeyError, UnwrapDataKey};
use crate::seal::message::{EncryptedDataKey, EncryptionContext, SecretKeyBytes};

/// The KMS keys whose data keys may be unwrapped.
#[derive(Debug)]
pub struct KmsUnwrap {
    allowed: Allowed,
    calls: KeyCalls,
}

#[derive(Debug)]
enum Allowed {
    Named(Vec<Key>),
    /// Whatever a message names.
    Any(Client),
}

/// Of a ciphertext that `Decrypt` takes, in bytes. Source: AWS KMS API reference.
const LENGTHS: RangeInclusive<usize> = 1..=6144;

/// What is asked of one key.
struct Question<'a> {
    /// As the message names it.
    wrapped_by: KeyArn<'a>,
    ciphertext: &'a [u8],
    context: &'a EncryptionContext,
    key_len: usize,
}

impl KmsUnwrap {
    /// Each an ARN, a key id, an alias (`alias/…`) or an alias ARN; an ARN is asked for in its own Region. A
    /// multi-Region key opens what its replicas in other Regions wrapped.
    pub fn new<S: Into<String>>(client: Client, allowed: impl IntoIterator<Item = S>) -> Self {
        Self {
            allowed: Allowed::Named(Key::all(&client, allowed)),
            calls: KeyCalls::default(),
        }
    }

    /// Any key that a message names and these credentials may use, in whatever account and Region: so who writes to the
    /// stream decides what is trusted.
    pub fn discovering(client: Client) -> Self {
        Self {
            allowed: Allowed::Any(client),
            calls: KeyCalls::default(),
        }
    }

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
        let Some(wrapped_by) = KeyArn::parse(&arn) else {
            return Err(KeyError::Malformed {
                message: "the message names no ARN of a KMS key".to_owned(),
                key: arn,
            });
        };
        if !LENGTHS.contains(&edk.ciphertext.len()) {
            let len = edk.ciphertext.len();
            return Err(KeyError::Malformed {
                message: format!("an encrypted data key of {len} bytes is none of KMS's"),
                key: arn,
            });
        }
        let question = Question {
            wrapped_by,
            ciphertext: &edk.ciphertext,
            context,
            key_len,
        };
        let allowed = match &self.allowed {
            Allowed::Named(allowed) => allowed,
            Allowed::Any(client) => &Key::all(client, [&*arn]),
        };
        let mut told = FirstError::default();
        for (key, name) in in_question(allowed, wrapped_by) {
            match self.ask(key, &name, &question).await {
                Ok(secret) => return Ok(Some(secret)),
                Err(error) => told.add(error),
            }
        }
        told.into_inner().map_or(Ok(None), Err)
    }

    /// `Decrypt` with the named key and no other: without a name, KMS would take whatever key the blob
    /// says.
    async fn ask(
        &self,
        key: &Key,
        name: &str,
        question: &Question<'_>,
    ) -> Result<SecretKeyBytes, KeyError> {
        let call = key
            .client
            .decrypt()
            .key_id(name)
            .encryption_algorithm(EncryptionAlgorithmSpec::SymmetricDefault)
            .ciphertext_blob(Blob::new(question.ciphertext))
            .set_encryption_context(as_argument(question.context))
            .send();
        let answer = timed(&self.calls, call)
            .await
            .map_err(|error| judge(&error, name, DECRYPT))?;
        let secret =
            SecretKeyBytes::new(answer.plaintext.map(Blob::into_inner).unwrap_or_default());
        let used = answer.key_id.unwrap_or_default();
        let as_named = match KeyArn::parse(name) {
            Some(asked_for) => KeyArn::parse(&used) == Some(asked_for),
            // An alias may be one of a replica.
            None => KeyArn::parse(&used).is_some_and(|used| used.opens(&question.wrapped_by)),
        };
        if !as_named {
            let wrapped_by = question.wrapped_by;
            return Err(KeyError::WrongKey {
                key: name.to_owned(),
                message: format!("the message names {wrapped_by}, and KMS used {used}"),
            });
        }
        if secret.len() != question.key_len {
            return Err(KeyError::Malformed {
                key: name.to_owned(),
                message: format!(
                    "KMS answered a data key of {} bytes, and the suite takes {}",
                    secret.len(),
                    question.key_len
                ),
            });
        }
        Ok(secret)
    }
}

/// The keys that may open it, each with the name to ask for. Those named by ARN or id are compared here: the very key
/// first, then its replicas. Only where none fits, aliases are asked about, because each costs a call.
fn in_question<'a>(allowed: &'a [Key], wrapped_by: KeyArn<'_>) -> Vec<(&'a Key, String)> {
    let mut known: Vec<_> = allowed
        .iter()
        .filter_map(|key| {
            let name = key.name.means(&wrapped_by, region_of(&key.client))?;
            Some((key, name))
        })
        .collect();
    known.sort_by_key(|(_, name)| KeyArn::parse(name) != Some(wrapped_by));
    if !known.is_empty() {
        return known;
    }
    allowed
        .iter()
        .filter(|key| matches!(key.name, KeyName::Alias(_)))
        .map(|key| (key, key.name().to_owned()))
        .collect()
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

    fn calls(&self) -> Option<&KeyCalls> {
        Some(&self.calls)
    }
}
