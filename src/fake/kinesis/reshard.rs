//! SplitShard, MergeShards, UpdateShardCount: parents close, children open, no hash key is without a shard.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::manage::MOST_SHARDS;
use super::shard::Shard;
use super::table::{ShardTable, uniform_ranges};
use super::{Kinesis, Stream};
use crate::fake::protocol::{ApiError, json_bytes, parse};
use crate::record::HashKey;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SplitShard {
    shard_to_split: Option<String>,
    new_starting_hash_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MergeShards {
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateShardCount {
    target_shard_count: Option<i64>,
    scaling_type: Option<String>,
}

impl Kinesis {
    pub(super) fn split_shard(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: SplitShard = parse(body)?;
        refuse_on_demand(&stream)?;
        let id = request
            .shard_to_split
            .ok_or_else(|| ApiError::missing("shardToSplit"))?;
        let text = request
            .new_starting_hash_key
            .ok_or_else(|| ApiError::missing("newStartingHashKey"))?;
        let at = text
            .parse()
            .map_err(|error| ApiError::validation("newStartingHashKey", error))?;
        self.split(&stream, &id, Some(at))?;
        Ok(Vec::new())
    }

    pub(super) fn merge_shards(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: MergeShards = parse(body)?;
        refuse_on_demand(&stream)?;
        let id = request
            .shard_to_merge
            .ok_or_else(|| ApiError::missing("shardToMerge"))?;
        let other = request
            .adjacent_shard_to_merge
            .ok_or_else(|| ApiError::missing("adjacentShardToMerge"))?;
        self.merge(&stream, &id, &other)?;
        Ok(Vec::new())
    }

    pub(super) fn update_shard_count(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: UpdateShardCount = parse(body)?;
        refuse_on_demand(&stream)?;
        if request.scaling_type.as_deref() != Some("UNIFORM_SCALING") {
            return Err(ApiError::validation(
                "scalingType",
                "Member must satisfy enum value set: [UNIFORM_SCALING]",
            ));
        }
        let target = request
            .target_shard_count
            .ok_or_else(|| ApiError::missing("targetShardCount"))?;
        let target = usize::try_from(target)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| {
                ApiError::validation(
                    "targetShardCount",
                    "Member must have value greater than or equal to 1",
                )
            })?;
        let current = stream.shards().open().len();
        // API_UpdateShardCount: not above double, not below half.
        if target > current * 2 || target * 2 < current || target > MOST_SHARDS {
            return Err(ApiError::invalid_argument(format!(
                "UpdateShardCount goes from half to double of the current open shard count. Current: {current}, \
                 target: {target}"
            )));
        }
        self.scale(&stream, target);
        Ok(json_bytes(&json!({
            "StreamName": stream.name(),
            "StreamARN": stream.arn(),
            "CurrentShardCount": current,
            "TargetShardCount": target,
        })))
    }

    /// Splits at `at`, or in the middle.
    pub(crate) fn split(
        &self,
        stream: &Stream,
        id: &str,
        at: Option<HashKey>,
    ) -> Result<(), ApiError> {
        let mut table = stream.shards_mut();
        let shard = self.open_shard(stream, &table, id)?;
        let middle = HashKey(shard.first.0 + (shard.last.0 - shard.first.0).div_ceil(2));
        let at = at.unwrap_or(middle);
        if at <= shard.first || at > shard.last {
            return Err(ApiError::invalid_argument(format!(
                "NewStartingHashKey {at} used in SplitShard() on shard {id} in stream {} under account {} is not \
                 both greater than one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
                stream.name(),
                self.account,
                shard.first,
                shard.last
            )));
        }
        self.split_at(&mut table, &shard, &[at]);
        Ok(())
    }

    pub(crate) fn merge(&self, stream: &Stream, id: &str, other: &str) -> Result<(), ApiError> {
        let mut table = stream.shards_mut();
        let shard = self.open_shard(stream, &table, id)?;
        let adjacent = self.open_shard(stream, &table, other)?;
        let touch = |low: &Shard, high: &Shard| low.last.0.checked_add(1) == Some(high.first.0);
        if !touch(&shard, &adjacent) && !touch(&adjacent, &shard) {
            return Err(ApiError::invalid_argument(format!(
                "Shards {id} and {other} in stream {} under account {} are not an adjacent pair of shards eligible \
                 for merging",
                stream.name(),
                self.account
            )));
        }
        self.merge_pair(&mut table, &shard, &adjacent);
        Ok(())
    }

    /// To `target` shards of equal size: cut at every new boundary, then merge what lies within one range.
    /// The shards in between close again, empty, as with the service.
    pub(crate) fn scale(&self, stream: &Stream, target: usize) {
        let ranges = uniform_ranges(target);
        let mut table = stream.shards_mut();
        for shard in table.open().to_vec() {
            let starts = ranges.iter().map(|(first, _)| *first);
            let cuts: Vec<HashKey> = starts
                .filter(|cut| shard.first < *cut && *cut <= shard.last)
                .collect();
            if !cuts.is_empty() {
                self.split_at(&mut table, &shard, &cuts);
            }
        }
        for (first, last) in ranges {
            loop {
                let within: Vec<Arc<Shard>> = table
                    .open()
                    .iter()
                    .filter(|shard| first <= shard.first && shard.last <= last)
                    .take(2)
                    .map(Arc::clone)
                    .collect();
                let [low, high] = &within[..] else { break };
                self.merge_pair(&mut table, low, high);
            }
        }
    }

    /// Cuts one by one: a shard has at most two children.
    fn split_at(&self, table: &mut ShardTable, shard: &Arc<Shard>, cuts: &[HashKey]) {
        let mut rest = Arc::clone(shard);
        for cut in cuts {
            let now = self.clock.now();
            let parents = vec![rest.id().to_owned()];
            table.close(rest.id(), now);
            let below = HashKey(cut.0 - 1);
            table.add((rest.first, below), parents.clone(), &self.limits, now);
            table.add((*cut, rest.last), parents, &self.limits, now);
            rest = Arc::clone(table.route(*cut));
        }
    }

    fn merge_pair(&self, table: &mut ShardTable, shard: &Shard, adjacent: &Shard) {
        let now = self.clock.now();
        table.close(shard.id(), now);
        table.close(adjacent.id(), now);
        let range = (
            shard.first.min(adjacent.first),
            shard.last.max(adjacent.last),
        );
        let parents = vec![shard.id().to_owned(), adjacent.id().to_owned()];
        table.add(range, parents, &self.limits, now);
    }

    fn open_shard(
        &self,
        stream: &Stream,
        table: &ShardTable,
        id: &str,
    ) -> Result<Arc<Shard>, ApiError> {
        let shard = table.find(id).ok_or_else(|| {
            ApiError::new(
                "ResourceNotFoundException",
                format!(
                    "Could not find shard {id} in stream {} under account {}.",
                    stream.name(),
                    self.account
                ),
            )
        })?;
        if !shard.is_open() {
            return Err(ApiError::new(
                "ResourceInUseException",
                format!(
                    "Shard {id} in stream {} under account {} is already closed.",
                    stream.name(),
                    self.account
                ),
            ));
        }
        Ok(Arc::clone(shard))
    }
}

/// In on-demand mode the service reshards by itself.
fn refuse_on_demand(stream: &Stream) -> Result<(), ApiError> {
    if !stream.settings().on_demand {
        return Ok(());
    }
    Err(ApiError::new(
        "ValidationException",
        format!(
            "Stream {} is in on-demand mode: its shards cannot be changed by hand.",
            stream.name()
        ),
    ))
}
