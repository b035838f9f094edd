//! Tests: the keys of entries, and which routes they suit.

use super::tests::{MAX_SIZE, entries, keyed, reducer, sealed};
use super::*;
use crate::record::{HashKey, PartitionKey, RecordKey};
use crate::shard::map::tests::even;

/// Made by the KPL's own classes.
#[test]
fn under_the_kpls_keys_entries_are_the_kpls_own() {
    let golden = "f3899ac20a05616c7068610a04626574611a0708001a036f6e651a0708011a0374776f1a0908001a0574687265\
                  654204f8374a68aebb42c22939c86930a7";
    let (now, mut closed) = (Instant::now(), Vec::new());
    let mut reducer = reducer(1).keyed_as(ContainerKey::Kpl);
    for (key, data) in [("alpha", "one"), ("beta", "two"), ("alpha", "three")] {
        reducer.push(sealed(data, keyed(key)), now, now, &mut closed);
    }
    reducer.flush(now, &mut closed);
    // A lone one has its own partition key, and the hash key that it leads to.
    reducer.push(sealed("one", keyed("alpha")), now, now, &mut closed);
    reducer.flush(now, &mut closed);
    let explicit = RecordKey::Explicit(PartitionKey::new("k").unwrap(), HashKey(7));
    reducer.push(sealed("x", explicit), now, now, &mut closed);
    reducer.flush(now, &mut closed);
    let closed = entries(closed);
    let hex: String = closed[0]
        .data()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(hex, golden);
    let keys: Vec<_> = (closed.iter())
        .map(|e| (e.partition_key().as_str(), e.explicit_hash_key().unwrap().0))
        .collect();
    let alpha = 58_606_826_522_850_340_945_736_240_254_012_750_329;
    assert_eq!(keys, [("a", alpha), ("alpha", alpha), ("k", 7)]);
    assert_eq!(&closed[1].data()[..], b"one");
}

#[test]
fn under_the_kpls_keys_every_entry_says_its_hash_key_but_under_auto_none_does() {
    let (now, map) = (Instant::now(), Arc::new(even(4)));
    let all = [
        (Routes::Known(Arc::clone(&map)), true),
        (Routes::Unpredictable, true),
        (Routes::Auto, false),
    ];
    for (routes, said) in all {
        let mut closed = Vec::new();
        let mut reducer = Reducer::new(MAX_SIZE, routes).keyed_as(ContainerKey::Kpl);
        for n in 0..40 {
            let key = match n % 3 {
                0 => RecordKey::Any,
                1 => keyed(&format!("k{n}")),
                _ => RecordKey::Explicit(PartitionKey::new("k").unwrap(), HashKey(n << 120)),
            };
            reducer.push(sealed("data", key), now, now, &mut closed);
        }
        reducer.flush(now, &mut closed);
        for entry in entries(closed) {
            assert_eq!(entry.explicit_hash_key().is_some(), said);
            assert!(reducer.suits(&entry));
            let Some(predicted) = entry.predicted() else {
                continue;
            };
            let shard = map.predict(entry.hash_key());
            assert_eq!(&shard.id, predicted);
            assert!(entry.belongs_on(shard));
        }
    }
}

#[test]
fn an_entry_suits_the_routes_it_was_made_for_and_auto_only_alone_and_without_a_hash_key() {
    let (now, mut closed) = (Instant::now(), Vec::new());
    let mut reducer = reducer(1);
    let explicit = || RecordKey::Explicit(PartitionKey::new("k").unwrap(), HashKey(7));
    for keys in [
        vec![keyed("k")],
        vec![explicit()],
        vec![keyed("k"), keyed("l")],
    ] {
        for key in keys {
            reducer.push(sealed("data", key), now, now, &mut closed);
        }
        reducer.flush(now, &mut closed);
    }
    let known = entries(closed);
    assert!(known.iter().all(|entry| reducer.suits(entry)));
    reducer.adopt(Routes::Auto);
    let suited: Vec<_> = known.iter().map(|entry| reducer.suits(entry)).collect();
    assert_eq!(suited, [true, false, false]);
    let mut closed = Vec::new();
    reducer.push(sealed("data", keyed("k")), now, now, &mut closed);
    reducer.push(sealed("data", explicit()), now, now, &mut closed);
    let auto = entries(closed);
    assert!(auto.iter().all(|entry| reducer.suits(entry)));
    reducer.adopt(Routes::Unpredictable);
    let suited: Vec<_> = auto.iter().map(|entry| reducer.suits(entry)).collect();
    assert_eq!(suited, [true, false]);
}
