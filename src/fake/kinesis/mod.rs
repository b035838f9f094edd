//! The Kinesis stand-in: streams in memory, behind the operations that producers and consumers need.
//!
//! It promises the service's rules: routing, lineage, limits, quotas per shard, sequence numbers, iterators.
//! A stream is ACTIVE as soon as it is made and resharding is done when the call returns. It refuses what it
//! does not do (`UnknownOperationException`): tags, channels, resource policies.
//! Memory is bounded by a ring buffer per shard; retention by time is reported, not applied.
//!
//! Sources: API reference 2013-12-02 with the model of aws-sdk-kinesis 1.130.

mod consumers;
mod list;
mod manage;
mod put;
mod read;
mod reshard;
mod shard;
mod stream;
mod subscribe;
mod table;
mod throttle;
mod token;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Deserialize;

use super::clock::Clock;
use super::counters::Tally;
use super::faults::Plan;
use super::protocol::{ApiError, parse, unknown_operation};
use crate::record::{HashKey, StreamName};

pub(crate) use stream::{Stream, StreamSpec, set_max_record_size};
pub(crate) use subscribe::{Subscription, Told};
#[cfg(test)]
pub(crate) use table::uniform_ranges;

/// What the stand-in allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Whether a shard's write quota is enforced.
    pub write_quota: bool,
    /// A shard takes that many bytes a second: 1 MiB (quota page; data and partition key).
    pub write_bytes_per_second: u64,
    /// A shard takes that many records a second: 1000 (quota page).
    pub write_records_per_second: u64,
    /// Whether a shard's read quota is enforced: 5 GetRecords a second and 2 MiB a second (quota page).
    pub read_quota: bool,
    /// Data and partition keys of one PutRecords call: 10 MiB in the model of 2025-10, 5 MiB before.
    pub request_bytes: usize,
    /// What the ring buffer of one shard holds, with about 100 bytes of overhead per record; ours.
    pub ring_bytes: usize,
    /// How long a consumer is CREATING once it is registered. The service takes some seconds; ours: it is ACTIVE when it is
    /// next looked at.
    pub consumer_creation: Duration,
    /// How long a subscription lasts: 5 minutes (API_SubscribeToShard).
    pub subscription: Duration,
    /// For so long after a call of SubscribeToShard another one for the same consumer and shard is refused: 5 seconds.
    pub subscription_gap: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            write_quota: false,
            write_bytes_per_second: 1 << 20,
            write_records_per_second: 1000,
            read_quota: false,
            request_bytes: 10 << 20,
            ring_bytes: 64 << 20,
            consumer_creation: Duration::ZERO,
            subscription: Duration::from_secs(300),
            subscription_gap: Duration::from_secs(5),
        }
    }
}

/// How a stream spreads its records (`RecordDistributionStrategy`, model of 2026).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distribution {
    /// By partition key or explicit hash key.
    #[default]
    UserPartitionKey,
    /// The service chooses; keys are ignored.
    Auto,
}

impl Distribution {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::UserPartitionKey => "USER_PARTITION_KEY",
            Self::Auto => "AUTO",
        }
    }

    fn read(text: &str) -> Result<Self, ApiError> {
        match text {
            "USER_PARTITION_KEY" => Ok(Self::UserPartitionKey),
            "AUTO" => Ok(Self::Auto),
            _ => Err(ApiError::validation(
                "recordDistributionStrategy",
                "Member must satisfy enum value set: [AUTO, USER_PARTITION_KEY]",
            )),
        }
    }
}

/// A record as it lies in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub shard: String,
    pub sequence: String,
    pub partition_key: String,
    /// The explicit hash key, or the MD5 of the partition key.
    pub hash_key: HashKey,
    pub data: Bytes,
    /// To the microsecond.
    pub arrival: SystemTime,
}

/// What a call is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Whole(Bytes),
    /// What happens, as it happens.
    Events(Subscription),
}

impl Answer {
    pub(crate) fn whole(body: impl Into<Bytes>) -> Self {
        Self::Whole(body.into())
    }
}

/// All streams of one account in one region.
#[derive(Debug)]
pub(crate) struct Kinesis {
    account: String,
    region: String,
    clock: Clock,
    limits: Limits,
    tally: Arc<Tally>,
    streams: RwLock<BTreeMap<String, Arc<Stream>>>,
}

/// How most calls name their stream.
#[derive(Debug, Deserialize)]
struct StreamRef {
    #[serde(rename = "StreamName")]
    name: Option<String>,
    #[serde(rename = "StreamARN")]
    arn: Option<String>,
}

impl Kinesis {
    pub(crate) fn new(
        account: String,
        region: String,
        clock: Clock,
        limits: Limits,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            account,
            region,
            clock,
            limits,
            tally,
            streams: RwLock::default(),
        }
    }

    pub(crate) fn answer(
        &self,
        operation: &str,
        body: &[u8],
        plan: &mut Plan,
    ) -> Result<Answer, ApiError> {
        match operation {
            "PutRecords" => self.put_records(body, plan).map(Answer::whole),
            "PutRecord" => self.put_record(body, plan).map(Answer::whole),
            "GetShardIterator" => self.shard_iterator(body).map(Answer::whole),
            "GetRecords" => self.read_records(body).map(Answer::whole),
            "ListShards" => self.list_shards(body).map(Answer::whole),
            "CreateStream" => self.create(body).map(Answer::whole),
            "DeleteStream" => self.delete(body).map(Answer::whole),
            "ListStreams" => self.list_streams(body).map(Answer::whole),
            "DescribeStream" => self.describe(body).map(Answer::whole),
            "DescribeStreamSummary" => self.describe_summary(body).map(Answer::whole),
            "SplitShard" => self.split_shard(body).map(Answer::whole),
            "MergeShards" => self.merge_shards(body).map(Answer::whole),
            "UpdateShardCount" => self.update_shard_count(body).map(Answer::whole),
            "UpdateStreamMode" => self.update_stream_mode(body).map(Answer::whole),
            "UpdateMaxRecordSize" => self.update_max_record_size(body).map(Answer::whole),
            "UpdateStreamRecordDistributionStrategy" => self.distribute(body).map(Answer::whole),
            "RegisterStreamConsumer" => self.register_consumer(body).map(Answer::whole),
            "DescribeStreamConsumer" => self.describe_consumer(body).map(Answer::whole),
            "ListStreamConsumers" => self.list_consumers(body).map(Answer::whole),
            "DeregisterStreamConsumer" => self.deregister_consumer(body).map(Answer::whole),
            "SubscribeToShard" => self.subscribe(body).map(Answer::Events),
            other => Err(unknown_operation(other)),
        }
    }

    /// The stream a call names, by name or by ARN; both may be given if they agree.
    pub(crate) fn stream(
        &self,
        name: Option<&str>,
        arn: Option<&str>,
    ) -> Result<Arc<Stream>, ApiError> {
        let given = name.or(arn).ok_or_else(|| {
            ApiError::invalid_argument("Either StreamName or StreamARN must be provided.")
        })?;
        let parsed = StreamName::new(arn.unwrap_or(given))
            .map_err(|error| ApiError::validation("streamName", error))?;
        if name.is_some_and(|name| name != parsed.name()) {
            return Err(ApiError::invalid_argument(
                "StreamName and StreamARN name two different streams.",
            ));
        }
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get(parsed.name());
        // The ARN of another account or region is another stream.
        let found = stream.filter(|stream| parsed.arn().is_none_or(|arn| arn == stream.arn()));
        found.map(Arc::clone).ok_or_else(|| {
            ApiError::new(
                "ResourceNotFoundException",
                format!(
                    "Stream {} under account {} not found.",
                    parsed.name(),
                    self.account
                ),
            )
        })
    }

    fn stream_in(&self, body: &[u8]) -> Result<Arc<Stream>, ApiError> {
        let stream: StreamRef = parse(body)?;
        self.stream(stream.name.as_deref(), stream.arn.as_deref())
    }

    /// What a stream holds, shard by shard in the order of their sequence numbers.
    pub(crate) fn stored(&self, stream: &str) -> Result<Vec<StoredRecord>, ApiError> {
        let stream = self.stream(Some(stream), None)?;
        let mut records = Vec::new();
        for shard in stream.shards().all() {
            shard.visit(|record| {
                records.push(StoredRecord {
                    shard: shard.id().to_owned(),
                    sequence: shard.sequence(record.counter),
                    partition_key: record.partition_key.to_string(),
                    hash_key: record.hash_key,
                    data: record.data.clone(),
                    arrival: UNIX_EPOCH + Duration::from_micros(record.arrival_us),
                });
            });
        }
        Ok(records)
    }
}
