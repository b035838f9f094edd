//! GetShardIterator and GetRecords.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::put::rate_exceeded;
use super::shard::{Batch, Shard, Stored};
use super::token::Token;
use super::{Kinesis, Stream};
use crate::fake::counters::add;
use crate::fake::protocol::{ApiError, json_bytes, parse};

/// API_GetRecords: up to 10,000 records and 10 MiB.
pub(super) const MOST_RECORDS: usize = 10_000;
const MOST_BYTES: usize = 10 << 20;

const KIND: &str = "iterator";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetShardIterator {
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    timestamp: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetRecords {
    shard_iterator: Option<String>,
    limit: Option<i64>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

impl Kinesis {
    pub(super) fn shard_iterator(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let stream = self.stream_in(body)?;
        let request: GetShardIterator = parse(body)?;
        let id = request
            .shard_id
            .as_deref()
            .ok_or_else(|| ApiError::missing("shardId"))?;
        let shard = self.shard(&stream, id)?;
        let position = request.place().position(&shard)?;
        let iterator = iterator(&stream, &shard, position, self.clock.now_millis());
        Ok(json_bytes(&json!({ "ShardIterator": iterator })))
    }

    pub(super) fn read_records(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: GetRecords = parse(body)?;
        let text = request
            .shard_iterator
            .ok_or_else(|| ApiError::missing("shardIterator"))?;
        let limit = match request.limit {
            None => MOST_RECORDS,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=MOST_RECORDS).contains(limit))
                .ok_or_else(|| {
                    ApiError::validation("limit", "Member must have value from 1 to 10000")
                })?,
        };
        let invalid = || ApiError::invalid_argument("Invalid ShardIterator.");
        let token = Token::read(KIND, &text, 2).ok_or_else(invalid)?;
        let stream = self.stream(Some(&token.stream), request.stream_arn.as_deref())?;
        if !token.is_of(&stream) {
            return Err(invalid());
        }
        let now = self.clock.now_millis();
        if token.is_expired(now) {
            return Err(ApiError::new(
                "ExpiredIteratorException",
                "Iterator expired. The iterator was created more than 300 seconds ago.",
            ));
        }
        let shard = self.shard(&stream, &token.fields[0])?;
        let position = token.fields[1].parse().map_err(|_| invalid())?;
        if self.limits.read_quota && !shard.may_read(self.clock.now()) {
            return Err(ApiError::new(
                "ProvisionedThroughputExceededException",
                rate_exceeded(shard.id(), stream.name(), &self.account),
            ));
        }
        let batch = shard.read(position, limit, MOST_BYTES);
        shard.pay_for(&batch);
        add(&self.tally.records_read, batch.records.len());
        Ok(render(&stream, &shard, &batch, now))
    }

    pub(super) fn shard(&self, stream: &Stream, id: &str) -> Result<Arc<Shard>, ApiError> {
        stream.shards().find(id).map(Arc::clone).ok_or_else(|| {
            ApiError::new(
                "ResourceNotFoundException",
                format!(
                    "Shard {id} in stream {} under account {} does not exist",
                    stream.name(),
                    self.account
                ),
            )
        })
    }
}

impl GetShardIterator {
    fn place(&self) -> Place<'_> {
        Place {
            kind: self.shard_iterator_type.as_deref(),
            sequence: self.starting_sequence_number.as_deref(),
            timestamp: self.timestamp,
        }
    }
}

/// Where in a shard to begin, as GetShardIterator and SubscribeToShard are told it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) kind: Option<&'a str>,
    pub(super) sequence: Option<&'a str>,
    pub(super) timestamp: Option<f64>,
}

impl Place<'_> {
    pub(super) fn position(&self, shard: &Shard) -> Result<u64, ApiError> {
        match self.kind {
            Some("TRIM_HORIZON") => Ok(0),
            Some("LATEST") => Ok(shard.tip()),
            Some("AT_SEQUENCE_NUMBER") => shard.counter(self.sequence()?),
            Some("AFTER_SEQUENCE_NUMBER") => Ok(shard.counter(self.sequence()?)?.saturating_add(1)),
            Some("AT_TIMESTAMP") => {
                let seconds = self.timestamp.ok_or_else(|| {
                    ApiError::invalid_argument(
                        "Must specify timestamp for shard iterator type AT_TIMESTAMP.",
                    )
                })?;
                Ok(shard.position_at(millis_of(seconds)))
            }
            _ => Err(ApiError::validation(
                "shardIteratorType",
                "Member must satisfy enum value set: \
                 [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
            )),
        }
    }

    fn sequence(&self) -> Result<&str, ApiError> {
        self.sequence.ok_or_else(|| {
            ApiError::invalid_argument(
                "Must specify StartingSequenceNumber for this shard iterator type.",
            )
        })
    }
}

/// A timestamp of a request, cut to the millisecond as arrival times are: were it rounded, a client that asks
/// for the very microsecond of a record's arrival would miss the record. Microseconds are what is exact in a
/// float of this size.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float saturates; before 1970 is 1970"
)]
pub(super) fn millis_of(seconds: f64) -> u64 {
    (seconds * 1_000_000.0).round() as u64 / 1000
}

fn iterator(stream: &Stream, shard: &Shard, position: u64, now: u64) -> String {
    Token::write(KIND, stream, now, &[shard.id(), &position.to_string()])
}

fn render(stream: &Stream, shard: &Shard, batch: &Batch, now: u64) -> Vec<u8> {
    let next = batch
        .next
        .map(|next| ("NextShardIterator", iterator(stream, shard, next, now)));
    render_with(stream, shard, batch, next, now)
}

/// Records, how far behind they are, and what goes on from there: by a name and its value, or in the shard's children.
pub(super) fn render_with(
    stream: &Stream,
    shard: &Shard,
    batch: &Batch,
    next: Option<(&str, String)>,
    now: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(batch.size() / 3 * 4 + batch.records.len() * 200 + 300);
    out.extend_from_slice(b"{\"Records\":[");
    for (index, record) in batch.records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        render_record(shard, record, &mut out);
    }
    out.extend_from_slice(b"],");
    let mut rest = json!({
        "MillisBehindLatest": batch.unread_since.map_or(0, |arrival| now.saturating_sub(arrival)),
    });
    match next {
        Some((name, next)) => rest[name] = next.into(),
        None => rest["ChildShards"] = child_shards(stream, shard),
    }
    // Both are objects: one continues the other.
    out.extend_from_slice(&json_bytes(&rest)[1..]);
    out
}

fn render_record(shard: &Shard, record: &Stored, out: &mut Vec<u8>) {
    let head = format!(
        "{{\"SequenceNumber\":\"{}\",\"ApproximateArrivalTimestamp\":{}.{:03},\"PartitionKey\":",
        shard.sequence(record.counter),
        record.arrival_ms() / 1000,
        record.arrival_ms() % 1000
    );
    out.extend_from_slice(head.as_bytes());
    serde_json::to_writer(&mut *out, &record.partition_key)
        .expect("writing to memory does not fail");
    out.extend_from_slice(b",\"Data\":\"");
    base64_simd::STANDARD.encode_append(&record.data, out);
    out.extend_from_slice(b"\"}");
}

fn child_shards(stream: &Stream, shard: &Shard) -> serde_json::Value {
    let table = stream.shards();
    let children = table.children_of(shard.id()).map(|child| {
        json!({
            "ShardId": child.id(),
            "ParentShards": child.parents,
            "HashKeyRange": child.describe_range(),
        })
    });
    children.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requested_time_is_cut_not_rounded() {
        for (seconds, millis) in [
            (1_795_450_712.123, 1_795_450_712_123),
            (1_795_450_712.123_9, 1_795_450_712_123),
            (1_795_450_712.999_999, 1_795_450_712_999),
            (0.0, 0),
            (-1.0, 0),
        ] {
            assert_eq!(millis_of(seconds), millis, "{seconds}");
        }
    }
}
