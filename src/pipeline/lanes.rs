//! One queue per shard between aggregation and batching: where entries wait for the shard's tokens, and in
//! ordered mode for the shard's one request in flight.
//!
//! A shard that must wait keeps only its own entries waiting: for tokens, or because it took nothing when it was
//! last asked ([`Lanes::hold`]).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::aggregate::AggregatedRecord;
use crate::aggregate::reducer::Crowded;
use crate::shard::ShardId;
use crate::shard::limiter::Limiter;

/// `None`: no shard is predicted; such entries are not limited.
pub(super) type LaneId = Option<ShardId>;

#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<LaneId, Lane>,
    /// Lanes that wait for tokens, by when to look again.
    wakes: BTreeSet<(Instant, LaneId)>,
    /// Lanes that may have something to give now.
    active: VecDeque<LaneId>,
    percent: u32,
    /// One entry of a lane under way at a time.
    ordered: bool,
    len: usize,
    crowded: Crowded,
}

/// More entries than that, and twice the average of all lanes, and a lane is crowded.
const FEW: usize = 4;

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<AggregatedRecord>,
    limiter: Option<Limiter>,
    waits_until: Option<Instant>,
    /// Calls in a row of which the shard took nothing, and until when it is left in peace for it.
    refused: u32,
    held_until: Option<Instant>,
    active: bool,
    busy: bool,
}

impl Lanes {
    pub(super) fn new(percent: u32, ordered: bool) -> Self {
        Self {
            lanes: HashMap::new(),
            wakes: BTreeSet::new(),
            active: VecDeque::new(),
            percent,
            ordered,
            len: 0,
            crowded: Crowded::default(),
        }
    }

    /// Shards whose lanes have much more waiting than others.
    pub(super) fn crowded(&self) -> Crowded {
        self.crowded.clone()
    }

    pub(super) fn push(&mut self, entry: AggregatedRecord) {
        self.insert(entry, VecDeque::push_back);
    }

    /// Before all that waits in its lane: it is older.
    pub(super) fn push_front(&mut self, entry: AggregatedRecord) {
        self.insert(entry, VecDeque::push_front);
    }

    fn insert(
        &mut self,
        entry: AggregatedRecord,
        how: impl FnOnce(&mut VecDeque<AggregatedRecord>, AggregatedRecord),
    ) {
        let id = entry.predicted().cloned();
        let lane = self.lanes.entry(id.clone()).or_default();
        how(&mut lane.queue, entry);
        self.len += 1;
        let waiting = lane.queue.len();
        self.note_crowd(&id, waiting);
        self.activate(id);
    }

    fn note_crowd(&self, id: &LaneId, waiting: usize) {
        // Whichever side of the bound it is on, in between it matters little.
        if let Some(shard) = id
            && waiting >= FEW
        {
            let crowded = waiting > FEW && waiting * self.lanes.len() > 2 * self.len;
            self.crowded.set(shard, crowded);
        }
    }

    fn activate(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if !lane.active && !lane.busy && lane.waits_until.is_none() && !lane.queue.is_empty() {
            lane.active = true;
            self.active.push_back(id);
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
            }
            self.activate(id);
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
                    let entry = lane.queue.pop_front().expect("has a front");
                    self.len -= 1;
                    lane.busy = self.ordered && id.is_some();
                    let waiting = lane.queue.len();
                    self.note_crowd(&id, waiting);
                    self.activate(id);
                    return Some(entry);
                }
            }
        }
        None
    }

    /// In ordered mode: the lane's entry under way has its answer, the next may go.
    pub(super) fn release(&mut self, id: &LaneId) {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.busy = false;
            self.activate(id.clone());
        }
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
        if !throttled {
            lane.refused = 0;
        }
        if let Some(limiter) = &mut lane.limiter {
            limiter.answered(bytes, throttled, now);
        }
    }

    /// The lane's shard took nothing of a call: all of the lane waits, for as long as `delay` gives after so many
    /// such calls in a row. Returns until when.
    ///
    /// Calls that were under way together are of the same trouble: while the lane is held, another makes it no
    /// longer.
    pub(super) fn hold(
        &mut self,
        id: &LaneId,
        delay: impl FnOnce(u32) -> Duration,
        now: Instant,
    ) -> Instant {
        let lane = self.lanes.entry(id.clone()).or_default();
        if let Some(held) = lane.held_until.filter(|until| *until > now) {
            return held;
        }
        lane.refused = lane.refused.saturating_add(1);
        let until = now + delay(lane.refused);
        lane.held_until = Some(until);
        if lane.waits_until.is_none_or(|wait| wait < until) {
            self.wait(id.clone(), until);
        }
        until
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets lanes of shards that are no more, once they are empty.
    pub(super) fn retain(&mut self, open: impl Fn(&ShardId) -> bool) {
        self.lanes.retain(|id, lane| {
            let keep = id.as_ref().is_none_or(&open);
            keep || !lane.queue.is_empty() || lane.busy || lane.active || lane.waits_until.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::aggregate::reducer::tests::{MAX_SIZE, sealed};
    use crate::aggregate::reducer::{Reducer, Routes};
    use crate::record::{HashKey, PartitionKey, RecordKey};
    use crate::shard::map::tests::even;

    /// An entry of `len` bytes for the `n`-th of two shards.
    fn entry(n: u128, len: usize) -> AggregatedRecord {
        let now = Instant::now();
        let mut reducer = Reducer::new(MAX_SIZE, Routes::Known(Arc::new(even(2))));
        let key = PartitionKey::new(format!("{n}")).unwrap();
        let key = RecordKey::Explicit(key, HashKey(n << 127));
        let mut closed = Vec::new();
        reducer.push(sealed(vec![0; len], key), now, now, &mut closed);
        reducer.flush(now, &mut closed);
        closed.pop().unwrap().into()
    }

    fn drain(lanes: &mut Lanes, now: Instant) -> Vec<(String, usize)> {
        std::iter::from_fn(|| lanes.pop(now))
            .map(|e| (e.partition_key().to_string(), e.data().len()))
            .collect()
    }

    #[test]
    fn a_shard_without_tokens_delays_no_other() {
        let now = Instant::now();
        let mut lanes = Lanes::new(100, false);
        for _ in 0..3 {
            lanes.push(entry(0, 600_000));
            lanes.push(entry(1, 100));
        }
        let out = drain(&mut lanes, now);
        assert_eq!(out.iter().filter(|(k, _)| k == "1").count(), 3);
        assert_eq!(out.iter().filter(|(k, _)| k == "0").count(), 1);
        let wake = lanes.next_wake().expect("the rest waits for tokens");
        assert_eq!(drain(&mut lanes, wake).len(), 1);
        assert!(!lanes.is_empty());
    }

    #[test]
    fn ordered_lane_gives_one_entry_at_a_time_and_in_order() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1000, true);
        for len in [1, 2, 3] {
            lanes.push(entry(0, len));
            lanes.push(entry(1, len + 10));
        }
        let first = drain(&mut lanes, now);
        assert_eq!(first, [("0".to_owned(), 1), ("1".to_owned(), 11)]);
        let zero = entry(0, 0).predicted().cloned();
        lanes.release(&zero);
        assert_eq!(drain(&mut lanes, now), [("0".to_owned(), 2)]);
        assert_eq!(drain(&mut lanes, now), []);
    }

    #[test]
    fn a_shard_that_takes_nothing_is_held_back_longer_each_time_and_no_other_with_it() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1000, false);
        let zero = entry(0, 0).predicted().cloned();
        let delay = |calls| Duration::from_millis(100) * calls;
        let at = |ms| now + Duration::from_millis(ms);
        for _ in 0..3 {
            lanes.push(entry(0, 1));
            lanes.push(entry(1, 1));
        }
        assert_eq!(lanes.hold(&zero, delay, now), at(100));
        // What was under way at the same time tells nothing new.
        assert_eq!(lanes.hold(&zero, delay, at(50)), at(100));
        let keys =
            |out: Vec<(String, usize)>| out.into_iter().map(|(key, _)| key).collect::<String>();
        assert_eq!(keys(drain(&mut lanes, at(99))), "111");
        assert_eq!(lanes.next_wake(), Some(at(100)));
        assert!(lanes.pop(at(100)).is_some());
        assert_eq!(
            lanes.hold(&zero, delay, at(150)),
            at(350),
            "the second in a row"
        );
        assert!(lanes.pop(at(349)).is_none());
        lanes.answered(&zero, 10, false, at(350));
        assert_eq!(keys(drain(&mut lanes, at(350))), "00");
        assert_eq!(
            lanes.hold(&zero, delay, at(400)),
            at(500),
            "it took something in between"
        );
    }

    #[test]
    fn what_comes_back_goes_before_what_waits() {
        let now = Instant::now();
        let mut lanes = Lanes::new(1000, false);
        lanes.push(entry(0, 2));
        lanes.push_front(entry(0, 1));
        let lens: Vec<_> = drain(&mut lanes, now)
            .into_iter()
            .map(|(_, len)| len)
            .collect();
        assert_eq!(lens, [1, 2]);
    }
}
