//! Which data keys a page needs, and what its messages are under them.

use std::collections::{BTreeMap, HashMap};
use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use rayon::iter::Either;

use super::part::Part;
use super::{Place, Plaintext, Reason, SealedInfo, Unreadable, UserRecord};
use crate::aggregate::format::MAGIC;
use crate::seal::EncryptionContext;
use crate::seal::block;
use crate::seal::message::Message;
use crate::seal::open::{DataKey, OpenError, Opener};

/// Records that one job opens: enough that their keys are derived side by side, whatever else lies between them.
pub(super) const TOGETHER: usize = 64;

/// What messages with equal key sections share: their data key and, because it stands there too, their
/// context. One map for all of a page, where one for each record would outweigh small records.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) data_key: DataKey,
    pub(super) context: Arc<EncryptionContext>,
}

/// What was in a message, and how that was sealed.
pub(super) type Opened = (Bytes, SealedInfo);

/// Each record, in its order; those under one key side by side.
pub(super) fn open_together(
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
    each.flat_map(move |((part, need), opened)| {
        let one = match need {
            // Also where plaintext is allowed: what was sealed in it would pass for that.
            Need::Nothing if part.data.starts_with(&MAGIC) => {
                Err(part.unreadable(Reason::DamagedAggregate))
            }
            Need::Nothing if plaintext == Plaintext::Allowed => Ok(part.plain()),
            Need::Nothing => Err(part.unreadable(Reason::Plaintext)),
            Need::Unparsable(error) => Err(part.unreadable(error.into())),
            Need::Key(_) => part.opened(opened.expect("each under its key")),
        };
        match one {
            Ok(record) if is_block(&record) => Either::Right(unpack_block(record).into_iter()),
            one => Either::Left(iter::once(one)),
        }
    })
}

/// The message's own word, authenticated.
fn is_block(record: &UserRecord) -> bool {
    let sealed = record.sealed.as_ref();
    sealed.is_some_and(|sealed| sealed.context.contains_key(block::CONTEXT_KEY))
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
    let mut messages = Vec::with_capacity(sealed.len());
    let mut parsed = Vec::with_capacity(sealed.len());
    for bytes in sealed {
        parsed.push(opener.parse(bytes).map(|message| messages.push(message)));
    }
    let opened = opener.open_all(&messages, &key.data_key);
    let mut opened = opened.into_iter().zip(&messages);
    let info = |message: &Message<'_>| SealedInfo {
        message: Bytes::new(),
        wrapping_key: Arc::clone(key.data_key.wrapping_key()),
        context: Arc::clone(&key.context),
        suite: message.suite(),
    };
    let each = parsed.into_iter().map(|parsed| {
        parsed?;
        let (plaintext, message) = opened.next().expect("one for each that is parsed");
        Ok((plaintext?, info(message)))
    });
    each.collect()
}

/// The records of a block.
fn unpack_block(record: UserRecord) -> Vec<Result<UserRecord, Unreadable>> {
    let sealed = record.sealed.as_ref().expect("it was opened");
    let packing = &sealed.context[block::CONTEXT_KEY];
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
            reason: Box::new(Reason::Block(Box::new(error))),
        })],
    }
}

/// Which data keys a page needs, each once.
#[derive(Debug)]
pub(super) struct NeededKeys {
    pub(super) by_part: Vec<Need>,
    /// For each key, the first part that needs it.
    pub(super) first_users: Vec<usize>,
}

#[derive(Debug)]
pub(super) enum Need {
    /// It is not sealed.
    Nothing,
    Unparsable(OpenError),
    Key(usize),
}

impl NeededKeys {
    pub(super) fn of(parts: &[Part], opener: &Opener) -> Self {
        let mut first_users = Vec::new();
        let mut known: HashMap<(u16, &[u8]), usize> = HashMap::new();
        // Most are under the key of the one before them, and to see that is a tenth of what it takes to parse and to hash.
        let mut last: Option<(Message<'_>, usize)> = None;
        let by_part = (0..).zip(parts).map(|(at, part)| {
            let Some(bytes) = &part.message else {
                return Need::Nothing;
            };
            if let Some((message, key)) = &last
                && message.is_key_of(bytes)
            {
                return Need::Key(*key);
            }
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
            let key = *known.entry(id).or_insert_with(another);
            last = Some((message, key));
            Need::Key(key)
        });
        let by_part = by_part.collect();
        Self {
            by_part,
            first_users,
        }
    }
}
