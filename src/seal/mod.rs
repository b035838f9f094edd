//! Record → [`SealedRecord`]: the only way onto the wire.
//!
//! A [`SealedRecord`] can be built in two ways: by encrypting, or by showing a [`PlaintextAllowed`] token,
//! which only a configuration with `scope = "off"` gives out. No later stage can be handed anything else. The spool,
//! which holds nothing but those, gives them back; it refuses to be opened where it holds plaintext and none is
//! allowed any more.

pub mod block;
pub mod key;
pub mod keyring;
pub mod kms;
pub mod message;
pub mod offload;
pub mod open;
pub mod rawkey;
pub mod sealer;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

pub use message::{ContextError, EncryptionContext};

use crate::delivery::{Ticket, Tickets};
use crate::record::{HashKey, PartitionKey, RecordKey};

/// The `[encryption]` table, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub scope: Scope,
    /// Authenticated, and stored in clear beside each ciphertext.
    pub context: EncryptionContext,
    pub cache: CacheSettings,
    /// How messages are written. In block scope the frame length is the block's.
    pub message: message::Settings,
}

/// What is encrypted, and under which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Plaintext is sent. Only by the word of the configuration.
    Off,
    /// Each user record is one AWS Encryption SDK message.
    Record(KeyChoice),
    /// Records of one shard are packed into a block, which is one message.
    Block(KeyChoice, block::Settings),
}

/// What wraps the data keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChoice {
    /// KMS keys, each by ARN, id, or alias; one at least. The first makes data keys, the others wrap them too,
    /// so that each of them opens the messages.
    Kms(Vec<String>),
    /// A local raw AES wrapping key, read from a file.
    WrappingKeyFile(PathBuf),
}

/// How long and how often one data key may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    pub max_age: Duration,
    /// At most 2^32, the AWS Encryption SDK's bound.
    pub max_messages: u64,
    pub max_bytes: u64,
}

impl Default for CacheSettings {
    /// 5 minutes: one KMS call each five minutes per stream and host. Messages and bytes: far from what
    /// AES-256-GCM with a key derived per message allows, so age decides.
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            max_messages: 4_294_967_295,
            max_bytes: 1 << 40,
        }
    }
}

impl Settings {
    /// Nothing is encrypted.
    pub fn off() -> Self {
        Self {
            scope: Scope::Off,
            context: EncryptionContext::new(),
            cache: CacheSettings::default(),
            message: message::Settings::default(),
        }
    }

    /// Whether messages have room for the context, beside the pairs that suite and scope add to it.
    pub fn check_context(&self) -> Result<(), ContextError> {
        let own = match &self.scope {
            Scope::Off => return Ok(()),
            Scope::Record(_) => None,
            Scope::Block(_, block) => Some(block.context_pair()),
        };
        self.message.check_context(&self.context, own)
    }

    /// The token that lets records pass unencrypted, where the settings say so.
    pub fn plaintext_allowed(&self) -> Option<PlaintextAllowed> {
        matches!(self.scope, Scope::Off).then_some(PlaintextAllowed(()))
    }
}

/// Witness that the configuration says `scope = "off"`.
#[derive(Debug, Clone, Copy)]
pub struct PlaintextAllowed(());

/// A plain record with its routing resolved, on its way into a block.
#[derive(Debug)]
pub struct RoutedRecord {
    pub data: Bytes,
    pub route: Route,
    pub ticket: Ticket,
}

/// A block, packed and not sealed yet.
#[derive(Debug)]
pub struct PackedBlock {
    pub bytes: Vec<u8>,
    /// Of all its records.
    pub route: Route,
    pub tickets: Tickets,
}

/// A record as it will lie in the stream, with its routing resolved.
#[derive(Debug)]
pub struct SealedRecord {
    data: Bytes,
    route: Route,
    tickets: Tickets,
    attempts: u32,
}

/// Where a sealed record belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Any shard.
    Any,
    Hashed {
        partition_key: PartitionKey,
        hash_key: HashKey,
        /// The caller gave the hash key; else it is the partition key's. Not a second one: every record that waits has
        /// room for it.
        is_explicit: bool,
    },
}

impl Route {
    pub fn of(key: RecordKey) -> Self {
        match key {
            RecordKey::Any => Self::Any,
            RecordKey::Keyed(partition_key) => Self::Hashed {
                hash_key: partition_key.hash_key(),
                partition_key,
                is_explicit: false,
            },
            RecordKey::Explicit(partition_key, hash_key) => Self::Hashed {
                partition_key,
                hash_key,
                is_explicit: true,
            },
        }
    }

    /// What it was resolved from.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Any => RecordKey::Any,
            Self::Hashed {
                partition_key,
                is_explicit: false,
                ..
            } => RecordKey::Keyed(partition_key.clone()),
            Self::Hashed {
                partition_key,
                hash_key,
                is_explicit: true,
            } => RecordKey::Explicit(partition_key.clone(), *hash_key),
        }
    }

    /// `None`: it has none of its own.
    pub fn partition_key(&self) -> Option<&PartitionKey> {
        match self {
            Self::Any => None,
            Self::Hashed { partition_key, .. } => Some(partition_key),
        }
    }

    /// The hash key, where the caller gave one.
    pub fn explicit(&self) -> Option<HashKey> {
        match self {
            Self::Hashed {
                hash_key,
                is_explicit: true,
                ..
            } => Some(*hash_key),
            _ => None,
        }
    }
}

impl SealedRecord {
    /// Only the stage builds these.
    fn new(data: Bytes, route: Route, tickets: Tickets) -> Self {
        Self {
            data,
            route,
            tickets,
            attempts: 0,
        }
    }

    /// Seals blocks side by side, each for all of its records.
    pub fn encrypt_blocks(writer: &message::Writer, blocks: Vec<PackedBlock>) -> Vec<Self> {
        let mut ids = message::MessageIds::for_messages(blocks.len());
        let messages = writer.seal_apart(&mut ids, blocks.iter().map(|block| &block.bytes[..]));
        messages
            .into_iter()
            .zip(blocks)
            .map(|(message, block)| Self::new(message.into(), block.route, block.tickets))
            .collect()
    }

    /// Lets a record pass as it is.
    pub fn plain(data: Bytes, route: Route, ticket: Ticket, _: PlaintextAllowed) -> Self {
        Self::new(data, route, Tickets::one(ticket))
    }

    /// One that was sealed, and has waited on disk since.
    pub(crate) fn from_spool(data: Bytes, route: Route, tickets: Tickets) -> Self {
        Self::new(data, route, tickets)
    }

    #[cfg(test)]
    pub(crate) fn for_test(data: Bytes, route: Route, ticket: Ticket) -> Self {
        Self::new(data, route, Tickets::one(ticket))
    }

    pub fn data(&self) -> &Bytes {
        &self.data
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Calls made for it, in whatever entries it was.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It was in an entry for which so many calls were made.
    pub(crate) fn tried(&mut self, attempts: u32) {
        self.attempts = self.attempts.saturating_add(attempts);
    }

    /// One, or those of all records in a block.
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Points the record at its copy inside an aggregate, so that its own buffer can be freed. The bytes
    /// must be the same.
    pub(crate) fn relocate(&mut self, copy: Bytes) {
        debug_assert_eq!(self.data, copy);
        self.data = copy;
    }

    pub fn into_tickets(self) -> Tickets {
        self.tickets
    }

    /// The tickets whose callers are told of a failure, and the record with the others.
    pub fn part(self) -> (smallvec::SmallVec<[Ticket; 1]>, Option<Self>) {
        let (callers, rest) = self.tickets.part();
        let rest = rest.map(|tickets| Self {
            attempts: self.attempts,
            ..Self::new(self.data, self.route, tickets)
        });
        (callers, rest)
    }
}
