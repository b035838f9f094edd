//! The operations that make, describe, list, change and delete streams.

use std::sync::{Arc, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use super::stream::{
    ON_DEMAND_SHARDS, Settings, Stream, StreamSpec, check_distribution, check_record_kib,
    set_max_record_size,
};
use super::table::ShardTable;
use super::{Distribution, Kinesis};
use crate::fake::protocol::{ApiError, json_bytes, parse};
use crate::record::StreamName;

/// Shards a stream may have; UpdateShardCount's upper bound.
pub(crate) const MOST_SHARDS: usize = 10_000;

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
struct DeleteStream {
    enforce_consumer_deletion: Option<bool>,
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
        let arn = format!(
            "arn:aws:kinesis:{}:{}:stream/{}",
            self.region, self.account, spec.name
        );
        let shards = ShardTable::uniform(spec.shards, &self.limits, self.clock.now());
        let stream = Stream::new(
            &spec.name,
            arn,
            spec.settings,
            shards,
            self.clock.now_millis(),
        );
        streams.insert(spec.name, Arc::new(stream));
        Ok(())
    }

    pub(super) fn delete(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: DeleteStream = parse(body)?;
        // API_DeleteStream: unless it is asked for, registered consumers are in the way.
        if !request.enforce_consumer_deletion.unwrap_or(false) && stream.consumers().len() > 0 {
            return Err(ApiError::new(
                "ResourceInUseException",
                format!(
                    "Stream {} under account {} has registered consumers. Either deregister them, or set \
                     EnforceConsumerDeletion.",
                    stream.name(),
                    self.account
                ),
            ));
        }
        stream.consumers().end_all();
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
        let mut following = streams
            .values()
            .filter(|stream| stream.name() > after.as_str());
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
        summary["ConsumerCount"] = stream.consumers().len().into();
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

    pub(super) fn distribute(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
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
