//! One shard: a range of hash keys, a sequence of its own, a bounded buffer of records.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Notify;

use super::Limits;
use super::throttle::Bucket;
use crate::fake::protocol::ApiError;
use crate::record::HashKey;

/// Digits of a sequence number, as the service's have.
pub(crate) const SEQUENCE_DIGITS: usize = 56;
/// The part that is the same for all of a shard's numbers: "49", 13 of the creation time, 6 of the shard.
const PREFIX_DIGITS: usize = 21;
/// GetRecords allows 5 calls and 2 MiB a second per shard (API_GetRecords).
const READ_CALLS_PER_SECOND: u64 = 5;
pub(crate) const READ_BYTES_PER_SECOND: u64 = 2 << 20;
/// What a record costs in the ring beside its bytes: its struct, and two allocations.
const RECORD_OVERHEAD: usize = size_of::<Stored>() + 32;

#[derive(Debug)]
pub(crate) struct Shard {
    id: String,
    prefix: String,
    pub(crate) first: HashKey,
    pub(crate) last: HashKey,
    /// One after a split, two after a merge.
    pub(crate) parents: Vec<String>,
    pub(crate) created: u64,
    state: Mutex<State>,
    /// Tells subscriptions of each record and of the end.
    pub(crate) changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Consecutive counters, so that a position is an index.
    ring: VecDeque<Stored>,
    ring_bytes: usize,
    next_counter: u64,
    closed: Option<u64>,
    write_bytes: Bucket,
    write_records: Bucket,
    read_calls: Bucket,
    read_bytes: Bucket,
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) counter: u64,
    /// Microseconds since the Unix epoch; the service tells milliseconds.
    pub(crate) arrival_us: u64,
    pub(crate) hash_key: HashKey,
    pub(crate) partition_key: Box<str>,
    pub(crate) data: Bytes,
}

impl Stored {
    pub(crate) fn arrival_ms(&self) -> u64 {
        self.arrival_us / 1000
    }

    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// A record on its way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) hash_key: HashKey,
    pub(crate) partition_key: Box<str>,
    pub(crate) data: Bytes,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Offered {
    Stored { counter: u64, trimmed: usize },
    Throttled,
}

/// What a read from some position gave.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Stored>,
    /// Where to go on; `None` at the end of a closed shard.
    pub(crate) next: Option<u64>,
    /// Arrival of the first record that is still unread.
    pub(crate) unread_since: Option<u64>,
}

impl Batch {
    /// Data and partition keys.
    pub(crate) fn size(&self) -> usize {
        self.records.iter().map(Stored::size).sum()
    }
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        (first, last): (HashKey, HashKey),
        parents: Vec<String>,
        limits: &Limits,
        now: Duration,
    ) -> Self {
        let created = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: format!("shardId-{index:012}"),
            // Later shards sort after earlier ones, also after those they came from.
            prefix: format!(
                "49{:013}{:06}",
                created % 10_000_000_000_000,
                index % 1_000_000
            ),
            first,
            last,
            parents,
            created,
            state: Mutex::new(State {
                ring: VecDeque::new(),
                ring_bytes: 0,
                next_counter: 1,
                closed: None,
                write_bytes: Bucket::full(limits.write_bytes_per_second, now),
                write_records: Bucket::full(limits.write_records_per_second, now),
                read_calls: Bucket::full(READ_CALLS_PER_SECOND, now),
                read_bytes: Bucket::full(READ_BYTES_PER_SECOND, now),
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn sequence(&self, counter: u64) -> String {
        let width = SEQUENCE_DIGITS - PREFIX_DIGITS;
        format!("{}{counter:0width$}", self.prefix)
    }

    /// The counter behind one of this shard's sequence numbers.
    pub(crate) fn counter(&self, sequence: &str) -> Result<u64, ApiError> {
        let digits = sequence.strip_prefix(&self.prefix);
        digits
            .filter(|digits| digits.len() == SEQUENCE_DIGITS - PREFIX_DIGITS)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| {
                ApiError::invalid_argument(format!(
                    "StartingSequenceNumber {sequence} used on shard {} is invalid because it did not come from this \
                     shard.",
                    self.id
                ))
            })
    }

    /// The caller holds the stream's table, so the shard cannot close meanwhile.
    pub(crate) fn offer(&self, record: Incoming, limits: &Limits, now: Duration) -> Offered {
        let mut state = self.state();
        let size = record.data.len() + record.partition_key.len();
        if limits.write_quota {
            if !state.write_records.has(1, now) || !state.write_bytes.has(size, now) {
                return Offered::Throttled;
            }
            state.write_records.take(1);
            state.write_bytes.take(size);
        }
        let counter = state.next_counter;
        state.next_counter += 1;
        state.ring_bytes += size + RECORD_OVERHEAD;
        state.ring.push_back(Stored {
            counter,
            arrival_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
            hash_key: record.hash_key,
            partition_key: record.partition_key,
            data: record.data,
        });
        let trimmed = state.trim(limits.ring_bytes);
        drop(state);
        self.changed.notify_waiters();
        Offered::Stored { counter, trimmed }
    }

    /// From now on it only gives.
    pub(crate) fn close(&self, now: u64) {
        self.state().closed.get_or_insert(now);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.closed_at().is_none()
    }

    pub(crate) fn closed_at(&self) -> Option<u64> {
        self.state().closed
    }

    /// The position after the last record.
    pub(crate) fn tip(&self) -> u64 {
        self.state().next_counter
    }

    /// The position of the first record that arrived at or after `millis`.
    pub(crate) fn position_at(&self, millis: u64) -> u64 {
        let state = self.state();
        let index = state
            .ring
            .partition_point(|record| record.arrival_ms() < millis);
        state
            .ring
            .get(index)
            .map_or(state.next_counter, |record| record.counter)
    }

    pub(crate) fn visit(&self, mut each: impl FnMut(&Stored)) {
        self.state().ring.iter().for_each(&mut each);
    }

    /// `None` where the read quota is used up.
    pub(crate) fn may_read(&self, now: Duration) -> bool {
        let mut state = self.state();
        // Bytes are only known afterwards: a read may overdraw, and later ones wait until it is paid back.
        let allowed = state.read_calls.has(1, now) && state.read_bytes.has(1, now);
        if allowed {
            state.read_calls.take(1);
        }
        allowed
    }

    /// What a read took is paid out of the shard's quota, which all who poll share.
    pub(crate) fn pay_for(&self, batch: &Batch) {
        self.state().read_bytes.take(batch.size());
    }

    pub(crate) fn read(&self, position: u64, max_records: usize, max_bytes: usize) -> Batch {
        let state = self.state();
        // What has been trimmed is skipped, as by the service.
        let index = match state.ring.front() {
            Some(front) => {
                usize::try_from(position.saturating_sub(front.counter)).unwrap_or(usize::MAX)
            }
            None => 0,
        };
        let mut bytes = 0;
        let records: Vec<Stored> = state
            .ring
            .iter()
            .skip(index)
            .take(max_records)
            .take_while(|record| {
                let first = bytes == 0;
                bytes += record.size();
                first || bytes <= max_bytes
            })
            .cloned()
            .collect();
        let next = records.last().map_or_else(
            // A shard that holds nothing is at its tip, so that it ends once it is closed.
            || {
                position.max(
                    state
                        .ring
                        .front()
                        .map_or(state.next_counter, |front| front.counter),
                )
            },
            |last| last.counter + 1,
        );
        let at_end = next >= state.next_counter;
        Batch {
            unread_since: state
                .ring
                .get(index.saturating_add(records.len()))
                .map(Stored::arrival_ms),
            next: (!at_end || state.closed.is_none()).then_some(next),
            records,
        }
    }

    pub(crate) fn describe(&self) -> serde_json::Value {
        let state = self.state();
        let mut range = json!({ "StartingSequenceNumber": self.sequence(0) });
        if state.closed.is_some() {
            range["EndingSequenceNumber"] = json!(self.sequence(state.next_counter));
        }
        let mut shard = json!({
            "ShardId": self.id,
            "HashKeyRange": self.describe_range(),
            "SequenceNumberRange": range,
        });
        for (parent, key) in self
            .parents
            .iter()
            .zip(["ParentShardId", "AdjacentParentShardId"])
        {
            shard[key] = json!(parent);
        }
        shard
    }

    pub(crate) fn describe_range(&self) -> serde_json::Value {
        json!({
            "StartingHashKey": self.first.to_string(),
            "EndingHashKey": self.last.to_string(),
        })
    }
}

impl State {
    /// Lets the oldest go until the ring is within its bound; the newest always stays.
    fn trim(&mut self, max_bytes: usize) -> usize {
        let mut trimmed = 0;
        while self.ring_bytes > max_bytes && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_bytes -= oldest.size() + RECORD_OVERHEAD;
                trimmed += 1;
            }
        }
        trimmed
    }
}
