//! The header of a message, both versions. Parsing checks everything that needs no key, and borrows.
//!
//! Source: `data-format/message-header.md`.

use std::collections::BTreeSet;

use bytes::Bytes;
use hkdf_lanes::COMMITMENT_LEN;

use super::aead::{IV_LEN, Iv, Tag};
use super::context::PUBLIC_KEY;
use super::cursor::Cursor;
use super::edk::EncryptedDataKey;
use super::reader::{ReadError, ReadLimits};
use super::suite::{Suite, Version};

/// Content type byte of a body in frames.
pub(super) const FRAMED: u8 = 2;
const UNFRAMED: u8 = 1;

const VERSION_2: u8 = 2;
const VERSION_1: u8 = 1;
/// "Customer authenticated encrypted data", the only type of version 1.
const TYPE_1: u8 = 0x80;

/// Version 1, after the content type: reserved, and the IV's length.
pub(super) const V1_FIXED: [u8; 5] = [0, 0, 0, 0, IV_LEN as u8];

/// What a header of this suite begins with.
pub(super) fn begin(suite: Suite) -> Vec<u8> {
    let begin: &[u8] = match suite.version() {
        Version::V1 => &[VERSION_1, TYPE_1],
        Version::V2 => &[VERSION_2],
    };
    [begin, &suite.id().to_be_bytes()].concat()
}

/// A checked header, as slices of the message.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) suite: Suite,
    pub(super) message_id: &'a [u8],
    pairs: &'a [u8],
    keys: &'a [u8],
    /// Context and encrypted data keys in one piece.
    pub(super) key_section: &'a [u8],
    pub(super) content: Content,
    pub(super) commitment: Option<&'a [u8; COMMITMENT_LEN]>,
    /// All that the tag authenticates.
    pub(super) body: &'a [u8],
    pub(super) iv: Iv,
    pub(super) tag: &'a Tag,
}

/// The form of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Framed { frame_length: u32 },
    Unframed,
}

/// An encrypted data key, borrowed from the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptedDataKeyRef<'a> {
    pub provider: &'a str,
    pub info: &'a [u8],
    pub ciphertext: &'a [u8],
}

impl EncryptedDataKeyRef<'_> {
    pub fn to_owned(self) -> EncryptedDataKey {
        EncryptedDataKey {
            provider: self.provider.to_owned(),
            info: Bytes::copy_from_slice(self.info),
            ciphertext: Bytes::copy_from_slice(self.ciphertext),
        }
    }
}

/// Version, type and suite of a message begin these bytes. Says nothing about the rest.
pub fn looks_sealed(data: &[u8]) -> bool {
    read_suite(&mut Cursor::new(data)).is_ok()
}

impl<'a> Header<'a> {
    pub(super) fn parse(cursor: &mut Cursor<'a>, limits: &ReadLimits) -> Result<Self, ReadError> {
        let start = cursor.clone();
        let suite = read_suite(cursor)?;
        if !limits.policy.may_read(suite) {
            return Err(ReadError::Uncommitted { suite });
        }
        let message_id = cursor.take(suite.version().message_id_len(), "message id")?;
        let before_keys = cursor.clone();
        let pairs = read_pairs(cursor, suite)?;
        let keys = read_keys(cursor, limits)?;
        let key_section = cursor.since(&before_keys);
        let content_type = cursor.u8("content type")?;
        if suite.version() == Version::V1 {
            read_fixed_fields(cursor)?;
        }
        let content = read_content(content_type, cursor.u32("frame length")?)?;
        let commitment = match suite.version() {
            Version::V1 => None,
            Version::V2 => Some(cursor.array("commitment")?),
        };
        let body = cursor.since(&start);
        // Version 1 stores the header's IV: zeros today, random in messages from before 2017.
        let iv = match suite.version() {
            Version::V1 => *cursor.array("header IV")?,
            Version::V2 => [0; IV_LEN],
        };
        Ok(Self {
            suite,
            message_id,
            pairs,
            keys,
            key_section,
            content,
            commitment,
            body,
            iv,
            tag: cursor.array("header tag")?,
        })
    }

    /// The stored encryption context, pair by pair.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(self.pairs)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = EncryptedDataKeyRef<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.keys);
        std::iter::from_fn(move || {
            (!cursor.rest().is_empty()).then(|| read_key(&mut cursor).expect(CHECKED))
        })
    }

    pub(super) fn context_value(&self, key: &str) -> Option<&'a str> {
        self.pairs()
            .find_map(|(k, value)| (k == key).then_some(value))
    }
}

const CHECKED: &str = "the bytes were checked when the header was parsed";

fn read_suite(cursor: &mut Cursor<'_>) -> Result<Suite, ReadError> {
    let version = match cursor.u8("version").map_err(|_| ReadError::NotAMessage)? {
        VERSION_1 if cursor.u8("type") == Ok(TYPE_1) => Version::V1,
        VERSION_2 => Version::V2,
        _ => return Err(ReadError::NotAMessage),
    };
    let id = cursor.u16("suite")?;
    Suite::from_id(id)
        .filter(|suite| suite.version() == version)
        .ok_or(ReadError::UnknownSuite { id })
}

/// The pairs of the AAD field, without their count.
fn read_pairs<'a>(cursor: &mut Cursor<'a>, suite: Suite) -> Result<&'a [u8], ReadError> {
    const PART: &str = "encryption context";
    let malformed = |reason| ReadError::Malformed { part: PART, reason };
    let field = cursor.field(PART)?;
    let mut inner = Cursor::new(field);
    let mut last = None;
    let mut sorted = true;
    let mut signed = false;
    if !field.is_empty() {
        let count = inner.u16(PART)?;
        if count == 0 {
            return Err(malformed("has pairs, and counts none"));
        }
        for _ in 0..count {
            let (key, _) = read_pair(&mut inner)?;
            sorted &= last < Some(key);
            signed |= key == PUBLIC_KEY;
            last = Some(key);
        }
        if !inner.rest().is_empty() {
            return Err(malformed("is longer than its pairs"));
        }
    }
    let stored = field.get(2..).unwrap_or_default();
    // The format asks for sorted keys; unsorted ones do no harm, two of one name would.
    if !sorted {
        let mut seen = BTreeSet::new();
        if !pairs(stored).all(|(key, _)| seen.insert(key)) {
            return Err(malformed("has a key twice"));
        }
    }
    match (suite.signature(), signed) {
        (Some(_), false) => Err(malformed("lacks the public key of a signed message")),
        (None, true) => Err(malformed(
            "has the public key of a signature, and the suite none",
        )),
        _ => Ok(stored),
    }
}

/// Over checked bytes.
fn pairs<'a>(bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let mut cursor = Cursor::new(bytes);
    std::iter::from_fn(move || {
        (!cursor.rest().is_empty()).then(|| read_pair(&mut cursor).expect(CHECKED))
    })
}

fn read_pair<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, &'a str), ReadError> {
    Ok((
        cursor.text("encryption context key")?,
        cursor.text("encryption context value")?,
    ))
}

/// The entries of the encrypted data keys, without their count.
fn read_keys<'a>(cursor: &mut Cursor<'a>, limits: &ReadLimits) -> Result<&'a [u8], ReadError> {
    let count = usize::from(cursor.u16("encrypted data keys")?);
    if count == 0 {
        return Err(ReadError::Malformed {
            part: "encrypted data keys",
            reason: "are none",
        });
    }
    if count > limits.max_encrypted_data_keys {
        return Err(ReadError::TooManyKeys {
            found: count,
            limit: limits.max_encrypted_data_keys,
        });
    }
    let start = cursor.clone();
    for _ in 0..count {
        read_key(cursor)?;
    }
    Ok(cursor.since(&start))
}

fn read_key<'a>(cursor: &mut Cursor<'a>) -> Result<EncryptedDataKeyRef<'a>, ReadError> {
    Ok(EncryptedDataKeyRef {
        provider: cursor.text("key provider")?,
        info: cursor.field("key provider info")?,
        ciphertext: cursor.field("encrypted data key")?,
    })
}

/// Version 1: four reserved bytes and the IV's length.
fn read_fixed_fields(cursor: &mut Cursor<'_>) -> Result<(), ReadError> {
    if cursor.u32("reserved field")? != 0 {
        return Err(ReadError::Malformed {
            part: "reserved field",
            reason: "is not zero",
        });
    }
    if usize::from(cursor.u8("IV length")?) != IV_LEN {
        return Err(ReadError::Malformed {
            part: "IV length",
            reason: "is not 12",
        });
    }
    Ok(())
}

fn read_content(content_type: u8, frame_length: u32) -> Result<Content, ReadError> {
    match (content_type, frame_length) {
        (FRAMED, 1..) => Ok(Content::Framed { frame_length }),
        (UNFRAMED, 0) => Ok(Content::Unframed),
        (FRAMED | UNFRAMED, _) => Err(ReadError::Malformed {
            part: "frame length",
            reason: "does not fit the content type",
        }),
        _ => Err(ReadError::Malformed {
            part: "content type",
            reason: "is neither 1 nor 2",
        }),
    }
}
