//! What comes out: a user record, or the reason why not.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::seal::EncryptionContext;
use crate::seal::block::BlockError;
use crate::seal::message::Suite;
use crate::seal::open::OpenError;
use crate::shard::ShardId;

/// What a producer handed in, as far as the stream can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    pub place: Place,
    pub partition_key: Arc<str>,
    /// Opened, where it was sealed.
    pub data: Bytes,
    pub arrived: Option<SystemTime>,
    /// `None`: it lay in the stream as it is.
    pub sealed: Option<SealedInfo>,
}

/// Where in the stream a user record lies. Ordered within a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub shard: ShardId,
    pub sequence: Arc<str>,
    /// Its number in the aggregate; 0 where there is none, as the KCL counts.
    pub sub_sequence: u64,
    /// Its number in the block, where it came in one.
    pub in_block: Option<u32>,
}

/// How a record was sealed: authenticated, but for the message itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedInfo {
    /// As it lay in the stream.
    pub message: Bytes,
    /// The ARN of a KMS key, or `namespace/name`.
    pub wrapping_key: Arc<str>,
    /// As the message stores it.
    pub context: Arc<EncryptionContext>,
    pub suite: Suite,
}

/// A user record that could not be given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub place: Place,
    pub partition_key: Arc<str>,
    /// As it lay in the stream.
    pub data: Bytes,
    /// Apart: few records have one, and each result has room for it.
    pub reason: Box<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    #[error(
        "encrypted under {wrapped_by}, and no key is given: name it with --kms-key, --wrapping-key or --config; --raw shows the record as it lies there"
    )]
    NoKeys { wrapped_by: String },
    #[error(
        "not encrypted, and refused because keys are given: --allow-plaintext lets such records pass"
    )]
    Plaintext,
    #[error(
        "begins like an aggregate, but its checksum or its inside is wrong, or it holds more than 131,072 records: damaged, or not \
         encrypted and only alike; --raw shows the bytes"
    )]
    DamagedAggregate,
    #[error(transparent)]
    Open(Box<OpenError>),
    #[error(transparent)]
    Block(Box<BlockError>),
}

impl Reason {
    /// Whether a key that was named may not be used: somebody has to put that right, and it is nothing of the record's.
    pub fn refuses_the_key(&self) -> bool {
        let Self::Open(error) = self else {
            return false;
        };
        matches!(&**error, OpenError::Key(error) if error.refuses_the_key())
    }
}

impl From<OpenError> for Reason {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}
