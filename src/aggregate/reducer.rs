//! One open container per shard: size, count and deadline decide when it closes.
//!
//! Pure: time and the shard map are passed in. All members of a container are predicted to land on one
//! shard, because a KCL reader drops every record of an aggregate that holds a stray one. The same reducer
//! makes aggregates of sealed records and, in block scope before that, blocks of plain ones.

mod container;
mod crowded;
mod deadlines;
mod entry;
mod members;
mod suits;

use std::mem::offset_of;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

pub use self::container::Closed;
use self::container::{Container, Open};
pub use self::crowded::{Crowded, Crowding};
use self::deadlines::Deadlines;
use self::members::Members;
use super::format::{Layout, MAX_MEMBERS};
use super::{ContainerKey, Trigger};
use crate::near;
use crate::seal::{Route, RoutedRecord, SealedRecord};
use crate::shard::ShardMap;
use crate::shard::map::draw_key;

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

/// Closes containers by size, by count, and by the earliest deadline among their members.
#[derive(Debug)]
pub struct Reducer<M> {
    /// Bytes of a container, as an aggregate has them; `None`: every member goes alone.
    max_size: Option<usize>,
    max_count: usize,
    container_key: ContainerKey,
    routes: Routes,
    /// The latest there was.
    last_map: Option<Arc<ShardMap>>,
    /// Once shards of other ranges had the same names, as where the stream was deleted and made anew.
    is_renumbered: bool,
    for_any_shard: bool,
    /// By the shard's place in the map.
    keyed: Vec<Option<Open>>,
    /// Members of those; each layout has the places of its own.
    keyed_members: Members<M>,
    any: Option<Open>,
    any_members: Vec<M>,
    /// Containers that are open.
    open: usize,
    deadlines: Deadlines<Slot>,
    /// Whose turn it is among the shards, for what may go to any.
    turn: usize,
    crowded: Crowded,
    /// Members of the last containers, about: room is made for as many at once.
    usual_members: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Any,
    Shard(usize),
}

/// So many are in the cache all the time.
const FEW_OPEN: usize = 64;

impl<M: Member> Reducer<M> {
    pub fn new(max_size: Option<usize>, routes: Routes) -> Self {
        let mut reducer = Self {
            max_size,
            max_count: MAX_MEMBERS,
            container_key: ContainerKey::Spread,
            routes: Routes::Unpredictable,
            last_map: None,
            is_renumbered: false,
            for_any_shard: false,
            keyed: Vec::new(),
            keyed_members: Members::new(),
            any: None,
            any_members: Vec::new(),
            open: 0,
            deadlines: Deadlines::new(),
            // Hosts that start together should not all begin with the same shard.
            turn: rand::random_range(0..1 << 20),
            crowded: Crowded::default(),
            usual_members: 1,
        };
        reducer.adopt(routes);
        reducer
    }

    /// Goes on with new routes. What is open must have been flushed: it was predicted by the old ones.
    pub fn adopt(&mut self, routes: Routes) {
        assert_eq!(self.open, 0, "flush before new routes");
        if let Routes::Known(map) = &routes {
            self.keyed.resize_with(map.shards().len(), || None);
            let before = self.last_map.replace(Arc::clone(map));
            self.is_renumbered |= before.is_some_and(|before| !before.agrees_with(map));
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

    /// Lets shards be passed over while they are crowded.
    #[must_use]
    pub fn avoiding(self, crowded: Crowded) -> Self {
        Self { crowded, ..self }
    }

    /// Brings near what [`push`](Self::push) will write to for these records, a few dozen of those that come next: open
    /// containers of many shards are no longer in the cache.
    pub fn prepare(&self, next: &[M]) {
        if self.open < FEW_OPEN {
            return;
        }
        let place = |record: &M| match self.slot(record.route()) {
            Some(Slot::Shard(index)) => Some((&self.keyed[index], record.data().len())),
            Some(Slot::Any) | None => None,
        };
        let places: SmallVec<[_; 64]> = next.iter().filter_map(place).collect();
        for (place, _) in &places {
            near::bring(*place, offset_of!(Open, opened_at));
        }
        for (place, more) in places {
            match place {
                Some(open) if self.is_full_with(open, more) => {
                    open.layout
                        .kept_at()
                        .for_each(|at| self.keyed_members.bring(at));
                }
                Some(open) => open.layout.bring(),
                None => {}
            }
        }
    }

    /// Whether so many bytes more will close it, about.
    fn is_full_with(&self, open: &Open, more: usize) -> bool {
        let max_size = self.max_size.unwrap_or(0);
        open.layout.members() + 1 >= self.max_count || open.layout.wire_len() + more >= max_size
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
        let listed = |open: &mut Open| open.list_within(max_size, &record);
        match self.at(slot).as_mut().map(listed) {
            Some(true) => self.join(slot, record, deadline),
            Some(false) => {
                self.close_slot(slot, Trigger::Size, now, closed);
                self.open(slot, record, deadline, now);
            }
            None => self.open(slot, record, deadline, now),
        }
        let max_count = self.max_count;
        let full = |open: &Open| open.is_full(max_size, max_count);
        if let Some(trigger) = self.at(slot).as_ref().and_then(full) {
            self.close_slot(slot, trigger, now, closed);
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
        let open = self.open_with(&record, deadline, now, 1);
        open.close(vec![record], None, now)
    }

    /// Closes what is due.
    pub fn close_due(&mut self, now: Instant, closed: &mut Vec<Closed<M>>) {
        while let Some((deadline, slot)) = self.deadlines.first()
            && deadline <= now
        {
            self.close_slot(slot, Trigger::Time, now, closed);
        }
    }

    /// Closes everything.
    pub fn flush(&mut self, now: Instant, closed: &mut Vec<Closed<M>>) {
        while let Some((_, slot)) = self.deadlines.first() {
            self.close_slot(slot, Trigger::Asked, now, closed);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| deadline)
    }

    fn at(&mut self, slot: Slot) -> &mut Option<Open> {
        match slot {
            Slot::Any => &mut self.any,
            Slot::Shard(index) => &mut self.keyed[index],
        }
    }

    /// Into what is open there, which has listed it.
    fn join(&mut self, slot: Slot, record: M, deadline: Instant) {
        self.keep(slot, record);
        let open = self.at(slot).as_mut().expect("it has listed the record");
        if deadline < open.deadline {
            open.deadline = deadline;
            self.note_deadline(slot, deadline);
        }
    }

    /// Where nothing is open.
    fn open(&mut self, slot: Slot, record: M, deadline: Instant, now: Instant) {
        *self.at(slot) = Some(self.open_with(&record, deadline, now, self.usual_members));
        self.open += 1;
        self.keep(slot, record);
        self.note_deadline(slot, deadline);
    }

    /// The member that was listed last.
    fn keep(&mut self, slot: Slot, record: M) {
        let Slot::Shard(index) = slot else {
            if self.any_members.is_empty() {
                self.any_members.reserve_exact(self.usual_members);
            }
            self.any_members.push(record);
            return;
        };
        let place = self.keyed_members.put(record);
        let open = self.keyed[index].as_mut();
        open.expect("it has listed the record")
            .layout
            .keep_last_at(place);
    }

    fn take_members(&mut self, slot: Slot, open: &Open) -> Vec<M> {
        let Slot::Shard(_) = slot else {
            return std::mem::take(&mut self.any_members);
        };
        let places = open.layout.kept_at();
        let members = places.map(|place| self.keyed_members.take(place)).collect();
        if self.keyed_members.are_scattered() {
            let open = self.keyed.iter_mut().flatten();
            let places = open.flat_map(|open| open.layout.kept_at_mut());
            self.keyed_members.move_together(places);
        }
        members
    }

    /// In place of any that was noted before.
    fn note_deadline(&mut self, slot: Slot, deadline: Instant) {
        let holds = holds(&self.keyed, &self.any);
        self.deadlines.add(deadline, slot, holds);
        self.deadlines.skip(holds);
    }

    /// An aggregate of this one record so far, with room for so many.
    fn open_with(
        &mut self,
        record: &M,
        deadline: Instant,
        opened_at: Instant,
        room: usize,
    ) -> Open {
        let container = self.container(record.route());
        let mut layout = Layout::with_room_for(room);
        let (key, explicit) = container.member_key(record.route());
        layout.add(key, explicit, record.data().len());
        Open {
            layout,
            deadline,
            opened_at,
            container,
        }
    }

    /// Keys for an entry whose first member goes this way.
    fn container(&mut self, route: &Route) -> Container {
        let mut container = match (route, &self.routes) {
            (Route::Any, Routes::Known(map)) => {
                self.turn = self.crowded.pass_over(map, self.turn.wrapping_add(1));
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
                route @ Route::Hashed {
                    partition_key,
                    hash_key,
                    ..
                },
                routes,
            ) => Container {
                partition_key: partition_key.clone(),
                explicit: match routes {
                    Routes::Known(_) | Routes::Unpredictable => route.explicit(),
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

    fn close_slot(
        &mut self,
        slot: Slot,
        trigger: Trigger,
        now: Instant,
        closed: &mut Vec<Closed<M>>,
    ) {
        if let Some(open) = self.at(slot).take() {
            self.open -= 1;
            self.deadlines.skip(holds(&self.keyed, &self.any));
            let members = self.take_members(slot, &open);
            self.usual_members = (self.usual_members * 7 + members.len()).div_ceil(8);
            closed.push(open.close(members, Some(trigger), now));
        }
    }
}

/// Whether what is open there is due just then.
fn holds(keyed: &[Option<Open>], any: &Option<Open>) -> impl Fn(Instant, Slot) -> bool + Copy {
    move |deadline, slot| {
        let open = match slot {
            Slot::Any => any.as_ref(),
            Slot::Shard(index) => keyed.get(index).and_then(Option::as_ref),
        };
        open.is_some_and(|open| open.deadline == deadline)
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

#[cfg(test)]
mod keys;
#[cfg(test)]
pub(crate) mod tests;
