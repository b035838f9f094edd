//! PutRecords and PutRecord: check everything, then route, then offer each record to its shard.
//!
//! What breaks a limit refuses the whole call; what a shard cannot take refuses that entry alone.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::shard::{Incoming, Offered, Shard};
use super::stream::Settings;
use super::{Distribution, Kinesis, Stream};
use crate::fake::counters::add;
use crate::fake::faults::{EntryFault, Plan};
use crate::fake::protocol::{ApiError, Text, decode_blob, json_bytes, parse};
use crate::record::{HashKey, PartitionKey};

/// API_PutRecords: up to 500 records.
const MOST_RECORDS: usize = 500;
/// The `Data` member's bound in the model, whatever the stream allows.
const MOST_DATA: usize = 10 << 20;

const THROTTLED: &str = "ProvisionedThroughputExceededException";
const FAILED: &str = "InternalFailure";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecords<'a> {
    #[serde(borrow)]
    records: Option<Vec<Entry<'a>>>,
    #[serde(borrow)]
    stream_name: Option<Text<'a>>,
    #[serde(rename = "StreamARN", borrow)]
    stream_arn: Option<Text<'a>>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecord<'a> {
    #[serde(borrow)]
    stream_name: Option<Text<'a>>,
    #[serde(rename = "StreamARN", borrow)]
    stream_arn: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
    #[serde(borrow)]
    partition_key: Option<Text<'a>>,
    #[serde(borrow)]
    explicit_hash_key: Option<Text<'a>>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    data: Option<Text<'a>>,
    #[serde(borrow)]
    partition_key: Option<Text<'a>>,
    #[serde(borrow)]
    explicit_hash_key: Option<Text<'a>>,
}

/// What became of one entry.
enum Outcome {
    Stored { shard: Arc<Shard>, counter: u64 },
    Throttled { shard: Arc<Shard> },
    Failed,
}

impl Kinesis {
    pub(super) fn put_records(&self, body: &[u8], plan: &mut Plan) -> Result<Vec<u8>, ApiError> {
        let request: PutRecords<'_> = parse(body)?;
        let stream = self.stream(
            request.stream_name.as_deref(),
            request.stream_arn.as_deref(),
        )?;
        let entries = request
            .records
            .ok_or_else(|| ApiError::missing("records"))?;
        if entries.is_empty() || entries.len() > MOST_RECORDS {
            return Err(ApiError::validation(
                "records",
                format!(
                    "Member must have length from 1 to {MOST_RECORDS}, found {}",
                    entries.len()
                ),
            ));
        }
        let settings = *stream.settings();
        let mut records = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            records.push(check(settings, Path(Some(index)), entry)?);
        }
        let total: usize = records
            .iter()
            .map(|r| r.data.len() + r.partition_key.len())
            .sum();
        if total > self.limits.request_bytes {
            return Err(ApiError::invalid_argument(format!(
                "Records size exceeds {} MB limit",
                self.limits.request_bytes >> 20
            )));
        }
        refuse_dry_run(request.dry_run)?;
        let mut outcomes = self.put(&stream, records, plan);
        outcomes.truncate(outcomes.len().saturating_sub(plan.missing_answers));
        Ok(render(&outcomes, stream.name(), &self.account))
    }

    pub(super) fn put_record(&self, body: &[u8], plan: &mut Plan) -> Result<Vec<u8>, ApiError> {
        let request: PutRecord<'_> = parse(body)?;
        let stream = self.stream(
            request.stream_name.as_deref(),
            request.stream_arn.as_deref(),
        )?;
        let entry = Entry {
            data: request.data,
            partition_key: request.partition_key,
            explicit_hash_key: request.explicit_hash_key,
        };
        let record = check(*stream.settings(), Path(None), &entry)?;
        refuse_dry_run(request.dry_run)?;
        let outcome = self.put(&stream, vec![record], plan).pop();
        match outcome.expect("one record in, one outcome out") {
            Outcome::Stored { shard, counter } => Ok(json_bytes(&json!({
                "ShardId": shard.id(),
                "SequenceNumber": shard.sequence(counter),
                "EncryptionType": "NONE",
            }))),
            Outcome::Throttled { shard } => Err(ApiError::new(
                THROTTLED,
                rate_exceeded(shard.id(), stream.name(), &self.account),
            )),
            Outcome::Failed => {
                Err(ApiError::new(FAILED, "Internal service failure.").with_status(500))
            }
        }
    }

    fn put(&self, stream: &Stream, records: Vec<Incoming>, plan: &mut Plan) -> Vec<Outcome> {
        let auto = stream.settings().distribution == Distribution::Auto;
        let table = stream.shards();
        let route = |record: &Incoming| {
            if auto {
                &table.open()[stream.next_auto() % table.open().len()]
            } else {
                table.route(record.hash_key)
            }
        };
        let routes: Vec<&Arc<Shard>> = records.iter().map(route).collect();
        let faults = plan.entry_faults(routes.iter().map(|shard| shard.id()));
        let now = self.clock.now();
        let mut stored = (0, 0);
        let mut throttled = 0;
        let mut trimmed_records = 0;
        let mut outcomes = Vec::with_capacity(records.len());
        for (index, (record, shard)) in records.into_iter().zip(routes).enumerate() {
            let shard = Arc::clone(shard);
            let size = record.data.len() + record.partition_key.len();
            outcomes.push(match faults.get(index).copied().flatten() {
                Some(EntryFault::Throttled) => Outcome::Throttled { shard },
                Some(EntryFault::Failed) => Outcome::Failed,
                None => match shard.offer(record, &self.limits, now) {
                    Offered::Stored { counter, trimmed } => {
                        stored = (stored.0 + 1, stored.1 + size);
                        trimmed_records += trimmed;
                        Outcome::Stored { shard, counter }
                    }
                    Offered::Throttled => {
                        throttled += 1;
                        Outcome::Throttled { shard }
                    }
                },
            });
        }
        add(&self.tally.records_stored, stored.0);
        add(&self.tally.bytes_stored, stored.1);
        add(&self.tally.throttled_entries, throttled);
        add(&self.tally.records_trimmed, trimmed_records);
        add(&self.tally.faulted_entries, faults.iter().flatten().count());
        outcomes
    }
}

/// The service's own words, which clients take the shard from.
pub(super) fn rate_exceeded(shard: &str, stream: &str, account: &str) -> String {
    format!("Rate exceeded for shard {shard} in stream {stream} under account {account}.")
}

/// How the service names a member of an entry: `records.3.member.data`, counted from 1, or just `data`.
#[derive(Clone, Copy)]
struct Path(Option<usize>);

impl Path {
    fn to(self, member: &str) -> String {
        match self.0 {
            Some(index) => format!("records.{}.member.{member}", index + 1),
            None => member.to_owned(),
        }
    }
}

/// Asked after all checks: the answer says that the call would have succeeded.
fn refuse_dry_run(dry_run: Option<bool>) -> Result<(), ApiError> {
    if dry_run == Some(true) {
        return Err(ApiError::new(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        ));
    }
    Ok(())
}

fn check(settings: Settings, path: Path, entry: &Entry<'_>) -> Result<Incoming, ApiError> {
    let data_text = entry
        .data
        .as_ref()
        .ok_or_else(|| ApiError::missing(&path.to("data")))?;
    let data = decode_blob(data_text, || path.to("data"))?;
    if data.len() > MOST_DATA {
        return Err(ApiError::validation(
            path.to("data"),
            format!("Member must have length less than or equal to {MOST_DATA}"),
        ));
    }
    let (partition_key, hash_key) = check_keys(settings.distribution, path, entry)?;
    let size = data.len() + partition_key.len();
    let limit = settings.max_record_bytes();
    if size > limit {
        return Err(ApiError::validation(
            path.to("data"),
            format!(
                "Member must have length less than or equal to {limit} together with its partition key \
                 (the stream's MaxRecordSizeInKiB), found {size}"
            ),
        ));
    }
    Ok(Incoming {
        hash_key,
        partition_key,
        data: Bytes::from(data),
    })
}

fn check_keys(
    distribution: Distribution,
    path: Path,
    entry: &Entry<'_>,
) -> Result<(Box<str>, HashKey), ApiError> {
    let key = match &entry.partition_key {
        Some(key) => &**key,
        // Under AUTO the key says nothing, and may be left out.
        None if distribution == Distribution::Auto => return Ok(("".into(), HashKey::MIN)),
        None => return Err(ApiError::missing(&path.to("partitionKey"))),
    };
    let partition_key = PartitionKey::new(key).map_err(|_| {
        ApiError::validation(
            path.to("partitionKey"),
            "Member must have length from 1 to 256",
        )
    })?;
    let hash_key = match entry.explicit_hash_key.as_deref() {
        None => partition_key.hash_key(),
        Some(text) => explicit_hash_key(path, text)?,
    };
    Ok((key.into(), hash_key))
}

fn explicit_hash_key(path: Path, text: &str) -> Result<HashKey, ApiError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let canonical =
        text == "0" || (digits && !text.is_empty() && text.len() <= 39 && !text.starts_with('0'));
    if !canonical {
        return Err(ApiError::validation(
            path.to("explicitHashKey"),
            r"Member must satisfy regular expression pattern: 0|([1-9]\d{0,38})",
        ));
    }
    text.parse().map_err(|_| {
        ApiError::invalid_argument(format!(
            "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
        ))
    })
}

/// By hand: 500 entries through a tree of JSON values would cost more than storing them.
fn render(outcomes: &[Outcome], stream: &str, account: &str) -> Vec<u8> {
    use std::fmt::Write;
    let failed = outcomes
        .iter()
        .filter(|outcome| !matches!(outcome, Outcome::Stored { .. }))
        .count();
    let mut out = String::with_capacity(80 + outcomes.len() * 130);
    let _ = write!(
        out,
        "{{\"EncryptionType\":\"NONE\",\"FailedRecordCount\":{failed},\"Records\":["
    );
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        // Names and ids hold nothing that JSON would escape.
        let _ = match outcome {
            Outcome::Stored { shard, counter } => write!(
                out,
                "{{\"SequenceNumber\":\"{}\",\"ShardId\":\"{}\"}}",
                shard.sequence(*counter),
                shard.id()
            ),
            Outcome::Throttled { shard } => write!(
                out,
                "{{\"ErrorCode\":\"{THROTTLED}\",\"ErrorMessage\":\"{}\"}}",
                rate_exceeded(shard.id(), stream, account)
            ),
            Outcome::Failed => write!(
                out,
                "{{\"ErrorCode\":\"{FAILED}\",\"ErrorMessage\":\"Internal service failure.\"}}"
            ),
        };
    }
    out.push_str("]}");
    out.into_bytes()
}
