//! One open container per shard: size and deadline decide when it closes.
//!
//! Pure: time and the shard map are passed in. All members of a container are predicted to land on one
//! shard, because a KCL reader drops every record of an aggregate that holds a stray one. The same reducer
//! makes aggregates of sealed records and, in block scope before that, blocks of plain ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::format::{Layout, MAX_MEMBERS};
use super::{AggregatedRecord, ContainerKey};
use crate::record::{HashKey, PartitionKey};
use crate::seal::{Route, RoutedRecord, SealedRecord};
use crate::shard::map::draw_key;
use crate::shard::{ShardId, ShardMap};

/// What is known of the stream's shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routes {
    Known(Arc<ShardMap>),
    /// ListShards is denied: nothing can be predicted, so records go alone.
    Unpredictable,
    /// The service distributes records itself (`RecordDistributionStrategy` AUTO) and ignores keys: as unpredictable, and
    /// explicit hash keys are left out.
    Auto,
}

/// What can be put together.
pub trait Member: std::fmt::Debug {
    fn data(&self) -> &Bytes;
    fn route(&self) -> &Route;
}

/// Closes containers by size, and by the earliest deadline among their members.
#[derive(Debug)]
pub struct Reducer<M> {
    /// Bytes of a container, as an aggregate has them; `None`: every member goes alone.
    max_size: Option<usize>,
    max_count: usize,
    container_key: ContainerKey,
    routes: Routes,
    for_any_shard: bool,
    /// By the shard's place in the map.
    keyed: Vec<Option<Open<M>>>,
    any: Option<Open<M>>,
    deadlines: BTreeSet<(Instant, Slot)>,
    /// Aggregates opened for any shard so far: whose turn it is.
    turn: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Any,
    Shard(usize),
}

#[derive(Debug)]
struct Open<M> {
    layout: Layout,
    members: Vec<M>,
    deadline: Instant,
    container: Container,
}

/// A container that takes no more: at least one member.
#[derive(Debug)]
pub struct Closed<M> {
    pub(crate) layout: Layout,
    pub(crate) members: Vec<M>,
    pub(crate) deadline: Instant,
    pub(crate) closed_at: Instant,
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
    fn into_keys(self, members: usize) -> (PartitionKey, Option<HashKey>) {
        match self.kpl {
            Some(first) if members > 1 => {
                let key = PartitionKey::new(KPL_KEY).expect("one character");
                (key, Some(first))
            }
            Some(first) => (self.partition_key, Some(first)),
            None => (self.partition_key, self.explicit),
        }
    }
}

impl<M: Member> Reducer<M> {
    pub fn new(max_size: Option<usize>, routes: Routes) -> Self {
        let mut reducer = Self {
            max_size,
            max_count: MAX_MEMBERS,
            container_key: ContainerKey::Spread,
            routes: Routes::Unpredictable,
            for_any_shard: false,
            keyed: Vec::new(),
            any: None,
            deadlines: BTreeSet::new(),
            // Hosts that start together should not all begin with the same shard.
            turn: rand::random_range(0..1 << 20),
        };
        reducer.adopt(routes);
        reducer
    }

    /// Goes on with new routes. What is open must have been flushed: it was predicted by the old ones.
    pub fn adopt(&mut self, routes: Routes) {
        assert!(self.deadlines.is_empty(), "flush before new routes");
        if let Routes::Known(map) = &routes {
            self.keyed.resize_with(map.shards().len(), || None);
        }
        self.routes = routes;
    }

    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Members of a container at most, where that is less than readers take.
    #[must_use]
    pub fn of_at_most(self, max_count: usize) -> Self {
        Self {
            max_count: max_count.min(MAX_MEMBERS),
            ..self
        }
    }

    /// Other keys for the entries that are made of containers.
    #[must_use]
    pub fn keyed_as(self, container_key: ContainerKey) -> Self {
        Self {
            container_key,
            ..self
        }
    }

    /// Containers that are one user record each and may land anywhere: records for any shard are put together
    /// also where nothing is known of the shards.
    #[must_use]
    pub fn for_any_shard(self) -> Self {
        Self {
            for_any_shard: true,
            ..self
        }
    }

    /// Adds a record that is due by `deadline`. What is full comes out through `closed`.
    pub fn push(
        &mut self,
        record: M,
        deadline: Instant,
        now: Instant,
        closed: &mut Vec<Closed<M>>,
    ) {
        let (Some(slot), Some(max_size)) = (self.slot(record.route()), self.max_size) else {
            closed.push(self.alone(record, deadline, now));
            return;
        };
        if let Some(open) = self.at(slot) {
            let (key, explicit) = open.member_key(&record);
            let len = open
                .layout
                .wire_len_with(&key, explicit, record.data().len());
            if len > max_size {
                self.close_slot(slot, now, closed);
            }
        }
        self.append(slot, record, deadline);
        let max_count = self.max_count;
        if matches!(self.at(slot), Some(open) if open.is_full(max_size, max_count)) {
            self.close_slot(slot, now, closed);
        }
    }

    /// Where records of this route gather; `None`: nowhere.
    fn slot(&self, route: &Route) -> Option<Slot> {
        match (route, &self.routes) {
            (Route::Any, Routes::Known(_)) => Some(Slot::Any),
            (Route::Any, Routes::Unpredictable | Routes::Auto) => {
                self.for_any_shard.then_some(Slot::Any)
            }
            (Route::Hashed { hash_key, .. }, Routes::Known(map)) => {
                Some(Slot::Shard(map.predict_index(*hash_key)))
            }
            (Route::Hashed { .. }, Routes::Unpredictable | Routes::Auto) => None,
        }
    }

    /// A member with no company, past all gathering.
    pub fn alone(&mut self, record: M, deadline: Instant, now: Instant) -> Closed<M> {
        self.open_alone(record, deadline).close(now)
    }

    /// Closes what is due.
    pub fn close_due(&mut self, now: Instant, closed: &mut Vec<Closed<M>>) {
        while let Some(&(deadline, slot)) = self.deadlines.first()
            && deadline <= now
        {
            self.close_slot(slot, now, closed);
        }
    }

    /// Closes everything.
    pub fn flush(&mut self, now: Instant, closed: &mut Vec<Closed<M>>) {
        while let Some(&(_, slot)) = self.deadlines.first() {
            self.close_slot(slot, now, closed);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn at(&mut self, slot: Slot) -> &mut Option<Open<M>> {
        match slot {
            Slot::Any => &mut self.any,
            Slot::Shard(index) => &mut self.keyed[index],
        }
    }

    fn append(&mut self, slot: Slot, record: M, deadline: Instant) {
        if self.at(slot).is_none() {
            let open = self.open_alone(record, deadline);
            self.deadlines.insert((deadline, slot));
            *self.at(slot) = Some(open);
            return;
        }
        let open = self.at(slot).as_mut().expect("looked at just now");
        let was = open.deadline;
        open.add(record, deadline);
        let is = open.deadline;
        if is != was {
            self.deadlines.remove(&(was, slot));
            self.deadlines.insert((is, slot));
        }
    }

    /// An aggregate of this one record so far.
    fn open_alone(&mut self, record: M, deadline: Instant) -> Open<M> {
        let mut open = Open {
            layout: Layout::new(),
            members: Vec::new(),
            deadline,
            container: self.container(record.route()),
        };
        open.add(record, deadline);
        open
    }

    /// Keys for an entry whose first member goes this way.
    fn container(&mut self, route: &Route) -> Container {
        let mut container = match (route, &self.routes) {
            (Route::Any, Routes::Known(map)) => {
                self.turn = self.turn.wrapping_add(1);
                let key = map.spread_key(self.turn);
                Container {
                    partition_key: key.partition_key,
                    explicit: key.explicit,
                    predicted: Some(key.shard),
                    kpl: None,
                }
            }
            (Route::Any, Routes::Unpredictable | Routes::Auto) => Container {
                partition_key: draw_key(),
                explicit: None,
                predicted: None,
                kpl: None,
            },
            // The first member's own keys lead to the right shard, and cost nothing new.
            (
                Route::Hashed {
                    partition_key,
                    explicit,
                    hash_key,
                },
                routes,
            ) => Container {
                partition_key: partition_key.clone(),
                explicit: match routes {
                    Routes::Known(_) | Routes::Unpredictable => *explicit,
                    Routes::Auto => None,
                },
                predicted: match routes {
                    Routes::Known(map) => Some(map.predict(*hash_key).id.clone()),
                    Routes::Unpredictable | Routes::Auto => None,
                },
                kpl: None,
            },
        };
        if self.container_key == ContainerKey::Kpl && !matches!(self.routes, Routes::Auto) {
            let own = || container.partition_key.hash_key();
            container.kpl = Some(container.explicit.unwrap_or_else(own));
        }
        container
    }

    fn close_slot(&mut self, slot: Slot, now: Instant, closed: &mut Vec<Closed<M>>) {
        if let Some(open) = self.at(slot).take() {
            self.deadlines.remove(&(open.deadline, slot));
            closed.push(open.close(now));
        }
    }
}

impl<M: Member> Open<M> {
    fn add(&mut self, record: M, deadline: Instant) {
        let (key, explicit) = self.member_key(&record);
        self.layout.add(&key, explicit, record.data().len());
        self.members.push(record);
        self.deadline = self.deadline.min(deadline);
    }

    fn is_full(&self, max_size: usize, max_count: usize) -> bool {
        self.layout.wire_len() >= max_size || self.layout.members() >= max_count
    }

    /// The keys a member is listed under: a record for any shard shares the container's.
    fn member_key(&self, record: &M) -> (PartitionKey, Option<HashKey>) {
        match record.route() {
            Route::Any => (
                self.container.partition_key.clone(),
                self.container.explicit,
            ),
            Route::Hashed {
                partition_key,
                explicit,
                ..
            } => (partition_key.clone(), *explicit),
        }
    }

    fn close(self, now: Instant) -> Closed<M> {
        Closed {
            layout: self.layout,
            members: self.members,
            deadline: self.deadline,
            closed_at: now,
            container: self.container,
        }
    }
}

impl Reducer<SealedRecord> {
    /// Whether an entry may go as it is, or is to be made anew because it was made for other routes.
    pub fn suits(&self, entry: &AggregatedRecord) -> bool {
        let explicit = entry.explicit_hash_key().is_some();
        match (&self.routes, entry.members()) {
            // Readers would drop an aggregate whose shard the service has chosen.
            (Routes::Auto, members) => members.len() == 1 && !explicit,
            (Routes::Known(_) | Routes::Unpredictable, [first, ..]) => {
                let due = self.container_key == ContainerKey::Kpl || first.route().is_explicit();
                explicit || !due
            }
            (Routes::Known(_) | Routes::Unpredictable, []) => true,
        }
    }
}

impl Member for SealedRecord {
    fn data(&self) -> &Bytes {
        self.data()
    }

    fn route(&self) -> &Route {
        self.route()
    }
}

impl Member for RoutedRecord {
    fn data(&self) -> &Bytes {
        &self.data
    }

    fn route(&self) -> &Route {
        &self.route
    }
}

impl From<Closed<SealedRecord>> for AggregatedRecord {
    /// One member goes as it is, as with the KPL; more are encoded.
    fn from(closed: Closed<SealedRecord>) -> Self {
        let Closed {
            layout,
            mut members,
            deadline,
            closed_at,
            container,
        } = closed;
        let data = if let [only] = &members[..] {
            only.data().clone()
        } else {
            let (bytes, starts) = layout.encode(members.iter().map(|m| &m.data()[..]));
            let bytes = Bytes::from(bytes);
            for (member, start) in members.iter_mut().zip(starts) {
                member.relocate(bytes.slice(start..start + member.data().len()));
            }
            bytes
        };
        // It may wait for long, and grew by doubling.
        members.shrink_to_fit();
        let predicted = container.predicted.clone();
        let (partition_key, explicit_hash_key) = container.into_keys(members.len());
        Self {
            data,
            partition_key,
            explicit_hash_key,
            predicted,
            members,
            deadline,
            ready: closed_at,
            attempts: 0,
            last_refusal: None,
        }
    }
}

#[cfg(test)]
mod keys;

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::aggregate::format::deaggregate;
    use crate::delivery::{MemoryBudget, Ticket};
    use crate::record::RecordKey;
    use crate::shard::map::tests::even;
    use proptest::prelude::*;

    #[test]
    fn without_a_map_only_what_may_land_anywhere_is_put_together_and_only_as_one_record() {
        let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let keyed = || RecordKey::Keyed(PartitionKey::new("k").unwrap());
        for (reducer, expected) in [
            (Reducer::new(Some(1000), Routes::Unpredictable), vec![1; 6]),
            (
                Reducer::new(Some(1000), Routes::Unpredictable).for_any_shard(),
                vec![1, 1, 4],
            ),
        ] {
            let (mut reducer, mut closed) = (reducer, Vec::new());
            for n in 0..6 {
                let key = if n % 3 == 0 { keyed() } else { RecordKey::Any };
                reducer.push(sealed("data", key), due, now, &mut closed);
            }
            reducer.flush(now, &mut closed);
            let members: Vec<_> = closed.iter().map(|c| c.members.len()).collect();
            assert_eq!(members, expected);
        }
    }

    #[test]
    fn a_container_closes_before_readers_would_refuse_its_members() {
        let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let mut reducer = Reducer::new(Some(32 << 20), Routes::Unpredictable).for_any_shard();
        let mut closed = Vec::new();
        for _ in 0..=MAX_MEMBERS {
            reducer.push(sealed("", RecordKey::Any), due, now, &mut closed);
        }
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].members.len(), MAX_MEMBERS);
    }

    #[test]
    fn a_container_closes_at_its_count_in_the_order_in_which_its_members_came() {
        let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        for max_count in [1, 3, usize::MAX] {
            let mut reducer = reducer(1).of_at_most(max_count);
            let mut closed = Vec::new();
            for n in 0..10 {
                let key = if n < 5 { keyed("k") } else { keyed("l") };
                reducer.push(sealed(format!("{n}"), key), due, now, &mut closed);
            }
            assert_eq!(closed.len(), 10 / max_count);
            reducer.flush(now, &mut closed);
            let members: Vec<_> = closed.iter().flat_map(|c| &c.members).collect();
            let order: String = (members.iter())
                .map(|m| str::from_utf8(m.data()).unwrap())
                .collect();
            assert_eq!(order, "0123456789");
        }
    }

    /// A record whose receipt nobody keeps.
    pub(crate) fn sealed(data: impl Into<bytes::Bytes>, key: RecordKey) -> SealedRecord {
        let memory = MemoryBudget::new(1 << 20).try_reserve(1).unwrap();
        let (ticket, _) = Ticket::for_caller(Instant::now(), memory);
        SealedRecord::for_test(data.into(), Route::of(key), ticket)
    }

    pub(super) fn keyed(key: &str) -> RecordKey {
        RecordKey::Keyed(PartitionKey::new(key).unwrap())
    }

    /// What the KPL's size makes of it.
    pub(crate) const MAX_SIZE: Option<usize> = Some(50 << 10);

    pub(crate) fn entries(closed: Vec<Closed<SealedRecord>>) -> Vec<AggregatedRecord> {
        closed.into_iter().map(AggregatedRecord::from).collect()
    }

    pub(super) fn reducer(shards: u128) -> Reducer<SealedRecord> {
        Reducer::new(MAX_SIZE, Routes::Known(Arc::new(even(shards))))
    }

    #[test]
    fn a_lone_record_goes_as_it_is() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = reducer(4);
        reducer.push(sealed("one", keyed("k")), now, now, &mut closed);
        assert!(closed.is_empty());
        reducer.flush(now, &mut closed);
        let closed = entries(closed);
        assert_eq!(&closed[0].data()[..], b"one");
        assert_eq!(closed[0].partition_key().as_str(), "k");
        assert_eq!(closed[0].explicit_hash_key(), None);
    }

    #[test]
    fn a_full_container_takes_its_deadline_with_it() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = reducer(1).of_at_most(2);
        let after = |ms| now + Duration::from_millis(ms);
        for (data, ms) in [("a", 10), ("b", 90), ("c", 80)] {
            reducer.push(sealed(data, keyed(data)), after(ms), now, &mut closed);
        }
        assert_eq!(closed.len(), 1);
        assert_eq!(reducer.next_deadline(), Some(after(80)));
        reducer.close_due(after(79), &mut closed);
        assert_eq!(closed.len(), 1);
    }

    #[test]
    fn flushing_nothing_closes_nothing() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = reducer(3);
        reducer.flush(now, &mut closed);
        reducer.push(sealed("a", RecordKey::Any), now, now, &mut closed);
        reducer.flush(now, &mut closed);
        reducer.flush(now, &mut closed);
        reducer.close_due(now, &mut closed);
        assert_eq!((closed.len(), reducer.next_deadline()), (1, None));
    }

    #[test]
    fn with_aggregation_off_each_record_goes_alone_at_once_to_its_predicted_shard() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = Reducer::new(None, Routes::Known(Arc::new(even(4))));
        for key in [keyed("k"), keyed("k"), RecordKey::Any, RecordKey::Any] {
            reducer.push(sealed("data", key), now, now, &mut closed);
        }
        let closed = entries(closed);
        assert_eq!(closed.len(), 4);
        assert!(closed.iter().all(|entry| entry.predicted().is_some()));
    }

    #[test]
    fn deadline_of_an_aggregate_is_its_earliest_members() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = reducer(1);
        let after = |ms| now + Duration::from_millis(ms);
        for (data, ms) in [("a", 90), ("b", 40), ("c", 70)] {
            reducer.push(sealed(data, keyed(data)), after(ms), now, &mut closed);
        }
        assert_eq!(reducer.next_deadline(), Some(after(40)));
        reducer.close_due(after(39), &mut closed);
        assert!(closed.is_empty());
        reducer.close_due(after(40), &mut closed);
        assert_eq!(closed[0].members.len(), 3);
        assert_eq!(reducer.next_deadline(), None);
    }

    #[test]
    fn records_for_any_shard_share_one_key_and_shards_take_turns() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = reducer(4);
        let map = even(4);
        for _ in 0..8 {
            for _ in 0..3 {
                reducer.push(sealed("x", RecordKey::Any), now, now, &mut closed);
            }
            reducer.flush(now, &mut closed);
        }
        let mut per_shard = std::collections::HashMap::new();
        for aggregate in &entries(closed) {
            let shard = map.predict(aggregate.hash_key()).id.clone();
            assert_eq!(aggregate.predicted(), Some(&shard));
            let inner = deaggregate(aggregate.data()).unwrap();
            assert!(inner.iter().all(|r| map.predict(r.hash_key()).id == shard));
            *per_shard.entry(shard).or_insert(0) += 1;
        }
        assert_eq!(per_shard.into_values().collect::<Vec<_>>(), [2; 4]);
    }

    #[test]
    fn a_record_over_the_size_goes_alone_and_takes_nobody_with_it() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = reducer(1);
        reducer.push(sealed("small", RecordKey::Any), now, now, &mut closed);
        reducer.push(
            sealed(vec![b'x'; 60_000], RecordKey::Any),
            now,
            now,
            &mut closed,
        );
        let lens: Vec<_> = entries(closed).iter().map(|a| a.data().len()).collect();
        assert_eq!(lens, [5, 60_000]);
    }

    #[test]
    fn without_a_map_each_record_goes_alone_at_once() {
        let (now, mut closed) = (Instant::now(), Vec::new());
        let mut reducer = Reducer::new(MAX_SIZE, Routes::Unpredictable);
        reducer.push(sealed("a", RecordKey::Any), now, now, &mut closed);
        reducer.push(sealed("b", keyed("b")), now, now, &mut closed);
        assert_eq!(closed.len(), 2);
        assert!(entries(closed).iter().all(|a| a.predicted().is_none()));
    }

    proptest! {
        #[test]
        fn every_record_comes_out_once_within_size_on_its_shard(
            shards in 1u128..9,
            max_size in 100usize..2000,
            records in proptest::collection::vec(
                (proptest::option::of("[a-z]{1,8}"), 0usize..400), 1..200),
        ) {
            let now = Instant::now();
            let map = Arc::new(even(shards));
            let mut reducer = Reducer::new(Some(max_size), Routes::Known(Arc::clone(&map)));
            let mut closed = Vec::new();
            for (n, (key, len)) in records.iter().enumerate() {
                let data = format!("{n}|{}", "x".repeat(*len));
                let key = key.as_deref().map_or(RecordKey::Any, keyed);
                reducer.push(sealed(data, key), now, now, &mut closed);
            }
            reducer.flush(now, &mut closed);
            let mut seen = Vec::new();
            for aggregate in &entries(closed) {
                let shard = map.find(aggregate.predicted().unwrap().as_str()).unwrap();
                prop_assert!(shard.contains(aggregate.hash_key()));
                prop_assert!(aggregate.belongs_on(shard));
                match deaggregate(aggregate.data()) {
                    None => seen.push(aggregate.data().clone()),
                    Some(inner) => {
                        prop_assert!(aggregate.data().len() <= max_size);
                        for record in inner {
                            prop_assert!(shard.contains(record.hash_key()));
                            seen.push(record.data);
                        }
                    }
                }
            }
            let mut numbers: Vec<usize> = seen
                .iter()
                .map(|d| str::from_utf8(d).unwrap().split('|').next().unwrap().parse().unwrap())
                .collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..records.len()).collect::<Vec<_>>());
        }
    }
}
