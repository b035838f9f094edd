//! Where more waits than elsewhere.

use std::sync::{Arc, Mutex};

use crate::shard::{ByShard, ShardId, ShardMap};

/// What keeps a shard from being given more while there is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowding {
    /// More waits for it than for an idle one.
    Waiting,
    /// It takes nothing.
    Dead,
}

/// Shards for which something waits, as those know who let it wait: a record that may go to any shard goes to one for
/// which nothing does, if there is one, and else to any that takes something.
///
/// What is kept is of each shard alone. Kept beside it was whether another one is idle; that was stale for all those whose
/// own state did not change, and a burst went to one shard.
#[derive(Debug, Clone, Default)]
pub struct Crowded(Arc<Mutex<ByShard<ShardId, Crowding>>>);

/// So many shards are looked at for a free one: of thousands, those will do.
const LOOKED_AT: usize = 256;

impl Crowded {
    /// `None`: nothing keeps it.
    pub fn set(&self, shard: &ShardId, crowding: Option<Crowding>) {
        let mut shards = self.0.lock().expect("no panic while held");
        match crowding {
            None => shards.remove(shard),
            Some(crowding) => shards.insert(shard.clone(), crowding),
        };
    }

    /// The first turn from `turn` on whose shard is free, or at least alive; `turn` itself if there is none.
    pub(super) fn pass_over(&self, map: &ShardMap, turn: usize) -> usize {
        let shards = self.0.lock().expect("no panic while held");
        if shards.is_empty() {
            return turn;
        }
        let all = map.shards();
        let mut alive = None;
        for passed in 0..all.len().min(LOOKED_AT) {
            let at = turn.wrapping_add(passed);
            match shards.get(&all[at % all.len()].id) {
                None => return at,
                Some(Crowding::Waiting) => alive = alive.or(Some(at)),
                Some(Crowding::Dead) => {}
            }
        }
        alive.unwrap_or(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::map::tests::even;

    #[test]
    fn free_shards_come_before_crowded_ones_and_those_before_dead_ones() {
        let (map, crowded) = (even(4), Crowded::default());
        let at = |n: usize| &map.shards()[n].id;
        assert_eq!(crowded.pass_over(&map, 6), 6);
        crowded.set(at(2), Some(Crowding::Waiting));
        assert_eq!(crowded.pass_over(&map, 6), 7);
        crowded.set(at(3), Some(Crowding::Dead));
        crowded.set(at(0), Some(Crowding::Waiting));
        assert_eq!(crowded.pass_over(&map, 6), 9, "one is free");
        crowded.set(at(1), Some(Crowding::Waiting));
        assert_eq!(crowded.pass_over(&map, 6), 6, "none is, and it is alive");
        assert_eq!(crowded.pass_over(&map, 7), 8, "not the dead one");
        (0..4).for_each(|n| crowded.set(at(n), Some(Crowding::Dead)));
        assert_eq!(crowded.pass_over(&map, 6), 6);
        crowded.set(at(1), None);
        assert_eq!(crowded.pass_over(&map, 6), 9);
    }
}
