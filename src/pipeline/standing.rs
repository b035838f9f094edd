//! What a stream of very many shards takes for them, as part of its memory.
//!
//! Each shard has a lane, a place for an open aggregate, and its place in the map, also while it has no record. Those of
//! usual streams are nothing beside all else that is not records.

use tokio::sync::watch;

use super::routes::Facts;
use crate::aggregate::reducer::Routes;
use crate::delivery::MemoryBudget;

/// Shards that are not counted.
const FREE: usize = 1000;
/// What each other one takes, with some slack. An estimate, held against what the system says of 10,000: without it keyed
/// records of 200 bytes took 100 MiB of the 96 that there are, and on 2,000 shards 90.
const BYTES_OF_A_SHARD: usize = 1536;

/// Holds what the shards take, or what may be held of that, until it is aborted. For more of them it waits in line, as any
/// source does.
pub(super) async fn hold(mut facts: watch::Receiver<Option<Facts>>, budget: MemoryBudget) {
    let (mut held, mut bytes) = (None, 0);
    loop {
        let shards = facts.borrow_and_update().as_ref().map_or(0, shards);
        let wanted = shards.saturating_sub(FREE) * BYTES_OF_A_SHARD;
        if wanted != bytes {
            // All of it goes back first: what it holds while it waits, others may wait for.
            drop(held.take());
            held = budget.reserve_standing(wanted).await;
            bytes = wanted;
        }
        if facts.changed().await.is_err() {
            return;
        }
    }
}

fn shards(facts: &Facts) -> usize {
    match &facts.routes {
        Routes::Known(map) => map.shards().len(),
        Routes::Unpredictable | Routes::Auto => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::Limits;
    use crate::shard::map::tests::even;

    #[tokio::test]
    async fn shards_beyond_a_thousand_are_counted_and_only_as_long_as_they_are_there() {
        const MIB: usize = 1 << 20;
        let of = |shards| shards * BYTES_OF_A_SHARD;
        let budget = MemoryBudget::new(64 * MIB);
        let (tx, rx) = watch::channel(None);
        let holding = tokio::spawn(hold(rx, budget.clone()));
        for (shards, held) in [
            (4, 0),
            (2024, of(1024)),
            (10_000, of(9000)),
            (100_000, 16 * MIB),
            (1000, 0),
            (2024, of(1024)),
        ] {
            tx.send_replace(Some(Facts {
                routes: Routes::Known(Arc::new(even(shards as u128))),
                limits: Limits::default(),
                is_described: true,
            }));
            tokio::task::yield_now().await;
            assert_eq!(budget.in_use(), held, "{shards} shards");
        }
        // More waits until there is room, and holds none meanwhile.
        let records = budget.try_reserve(62 * MIB).expect("they fit");
        tx.send_modify(|facts| {
            facts.as_mut().expect("sent").routes = Routes::Known(Arc::new(even(4024)));
        });
        tokio::task::yield_now().await;
        assert_eq!(budget.in_use(), 62 * MIB);
        drop(records);
        tokio::task::yield_now().await;
        assert_eq!(budget.in_use(), of(3024));
        // A record that is as large as the memory passes all the same.
        let large = budget.try_reserve(64 * MIB).expect("it is alone");
        assert!(budget.try_reserve(1).is_none());
        drop(large);
        holding.abort();
        let _ = holding.await;
        assert_eq!(budget.in_use(), 0);
    }
}
