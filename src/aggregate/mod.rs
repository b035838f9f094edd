//! Many user records → one Kinesis record, in the KPL's format.

pub mod format;
pub mod reducer;
mod trigger;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use self::trigger::Trigger;
use crate::near;
use crate::record::{HashKey, PartitionKey};
use crate::seal::{Route, SealedRecord};
use crate::shard::ShardId;

/// The `[aggregation]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// Bytes of one aggregate, magic and checksum included.
    pub max_size: usize,
    /// User records of one aggregate.
    pub max_count: usize,
    /// A record's one deadline, from read to batch, aggregated or not.
    pub linger: Duration,
    pub container_key: ContainerKey,
}

/// The keys of the entry in which an aggregate travels. Its members keep theirs, inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerKey {
    /// The first member's own, or for members without a key one of several short random ones of the shard: consumers
    /// that work on keys side by side, as Lambda may, find more than one.
    Spread,
    /// As the KPL writes them: the literal `a`, and an explicit hash key on every entry, aggregated or not.
    Kpl,
}

impl Default for Settings {
    /// The KPL's own: 50 KiB, 100 ms.
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: 50 << 10,
            // The KPL's is 2^32 - 1, which is none.
            max_count: format::MAX_MEMBERS,
            linger: Duration::from_millis(100),
            container_key: ContainerKey::Spread,
        }
    }
}

impl Settings {
    /// What aggregates as these say.
    pub fn reducer<M: reducer::Member>(&self, routes: reducer::Routes) -> reducer::Reducer<M> {
        let max_size = self.enabled.then_some(self.max_size);
        reducer::Reducer::new(max_size, routes)
            .of_at_most(self.max_count)
            .keyed_as(self.container_key)
    }
}

/// One entry of a PutRecords request: a lone user record as it is, or several in an aggregate.
///
/// The members stay with it, and not only their bytes: each is owed an answer, and after a reshard they may
/// have to part ways.
#[derive(Debug)]
pub struct AggregatedRecord {
    data: Bytes,
    partition_key: PartitionKey,
    explicit_hash_key: Option<HashKey>,
    predicted: Option<ShardId>,
    members: Vec<SealedRecord>,
    /// When it should be in a request at the latest.
    pub deadline: Instant,
    /// When the first of its members was there, sealed.
    pub opened_at: Instant,
    /// Calls made for it so far; for its members there may have been others before.
    pub attempts: u32,
    /// Why the last of them did not store it.
    pub last_refusal: Option<String>,
}

impl AggregatedRecord {
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    pub fn partition_key(&self) -> &PartitionKey {
        &self.partition_key
    }

    pub fn explicit_hash_key(&self) -> Option<HashKey> {
        self.explicit_hash_key
    }

    /// Where the shard map said it would land; `None` where there is no map.
    pub fn predicted(&self) -> Option<&ShardId> {
        self.predicted.as_ref()
    }

    /// The same, as lanes are looked up by it.
    #[expect(clippy::ref_option, reason = "a map is asked for a key as it has it")]
    pub(crate) fn lane(&self) -> &Option<ShardId> {
        &self.predicted
    }

    pub fn members(&self) -> &[SealedRecord] {
        &self.members
    }

    /// Brings its members near, who have waited for the answer.
    pub fn bring_members(&self) {
        near::bring(self.members.as_ptr(), size_of_val(&self.members[..]));
    }

    /// They take with them how often it was tried: what becomes of them next goes on from there.
    pub fn into_members(mut self) -> Vec<SealedRecord> {
        if self.attempts > 0 {
            for member in &mut self.members {
                member.tried(self.attempts);
            }
        }
        self.members
    }

    /// When it was read, or its first member, which mostly is the oldest.
    ///
    /// # Panics
    ///
    /// Never: there is a member.
    pub fn born(&self) -> Instant {
        self.members[0].tickets().born()
    }

    /// User records inside.
    pub fn user_records(&self) -> u64 {
        self.members.iter().map(|m| m.tickets().records()).sum()
    }

    /// Whether it may land on any shard.
    pub fn is_for_any(&self) -> bool {
        self.members.iter().all(|m| *m.route() == Route::Any)
    }

    /// What counts towards the service's limits: data and partition key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }

    /// The hash key that the service routes by.
    pub fn hash_key(&self) -> HashKey {
        self.explicit_hash_key
            .unwrap_or_else(|| self.partition_key.hash_key())
    }

    /// Whether every member belongs on a shard with this range. The KCL drops *all* records of an aggregate
    /// once one of them does not.
    pub fn belongs_on(&self, shard: &crate::shard::Shard) -> bool {
        if self.members.len() < 2 {
            // No aggregate: whoever finds it takes it.
            return true;
        }
        self.members.iter().all(|member| match member.route() {
            Route::Any => shard.contains(self.hash_key()),
            Route::Hashed { hash_key, .. } => shard.contains(*hash_key),
        })
    }
}
