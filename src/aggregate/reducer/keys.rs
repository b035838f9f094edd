//! Tests: the keys of entries, and which routes they suit.

use super::tests::{entries, keyed, reducer, sealed};
use super::*;
use crate::record::RecordKey;

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
