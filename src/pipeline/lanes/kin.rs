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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::aggregate::reducer::Reducer;
    use crate::aggregate::reducer::tests::reducer;
    use crate::delivery::{MemoryBudget, SpanSettled, Ticket};
    use crate::record::RecordKey;
    use crate::seal::Route;

    struct Unheard;

    impl SpanSettled for Unheard {
        fn settled(&self, _: u64) {}
    }

    /// An entry of a record for each of the keys, or of a block of so many records for the only one.
    fn entry(keys: &str, records: u32) -> AggregatedRecord {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer: Reducer<SealedRecord> = reducer(1);
        for name in keys.chars() {
            let memory = MemoryBudget::new(1000).try_reserve(1).unwrap();
            let ticket = Ticket::for_span(records, now, memory, Arc::new(Unheard), 0);
            let key = match name {
                '-' => RecordKey::Any,
                name => RecordKey::Keyed(PartitionKey::new(name.to_string()).unwrap()),
            };
            let record = SealedRecord::for_test(keys.to_owned().into(), Route::of(key), ticket);
            reducer.push(record, now, now, &mut closed);
        }
        reducer.flush(now, &mut closed);
        closed.pop().unwrap().into()
    }

    fn behind(entry: AggregatedRecord, queue: Vec<AggregatedRecord>) -> Vec<Bytes> {
        let mut queue = VecDeque::from(queue);
        push_behind(&mut queue, entry);
        let first = |entry: &AggregatedRecord| entry.members()[0].data().clone();
        queue.iter().map(first).collect()
    }

    #[test]
    fn what_shares_a_key_with_an_entry_stays_behind_it_and_so_does_what_shares_one_with_that() {
        let queue = ["a", "b", "ac", "-", "c", "cd", "d", "e"];
        let queue = queue.map(|keys| entry(keys, 1)).into();
        let expected = ["b", "-", "e", "aa", "a", "ac", "c", "cd", "d"];
        assert_eq!(behind(entry("aa", 1), queue), expected);
    }

    #[test]
    fn what_is_in_a_block_may_be_of_any_key_but_nothing_waits_for_what_has_none() {
        let queue = || vec![entry("b", 1), entry("c", 3), entry("-", 1), entry("d", 1)];
        let expected = ["b", "-", "a", "c", "d"];
        assert_eq!(behind(entry("a", 1), queue()), expected);
        let expected = ["b", "c", "-", "d", "-"];
        assert_eq!(behind(entry("-", 3), queue()), expected);
    }
}
