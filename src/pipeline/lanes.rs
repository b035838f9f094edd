//! One queue per shard between aggregation and batching: where entries wait for the shard's tokens, and in
//! ordered mode for the shard's one request in flight.
//!
//! A shard that must wait keeps only its own entries waiting: for tokens, or because it took nothing when it was
//! last asked ([`Lanes::hold`]).

mod kin;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::{Crowded, Crowding};
use crate::shard::limiter::Limiter;
use crate::shard::{ByShard, ShardId, ShardMap};

/// `None`: no shard is predicted; such entries are not limited.
pub(super) type LaneId = Option<ShardId>;

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: ByShard<LaneId, Lane>,
    /// Lanes that wait for tokens, by when to look again.
    wakes: BTreeSet<(Instant, LaneId)>,
    /// Lanes that may have something to give now.
    active: VecDeque<LaneId>,
    percent: u32,
    /// One entry of a lane under way at a time.
    ordered: bool,
    len: usize,
    fullness: Fullness,
    /// In ordered mode: lanes of shards that are no more, whose last entry has no answer yet. Until it has, no other
    /// goes: it might be of the same key.
    closing: HashSet<LaneId>,
}

/// What others ask of the lanes.
#[derive(Debug, Default)]
struct Fullness {
    /// Lanes of shards that take nothing.
    dead: usize,
    crowded: Crowded,
}

/// A lane with more entries than that, waiting or under way, is passed over while another has no more than that.
const FEW: usize = 4;
/// For how long a shard takes nothing, until it is passed over. Where a fifth of all is refused, two calls in a row are
/// chance.
const DEAD: Duration = Duration::from_secs(1);
/// For how long, until what is learned of its rate begins anew. Where others use the shard too, less is nothing.
const LONG_DEAD: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<AggregatedRecord>,
    /// Entries that have been given and not been released.
    away: usize,
    limiter: Option<Limiter>,
    waits_until: Option<Instant>,
    /// Since the shard took nothing of any call, and until when it is left in peace for it.
    refusing: Option<Refusing>,
    held_until: Option<Instant>,
    active: bool,
    busy: bool,
}

#[derive(Debug, Clone, Copy)]
struct Refusing {
    since: Instant,
    /// When the last such call was answered.
    last: Instant,
}

impl Refusing {
    fn time(self) -> Duration {
        self.last.saturating_duration_since(self.since)
    }
}

impl Lanes {
    pub(super) fn new(percent: u32, ordered: bool) -> Self {
        Self {
            lanes: ByShard::default(),
            wakes: BTreeSet::new(),
            active: VecDeque::new(),
            percent,
            ordered,
            len: 0,
            fullness: Fullness::default(),
            closing: HashSet::new(),
        }
    }

    /// Shards whose lanes have much more waiting than others.
    pub(super) fn crowded(&self) -> Crowded {
        self.fullness.crowded.clone()
    }

    /// Behind all that waits in its lane. But what comes from another lane, whose shard took nothing or is no more, goes
    /// before what was read after it: until it is stored, no checkpoint passes it.
    pub(super) fn push(&mut self, entry: AggregatedRecord) {
        if self.ordered {
            self.insert(entry, VecDeque::push_back);
            return;
        }
        self.insert(entry, |queue, entry| {
            let born = entry.born();
            let is_older = |waiting: &AggregatedRecord| waiting.born() <= born;
            if queue.back().is_none_or(is_older) {
                queue.push_back(entry);
            } else {
                queue.insert(queue.partition_point(is_older), entry);
            }
        });
    }

    /// Whether some of so many shards take entries, as far as is known.
    pub(super) fn are_some_alive(&self, shards: usize) -> bool {
        self.fullness.dead < shards
    }

    /// Before all that waits in its lane: it is older.
    pub(super) fn push_front(&mut self, entry: AggregatedRecord) {
        self.insert(entry, VecDeque::push_front);
    }

    /// Behind all that waits in its lane and need not wait for it: what may be of its key comes behind it.
    pub(super) fn push_behind(&mut self, entry: AggregatedRecord) {
        self.insert(entry, kin::push_behind);
    }

    fn insert(
        &mut self,
        entry: AggregatedRecord,
        how: impl FnOnce(&mut VecDeque<AggregatedRecord>, AggregatedRecord),
    ) {
        self.len += 1;
        let id = entry.lane().clone();
        if !self.lanes.contains_key(&id) {
            self.lanes.insert(id.clone(), Lane::default());
        }
        let lane = self.lanes.get_mut(&id).expect("there is one now");
        if lane.queue.is_empty() {
            // One each is usual, where there are thousands of lanes; by itself it makes room for four.
            lane.queue.reserve_exact(1);
        }
        self.fullness
            .change(&id, lane, |lane| how(&mut lane.queue, entry));
        lane.activate(&id, &mut self.active);
    }

    fn activate(&mut self, id: &LaneId) {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.activate(id, &mut self.active);
        }
    }

    /// The next entry that may go now; lanes take turns.
    pub(super) fn pop(&mut self, now: Instant) -> Option<AggregatedRecord> {
        while let Some((at, id)) = self.wakes.first().cloned()
            && at <= now
        {
            self.wakes.pop_first();
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.waits_until = None;
                // Somebody has to ask whether it takes something again: the next one that comes.
                if let (true, true, Some(shard)) = (lane.is_dead(), lane.queue.is_empty(), &id) {
                    self.fullness.crowded.set(shard, None);
                }
                lane.activate(&id, &mut self.active);
            }
        }
        if !self.closing.is_empty() {
            return None;
        }
        while let Some(id) = self.active.pop_front() {
            let lane = self.lanes.get_mut(&id).expect("active lanes exist");
            lane.active = false;
            if lane.waits_until.is_some() {
                continue;
            }
            let Some(size) = lane.queue.front().map(AggregatedRecord::size) else {
                continue;
            };
            let admitted = match id {
                None => Ok(()),
                Some(_) => lane
                    .limiter
                    .get_or_insert_with(|| Limiter::new(self.percent, now))
                    .admit(size, now),
            };
            match admitted {
                Err(later) => self.wait(id, later),
                Ok(()) => {
                    self.len -= 1;
                    let busy = self.ordered && id.is_some();
                    let mut entry = None;
                    self.fullness.change(&id, lane, |lane| {
                        entry = lane.queue.pop_front();
                        if lane.queue.is_empty() {
                            // Thousands of lanes are empty most of the time, and have no memory then.
                            lane.queue = VecDeque::new();
                        }
                        lane.away += 1;
                        lane.busy = busy;
                    });
                    lane.activate(&id, &mut self.active);
                    return entry;
                }
            }
        }
        None
    }

    /// An entry that was given has its answer, or comes back. In ordered mode the lane's next one may go.
    pub(super) fn release(&mut self, id: &LaneId) {
        if let Some(lane) = self.lanes.get_mut(id) {
            self.fullness.change(id, lane, |lane| {
                lane.busy = false;
                lane.away = lane.away.saturating_sub(1);
            });
            lane.activate(id, &mut self.active);
        }
        if self.closing.remove(id) && self.closing.is_empty() {
            let ids: Vec<_> = self.lanes.keys().cloned().collect();
            ids.iter().for_each(|id| self.activate(id));
        }
    }

    /// Takes out what waits and is so, in the order in which it would have gone.
    pub(super) fn take_where(
        &mut self,
        is_so: impl Fn(&AggregatedRecord) -> bool,
    ) -> Vec<AggregatedRecord> {
        let mut taken = Vec::new();
        for (id, lane) in &mut self.lanes {
            if !lane.queue.iter().any(&is_so) {
                continue;
            }
            self.fullness.change(id, lane, |lane| {
                let (out, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut lane.queue)
                    .into_iter()
                    .partition(&is_so);
                lane.queue = kept;
                taken.extend(out);
            });
        }
        self.len -= taken.len();
        taken
    }

    fn wait(&mut self, id: LaneId, until: Instant) {
        let lane = self.lanes.get_mut(&id).expect("lanes that wait exist");
        if let Some(was) = lane.waits_until.replace(until) {
            self.wakes.remove(&(was, id.clone()));
        }
        self.wakes.insert((until, id));
    }

    /// The lane's shard has taken an entry of so many bytes, or throttled it: its rate follows.
    pub(super) fn answered(&mut self, id: &LaneId, bytes: usize, throttled: bool, now: Instant) {
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        if let Some(limiter) = &mut lane.limiter {
            limiter.answered(bytes, throttled, now);
        }
        if !throttled && lane.refusing.is_some() {
            if let (true, Some(shard)) = (lane.is_dead(), id) {
                self.fullness.crowded.set(shard, None);
            }
            self.fullness.change(id, lane, |lane| lane.refusing = None);
        }
    }

    /// The lane's shard took nothing of a call: all of the lane waits, for as long as `delay` gives after so
    /// long a time of such calls. Returns until when.
    ///
    /// Calls that were under way together are of the same trouble: while the lane is held, another makes it no
    /// longer.
    pub(super) fn hold(
        &mut self,
        id: &LaneId,
        delay: impl FnOnce(Duration) -> Duration,
        now: Instant,
    ) -> Instant {
        let Some(lane) = self.lanes.get_mut(id) else {
            // The shard is no more: what comes back goes elsewhere.
            return now;
        };
        if let Some(held) = lane.held_until.filter(|until| *until > now) {
            return held;
        }
        let since = lane.refusing.map_or(now, |refusing| refusing.since);
        let refusing = Refusing { since, last: now };
        let until = now + delay(refusing.time());
        let waits_less = lane.waits_until.is_none_or(|wait| wait < until);
        self.fullness.change(id, lane, |lane| {
            lane.refusing = Some(refusing);
            lane.held_until = Some(until);
            if let (true, Some(limiter)) = (refusing.time() >= LONG_DEAD, &mut lane.limiter) {
                limiter.rest(until);
            }
        });
        if waits_less {
            self.wait(id.clone(), until);
        }
        until
    }

    /// Whether the lane's shard has taken nothing for some time: what may go elsewhere should.
    pub(super) fn is_dead(&self, id: &LaneId) -> bool {
        self.lanes.get(id).is_some_and(Lane::is_dead)
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Goes on with these shards: forgets lanes of others, once they are empty.
    pub(super) fn retain(&mut self, map: &ShardMap) {
        let open: HashSet<&ShardId> = map.shards().iter().map(|shard| &shard.id).collect();
        let is_open = |id: &LaneId| id.as_ref().is_none_or(|id| open.contains(id));
        if self.ordered {
            let busy = self
                .lanes
                .iter()
                .filter(|(id, lane)| lane.busy && !is_open(id));
            self.closing.extend(busy.map(|(id, _)| id.clone()));
        }
        self.lanes.retain(|id, lane| {
            let keep = is_open(id)
                || !lane.queue.is_empty()
                || lane.away > 0
                || lane.active
                || lane.waits_until.is_some();
            if !keep {
                if let Some(shard) = id {
                    self.fullness.crowded.set(shard, None);
                }
                self.fullness.dead -= usize::from(lane.is_dead());
            }
            keep
        });
    }
}

impl Fullness {
    /// Changes a lane, and notes what that means.
    fn change(&mut self, id: &LaneId, lane: &mut Lane, change: impl FnOnce(&mut Lane)) {
        let (was_idle, was_dead) = (lane.is_idle(), lane.is_dead());
        change(lane);
        let (is_idle, is_dead) = (lane.is_idle(), lane.is_dead());
        self.dead = self.dead + usize::from(is_dead) - usize::from(was_dead);
        // A dead one may have been taken for free, to be asked again: it is said anew each time.
        if let Some(shard) = id
            && (is_dead || (was_idle, was_dead) != (is_idle, is_dead))
        {
            let waiting = (!is_idle).then_some(Crowding::Waiting);
            let crowding = is_dead.then_some(Crowding::Dead).or(waiting);
            self.crowded.set(shard, crowding);
        }
    }
}

impl Lane {
    /// Puts the lane among those that may have something to give, if it may and is not there.
    fn activate(&mut self, id: &LaneId, active: &mut VecDeque<LaneId>) {
        let may_give = !self.busy && self.waits_until.is_none() && !self.queue.is_empty();
        if may_give && !self.active {
            self.active = true;
            active.push_back(id.clone());
        }
    }

    fn is_dead(&self) -> bool {
        self.refusing
            .is_some_and(|refusing| refusing.time() >= DEAD)
    }

    fn is_idle(&self) -> bool {
        self.queue.len() + self.away <= FEW
    }
}

#[cfg(test)]
mod tests;
