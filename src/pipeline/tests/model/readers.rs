//! What is found in the stream, by reader, and which doubles are forgiven.

use std::collections::HashSet;

use super::world::Ranges;
use super::*;

/// What lies in an entry, by reader. A message that is no aggregate is one record.
pub(super) struct Readers {
    pub(super) ever: Ranges,
}

impl Readers {
    pub(super) fn plain(data: &Bytes) -> Vec<Bytes> {
        let records = deaggregate(data).map(|r| r.into_iter().map(|r| r.data).collect());
        records.unwrap_or_else(|| vec![data.clone()])
    }

    /// Whether a member does not belong on the shard.
    pub(super) fn strays(&self, shard: &str, data: &Bytes) -> bool {
        let range = &self.ever[shard];
        deaggregate(data).is_some_and(|all| !all.iter().all(|r| range.contains(r.hash_key())))
    }

    /// The KCL drops an aggregate whole where one member does not belong on the shard it was read from.
    pub(super) fn kcl(&self, shard: &str, data: &Bytes) -> Vec<Bytes> {
        match self.strays(shard, data) {
            true => Vec::new(),
            false => Self::plain(data),
        }
    }
}

/// The world's account of the shards: who may be forgiven a double.
pub(super) struct Excuses<'a> {
    pub(super) readers: &'a Readers,
    /// Shards that are open at the end.
    pub(super) open: HashSet<String>,
    /// Calls heard that the stream is not there: it might have been made anew, with other shards under the same names.
    pub(super) was_absent: bool,
    /// There was a time when nobody could tell where an aggregate belongs.
    pub(super) unknowable: bool,
}

impl Excuses<'_> {
    /// Whether this copy may have another beside it: nobody heard that it was stored; or it is an aggregate elsewhere
    /// than predicted, and a member does not belong there, or none could tell that all do.
    pub(super) fn excuse(&self, shard: &str, data: &Bytes, heard: Heard) -> bool {
        match heard {
            Heard::Nothing => true,
            Heard::AsPredicted if !self.was_absent => false,
            Heard::AsPredicted => {
                let is_aggregate = Readers::plain(data).len() > 1;
                let is_unknown = self.unknowable || !self.open.contains(shard);
                is_aggregate && (is_unknown || self.readers.strays(shard, data))
            }
            Heard::Elsewhere => {
                let is_aggregate = Readers::plain(data).len() > 1;
                // While it is not there, it is not listed either.
                let is_unknown = self.unknowable || self.was_absent || !self.open.contains(shard);
                is_aggregate && (is_unknown || self.readers.strays(shard, data))
            }
        }
    }
}
