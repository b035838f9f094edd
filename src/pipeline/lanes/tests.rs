use std::collections::HashMap;
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

/// Once one lane had more than few and another had not, all of a burst went to the one that was idle last.
#[test]
fn a_burst_for_any_shard_is_spread_over_all_whatever_waited_before() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(100, false));
    let routes = Routes::Known(Arc::new(even(8)));
    let mut reducer = Reducer::new(MAX_SIZE, routes).avoiding(lanes.crowded());
    let mut given: HashMap<LaneId, usize> = HashMap::new();
    let mut give = |lanes: &mut Lanes, entries: usize| {
        let mut closed = Vec::new();
        for _ in 0..entries {
            let record = sealed(vec![0; 60_000], RecordKey::Any);
            reducer.push(record, now, now, &mut closed);
            for entry in closed.drain(..).map(AggregatedRecord::from) {
                *given.entry(entry.predicted().cloned()).or_default() += 1;
                lanes.push(entry);
            }
        }
    };
    give(&mut lanes, 7 * (FEW + 1));
    assert!(!drain(&mut lanes, now).is_empty(), "some are under way");
    give(&mut lanes, 800);
    let (least, most) = (given.values().min(), given.values().max());
    assert_eq!(given.len(), 8);
    assert!(most.unwrap() - least.unwrap() <= FEW + 1, "{given:?}");
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
    let delay = |refused_for: Duration| refused_for.max(Duration::from_millis(100));
    let at = |ms| now + Duration::from_millis(ms);
    for _ in 0..3 {
        lanes.push(entry(0, 1));
        lanes.push(entry(1, 1));
    }
    assert_eq!(lanes.hold(&zero, delay, now), at(100));
    // What was under way at the same time tells nothing new.
    assert_eq!(lanes.hold(&zero, delay, at(50)), at(100));
    let keys = |out: Vec<(String, usize)>| out.into_iter().map(|(key, _)| key).collect::<String>();
    assert_eq!(keys(drain(&mut lanes, at(99))), "111");
    assert_eq!(lanes.next_wake(), Some(at(100)));
    assert!(lanes.pop(at(100)).is_some());
    for (asked, until) in [(150, 300), (300, 600), (4_000, 8_000), (8_000, 16_000)] {
        assert_eq!(lanes.hold(&zero, delay, at(asked)), at(until));
    }
    assert!(lanes.pop(at(15_999)).is_none());
    lanes.answered(&zero, 10, false, at(16_000));
    // Nothing was saved up meanwhile.
    assert_eq!(keys(drain(&mut lanes, at(16_010))), "00");
    assert_eq!(
        lanes.hold(&zero, delay, at(16_050)),
        at(16_150),
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
