//! Whether an entry that was made earlier may still go.

use super::{Reducer, Routes};
use crate::aggregate::{AggregatedRecord, ContainerKey};
use crate::seal::SealedRecord;
use crate::shard::ShardMap;

impl Reducer<SealedRecord> {
    /// False where members of an entry belong on other shards than the one it goes to, although that has the name that
    /// was predicted.
    pub fn is_for_its_own_shards(&self, entry: &AggregatedRecord) -> bool {
        match &self.routes {
            Routes::Known(map) if self.is_renumbered => {
                entry.belongs_on(map.predict(entry.hash_key()))
            }
            Routes::Known(_) | Routes::Unpredictable | Routes::Auto => true,
        }
    }

    /// Whether an entry may go as it is, or is to be made anew because it was made for other routes.
    pub fn suits(&self, entry: &AggregatedRecord) -> bool {
        let explicit = entry.explicit_hash_key().is_some();
        match (&self.routes, entry.members()) {
            // Readers would drop an aggregate whose shard the service has chosen.
            (Routes::Auto, members) => members.len() == 1 && !explicit,
            // After a reshard its members may belong on several shards.
            (Routes::Known(map), [_, _, ..]) if !is_predicted(entry, map) => false,
            (Routes::Known(_), [_, _, ..]) if !self.is_for_its_own_shards(entry) => false,
            // The map it was made by does not count any more.
            (Routes::Unpredictable, [_, _, ..]) if entry.predicted().is_some() => false,
            (Routes::Known(_) | Routes::Unpredictable, [first, ..]) => {
                let due =
                    self.container_key == ContainerKey::Kpl || first.route().explicit().is_some();
                explicit || !due
            }
            (Routes::Known(_) | Routes::Unpredictable, []) => true,
        }
    }
}

fn is_predicted(entry: &AggregatedRecord, map: &ShardMap) -> bool {
    entry.predicted() == Some(&map.predict(entry.hash_key()).id)
}
