//! Which entries keep their order: those that hold records of one partition key.

use std::collections::{HashSet, VecDeque};

use crate::aggregate::AggregatedRecord;
use crate::record::PartitionKey;
use crate::seal::SealedRecord;

/// The keys of entries that others are not to pass.
#[derive(Debug, Default)]
struct Keys<'a> {
    known: HashSet<&'a PartitionKey>,
    /// Those of a block are sealed with it, and its route is that of its first record: it may be any.
    sealed: bool,
}

/// An entry, and all that waits and has to stay behind it, goes to the end of the queue.
pub(super) fn push_behind(queue: &mut VecDeque<AggregatedRecord>, entry: AggregatedRecord) {
    let mut keys = Keys::default();
    keys.add(&entry);
    let are_akin: Vec<bool> = (queue.iter())
        .map(|waiting| keys.add_if_akin(waiting))
        .collect();
    let mut behind = VecDeque::from([entry]);
    for is_akin in are_akin {
        let waiting = queue.pop_front().expect("one for each");
        if is_akin {
            behind.push_back(waiting);
        } else {
            queue.push_back(waiting);
        }
    }
    queue.append(&mut behind);
}

impl<'a> Keys<'a> {
    fn add(&mut self, entry: &'a AggregatedRecord) {
        for (member, key) in keyed(entry) {
            self.known.insert(key);
            self.sealed |= is_block(member);
        }
    }

    /// What stays behind one of them has others stay behind it.
    fn add_if_akin(&mut self, entry: &'a AggregatedRecord) -> bool {
        let is_akin = |(member, key): (&SealedRecord, &PartitionKey)| {
            self.sealed || self.known.contains(key) || is_block(member) && !self.known.is_empty()
        };
        let is_akin = keyed(entry).any(is_akin);
        if is_akin {
            self.add(entry);
        }
        is_akin
    }
}

/// No order is promised to a record without a key.
fn keyed(entry: &AggregatedRecord) -> impl Iterator<Item = (&SealedRecord, &PartitionKey)> {
    let members = entry.members().iter();
    members.filter_map(|member| Some((member, member.route().partition_key()?)))
}

fn is_block(member: &SealedRecord) -> bool {
    member.tickets().records() > 1
}
