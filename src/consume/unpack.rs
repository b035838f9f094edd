//! Kinesis records → user records: de-aggregate, open.
//!
//! The order is kept. The work is in three steps, because rayon threads must not wait and tokio's must not
//! compute: the pool takes aggregates apart and finds which data keys they need, tokio has these unwrapped
//! (one call for each key, from the opener's cache mostly), the pool opens.
//!
//! Promises: every user record comes out, opened or with the reason why not; an outage of KMS is waited
//! for, never taken for a record's fault (unless the caller would rather not wait). Refuses: records that are not encrypted, where keys were given
//! and plaintext is not allowed by name: a writer who drops encryption must not pass unseen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rayon::prelude::*;
use tokio::sync::oneshot;

use super::shards::{ListedShard, StoredRecord};
use crate::aggregate::format::{MAGIC, UserRecord as Member, deaggregate};
use crate::record::HashKey;
use crate::retry::{self, Backoff};
use crate::seal::EncryptionContext;
use crate::seal::block::{self, BlockError};
use crate::seal::key::KeyError;
use crate::seal::message::{Message, ReadLimits, Suite, message_in};
use crate::seal::open::{DataKey, OpenError, Opener};
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
    pub reason: Reason,
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
        "begins like an aggregate, but its checksum or its inside is wrong: damaged, or not encrypted and \
         only alike; --raw shows the bytes"
    )]
    DamagedAggregate,
    #[error(transparent)]
    Open(Box<OpenError>),
    #[error(transparent)]
    Block(Box<BlockError>),
}

impl From<OpenError> for Reason {
    fn from(error: OpenError) -> Self {
        Self::Open(Box::new(error))
    }
}

/// What happens to records that are not encrypted, where keys are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plaintext {
    Refused,
    Allowed,
}

/// Unpacks pages on a pool of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Unpacker {
    form: Form,
    pool: Arc<rayon::ThreadPool>,
    kms_is_out: Arc<AtomicBool>,
    waits: bool,
    strays: Option<Arc<AtomicU64>>,
}

#[derive(Debug, Clone)]
enum Form {
    AsStored,
    Users,
    Opened(Arc<Opener>, Plaintext),
}

/// Records that one job opens: enough that their keys are derived side by side, whatever else lies between them.
const TOGETHER: usize = 64;

/// Calls to KMS that one page has under way at once. Guess: a page of many writers should not wait for them
/// one by one, and KMS's request quota is shared with everyone in the account.
const UNWRAPS_AT_ONCE: usize = 8;

impl Unpacker {
    /// Takes nothing apart and opens nothing.
    pub fn as_stored(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::new(Form::AsStored, threads)
    }

    /// De-aggregates. What is sealed is told as such.
    pub fn without_keys(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::new(Form::Users, threads)
    }

    /// De-aggregates, and opens what is sealed.
    pub fn opening(
        opener: Arc<Opener>,
        plaintext: Plaintext,
        threads: usize,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        Self::new(Form::Opened(opener, plaintext), threads)
    }

    fn new(form: Form, threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("open-{n}"))
            .build()?;
        Ok(Self {
            form,
            pool: Arc::new(pool),
            kms_is_out: Arc::default(),
            waits: true,
            strays: None,
        })
    }

    /// An outage of KMS is a record's answer, like any other refusal: for someone who can ask again.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// An aggregate with a record that does not belong on its shard is left out as a whole, as the KCL does: its writer has
    /// sent it again for the right shard. Records in a block are its message's, and stay.
    #[must_use]
    pub fn dropping_strays(mut self) -> Self {
        self.strays = Some(Arc::default());
        self
    }

    /// User records that were left out so.
    pub fn strays(&self) -> u64 {
        let strays = self.strays.as_ref();
        strays.map_or(0, |strays| strays.load(Ordering::Relaxed))
    }

    /// What opens, if anything does: it counts how its data keys did.
    pub fn opener(&self) -> Option<&Arc<Opener>> {
        match &self.form {
            Form::AsStored | Form::Users => None,
            Form::Opened(opener, _) => Some(opener),
        }
    }

    /// All user records of a page, in its order. Cancel safe: what was begun is thrown away.
    pub async fn unpack(
        &self,
        shard: &ListedShard,
        page: Vec<StoredRecord>,
    ) -> Vec<Result<UserRecord, Unreadable>> {
        let strays = self.strays.clone().zip(shard.range);
        let shard = shard.id.clone();
        match &self.form {
            Form::AsStored => {
                let parts = page.into_iter().map(|record| Part::whole(&shard, record));
                parts.map(|part| Ok(part.plain())).collect()
            }
            Form::Users => {
                self.on_pool(move || {
                    let parts = take_apart(&shard, page, strays).into_par_iter();
                    parts.map(Part::without_keys).collect()
                })
                .await
            }
            Form::Opened(opener, plaintext) => {
                let (opener, plaintext) = (Arc::clone(opener), *plaintext);
                let take_apart = move || take_apart(&shard, page, strays);
                self.open_all(opener, plaintext, take_apart).await
            }
        }
    }

    async fn open_all(
        &self,
        opener: Arc<Opener>,
        plaintext: Plaintext,
        take_apart: impl FnOnce() -> Vec<Part> + Send + 'static,
    ) -> Vec<Result<UserRecord, Unreadable>> {
        let find_keys = Arc::clone(&opener);
        let (parts, needed) = self
            .on_pool(move || {
                let parts = take_apart();
                let needed = NeededKeys::of(&parts, &find_keys);
                (parts, needed)
            })
            .await;
        let asked: Vec<_> = needed
            .first_users
            .iter()
            .map(|&user| self.key(&opener, parts[user].sealed()).boxed())
            .collect();
        let keys: Vec<_> = stream::iter(asked)
            .buffered(UNWRAPS_AT_ONCE)
            .collect()
            .await;
        self.on_pool(move || {
            let parts = parts.into_par_iter().zip(needed.by_part);
            parts
                .chunks(TOGETHER)
                .flat_map_iter(|together| open_together(together, &keys, &opener, plaintext))
                .collect()
        })
        .await
    }

    /// Waits for as long as KMS can not be asked, unless told not to.
    async fn key(&self, opener: &Opener, sealed: Bytes) -> Result<Key, OpenError> {
        let message = opener.parse(&sealed)?;
        let context = Arc::new(message.context());
        let rng = StdRng::from_rng(&mut rand::rng());
        let mut backoff = Backoff::new(retry::Settings::default(), rng);
        let mut failures = 0;
        loop {
            let answer = opener.data_key(&message).await;
            match &answer {
                Err(error) if self.waits && heals(error) => {
                    // Once for all shards and keys.
                    if !self.kms_is_out.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "records can not be opened now: waiting");
                    }
                    failures += 1;
                    tokio::time::sleep(backoff.delay(failures)).await;
                }
                answered => {
                    if answered.is_ok() && self.kms_is_out.swap(false, Ordering::Relaxed) {
                        tracing::info!("records can be opened again");
                    }
                    return answer.map(|data_key| Key { data_key, context });
                }
            }
        }
    }

    async fn on_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, done) = oneshot::channel();
        self.pool.spawn(move || {
            // Nobody waits where reading was stopped.
            let _ = reply.send(work());
        });
        done.await.expect("a job that panics ends the process")
    }
}

/// Renewed credentials heal it too; and those that expired while reading were right once.
fn heals(error: &OpenError) -> bool {
    error.is_outage()
        || matches!(error, OpenError::Key(error) if matches!(**error, KeyError::Credentials { .. }))
}

/// What messages with equal key sections share: their data key and, because it stands there too, their
/// context. One map for all of a page, where one for each record would outweigh small records.
#[derive(Debug)]
struct Key {
    data_key: DataKey,
    context: Arc<EncryptionContext>,
}

/// A user record, not opened yet.
#[derive(Debug)]
struct Part {
    place: Place,
    partition_key: Arc<str>,
    /// As it lies in the stream.
    data: Bytes,
    /// The message that it is, if it is one.
    message: Option<Bytes>,
    arrived: Option<SystemTime>,
}

/// Where records are counted that are left out, and the hash keys of those that are not.
type Strays = (Arc<AtomicU64>, (HashKey, HashKey));

/// Aggregates side by side: each is hashed.
fn take_apart(shard: &ShardId, page: Vec<StoredRecord>, strays: Option<Strays>) -> Vec<Part> {
    let is_astray = |members: &[Member]| {
        let Some((left_out, (first, last))) = &strays else {
            return false;
        };
        let belongs = |member: &Member| (*first..=*last).contains(&member.hash_key());
        let is_astray = !members.iter().all(belongs);
        if is_astray {
            left_out.fetch_add(members.len() as u64, Ordering::Relaxed);
        }
        is_astray
    };
    page.into_par_iter()
        .flat_map_iter(|record| match deaggregate(&record.data) {
            None => vec![Part::whole(shard, record)],
            Some(members) if is_astray(&members) => Vec::new(),
            Some(members) => (0..)
                .zip(members)
                .map(|(sub_sequence, member)| Part {
                    place: Place {
                        shard: shard.clone(),
                        sequence: Arc::clone(&record.sequence),
                        sub_sequence,
                        in_block: None,
                    },
                    partition_key: member.partition_key,
                    message: message_in(&member.data),
                    data: member.data,
                    arrived: record.arrived,
                })
                .collect(),
        })
        .collect()
}

impl Part {
    fn whole(shard: &ShardId, record: StoredRecord) -> Self {
        Self {
            place: Place {
                shard: shard.clone(),
                sequence: record.sequence,
                sub_sequence: 0,
                in_block: None,
            },
            partition_key: record.partition_key.into(),
            message: message_in(&record.data),
            data: record.data,
            arrived: record.arrived,
        }
    }

    /// The message; only where there is one.
    fn sealed(&self) -> Bytes {
        self.message.clone().expect("asked of messages only")
    }

    fn plain(self) -> UserRecord {
        UserRecord {
            place: self.place,
            partition_key: self.partition_key,
            data: self.data,
            arrived: self.arrived,
            sealed: None,
        }
    }

    fn unreadable(self, reason: Reason) -> Unreadable {
        Unreadable {
            place: self.place,
            partition_key: self.partition_key,
            data: self.data,
            reason,
        }
    }

    /// What only begins like a message is not one: without keys nobody said that it should be.
    fn without_keys(self) -> Result<UserRecord, Unreadable> {
        let Some(bytes) = &self.message else {
            return Ok(self.plain());
        };
        let Ok(message) = Message::parse(bytes, &ReadLimits::default()) else {
            return Ok(self.plain());
        };
        let wrapped_by: Vec<_> = message
            .encrypted_data_keys()
            .map(|edk| edk.to_owned().wrapping_key())
            .collect();
        let wrapped_by = wrapped_by.join(", ");
        Err(self.unreadable(Reason::NoKeys { wrapped_by }))
    }

    fn opened(self, opened: Result<Opened, OpenError>) -> Result<UserRecord, Unreadable> {
        let (plaintext, sealed) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(self.unreadable(error.into())),
        };
        Ok(UserRecord {
            place: self.place,
            partition_key: self.partition_key,
            data: plaintext,
            arrived: self.arrived,
            sealed: Some(SealedInfo {
                message: self.data,
                ..sealed
            }),
        })
    }
}

/// What was in a message, and how that was sealed.
type Opened = (Bytes, SealedInfo);

/// Each record, in its order; those under one key side by side.
fn open_together(
    together: Vec<(Part, Need)>,
    keys: &[Result<Key, OpenError>],
    opener: &Opener,
    plaintext: Plaintext,
) -> impl Iterator<Item = Result<UserRecord, Unreadable>> {
    let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, (_, need)) in together.iter().enumerate() {
        if let Need::Key(key) = need {
            by_key.entry(*key).or_default().push(at);
        }
    }
    let mut opened: Vec<Option<Result<Opened, OpenError>>> = Vec::new();
    opened.resize_with(together.len(), || None);
    for (key, places) in by_key {
        let sealed: Vec<Bytes> = places.iter().map(|at| together[*at].0.sealed()).collect();
        for (at, each) in places
            .into_iter()
            .zip(open_under(&keys[key], &sealed, opener))
        {
            opened[at] = Some(each);
        }
    }
    let each = together.into_iter().zip(opened);
    each.flat_map(move |((part, need), opened)| match need {
        Need::Nothing if plaintext == Plaintext::Allowed => vec![Ok(part.plain())],
        Need::Nothing if part.data.starts_with(&MAGIC) => {
            vec![Err(part.unreadable(Reason::DamagedAggregate))]
        }
        Need::Nothing => vec![Err(part.unreadable(Reason::Plaintext))],
        Need::Unparsable(error) => vec![Err(part.unreadable(error.into()))],
        Need::Key(_) => match part.opened(opened.expect("each under its key")) {
            Ok(record) => unpack_block(record),
            Err(unreadable) => vec![Err(unreadable)],
        },
    })
}

/// What each of these is, in their order.
fn open_under(
    key: &Result<Key, OpenError>,
    sealed: &[Bytes],
    opener: &Opener,
) -> Vec<Result<Opened, OpenError>> {
    let key = match key {
        Ok(key) => key,
        Err(error) => return sealed.iter().map(|_| Err(error.clone())).collect(),
    };
    // They were parsed before, to find their keys.
    let messages: Result<Vec<_>, _> = sealed.iter().map(|bytes| opener.parse(bytes)).collect();
    let messages = match messages {
        Ok(messages) => messages,
        Err(error) => return sealed.iter().map(|_| Err(error.clone())).collect(),
    };
    let opened = opener.open_all(&messages, &key.data_key).into_iter();
    let with_info = |(plaintext, message): (Result<Bytes, OpenError>, &Message<'_>)| {
        let sealed = SealedInfo {
            message: Bytes::new(),
            wrapping_key: Arc::clone(key.data_key.wrapping_key()),
            context: Arc::clone(&key.context),
            suite: message.suite(),
        };
        Ok((plaintext?, sealed))
    };
    opened.zip(&messages).map(with_info).collect()
}

/// The records of a block, where the message says that it is one; its own word, authenticated.
fn unpack_block(record: UserRecord) -> Vec<Result<UserRecord, Unreadable>> {
    let sealed = record.sealed.as_ref().expect("it was opened");
    let Some(packing) = sealed.context.get(block::CONTEXT_KEY) else {
        return vec![Ok(record)];
    };
    match block::unpack(packing, &record.data) {
        Ok(members) => (0..)
            .zip(members)
            .map(|(number, member)| {
                Ok(UserRecord {
                    place: Place {
                        in_block: Some(number),
                        ..record.place.clone()
                    },
                    partition_key: member.partition_key,
                    data: member.data,
                    arrived: record.arrived,
                    sealed: record.sealed.clone(),
                })
            })
            .collect(),
        Err(error) => vec![Err(Unreadable {
            data: sealed.message.clone(),
            place: record.place,
            partition_key: record.partition_key,
            reason: Reason::Block(Box::new(error)),
        })],
    }
}

/// Which data keys a page needs, each once.
#[derive(Debug)]
struct NeededKeys {
    by_part: Vec<Need>,
    /// For each key, the first part that needs it.
    first_users: Vec<usize>,
}

#[derive(Debug)]
enum Need {
    /// It is not sealed.
    Nothing,
    Unparsable(OpenError),
    Key(usize),
}

impl NeededKeys {
    fn of(parts: &[Part], opener: &Opener) -> Self {
        let mut first_users = Vec::new();
        let mut known: HashMap<(u16, &[u8]), usize> = HashMap::new();
        // Most are under the key of the one before them, and to compare is a tenth of to hash.
        let mut last: Option<((u16, &[u8]), usize)> = None;
        let by_part = (0..).zip(parts).map(|(at, part)| {
            let Some(bytes) = &part.message else {
                return Need::Nothing;
            };
            let message = match opener.parse(bytes) {
                Ok(message) => message,
                Err(error) => return Need::Unparsable(error),
            };
            let mut another = || {
                first_users.push(at);
                first_users.len() - 1
            };
            // A suite without a key per message leaves no data key behind, not even for a page.
            if !message.suite().derives_key() {
                return Need::Key(another());
            }
            let id = (message.suite().id(), message.key_section());
            if let Some((same, key)) = last
                && same == id
            {
                return Need::Key(key);
            }
            let key = *known.entry(id).or_insert_with(another);
            last = Some((id, key));
            Need::Key(key)
        });
        let by_part = by_part.collect();
        Self {
            by_part,
            first_users,
        }
    }
}

#[cfg(test)]
mod tests;
