//! A page taken apart: user records, not opened yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use rayon::prelude::*;

use super::opening::Opened;
use super::{Place, Reason, SealedInfo, Unreadable, UserRecord};
use crate::aggregate::format::{UserRecord as Member, deaggregate_each};
use crate::consume::shards::StoredRecord;
use crate::record::HashKey;
use crate::seal::message::{Message, ReadLimits, message_in};
use crate::seal::open::OpenError;
use crate::shard::ShardId;

/// A user record, not opened yet.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) partition_key: Arc<str>,
    /// As it lies in the stream.
    pub(super) data: Bytes,
    /// The message that it is, if it is one.
    pub(super) message: Option<Bytes>,
    pub(super) arrived: Option<SystemTime>,
}

/// Where records are counted that are left out, and the hash keys of those that are not.
pub(super) type Strays = (Arc<AtomicU64>, (HashKey, HashKey));

/// Records whose checksums are computed together, where they have some: as many as the processor has lanes.
const TOGETHER: usize = 16;

/// Aggregates side by side: each is hashed.
pub(super) fn take_apart(
    shard: &ShardId,
    page: Vec<StoredRecord>,
    strays: Option<Strays>,
) -> Vec<Part> {
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
    let of_one = |(record, members): (StoredRecord, Option<Vec<Member>>)| match members {
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
    };
    let together = page.into_par_iter().chunks(TOGETHER);
    together
        .flat_map_iter(|records| {
            let data: Vec<_> = records.iter().map(|record| record.data.clone()).collect();
            let members = deaggregate_each(&data);
            records.into_iter().zip(members).flat_map(of_one)
        })
        .collect()
}

impl Part {
    pub(super) fn whole(shard: &ShardId, record: StoredRecord) -> Self {
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
    pub(super) fn sealed(&self) -> Bytes {
        self.message.clone().expect("asked of messages only")
    }

    pub(super) fn plain(self) -> UserRecord {
        UserRecord {
            place: self.place,
            partition_key: self.partition_key,
            data: self.data,
            arrived: self.arrived,
            sealed: None,
        }
    }

    pub(super) fn unreadable(self, reason: Reason) -> Unreadable {
        Unreadable {
            place: self.place,
            partition_key: self.partition_key,
            data: self.data,
            reason: Box::new(reason),
        }
    }

    /// What only begins like a message is not one: without keys nobody said that it should be.
    pub(super) fn without_keys(self) -> Result<UserRecord, Unreadable> {
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

    pub(super) fn opened(
        self,
        opened: Result<Opened, OpenError>,
    ) -> Result<UserRecord, Unreadable> {
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
