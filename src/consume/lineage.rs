//! In which order shards are read: children after their parents, so that the records of one partition key
//! stay in order through splits and merges.
//!
//! Pure. A parent that no listing knows has expired with all its records, so nothing waits for it.

use std::collections::BTreeMap;

use super::shards::ListedShard;
use crate::shard::ShardId;

/// What is known of a stream's shards, and how far reading is.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    shards: BTreeMap<ShardId, Known>,
}

#[derive(Debug)]
struct Known {
    listed: ListedShard,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Reading,
    /// To its end.
    Read,
    /// Not to its end, so its children are not for this reader.
    Left,
}

impl Lineage {
    /// Takes in a listing. What is known already keeps its progress.
    pub(super) fn learn(&mut self, listing: impl IntoIterator<Item = ListedShard>) {
        for listed in listing {
            let known = self.shards.entry(listed.id.clone());
            let closed = listed.closed;
            let known = known.or_insert_with(|| Known {
                listed,
                progress: Progress::Waiting,
            });
            known.listed.closed |= closed;
        }
    }

    /// Shards that were closed before reading began count as read. Returns which.
    pub(super) fn skip_closed(&mut self) -> Vec<ShardId> {
        let closed = self.shards.values_mut().filter(|s| s.listed.closed);
        let skipped = closed.map(|shard| {
            shard.progress = Progress::Read;
            shard.listed.id.clone()
        });
        skipped.collect()
    }

    /// The shards to begin with now; each is told once.
    pub(super) fn begin_ready(&mut self) -> Vec<ListedShard> {
        let ready: Vec<ShardId> = self
            .shards
            .values()
            .filter(|shard| shard.progress == Progress::Waiting && self.parents_are_read(shard))
            .map(|shard| shard.listed.id.clone())
            .collect();
        ready
            .iter()
            .filter_map(|id| {
                let shard = self.shards.get_mut(id)?;
                shard.progress = Progress::Reading;
                Some(shard.listed.clone())
            })
            .collect()
    }

    pub(super) fn has_read(&mut self, id: &ShardId) {
        self.set(id, Progress::Read);
    }

    pub(super) fn has_left(&mut self, id: &ShardId) {
        self.set(id, Progress::Left);
    }

    fn set(&mut self, id: &ShardId, progress: Progress) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.progress = progress;
        }
    }

    fn parents_are_read(&self, shard: &Known) -> bool {
        shard.listed.parents.iter().all(|parent| {
            self.shards
                .get(parent)
                .is_none_or(|parent| parent.progress == Progress::Read)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parents: &[&str], closed: bool) -> ListedShard {
        ListedShard {
            id: ShardId::new(id),
            parents: parents.iter().map(|id| ShardId::new(id)).collect(),
            closed,
            begins: None,
            range: None,
        }
    }

    fn begin(lineage: &mut Lineage) -> Vec<String> {
        let ready = lineage.begin_ready();
        ready.iter().map(|shard| shard.id.to_string()).collect()
    }

    #[test]
    fn merged_shard_waits_for_both_parents() {
        let mut lineage = Lineage::default();
        lineage.learn([
            shard("0", &[], true),
            shard("1", &[], true),
            shard("2", &["0", "1"], false),
        ]);
        assert_eq!(begin(&mut lineage), ["0", "1"]);
        lineage.has_read(&ShardId::new("1"));
        assert_eq!(begin(&mut lineage), [""; 0]);
        lineage.has_read(&ShardId::new("0"));
        assert_eq!(begin(&mut lineage), ["2"]);
        assert_eq!(begin(&mut lineage), [""; 0], "each is told once");
    }

    #[test]
    fn nothing_waits_for_a_parent_that_expired() {
        let mut lineage = Lineage::default();
        lineage.learn([shard("7", &["3"], false)]);
        assert_eq!(begin(&mut lineage), ["7"]);
    }

    #[test]
    fn children_of_a_shard_that_was_left_at_its_tip_do_not_begin() {
        let mut lineage = Lineage::default();
        lineage.learn([shard("0", &[], false)]);
        begin(&mut lineage);
        lineage.has_left(&ShardId::new("0"));
        lineage.learn([shard("0", &[], true), shard("1", &["0"], false)]);
        assert_eq!(begin(&mut lineage), [""; 0]);
    }

    #[test]
    fn from_latest_on_closed_shards_are_skipped_and_what_they_became_is_not() {
        let mut lineage = Lineage::default();
        lineage.learn([shard("0", &[], true), shard("1", &["0"], false)]);
        lineage.skip_closed();
        assert_eq!(begin(&mut lineage), ["1"]);
    }
}
