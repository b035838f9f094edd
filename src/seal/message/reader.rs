//! Message → plaintext, all eleven suites.

use std::ops::Range;

use bytes::Bytes;
use hkdf_lanes::{Committed, Deriver, Lanes};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::aead::{Aead, Backend, Cipher};
use super::body::{BlockAad, Blocks};
use super::context::{EncryptionContext, PUBLIC_KEY, check_length, serialize_pairs};
use super::cursor::Cursor;
use super::derive;
use super::header::{Content, EncryptedDataKeyRef, Header};
use super::room::Room;
use super::signature;
use super::suite::{CommitmentPolicy, Suite};

/// What a reader accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadLimits {
    /// Each may cost a call to KMS, so a stranger must not choose their number.
    pub max_encrypted_data_keys: usize,
    pub policy: CommitmentPolicy,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            max_encrypted_data_keys: 5,
            policy: CommitmentPolicy::default(),
        }
    }
}

/// Why a message is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error(
        "not an AWS Encryption SDK message: it begins with neither 01 80 nor 02; was it written unencrypted, or is it base64?"
    )]
    NotAMessage,
    #[error("algorithm suite {id:04x} is not one of its header version")]
    UnknownSuite { id: u16 },
    #[error(
        "suite {suite} does not commit to its key, and the commitment policy requires that; \
         require-encrypt-allow-decrypt reads it"
    )]
    Uncommitted { suite: Suite },
    #[error("the message ends before its {part} does: it was cut")]
    Truncated { part: &'static str },
    #[error("the message's {part} {reason}")]
    Malformed {
        part: &'static str,
        reason: &'static str,
    },
    #[error(
        "{count} bytes follow the end of the message: a record holds one message and nothing else"
    )]
    TrailingBytes { count: usize },
    #[error("the message has {found} encrypted data keys, and the reader's limit is {limit}")]
    TooManyKeys { found: usize, limit: usize },
    #[error("frame {found} stands where frame {expected} belongs")]
    Sequence { expected: u32, found: u32 },
    #[error("wrong data key: suite {suite} takes {expected} bytes, and there are {found}")]
    KeyLength {
        suite: Suite,
        expected: usize,
        found: usize,
    },
    #[error("wrong data key: the message commits to another one, or its commitment was changed")]
    WrongKey,
    #[error(
        "wrong encryption context: \"{key}\" is \"{found}\" in the message, and \"{required}\" is required"
    )]
    WrongContext {
        key: String,
        required: String,
        found: String,
    },
    #[error(
        "the header's tag does not match: the header was changed, or the data key or the required encryption context is wrong"
    )]
    HeaderTampered,
    #[error("the tag of frame {sequence} does not match: the frame was changed")]
    BodyTampered { sequence: u32 },
    #[error("the signature does not match: the message was changed after it was signed")]
    Signature,
}

/// A message whose form has been checked, and whose content has not. Borrows; nothing is allocated.
#[derive(Debug)]
pub struct Message<'a> {
    header: Header<'a>,
    body: Cursor<'a>,
    /// Header and body.
    signed: &'a [u8],
    signature: Option<&'a [u8]>,
    plaintext_len: usize,
}

/// Plaintexts that share their memory: whoever keeps one of them keeps so much.
const SHARED: usize = 64 << 10;

impl<'a> Message<'a> {
    /// Walks through the whole message, so that one that was cut costs no call to KMS.
    pub fn parse(bytes: &'a [u8], limits: &ReadLimits) -> Result<Self, ReadError> {
        let start = Cursor::new(bytes);
        let mut cursor = start.clone();
        let header = Header::parse(&mut cursor, limits)?;
        let body = cursor.clone();

        let mut blocks = Blocks::new(cursor, header.suite.version(), header.content);
        let mut plaintext_len = 0;
        while let Some(block) = blocks.read()? {
            plaintext_len += block.ciphertext.len();
        }
        let mut cursor = blocks.into_cursor();
        let signed = cursor.since(&start);
        let signature = match header.suite.signature() {
            Some(_) => Some(cursor.field("signature")?),
            None => None,
        };
        match cursor.rest().len() {
            0 => Ok(Self {
                header,
                body,
                signed,
                signature,
                plaintext_len,
            }),
            count => Err(ReadError::TrailingBytes { count }),
        }
    }

    pub fn suite(&self) -> Suite {
        self.header.suite
    }

    /// 16 bytes in version 1, 32 in version 2.
    pub fn message_id(&self) -> &'a [u8] {
        self.header.message_id
    }

    pub fn content(&self) -> Content {
        self.header.content
    }

    /// As the message says; [`Self::open`] authenticates it.
    pub fn context(&self) -> EncryptionContext {
        let pairs = self.header.pairs();
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    pub fn context_value(&self, key: &str) -> Option<&'a str> {
        self.header.context_value(key)
    }

    pub fn encrypted_data_keys(&self) -> impl Iterator<Item = EncryptedDataKeyRef<'a>> + use<'a> {
        self.header.keys()
    }

    /// Context and encrypted data keys as they lie in the message. Where these bytes are equal, the data
    /// key is.
    pub fn key_section(&self) -> &'a [u8] {
        self.header.key_section
    }

    /// Length of what [`Self::open`] returns.
    pub fn plaintext_len(&self) -> usize {
        self.plaintext_len
    }

    /// What the data key is bound to: the stored context and the required pairs. A required pair may be
    /// stored, then it must be equal; or not, then the header tag authenticates it.
    pub fn full_context(
        &self,
        required: &EncryptionContext,
    ) -> Result<EncryptionContext, ReadError> {
        let mut full = self.unstored(required)?;
        full.append(&mut self.context());
        Ok(full)
    }

    /// Checks commitment, header tag, signature and every frame, in this order, then gives the plaintext.
    pub fn open(
        &self,
        data_key: &[u8],
        required: &EncryptionContext,
    ) -> Result<Vec<u8>, ReadError> {
        let unstored = self.unstored(required)?;
        let cipher = self.cipher(data_key)?;
        let mut plaintext = vec![0; self.plaintext_len];
        self.open_under(&cipher, &unstored, &mut plaintext)?;
        Ok(plaintext)
    }

    /// The same for several under one data key, whose own keys are derived side by side where the processor can. Small
    /// plaintexts share their memory, which lasts as long as one of them.
    pub fn open_all(
        messages: &[Self],
        data_key: &[u8],
        required: &EncryptionContext,
    ) -> Vec<Result<Bytes, ReadError>> {
        let derived = Self::derive_all(messages, data_key);
        let open = |at: usize, plaintext: &mut [u8]| {
            let message: &Self = &messages[at];
            let unstored = message.unstored(required)?;
            let cipher = match &derived {
                Some(derived) => message.committed_cipher(&derived[at])?,
                None => message.cipher(data_key)?,
            };
            message.open_under(&cipher, &unstored, plaintext)
        };
        let all = 0..messages.len();
        let together: usize = messages.iter().map(Self::plaintext_len).sum();
        if together > SHARED {
            let alone = |at: usize| {
                let mut room = Room::of(messages[at].plaintext_len);
                open(at, room.as_mut())?;
                Ok(room.into_bytes())
            };
            return all.map(alone).collect();
        }
        let mut plaintexts = vec![0; together];
        let mut end = 0;
        let mut open_after = |at: usize| {
            let place = end..end + messages[at].plaintext_len;
            end = place.end;
            open(at, &mut plaintexts[place.clone()]).map(|()| place)
        };
        let places: Vec<_> = all.map(&mut open_after).collect();
        let plaintexts = Bytes::from(plaintexts);
        let slice = |place: Result<Range<usize>, ReadError>| Ok(plaintexts.slice(place?));
        places.into_iter().map(slice).collect()
    }

    /// Whether another message's bytes are of the same suite and under the same data key, by the same words: they need not be
    /// parsed to see that.
    pub fn is_key_of(&self, other: &[u8]) -> bool {
        let section = self.header.key_section;
        // Between two slices of one message: version and suite, then the id, then the section.
        let at = section.as_ptr().addr() - self.signed.as_ptr().addr();
        let before_id = at - self.header.message_id.len();
        other.get(..before_id) == Some(&self.signed[..before_id])
            && other.get(at..at + section.len()) == Some(section)
    }

    /// `None` where there is nothing to gain: for one alone, for suites without a commitment, and for a mixture.
    fn derive_all(messages: &[Self], data_key: &[u8]) -> Option<Vec<Committed>> {
        let suite = messages.first().filter(|_| messages.len() > 1)?.suite();
        let data_key = data_key.try_into().ok()?;
        let id = |message: &Self| -> Option<&'a [u8; 32]> {
            message.header.commitment?;
            let id = message.header.message_id.try_into().ok()?;
            (message.suite() == suite).then_some(id)
        };
        let ids: Vec<_> = messages.iter().map(id).collect::<Option<_>>()?;
        let mut derived: Vec<_> = ids.iter().map(|_| Committed::default()).collect();
        Deriver::new(Lanes::Auto, suite.id(), data_key).derive_many(&ids, &mut derived);
        Some(derived)
    }

    fn open_under(
        &self,
        cipher: &Cipher,
        unstored: &EncryptionContext,
        plaintext: &mut [u8],
    ) -> Result<(), ReadError> {
        self.verify_header(cipher, unstored)?;
        self.verify_signature()?;
        let opened = self.open_blocks(cipher, plaintext);
        if opened.is_err() {
            // Nobody sees what was not authenticated.
            plaintext.zeroize();
        }
        opened
    }

    /// The required pairs that the message does not store.
    fn unstored(&self, required: &EncryptionContext) -> Result<EncryptionContext, ReadError> {
        let mut unstored = EncryptionContext::new();
        for (key, value) in required {
            match self.context_value(key) {
                None => drop(unstored.insert(key.clone(), value.clone())),
                Some(found) if found == value => {}
                Some(found) => {
                    return Err(ReadError::WrongContext {
                        key: key.clone(),
                        required: value.clone(),
                        found: found.to_owned(),
                    });
                }
            }
        }
        check_length(&unstored).map_err(|_| ReadError::Malformed {
            part: "required encryption context",
            reason: "takes more than 65535 bytes",
        })?;
        Ok(unstored)
    }

    fn wrong_length(&self, data_key: &[u8]) -> ReadError {
        ReadError::KeyLength {
            suite: self.header.suite,
            expected: self.header.suite.key_len(),
            found: data_key.len(),
        }
    }

    /// The commitment is compared before the derived key sees a byte.
    fn committed_cipher(&self, derived: &Committed) -> Result<Cipher, ReadError> {
        let commitment = self
            .header
            .commitment
            .expect("asked of suites that have one");
        if !bool::from(derived.commitment.ct_eq(commitment)) {
            return Err(ReadError::WrongKey);
        }
        let cipher = Cipher::new(Backend::Auto, &derived.key[..]);
        Ok(cipher.expect("32 bytes are a key"))
    }

    fn cipher(&self, data_key: &[u8]) -> Result<Cipher, ReadError> {
        let suite = self.header.suite;
        if data_key.len() != suite.key_len() {
            return Err(self.wrong_length(data_key));
        }
        if self.header.commitment.is_some() {
            let data_key = data_key
                .try_into()
                .map_err(|_| self.wrong_length(data_key))?;
            let message_id = self.header.message_id.try_into();
            let message_id = message_id.expect("32 bytes in version 2");
            return self.committed_cipher(&hkdf_lanes::committed(suite.id(), data_key, message_id));
        }
        let key = derive::uncommitted(suite, data_key, self.header.message_id);
        Cipher::new(Backend::Auto, &key).ok_or_else(|| self.wrong_length(data_key))
    }

    fn verify_header(
        &self,
        cipher: &impl Aead,
        unstored: &EncryptionContext,
    ) -> Result<(), ReadError> {
        let Header { iv, tag, body, .. } = &self.header;
        let opened = if unstored.is_empty() {
            cipher.open(iv, body, &mut [], tag)
        } else {
            let mut aad = body.to_vec();
            serialize_pairs(unstored, &mut aad);
            cipher.open(iv, &aad, &mut [], tag)
        };
        opened.map_err(|_| ReadError::HeaderTampered)
    }

    fn verify_signature(&self) -> Result<(), ReadError> {
        let (Some(algorithm), Some(signature)) = (self.header.suite.signature(), self.signature)
        else {
            return Ok(());
        };
        let public_key = self.context_value(PUBLIC_KEY).ok_or(ReadError::Signature)?;
        signature::verify(algorithm, public_key, self.signed, signature)
    }

    fn open_blocks(&self, cipher: &impl Aead, plaintext: &mut [u8]) -> Result<(), ReadError> {
        let Header {
            suite,
            content,
            message_id,
            ..
        } = self.header;
        let mut blocks = Blocks::new(self.body.clone(), suite.version(), content);
        let mut rest = plaintext;
        while let Some(block) = blocks.read()? {
            let aad = BlockAad::new(
                message_id,
                block.kind,
                block.sequence,
                block.ciphertext.len(),
            );
            let (place, after) = rest.split_at_mut(block.ciphertext.len());
            rest = after;
            cipher
                .open_to(block.iv, aad.as_bytes(), block.ciphertext, block.tag, place)
                .map_err(|_| ReadError::BodyTampered {
                    sequence: block.sequence,
                })?;
        }
        Ok(())
    }
}
