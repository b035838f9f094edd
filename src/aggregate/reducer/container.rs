//! What is open on its way to being an entry: its keys, and what it lists.

use tokio::time::Instant;

use super::Member;
use crate::aggregate::Trigger;
use crate::aggregate::format::Layout;
use crate::record::{HashKey, PartitionKey};
use crate::seal::Route;
use crate::shard::ShardId;

/// Its members are elsewhere. In this order: what each record needs of it comes first, on two lines of the cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Open {
    pub(super) layout: Layout,
    pub(super) deadline: Instant,
    pub(super) opened_at: Instant,
    pub(super) container: Container,
}

/// A container that takes no more: at least one member.
#[derive(Debug)]
pub struct Closed<M> {
    pub(crate) layout: Layout,
    pub(crate) members: Vec<M>,
    pub(crate) deadline: Instant,
    /// When its first member came.
    pub(crate) opened_at: Instant,
    pub(crate) closed_at: Instant,
    /// `None`: it never waited for more.
    pub(crate) trigger: Option<Trigger>,
    pub(crate) container: Container,
}

/// The keys of the entry.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) partition_key: PartitionKey,
    pub(crate) explicit: Option<HashKey>,
    pub(crate) predicted: Option<ShardId>,
    /// The first member's hash key, where the entry is to have the KPL's keys.
    pub(crate) kpl: Option<HashKey>,
}

/// The partition key of every aggregate of the KPL.
const KPL_KEY: &str = "a";

impl Container {
    /// The keys of an entry of so many members. The KPL names the hash key on each entry, which alone decides then; a
    /// lone record keeps its partition key.
    pub(super) fn into_keys(self, members: usize) -> (PartitionKey, Option<HashKey>) {
        match self.kpl {
            Some(first) if members > 1 => {
                let key = PartitionKey::new(KPL_KEY).expect("one character");
                (key, Some(first))
            }
            Some(first) => (self.partition_key, Some(first)),
            None => (self.partition_key, self.explicit),
        }
    }

    /// The keys a member is listed under: a record for any shard shares the container's.
    pub(super) fn member_key<'a>(
        &'a self,
        route: &'a Route,
    ) -> (&'a PartitionKey, Option<HashKey>) {
        match route {
            Route::Any => (&self.partition_key, self.explicit),
            Route::Hashed { partition_key, .. } => (partition_key, route.explicit()),
        }
    }
}

impl Open {
    /// Lists a member that is about to come, if it fits. Whether it does.
    pub(super) fn list_within(&mut self, max_size: usize, record: &impl Member) -> bool {
        let (key, explicit) = self.container.member_key(record.route());
        self.layout
            .add_within(max_size, key, explicit, record.data().len())
    }

    /// Why nothing more fits, where that is so.
    pub(super) fn is_full(&self, max_size: usize, max_count: usize) -> Option<Trigger> {
        match (self.layout.wire_len(), self.layout.members()) {
            (_, members) if members >= max_count => Some(Trigger::Count),
            (bytes, _) if bytes >= max_size => Some(Trigger::Size),
            _ => None,
        }
    }

    pub(super) fn close<M>(
        self,
        members: Vec<M>,
        trigger: Option<Trigger>,
        now: Instant,
    ) -> Closed<M> {
        Closed {
            layout: self.layout,
            members,
            deadline: self.deadline,
            opened_at: self.opened_at,
            closed_at: now,
            trigger,
            container: self.container,
        }
    }
}
