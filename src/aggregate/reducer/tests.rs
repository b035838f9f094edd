use std::time::Duration;

use super::members::SLACK;
use super::*;
use crate::aggregate::AggregatedRecord;
use crate::aggregate::format::deaggregate;
use crate::delivery::{MemoryBudget, Ticket};
use crate::record::{HashKey, PartitionKey, RecordKey};
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
fn after_a_flood_of_many_shards_its_memory_is_given_back_and_what_stays_open_is_whole() {
    let now = Instant::now();
    let (soon, late) = (now + Duration::from_millis(1), now + Duration::from_secs(1));
    let (mut reducer, mut closed) = (reducer(1000), Vec::new());
    // Each 50th shard is due later than the others.
    let stays = |shard: u128| shard.is_multiple_of(50);
    let mut put = |reducer: &mut Reducer<SealedRecord>, shard: u128, round: u32| {
        let hash_key = HashKey(u128::MAX / 1000 * shard + 1);
        let key = RecordKey::Explicit(PartitionKey::new("k").unwrap(), hash_key);
        let due = if stays(shard) { late } else { soon };
        let record = sealed(format!("{shard}/{round}"), key);
        reducer.push(record, due, now, &mut closed);
    };
    for round in 0..20 {
        (0..1000).for_each(|shard| put(&mut reducer, shard, round));
    }
    let most = reducer.keyed_members.capacity();
    assert!(most >= 20_000);
    let (mut early, mut rest) = (Vec::new(), Vec::new());
    reducer.close_due(soon, &mut early);
    let kept = reducer.keyed_members.capacity();
    assert!(kept <= 4 * (400 + SLACK), "{kept} of {most}");
    (0..1000)
        .step_by(50)
        .for_each(|shard| put(&mut reducer, shard, 20));
    reducer.flush(now, &mut rest);
    assert_eq!((early.len(), rest.len()), (980, 20));
    let shard_of = |member: &SealedRecord| {
        let text = str::from_utf8(member.data()).unwrap();
        text.split_once('/').unwrap().0.parse::<u128>().unwrap()
    };
    for container in early.iter().chain(&rest) {
        let shard = shard_of(&container.members[0]);
        let rounds = 0..if stays(shard) { 21 } else { 20 };
        let expected: Vec<_> = rounds.map(|round| format!("{shard}/{round}")).collect();
        let found = container.members.iter().map(|m| m.data().clone());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
    assert!(closed.is_empty());
    assert!(reducer.keyed_members.capacity() <= 4 * SLACK);
}

/// With hash keys of all sizes: once what it read was added up, and overflowed.
#[test]
fn what_is_looked_at_ahead_comes_out_the_same() {
    let (now, shards) = (Instant::now(), 2 * FEW_OPEN as u128);
    let record = |n: u128| {
        let hash_key = HashKey(u128::MAX / shards * (n % shards));
        let key = RecordKey::Explicit(PartitionKey::new("k").unwrap(), hash_key);
        sealed(format!("{n}"), key)
    };
    let made = |ahead: bool| {
        let map = Routes::Known(Arc::new(even(shards)));
        let (mut reducer, mut closed) = (Reducer::new(MAX_SIZE, map), Vec::new());
        for round in 0..4 {
            let next: Vec<_> = (round * shards..(round + 1) * shards).map(record).collect();
            if ahead {
                reducer.prepare(&next);
            }
            for record in next {
                reducer.push(record, now, now, &mut closed);
            }
        }
        reducer.flush(now, &mut closed);
        let entries = entries(closed).into_iter();
        entries
            .map(|entry| entry.data().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(made(true), made(false));
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

pub(crate) fn reducer(shards: u128) -> Reducer<SealedRecord> {
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

#[test]
fn records_for_one_shard_share_a_container_and_no_other_shards_are_among_them() {
    let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    let (mut reducer, mut closed) = (reducer(4), Vec::new());
    for n in 0..100 {
        let key = PartitionKey::new(format!("k{n}")).unwrap();
        let within = HashKey((n as u128 % 4) << 126 | 1 << 125);
        let key = RecordKey::Explicit(key, within);
        reducer.push(sealed(format!("{n}"), key), due, now, &mut closed);
    }
    reducer.flush(now, &mut closed);
    let map = even(4);
    let mut seen: Vec<(usize, Vec<usize>)> = (entries(closed).iter())
        .map(|entry| {
            let is_it = |shard: &crate::shard::Shard| Some(&shard.id) == entry.predicted();
            let members = entry.members().iter();
            let numbers = members.map(|m| str::from_utf8(m.data()).unwrap().parse().unwrap());
            (
                map.shards().iter().position(is_it).unwrap(),
                numbers.collect(),
            )
        })
        .collect();
    seen.sort_unstable();
    let expected = (0..4).map(|shard| (shard, (shard..100).step_by(4).collect()));
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

#[test]
fn a_container_closes_for_its_size_only_where_the_next_does_not_fit_and_keeps_the_order() {
    const SIZE: usize = 500;
    let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    let mut reducer = Reducer::new(Some(SIZE), Routes::Known(Arc::new(even(1))));
    let mut closed = Vec::new();
    let data = |n: usize| format!("{n:03}{}", "x".repeat(n * 37 % 120));
    for n in 0..100 {
        reducer.push(sealed(data(n), keyed("k")), due, now, &mut closed);
    }
    reducer.flush(now, &mut closed);
    let key = PartitionKey::new("k").unwrap();
    for both in closed.windows(2) {
        let (layout, next) = (&both[0].layout, both[1].members[0].data().len());
        assert!(layout.wire_len() <= SIZE);
        let is_full = layout.wire_len() == SIZE;
        assert!(is_full || layout.wire_len_with(&key, None, next) > SIZE);
    }
    let members = closed.iter().flat_map(|container| &container.members);
    let members: Vec<_> = members.map(|member| member.data().clone()).collect();
    assert_eq!(members, (0..100).map(data).collect::<Vec<_>>());
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
    /// Lone members among them.
    #[test]
    fn containers_encoded_together_are_what_each_is_alone(
        shards in 1u128..20,
        records in proptest::collection::vec(("[a-z]{1,3}", 0usize..400), 1..200),
    ) {
        let now = Instant::now();
        let map = Arc::new(even(shards));
        let closed = || {
            let mut reducer = Reducer::new(Some(2000), Routes::Known(Arc::clone(&map)));
            let mut closed = Vec::new();
            for (n, (key, len)) in records.iter().enumerate() {
                let data = format!("{n}|{}", "x".repeat(*len));
                reducer.push(sealed(data, keyed(key)), now, now, &mut closed);
            }
            reducer.flush(now, &mut closed);
            closed
        };
        let shown = |entries: Vec<AggregatedRecord>| -> Vec<_> {
            let of_one = |entry: AggregatedRecord| {
                let members: Vec<_> = entry.members().iter().map(|m| m.data().clone()).collect();
                (
                    entry.data().clone(),
                    entry.partition_key().clone(),
                    entry.explicit_hash_key(),
                    entry.predicted().cloned(),
                    members,
                )
            };
            entries.into_iter().map(of_one).collect()
        };
        prop_assert_eq!(shown(AggregatedRecord::each(closed())), shown(entries(closed())));
    }

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
