//! What is decided before a message is written: its form, and what its data key is bound to.

use hkdf_lanes::{COMMITMENT_LEN, Lanes};

use crate::seal::message::aead::{Backend, IV_LEN, TAG_LEN};
use crate::seal::message::body::{FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD};
use crate::seal::message::context::{
    self, ContextError, EncryptionContext, PUBLIC_KEY, check_context, pair_len,
};
use crate::seal::message::encoding::Encoding;
use crate::seal::message::signature::{SIGNATURE_LEN, SigningKey};
use crate::seal::message::suite::{Suite, Version};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub suite: Suite,
    /// Bytes of plaintext that are authenticated as one: a multiple of 128 below 2^31.
    pub frame_length: u32,
    pub encoding: Encoding,
    pub backend: Backend,
    pub lanes: Lanes,
}

impl Default for Settings {
    /// As the AWS Encryption SDK writes them, without a signature.
    fn default() -> Self {
        Self {
            suite: Suite::COMMITTED,
            frame_length: 4096,
            encoding: Encoding::Binary,
            backend: Backend::Auto,
            lanes: Lanes::Auto,
        }
    }
}

impl Settings {
    /// Whether messages can be written so.
    pub fn check(&self) -> Result<(), WriteError> {
        if !self.suite.is_written() {
            return Err(WriteError::Suite { found: self.suite });
        }
        // Below 2^31: some implementations read a signed number.
        let found = self.frame_length;
        if found == 0 || !found.is_multiple_of(128) || found >= 1 << 31 {
            return Err(WriteError::FrameLength { found });
        }
        Ok(())
    }

    /// Whether messages have room for a user's context, beside `own`, a pair that the caller adds to it, and
    /// the public key of a suite that signs.
    pub fn check_context(
        &self,
        context: &EncryptionContext,
        own: Option<(&str, &str)>,
    ) -> Result<(), ContextError> {
        let own = own.map_or(0, |(key, value)| pair_len(key, value));
        check_context(context, own + public_key_pair(self.suite))
    }

    /// What a message of one frame adds to its plaintext, its encrypted data keys apart, before encoding.
    pub fn overhead(&self, context: &EncryptionContext) -> usize {
        let mut context = context::serialized_len(context);
        if self.suite.signature().is_some() {
            context += PUBLIC_KEY_PAIR + if context == 0 { 2 } else { 0 };
        }
        self.fixed_header_len() + 2 + context + 2 + FINAL_FRAME_OVERHEAD + self.footer_len()
    }

    /// Exact length of a message as [`super::Writer::seal`] writes it, told without a key. `keys_len`: what its encrypted
    /// data keys take, the lengths of their fields included.
    pub fn sealed_len(
        &self,
        context: &EncryptionContext,
        keys_len: usize,
        plaintext_len: usize,
    ) -> usize {
        let frame_length = self.frame_length as usize;
        let full_frames = plaintext_len.saturating_sub(1) / frame_length;
        let body = full_frames * FRAME_OVERHEAD + plaintext_len;
        let message = self.overhead(context) + keys_len + body;
        self.encoding.encoded_len(message)
    }

    /// The header without context and encrypted data keys and their lengths.
    fn fixed_header_len(&self) -> usize {
        let version = self.suite.version();
        let fixed = match version {
            Version::V1 => 1 + 1 + 2 + 1 + 4 + 1 + 4 + IV_LEN,
            Version::V2 => 1 + 2 + 1 + 4 + COMMITMENT_LEN,
        };
        fixed + version.message_id_len() + TAG_LEN
    }

    pub(super) fn footer_len(&self) -> usize {
        match self.suite.signature() {
            Some(_) => 2 + SIGNATURE_LEN,
            None => 0,
        }
    }
}

/// The public key's pair in the context: two lengths, the key's name, and 49 bytes in base64.
const PUBLIC_KEY_PAIR: usize = 4 + PUBLIC_KEY.len() + 68;

/// What a suite adds to the context's pairs.
fn public_key_pair(suite: Suite) -> usize {
    suite.signature().map_or(0, |_| PUBLIC_KEY_PAIR)
}

/// What a data key for messages is to be bound to: the user's pairs, and for a suite that signs the public
/// key of a signing key made for it.
#[derive(Debug)]
pub struct Binding {
    pub(super) suite: Suite,
    pub(super) context: EncryptionContext,
    pub(super) signing_key: Option<SigningKey>,
}

impl Binding {
    /// For one data key, and never for a second.
    pub fn new(suite: Suite, context: &EncryptionContext) -> Result<Self, WriteError> {
        if !suite.is_written() {
            return Err(WriteError::Suite { found: suite });
        }
        check_context(context, public_key_pair(suite))?;
        let mut context = context.clone();
        let signing_key = suite.signature().map(|_| SigningKey::generate());
        if let Some(key) = &signing_key {
            context.insert(PUBLIC_KEY.to_owned(), key.public_key());
        }
        Ok(Self {
            suite,
            context,
            signing_key,
        })
    }

    /// What the data key is to be generated with.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Length of the data key to be generated.
    pub fn key_len(&self) -> usize {
        self.suite.key_len()
    }
}

/// Why messages can not be written with these parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(
        "suite {found} is read, not written: choose 0478, 0578 (signed), or for old readers 0178, 0378 (signed) or 0114"
    )]
    Suite { found: Suite },
    #[error("suite {suite} takes a data key of {expected} bytes, and there are {found}")]
    KeyLength {
        suite: Suite,
        expected: usize,
        found: usize,
    },
    #[error(
        "frame length {found} is not a multiple of 128 from 128 to 2147483520: other AWS Encryption SDKs \
         would refuse it; 4096 is their default"
    )]
    FrameLength { found: u32 },
    #[error("a message needs from 1 to 65535 encrypted data keys, and there are {found}")]
    KeyCount { found: usize },
    #[error(
        "the encrypted data key of \"{provider}\" has a {field} of {found} bytes, and a message has room for 65535"
    )]
    KeyField {
        provider: String,
        field: &'static str,
        found: usize,
    },
}
