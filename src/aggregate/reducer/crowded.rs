//! Where more waits than elsewhere.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::shard::{ShardId, ShardMap};

/// Shards for which more waits than for others, as those know who let it wait: a record that may go to any shard
/// goes to another one.
#[derive(Debug, Clone, Default)]
pub struct Crowded(Arc<Mutex<HashSet<ShardId>>>);

impl Crowded {
    /// Says so of one shard, or takes it back.
    pub fn set(&self, shard: &ShardId, crowded: bool) {
        let mut shards = self.0.lock().expect("no panic while held");
        if !crowded {
            shards.remove(shard);
        } else if !shards.contains(shard) {
            shards.insert(shard.clone());
        }
    }

    /// The first turn from `turn` on whose shard is not crowded; `turn` itself if all are.
    pub(super) fn pass_over(&self, map: &ShardMap, turn: usize) -> usize {
        let shards = self.0.lock().expect("no panic while held");
        if shards.is_empty() {
            return turn;
        }
        let all = map.shards();
        let is_free = |n: &usize| !shards.contains(&all[turn.wrapping_add(*n) % all.len()].id);
        let passed = (0..all.len()).find(is_free).unwrap_or(0);
        turn.wrapping_add(passed)
    }
}
