//! A stream: its settings and its table of shards, and the operations that make, describe and change it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::shard::Shard;
use super::{Distribution, Kinesis, Limits};
use crate::fake::protocol::{ApiError, json_bytes, parse, timestamp};
use crate::record::{HashKey, StreamName};

/// An on-demand stream starts with 4 shards (developer guide, "Choose the right mode").
const ON_DEMAND_SHARDS: usize = 4;
/// Shards a stream may have; UpdateShardCount's upper bound.
pub(crate) const MOST_SHARDS: usize = 10_000;
/// MaxRecordSizeInKiB, from the model.
const RECORD_KIB: std::ops::RangeInclusive<u32> = 1024..=10_240;
const RETENTION_HOURS: u64 = 24;

#[derive(Debug)]
pub(crate) struct Stream {
    name: String,
    arn: String,
    pub(crate) created: u64,
    settings: Mutex<Settings>,
    shards: RwLock<ShardTable>,
    /// Where the next record goes under AUTO.
    next_auto: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) on_demand: bool,
    pub(crate) max_record_kib: u32,
    pub(crate) distribution: Distribution,
}

impl Settings {
    pub(crate) fn max_record_bytes(&self) -> usize {
        self.max_record_kib as usize * 1024
    }
}

/// What CreateStream is asked for.
#[derive(Debug)]
pub(crate) struct StreamSpec {
    pub(crate) name: String,
    pub(crate) shards: usize,
    pub(crate) settings: Settings,
}

impl StreamSpec {
    pub(crate) fn provisioned(name: &str, shards: usize) -> Self {
        Self {
            name: name.to_owned(),
            shards,
            settings: Settings {
                on_demand: false,
                max_record_kib: *RECORD_KIB.start(),
                distribution: Distribution::UserPartitionKey,
            },
        }
    }

    pub(crate) fn on_demand(name: &str) -> Self {
        let mut spec = Self::provisioned(name, ON_DEMAND_SHARDS);
        spec.settings.on_demand = true;
        spec
    }
}

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

impl Stream {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for a whole PutRecords call, so that a reshard falls before or after it.
    pub(crate) fn shards(&self) -> RwLockReadGuard<'_, ShardTable> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shards_mut(&self) -> RwLockWriteGuard<'_, ShardTable> {
        self.shards.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Round robin, for AUTO.
    pub(crate) fn next_auto(&self) -> usize {
        self.next_auto.fetch_add(1, Ordering::Relaxed)
    }

    /// Since when records are kept, were retention applied.
    pub(crate) fn horizon(&self, now_millis: u64) -> u64 {
        self.created
            .max(now_millis.saturating_sub(RETENTION_HOURS * 3_600_000))
    }

    fn describe_common(&self) -> Value {
        let settings = *self.settings();
        let mode = if settings.on_demand {
            "ON_DEMAND"
        } else {
            "PROVISIONED"
        };
        json!({
            "StreamName": self.name,
            "StreamARN": self.arn,
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": { "StreamMode": mode },
            "StreamCreationTimestamp": timestamp(self.created),
            "RetentionPeriodHours": RETENTION_HOURS,
            "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
            "EncryptionType": "NONE",
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateStream {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<u32>,
    record_distribution_strategy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamModeDetails {
    stream_mode: Option<String>,
}

impl StreamModeDetails {
    fn on_demand(&self) -> Result<bool, ApiError> {
        match self.stream_mode.as_deref() {
            Some("ON_DEMAND") => Ok(true),
            Some("PROVISIONED") => Ok(false),
            _ => Err(ApiError::validation(
                "streamModeDetails.streamMode",
                "Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]",
            )),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreams {
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStream {
    exclusive_start_shard_id: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateStream {
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<u32>,
    record_distribution_strategy: Option<String>,
}

impl Kinesis {
    pub(super) fn create(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: CreateStream = parse(body)?;
        let name = request
            .stream_name
            .ok_or_else(|| ApiError::missing("streamName"))?;
        let on_demand = match &request.stream_mode_details {
            Some(details) => details.on_demand()?,
            None => false,
        };
        let shards = match (request.shard_count, on_demand) {
            (Some(_), true) => {
                return Err(ApiError::invalid_argument(
                    "ShardCount must not be set for a stream in on-demand mode.",
                ));
            }
            (None, true) => ON_DEMAND_SHARDS,
            (Some(n), false) => usize::try_from(n).unwrap_or(0),
            (None, false) => return Err(ApiError::missing("shardCount")),
        };
        let distribution = request
            .record_distribution_strategy
            .as_deref()
            .map(Distribution::read);
        self.create_stream(StreamSpec {
            name,
            shards,
            settings: Settings {
                on_demand,
                max_record_kib: request.max_record_size_in_kib.unwrap_or(1024),
                distribution: distribution.transpose()?.unwrap_or_default(),
            },
        })?;
        Ok(Vec::new())
    }

    pub(crate) fn create_stream(&self, spec: StreamSpec) -> Result<(), ApiError> {
        if spec.name.starts_with("arn:") || StreamName::new(&spec.name).is_err() {
            return Err(ApiError::validation(
                "streamName",
                "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+ and have length 1 to 128",
            ));
        }
        if spec.shards == 0 {
            return Err(ApiError::validation(
                "shardCount",
                "Member must have value greater than or equal to 1",
            ));
        }
        if spec.shards > MOST_SHARDS {
            return Err(ApiError::new(
                "LimitExceededException",
                format!("A stream of this stand-in has at most {MOST_SHARDS} shards."),
            ));
        }
        check_record_kib(spec.settings.max_record_kib)?;
        check_distribution(spec.settings.distribution, spec.settings.on_demand)?;
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        if streams.contains_key(&spec.name) {
            return Err(ApiError::new(
                "ResourceInUseException",
                format!(
                    "Stream {} under account {} already exists.",
                    spec.name, self.account
                ),
            ));
        }
        let stream = Stream {
            arn: format!(
                "arn:aws:kinesis:{}:{}:stream/{}",
                self.region, self.account, spec.name
            ),
            name: spec.name.clone(),
            created: self.clock.now_millis(),
            settings: Mutex::new(spec.settings),
            shards: RwLock::new(ShardTable::uniform(
                spec.shards,
                &self.limits,
                self.clock.now(),
            )),
            next_auto: AtomicUsize::new(0),
        };
        streams.insert(spec.name, Arc::new(stream));
        Ok(())
    }

    pub(super) fn delete(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        streams.remove(stream.name());
        Ok(Vec::new())
    }

    pub(super) fn list_streams(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: ListStreams = parse(body)?;
        let limit = request.limit.unwrap_or(100).clamp(1, 10_000);
        // The token is the last name seen; nothing more is needed to go on.
        let after = request
            .exclusive_start_stream_name
            .or(request.next_token)
            .unwrap_or_default();
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let mut following = streams.values().filter(|stream| stream.name > after);
        let page: Vec<_> = following.by_ref().take(limit).collect();
        let more = following.next().is_some();
        let names: Vec<&str> = page.iter().map(|stream| stream.name()).collect();
        let summaries: Vec<Value> = page
            .iter()
            .map(|stream| summary_of(stream.describe_common()))
            .collect();
        let mut answer = json!({
            "StreamNames": names,
            "HasMoreStreams": more,
            "StreamSummaries": summaries,
        });
        if let (true, Some(last)) = (more, names.last()) {
            answer["NextToken"] = json!(last);
        }
        Ok(json_bytes(&answer))
    }

    pub(super) fn describe(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: DescribeStream = parse(body)?;
        let limit = request.limit.unwrap_or(100).clamp(1, 10_000);
        let table = stream.shards();
        let after = request.exclusive_start_shard_id.unwrap_or_default();
        let mut following = table
            .all()
            .iter()
            .filter(|shard| shard.id() > after.as_str());
        let page: Vec<Value> = following
            .by_ref()
            .take(limit)
            .map(|shard| shard.describe())
            .collect();
        let mut description = stream.describe_common();
        description["Shards"] = page.into();
        description["HasMoreShards"] = following.next().is_some().into();
        Ok(json_bytes(&json!({ "StreamDescription": description })))
    }

    pub(super) fn describe_summary(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let settings = *stream.settings();
        let mut summary = stream.describe_common();
        summary["OpenShardCount"] = stream.shards().open().len().into();
        summary["ConsumerCount"] = 0.into();
        summary["MaxRecordSizeInKiB"] = settings.max_record_kib.into();
        summary["RecordDistributionStrategy"] = settings.distribution.as_str().into();
        Ok(json_bytes(&json!({ "StreamDescriptionSummary": summary })))
    }

    pub(super) fn update_stream_mode(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: UpdateStream = parse(body)?;
        let details = request
            .stream_mode_details
            .ok_or_else(|| ApiError::missing("streamModeDetails"))?;
        stream.settings().on_demand = details.on_demand()?;
        Ok(Vec::new())
    }

    pub(super) fn update_max_record_size(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: UpdateStream = parse(body)?;
        let kib = request
            .max_record_size_in_kib
            .ok_or_else(|| ApiError::missing("maxRecordSizeInKiB"))?;
        set_max_record_size(&stream, kib)?;
        Ok(Vec::new())
    }

    pub(super) fn update_distribution(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: UpdateStream = parse(body)?;
        let text = request
            .record_distribution_strategy
            .ok_or_else(|| ApiError::missing("recordDistributionStrategy"))?;
        let distribution = Distribution::read(&text)?;
        let mut settings = stream.settings();
        check_distribution(distribution, settings.on_demand)?;
        settings.distribution = distribution;
        Ok(Vec::new())
    }
}

pub(crate) fn set_max_record_size(stream: &Stream, kib: u32) -> Result<(), ApiError> {
    check_record_kib(kib)?;
    stream.settings().max_record_kib = kib;
    Ok(())
}

fn check_record_kib(kib: u32) -> Result<(), ApiError> {
    if RECORD_KIB.contains(&kib) {
        return Ok(());
    }
    Err(ApiError::validation(
        "maxRecordSizeInKiB",
        "Member must have value from 1024 to 10240",
    ))
}

fn check_distribution(distribution: Distribution, on_demand: bool) -> Result<(), ApiError> {
    if distribution == Distribution::Auto && !on_demand {
        return Err(ApiError::invalid_argument(
            "RecordDistributionStrategy AUTO needs a stream in on-demand mode.",
        ));
    }
    Ok(())
}

/// What ListStreams shows of a stream.
fn summary_of(mut common: Value) -> Value {
    if let Some(members) = common.as_object_mut() {
        members.retain(|key, _| {
            !matches!(
                key.as_str(),
                "RetentionPeriodHours" | "EnhancedMonitoring" | "EncryptionType"
            )
        });
    }
    common
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
