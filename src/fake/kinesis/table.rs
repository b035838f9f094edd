//! The shards of a stream: all there ever were, and the open ones that divide the hash keys among them.

use std::sync::Arc;
use std::time::Duration;

use super::Limits;
use super::shard::Shard;
use crate::record::HashKey;

/// All shards there ever were, and which of them take records.
#[derive(Debug, Default)]
pub(crate) struct ShardTable {
    all: Vec<Arc<Shard>>,
    /// By their first hash key: they cover the ring without gap or overlap.
    open: Vec<Arc<Shard>>,
}

impl ShardTable {
    pub(crate) fn uniform(shards: usize, limits: &Limits, now: Duration) -> Self {
        let mut table = Self::default();
        for range in uniform_ranges(shards) {
            table.add(range, Vec::new(), limits, now);
        }
        table
    }

    pub(crate) fn all(&self) -> &[Arc<Shard>] {
        &self.all
    }

    pub(crate) fn open(&self) -> &[Arc<Shard>] {
        &self.open
    }

    /// The open shard that a hash key belongs to.
    pub(crate) fn route(&self, hash_key: HashKey) -> &Arc<Shard> {
        let after = self.open.partition_point(|shard| shard.first <= hash_key);
        &self.open[after - 1]
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Arc<Shard>> {
        self.all.iter().find(|shard| shard.id() == id)
    }

    pub(crate) fn children_of(&self, id: &str) -> impl Iterator<Item = &Arc<Shard>> {
        self.all
            .iter()
            .filter(move |shard| shard.parents.iter().any(|parent| parent == id))
    }

    pub(crate) fn add(
        &mut self,
        range: (HashKey, HashKey),
        parents: Vec<String>,
        limits: &Limits,
        now: Duration,
    ) {
        let shard = Arc::new(Shard::new(self.all.len(), range, parents, limits, now));
        let place = self.open.partition_point(|other| other.first < shard.first);
        self.open.insert(place, Arc::clone(&shard));
        self.all.push(shard);
    }

    pub(crate) fn close(&mut self, id: &str, now: Duration) {
        if let Some(place) = self.open.iter().position(|shard| shard.id() == id) {
            let shard = self.open.remove(place);
            shard.close(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

/// Ranges of equal size, cut where the service cuts: at i * floor(2^128 / n).
pub(crate) fn uniform_ranges(n: usize) -> Vec<(HashKey, HashKey)> {
    let n = n.max(1) as u128;
    if n == 1 {
        return vec![(HashKey::MIN, HashKey::MAX)];
    }
    // 2^128 itself does not fit: divide 2^128 - 1, and carry the 1.
    let step = u128::MAX / n + (u128::MAX % n + 1) / n;
    (0..n)
        .map(|i| {
            let last = if i + 1 == n {
                u128::MAX
            } else {
                (i + 1) * step - 1
            };
            (HashKey(i * step), HashKey(last))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_the_service_cuts_them() {
        let quarters = uniform_ranges(4);
        // From an AWS stream of 4 shards.
        assert_eq!(
            quarters[0].1.to_string(),
            "85070591730234615865843651857942052863"
        );
        assert_eq!(
            quarters[1].0.to_string(),
            "85070591730234615865843651857942052864"
        );
        assert_eq!(
            uniform_ranges(3)[0].1.to_string(),
            "113427455640312821154458202477256070484"
        );
        for n in [1, 2, 3, 5, 7, 64, 1000] {
            let ranges = uniform_ranges(n);
            assert_eq!((ranges[0].0, ranges[n - 1].1), (HashKey::MIN, HashKey::MAX));
            assert!(
                ranges.windows(2).all(|pair| pair[0].1.0 + 1 == pair[1].0.0),
                "{n}"
            );
        }
    }
}
