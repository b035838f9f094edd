//! Where data keys come from, and who opens them again.
//!
//! Two traits: [`GenerateDataKey`] for the way in, [`UnwrapDataKey`] for the way back. Their
//! implementations are [`super::kms`] and [`super::rawkey`]; caching is not theirs.
//!
//! A [`KeyError`] names the key and the way out, and says whether it may heal by itself or somebody has to mend the
//! key's use. What follows from that is the caller's: a library's start refuses, an agent waits.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use super::message::{
    self, Binding, EncryptedDataKey, EncryptionContext, SecretKeyBytes, WriteError, Writer,
};
use crate::metrics::KeyCalls;

/// A data key, both ways.
#[derive(Debug)]
pub struct FreshKey {
    pub plaintext: SecretKeyBytes,
    /// The same key, wrapped once for each wrapping key.
    pub encrypted: Vec<EncryptedDataKey>,
}

/// Makes data keys for encryption.
pub trait GenerateDataKey: Debug + Send + Sync {
    /// The wrapping key's name, or those of several, for messages.
    fn name(&self) -> &str;

    /// About how many bytes the encrypted data keys of a message take, count and lengths included: for
    /// reserving memory before the first key is there.
    fn encrypted_len_hint(&self) -> usize;

    /// A fresh key of `key_len` bytes (16, 24 or 32), bound to `context`. Cancel safe: a key that nobody took
    /// is forgotten.
    fn generate<'a>(
        &'a self,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<FreshKey, KeyError>>;

    /// What its calls to a key service came to; a local key makes none.
    fn calls(&self) -> Option<&KeyCalls> {
        None
    }
}

/// A writer under a fresh data key. What a suite signs with is made for that key, too. Cancel safe.
pub async fn writer(
    source: &dyn GenerateDataKey,
    context: &EncryptionContext,
    settings: message::Settings,
) -> Result<Writer, KeyError> {
    let unusable = |error: WriteError| KeyError::Malformed {
        key: source.name().to_owned(),
        message: error.to_string(),
    };
    let binding = Binding::new(settings.suite, context).map_err(unusable)?;
    let fresh = source.generate(binding.context(), binding.key_len());
    let FreshKey {
        plaintext,
        encrypted,
    } = fresh.await?;
    Writer::new(binding, &plaintext, &encrypted, settings).map_err(unusable)
}

/// Opens data keys that a wrapping key wrapped.
pub trait UnwrapDataKey: Debug + Send + Sync {
    /// `Ok(None)`: not wrapped by a key of mine, ask another. Cancel safe.
    fn unwrap<'a>(
        &'a self,
        edk: &'a EncryptedDataKey,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<Option<SecretKeyBytes>, KeyError>>;

    /// What its calls to a key service came to; a local key makes none.
    fn calls(&self) -> Option<&KeyCalls> {
        None
    }
}

/// Why there is no data key. `key` is the wrapping key as the user or the message names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    #[error(
        "key {key}: access denied: allow {permission} on it for this identity, in its IAM policy and the key policy ({message})"
    )]
    Denied {
        key: String,
        permission: &'static str,
        message: String,
    },
    #[error(
        "key {key} does not exist: check its ARN, id or alias (alias/…), its account and the region ({message})"
    )]
    NotFound { key: String, message: String },
    #[error("key {key} is disabled: enable it, or name another key ({message})")]
    Disabled { key: String, message: String },
    #[error(
        "key {key} is in a state that allows no use (pending deletion, pending import, unavailable): see its state in KMS ({message})"
    )]
    InvalidState { key: String, message: String },
    #[error(
        "key {key} can not make or open data keys: use a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT) ({message})"
    )]
    Unusable { key: String, message: String },
    #[error(
        "key {key}: there are no credentials, or they were refused: give, renew or correct them ({message})"
    )]
    Credentials { key: String, message: String },
    #[error(
        "key {key}: throttled: raise the KMS request quota, or lengthen encryption.cache.max_age ({message})"
    )]
    Throttled { key: String, message: String },
    #[error(
        "key {key}: KMS can not be reached: check network, endpoint, region and credentials ({message})"
    )]
    Unreachable { key: String, message: String },
    #[error(
        "key {key}: KMS's answer could not be understood: if it stays so, check that the endpoint is that \
         of KMS, and no proxy's ({message})"
    )]
    NotUnderstood { key: String, message: String },
    #[error(
        "key {key}: wrong key: it did not wrap this data key; name the key that did, in KMS terms the ARN in the message ({message})"
    )]
    WrongKey { key: String, message: String },
    #[error(
        "key {key}: wrong encryption context, or a changed data key: the context must be the one of encryption, pair by pair ({message})"
    )]
    WrongContext { key: String, message: String },
    #[error("key {key}: unusable answer or encrypted data key: {message}")]
    Malformed { key: String, message: String },
    #[error("key {key}: KMS refused with {code}: {message}")]
    Refused {
        key: String,
        code: String,
        message: String,
    },
}

impl KeyError {
    /// It may heal by itself: wait, alarm, try again.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::NotUnderstood { .. }
        )
    }

    /// The key may not be used: someone must correct its name, its policy or the credentials. Of the record it says
    /// nothing, so a reader waits for that.
    pub fn refuses_the_key(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Disabled { .. }
            | Self::InvalidState { .. }
            | Self::Unusable { .. }
            | Self::Credentials { .. }
            | Self::Refused { .. } => true,
            Self::Throttled { .. }
            | Self::Unreachable { .. }
            | Self::NotUnderstood { .. }
            | Self::WrongKey { .. }
            | Self::WrongContext { .. }
            | Self::Malformed { .. } => false,
        }
    }
}

/// Of several errors over one data key, the one to tell: one that may heal, because then the record is not
/// lost; otherwise the first.
#[derive(Debug, Default)]
pub(super) struct FirstError(Option<KeyError>);

impl FirstError {
    pub(super) fn add(&mut self, error: KeyError) {
        let told = self.0.as_ref();
        if told.is_none_or(|told| error.is_outage() && !told.is_outage()) {
            self.0 = Some(error);
        }
    }

    pub(super) fn into_inner(self) -> Option<KeyError> {
        self.0
    }
}
