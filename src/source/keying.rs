//! How a record gets its partition key: a [`PartitionKeyRule`] as configured → keys, chunk by chunk.
//!
//! A key follows from the plaintext, before it is encrypted, and lies in the stream in clear: that is the
//! service's, which routes by it. So a field's value is shown unless it goes through an HMAC, and a hash of a
//! record lets who can guess the record confirm the guess.
//!
//! - `random`, `constant`, `host` and `file` are one key that all records share: nothing is done per record.
//! - Where a record has no such field, or an empty one, it goes to any shard, and is counted.
//! - What the service does not take as a key (more than 256 characters, not UTF-8) is hashed.
//!
//! Keys are found where lines are split: on a file source's own thread, or, for sockets and standard input,
//! in their task, as long as that takes some microseconds; a longer chunk goes to a thread that may block.

mod digest;
mod pattern;
mod pointer;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regex::bytes::CaptureLocations;

pub use self::digest::{HmacKey, HmacKeyError};
pub use self::pattern::{KeyPattern, KeyPatternError};
pub use self::pointer::{JsonPointer, JsonPointerError};
use super::frame::Line;
use crate::record::{PartitionKey, RecordKey};

/// `partition_key` of a `[[source]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKeyRule {
    /// Any shard, chosen per aggregate.
    Random,
    /// The same for every record of the source.
    Constant(PartitionKey),
    /// The name of this host.
    Host,
    /// The path under which the file was found; of a socket, its own; `stdin`.
    File,
    /// The SHA-256 of the record: the same record to the same shard.
    Hash,
    Field(Field, Form),
}

/// A part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    JsonPointer(JsonPointer),
    Regex(KeyPattern),
}

/// What a field's value is to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// The key itself.
    Value,
    /// The key is its HMAC, under the key in this file.
    Hmac { key_file: PathBuf },
    /// The key, and the explicit hash key too: a decimal number below 2^128, which names the shard.
    HashKey,
}

/// As a person reads it in a log.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JsonPointer(pointer) => write!(f, "json_pointer {:?}", pointer.as_str()),
            Self::Regex(pattern) => write!(f, "regex {:?}", pattern.as_str()),
        }
    }
}

/// Why a rule cannot be followed here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyingError {
    #[error(transparent)]
    HmacKey(#[from] HmacKeyError),
    #[error(
        "this host has no name that its partition_key = \"host\" could be; give it one, or choose a constant"
    )]
    NoHostName,
}

/// A source's rule, ready to be followed.
#[derive(Debug, Clone)]
pub struct Keying(How);

#[derive(Debug, Clone)]
enum How {
    Same(RecordKey),
    /// The same for all of a file.
    PerOrigin,
    PerRecord(Arc<PerRecord>),
}

impl Keying {
    /// Any shard for every record.
    pub const RANDOM: Self = Self(How::Same(RecordKey::Any));

    /// Reads what the rule needs: a key file, the host's name.
    pub fn new(rule: &PartitionKeyRule) -> Result<Self, KeyingError> {
        let same = |key| How::Same(RecordKey::Keyed(key));
        Ok(Self(match rule {
            PartitionKeyRule::Random => return Ok(Self::RANDOM),
            PartitionKeyRule::Constant(key) => same(key.clone()),
            PartitionKeyRule::Host => {
                let name = gethostname::gethostname();
                same(key_of(name.as_bytes()).ok_or(KeyingError::NoHostName)?)
            }
            PartitionKeyRule::File => How::PerOrigin,
            PartitionKeyRule::Hash => How::PerRecord(Arc::new(PerRecord::Hash)),
            PartitionKeyRule::Field(field, form) => {
                let found = Found {
                    field: field.clone(),
                    form: ReadyForm::new(form)?,
                    missed: AtomicBool::new(false),
                };
                How::PerRecord(Arc::new(PerRecord::Found(found)))
            }
        }))
    }

    /// For what comes from this file or socket.
    pub fn of(&self, origin: &Path) -> Keyer {
        Keyer(match &self.0 {
            How::Same(key) => Of::Same(key.clone()),
            How::PerRecord(how) => Of::PerRecord(Arc::clone(how)),
            How::PerOrigin => {
                let key = key_of(origin.as_os_str().as_bytes());
                Of::Same(key.map_or(RecordKey::Any, RecordKey::Keyed))
            }
        })
    }
}

/// Makes the keys of one file's or socket's records.
#[derive(Debug, Clone)]
pub struct Keyer(Of);

#[derive(Debug, Clone)]
enum Of {
    Same(RecordKey),
    PerRecord(Arc<PerRecord>),
}

/// Those of a chunk's records, in their order.
#[derive(Debug)]
pub enum Keys {
    Same(RecordKey),
    Each {
        keys: Vec<RecordKey>,
        /// What they take in memory.
        bytes: usize,
        /// Records that have none by the rule.
        missing: usize,
    },
}

impl Keyer {
    /// More bytes than this are not to be looked through in a task: 0.2 ms for short JSON lines (bench `keys`).
    const LONG: usize = 64 * 1024;

    pub fn keys(&self, lines: &[Line]) -> Keys {
        match &self.0 {
            Of::Same(key) => Keys::Same(key.clone()),
            Of::PerRecord(how) => how.keys(lines),
        }
    }

    /// The same from a task, which is not held up. Not cancel safe: it takes the lines along.
    pub(super) async fn keys_in_task(&self, lines: Vec<Line>) -> (Keys, Vec<Line>) {
        let bytes: usize = match &self.0 {
            Of::Same(_) => 0,
            Of::PerRecord(_) => lines.iter().map(|line| line.bytes.len()).sum(),
        };
        if bytes <= Self::LONG {
            return (self.keys(&lines), lines);
        }
        let keyer = self.clone();
        let found = tokio::task::spawn_blocking(move || (keyer.keys(&lines), lines));
        found.await.expect("finding keys does not panic")
    }

    /// What the keys of `records` records of `bytes` bytes in all may take.
    pub(super) fn worst_bytes(&self, records: usize, bytes: usize) -> usize {
        match &self.0 {
            Of::Same(_) => 0,
            Of::PerRecord(how) => how.worst_bytes(records, bytes),
        }
    }
}

impl Keys {
    /// What the longest key takes.
    pub(super) const MOST_OF_ONE: usize = 4 * PartitionKey::MAX_CHARS + PerRecord::BESIDE_A_KEY;

    /// What they take beside the records.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Same(_) => 0,
            Self::Each { bytes, .. } => *bytes,
        }
    }

    pub(super) fn missing(&self) -> usize {
        match self {
            Self::Same(_) => 0,
            Self::Each { missing, .. } => *missing,
        }
    }

    /// One after another; as many as there are records.
    pub(super) fn into_each(self) -> impl Iterator<Item = RecordKey> {
        let (same, each) = match self {
            Self::Same(key) => (Some(key), Vec::new()),
            Self::Each { keys, .. } => (None, keys),
        };
        let same = same.into_iter().flat_map(std::iter::repeat);
        same.chain(each)
    }
}

/// A key that follows from the record.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per source")]
enum PerRecord {
    Hash,
    Found(Found),
}

#[derive(Debug)]
struct Found {
    field: Field,
    form: ReadyForm,
    /// The log has been told.
    missed: AtomicBool,
}

#[derive(Debug)]
enum ReadyForm {
    Value,
    Hmac(HmacKey),
    HashKey,
}

impl PerRecord {
    /// What a key takes beside its text, counted as often as that is: thrice (see [`Costs`](super::Costs)). Its counts, and its
    /// places in the tables of an aggregate. An estimate, held against what the system says of records of 20 bytes on
    /// 8 and 2,000 shards: without it they took 108 and 125 MiB of the 96 that there are, with 64 once 98.
    const BESIDE_A_KEY: usize = 96;

    fn keys(&self, lines: &[Line]) -> Keys {
        let mut search = match self {
            Self::Hash => None,
            Self::Found(found) => Some((found, found.field.room())),
        };
        let (mut bytes, mut missing) = (0, 0);
        let key = |line: &Line| {
            // Too long for a record: the dead letter's.
            if line.oversized {
                return RecordKey::Any;
            }
            let key = match &mut search {
                None => Some(RecordKey::Keyed(digest::hashed(&line.bytes))),
                Some((found, room)) => found.key(&line.bytes, room),
            };
            match &key {
                Some(RecordKey::Keyed(key) | RecordKey::Explicit(key, _)) => {
                    bytes += key.len() + Self::BESIDE_A_KEY;
                }
                _ => missing += 1,
            }
            key.unwrap_or(RecordKey::Any)
        };
        let keys = lines.iter().map(key).collect();
        if let (Self::Found(found), true) = (self, missing > 0) {
            found.warn();
        }
        Keys::Each {
            keys,
            bytes,
            missing,
        }
    }

    /// A value is part of its record, and a key has 256 characters of 4 bytes at most; a digest has its length,
    /// whatever it is of.
    fn worst_bytes(&self, records: usize, bytes: usize) -> usize {
        let digests = records * (digest::LEN + Self::BESIDE_A_KEY);
        match self {
            Self::Hash => digests,
            Self::Found(_) => digests + bytes.min(records * 4 * PartitionKey::MAX_CHARS),
        }
    }
}

impl Found {
    fn key(&self, record: &[u8], room: &mut Option<CaptureLocations>) -> Option<RecordKey> {
        let value = self.field.find(record, room)?;
        if value.is_empty() {
            return None;
        }
        match &self.form {
            ReadyForm::Value => key_of(&value).map(RecordKey::Keyed),
            ReadyForm::Hmac(key) => Some(RecordKey::Keyed(key.mac(&value))),
            ReadyForm::HashKey => {
                let text = std::str::from_utf8(&value).ok()?;
                let key = PartitionKey::new(text).ok()?;
                Some(RecordKey::Explicit(key, text.parse().ok()?))
            }
        }
    }

    fn warn(&self) {
        if !self.missed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                rule = %self.field,
                "a record has no partition key by this rule and goes to any shard, as others like it will; \
                 the report counts them"
            );
        }
    }
}

impl ReadyForm {
    fn new(form: &Form) -> Result<Self, HmacKeyError> {
        Ok(match form {
            Form::Value => Self::Value,
            Form::Hmac { key_file } => Self::Hmac(HmacKey::load(key_file)?),
            Form::HashKey => Self::HashKey,
        })
    }
}

impl Field {
    fn room(&self) -> Option<CaptureLocations> {
        match self {
            Self::JsonPointer(_) => None,
            Self::Regex(pattern) => Some(pattern.room()),
        }
    }

    fn find<'r>(
        &self,
        record: &'r [u8],
        room: &mut Option<CaptureLocations>,
    ) -> Option<Cow<'r, [u8]>> {
        match self {
            Self::JsonPointer(pointer) => Some(match pointer.find(record)? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }),
            Self::Regex(pattern) => {
                let room = room.get_or_insert_with(|| pattern.room());
                pattern.find(record, room).map(Cow::Borrowed)
            }
        }
    }
}

/// The value itself where the service takes it, or its hash. `None`: empty.
fn key_of(value: &[u8]) -> Option<PartitionKey> {
    if value.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(value).ok();
    let key = text.and_then(|text| PartitionKey::new(text).ok());
    Some(key.unwrap_or_else(|| digest::hashed(value)))
}
