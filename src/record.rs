//! A record and its checked parts.
//!
//! Everything here is parsed once, at the edge: a [`PartitionKey`] that exists is a valid one, and no
//! stage checks it again. Limits are the service's (PutRecords, API reference):
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecordsRequestEntry.html>.

mod id;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};

pub use self::id::StreamId;

/// What a caller hands in: bytes, and where they should go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub data: Bytes,
    pub key: RecordKey,
}

impl Record {
    /// A record that may go to any shard.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            key: RecordKey::Any,
        }
    }

    /// A record whose shard follows from `key`.
    pub fn with_key(data: impl Into<Bytes>, key: PartitionKey) -> Self {
        Self {
            data: data.into(),
            key: RecordKey::Keyed(key),
        }
    }
}

/// What decides a record's shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKey {
    /// Any shard: one is chosen per aggregate. Costs no MD5 and no key bytes per record.
    Any,
    /// The MD5 of the key, as the service computes it.
    Keyed(PartitionKey),
    /// A hash key of the caller's own; the partition key only travels along.
    Explicit(PartitionKey, HashKey),
}

impl RecordKey {
    /// Bytes of the partition key.
    #[expect(clippy::len_without_is_empty, reason = "none has none")]
    pub fn len(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Keyed(key) | Self::Explicit(key, _) => key.len(),
        }
    }
}

/// 1 to 256 Unicode characters.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub struct PartitionKey(Arc<str>);

/// Records of one source mostly share theirs, whose text need not be read then.
impl PartialEq for PartitionKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Hash for PartitionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartitionKey {
    /// Characters, not bytes: the service counts Unicode code points.
    pub const MAX_CHARS: usize = 256;

    pub fn new(key: impl AsRef<str>) -> Result<Self, PartitionKeyError> {
        let key = key.as_ref();
        // Only a key with more bytes than that can have more characters.
        let chars = if key.len() <= Self::MAX_CHARS {
            key.len()
        } else {
            key.chars().count()
        };
        match chars {
            0 => Err(PartitionKeyError::Empty),
            n if n > Self::MAX_CHARS => Err(PartitionKeyError::TooLong { chars: n }),
            _ => Ok(Self(key.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length in bytes, which is what counts towards a record's size.
    #[expect(clippy::len_without_is_empty, reason = "a key is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Where the service puts a record with this key and no explicit hash key.
    pub fn hash_key(&self) -> HashKey {
        HashKey::of(self.0.as_bytes())
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionKeyError {
    #[error("a partition key has at least 1 character")]
    Empty,
    #[error("a partition key has at most 256 characters, this one has {chars}")]
    TooLong { chars: usize },
}

/// A point on the ring that shards divide among them: 0 to 2^128 - 1.
///
/// As aligned as what lies beside it: every record that waits has one, and would have 16 bytes of padding around it.
#[repr(Rust, packed(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashKey(pub u128);

impl HashKey {
    pub const MIN: Self = Self(0);
    pub const MAX: Self = Self(u128::MAX);

    /// MD5 of a partition key's bytes, read as a big-endian number.
    pub fn of(partition_key: &[u8]) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key).into()))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", { self.0 })
    }
}

/// Decimal without leading zeros, as `ExplicitHashKey` wants it.
impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", { self.0 })
    }
}

impl FromStr for HashKey {
    type Err = HashKeyError;

    /// The service's pattern: `0|([1-9]\d{0,38})`, below 2^128.
    fn from_str(s: &str) -> Result<Self, HashKeyError> {
        let canonical = s == "0" || (!s.starts_with('0') && s.bytes().all(|b| b.is_ascii_digit()));
        match s.parse() {
            Ok(n) if canonical => Ok(Self(n)),
            _ => Err(HashKeyError(beginning(s))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash key is a decimal number from 0 to 2^128-1 without leading zeros, found {0:?}")]
pub struct HashKeyError(String);

/// What a message needs of what somebody gave for something short.
pub(crate) fn beginning(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

/// A stream, by name or by ARN.
///
/// An ARN reaches a stream in another account, and changes the endpoint's host to
/// `ACCOUNT.data-kinesis.REGION.amazonaws.com`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    as_given: Arc<str>,
    name_starts: usize,
}

impl StreamName {
    /// 1 to 128 of `[a-zA-Z0-9_.-]`, or `arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME`.
    pub fn new(s: impl AsRef<str>) -> Result<Self, StreamNameError> {
        let s = s.as_ref();
        let error = || StreamNameError(beginning(s));
        let name_starts = if s.starts_with("arn:") {
            let parts: Vec<&str> = s.splitn(6, ':').collect();
            let [_, partition, "kinesis", region, account, resource] = parts[..] else {
                return Err(error());
            };
            if partition.is_empty()
                || region.is_empty()
                || account.len() != 12
                || !account.bytes().all(|b| b.is_ascii_digit())
                || !resource.starts_with("stream/")
            {
                return Err(error());
            }
            s.len() - resource.len() + "stream/".len()
        } else {
            0
        };
        let name = &s[name_starts..];
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if name.is_empty() || name.len() > 128 || !name.bytes().all(allowed) {
            return Err(error());
        }
        Ok(Self {
            as_given: s.into(),
            name_starts,
        })
    }

    pub fn name(&self) -> &str {
        &self.as_given[self.name_starts..]
    }

    /// What a folder for the stream is called. For a stream named by its ARN, the ARN with `+` for `:` and `/`, since
    /// two accounts may have streams of one name; no name has a `+` of its own. A name like `..` must not lead
    /// elsewhere.
    pub fn folder_name(&self) -> String {
        let mut name = self.as_given.replace([':', '/'], "+");
        if name.starts_with('.') {
            name.insert(0, '+');
        }
        name
    }

    /// The stream whose folder is called so, if one's is.
    pub fn of_folder(folder: &str) -> Option<Self> {
        let given = match folder.strip_prefix('+') {
            Some(hidden) => hidden.to_owned(),
            // An ARN's last `+` was a `/`.
            None => match folder.rsplit_once('+') {
                Some((arn, name)) => format!("{}/{name}", arn.replace('+', ":")),
                None => folder.to_owned(),
            },
        };
        let stream = Self::new(given).ok()?;
        (stream.folder_name() == folder).then_some(stream)
    }

    /// The ARN, where the stream was given by one.
    pub fn arn(&self) -> Option<&str> {
        (self.name_starts > 0).then_some(&*self.as_given)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.as_given)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_given)
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(s: &str) -> Result<Self, StreamNameError> {
        Self::new(s)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a stream: give a name of 1 to 128 letters, digits, '_', '.' or '-', \
     or an ARN like arn:aws:kinesis:eu-west-1:111122223333:stream/NAME"
)]
pub struct StreamNameError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_key_counts_characters_not_bytes() {
        assert!(PartitionKey::new("ü".repeat(256)).is_ok());
        assert_eq!(
            PartitionKey::new("ü".repeat(257)),
            Err(PartitionKeyError::TooLong { chars: 257 })
        );
        assert_eq!(PartitionKey::new(""), Err(PartitionKeyError::Empty));
    }

    /// Messages go to a client with a buffer of its own, and into logs.
    #[test]
    fn what_is_far_too_long_is_not_repeated_whole() {
        let long = "ü".repeat(1 << 20);
        for message in [
            StreamName::new(&long).unwrap_err().to_string(),
            long.parse::<HashKey>().unwrap_err().to_string(),
        ] {
            assert!(
                message.len() < 600 && message.contains("(2097152 bytes)"),
                "{message}"
            );
        }
        assert_eq!(beginning("short"), "short");
    }

    #[test]
    fn hash_key_is_the_md5_as_a_big_endian_number() {
        // Seen from the KPL's own client: the aggregate of keys alpha, beta, alpha goes to alpha's hash key.
        let alpha = PartitionKey::new("alpha").unwrap().hash_key();
        assert_eq!(alpha.to_string(), "58606826522850340945736240254012750329");
    }

    #[test]
    fn hash_key_takes_only_the_canonical_decimal_form() {
        for good in ["0", "1", "340282366920938463463374607431768211455"] {
            assert_eq!(good.parse::<HashKey>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "00",
            "01",
            "-1",
            "+1",
            "1e3",
            " 1",
            "340282366920938463463374607431768211456",
        ] {
            assert!(bad.parse::<HashKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_folder_tells_its_stream() {
        let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/shop-logs";
        for name in ["shop-logs", ".hidden", "..", arn] {
            let stream = StreamName::new(name).unwrap();
            let folder = stream.folder_name();
            assert_eq!(StreamName::of_folder(&folder), Some(stream), "{folder}");
        }
        for folder in ["", "+", "+shop", "a+b", "lost found", "arn+aws+x"] {
            assert_eq!(StreamName::of_folder(folder), None, "{folder}");
        }
    }

    #[test]
    fn stream_is_a_name_or_an_arn() {
        let by_name = StreamName::new("shop-logs").unwrap();
        assert_eq!((by_name.name(), by_name.arn()), ("shop-logs", None));
        let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/shop-logs";
        let by_arn = StreamName::new(arn).unwrap();
        assert_eq!((by_arn.name(), by_arn.arn()), ("shop-logs", Some(arn)));
        for bad in [
            "",
            "a b",
            "stream/x",
            "arn:aws:kinesis:eu-west-1:111122223333:stream/",
            "arn:aws:firehose:eu-west-1:111122223333:stream/x",
            "arn:aws:kinesis:eu-west-1:1111:stream/x",
            "arn:aws:kinesis:eu-west-1:111122223333:stream/x/consumer/c",
        ] {
            assert!(StreamName::new(bad).is_err(), "{bad:?}");
        }
        assert!(StreamName::new("x".repeat(129)).is_err());
    }
}
