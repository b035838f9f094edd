//! A stream's shards and what lies in them, as the service tells it.
//!
//! [`ListStream`] and [`ReadStream`] are three calls and nothing more: waiting, pacing and positions are `reader`'s,
//! the order of shards is `lineage`'s. Of this module's files only this one, `page` and `fanout` name the AWS SDK.
//!
//! Source: ListShards, GetShardIterator and GetRecords,
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ChildShard, HashKeyRange, Record, Shard, ShardIteratorType};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::page::{Memory, Records};
use crate::record::{HashKey, StreamName};
use crate::send::CallError;
use crate::send::kinesis::call_error;
use crate::shard::ShardId;

/// The call that lists a stream's shards. Retries nothing.
pub trait ListStream: fmt::Debug + Send + Sync {
    /// Every shard that still holds records, closed ones too.
    fn shards(&self) -> BoxFuture<'_, Result<Vec<ListedShard>, CallError>>;
}

/// The calls that read a stream page by page. Retries nothing.
pub trait ReadStream: ListStream {
    fn iterator<'a>(
        &'a self,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> BoxFuture<'a, Result<String, CallError>>;

    fn page<'a>(&'a self, iterator: &'a str) -> BoxFuture<'a, Result<Page, CallError>>;
}

/// A shard and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedShard {
    pub id: ShardId,
    /// None for a first shard, one after a split, two after a merge. They may be gone already.
    pub parents: Vec<ShardId>,
    /// Nothing is added to it any more.
    pub closed: bool,
    /// No record of it has a lower sequence number; `None` where that is not told.
    pub begins: Option<Arc<str>>,
    /// The hash keys of its records, first and last; `None` where that is not told.
    pub range: Option<(HashKey, HashKey)>,
}

impl ListedShard {
    /// One of which nothing but its name is known.
    pub fn named(id: &str) -> Self {
        Self {
            id: ShardId::new(id),
            parents: Vec::new(),
            closed: false,
            begins: None,
            range: None,
        }
    }
}

/// Where in a shard to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// The oldest record that is still there.
    TrimHorizon,
    /// Behind the youngest.
    Latest,
    At(SystemTime),
    After(Arc<str>),
}

/// One answer of GetRecords, or one event of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<StoredRecord>,
    /// What to go on from; `None` at the end of a closed shard.
    pub next: Option<String>,
    /// How old the youngest record was that this page could not hold.
    pub behind: Duration,
    /// At the end of a closed shard: what it became. Not every server says so.
    pub children: Vec<ListedShard>,
}

/// A Kinesis record as it lies in the stream: a user record, or an aggregate of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub sequence: Arc<str>,
    pub partition_key: String,
    pub data: Bytes,
    pub arrived: Option<SystemTime>,
}

/// Reads a stream through aws-sdk-kinesis.
#[derive(Debug, Clone)]
pub struct KinesisStream {
    client: Client,
    stream: StreamName,
    memory: Memory,
}

impl KinesisStream {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// GetRecords' own bound, and its default.
    const PAGE_RECORDS: i32 = 10_000;

    /// The client must have its retries off, as [`crate::aws`] makes it.
    pub fn new(client: Client, stream: StreamName) -> Self {
        Self {
            client,
            stream,
            memory: Memory::default(),
        }
    }

    /// The name, where the stream was not given by its ARN.
    pub(super) fn name(&self) -> Option<String> {
        match self.stream.arn() {
            Some(_) => None,
            None => Some(self.stream.name().to_owned()),
        }
    }

    pub(super) fn arn(&self) -> Option<String> {
        self.stream.arn().map(str::to_owned)
    }

    async fn list(&self) -> Result<Vec<ListedShard>, CallError> {
        let mut shards = Vec::new();
        let mut request = self
            .client
            .list_shards()
            .set_stream_name(self.name())
            .set_stream_arn(self.arn());
        loop {
            let page = request.send().await.map_err(|e| call_error(&e))?;
            shards.extend(page.shards.unwrap_or_default().into_iter().map(listed));
            match page.next_token {
                // A token stands for the stream; the service refuses it beside one.
                Some(token) => request = self.client.list_shards().next_token(token),
                None => return Ok(shards),
            }
        }
    }

    async fn ask_iterator(
        &self,
        shard: &ShardId,
        position: &Position,
    ) -> Result<String, CallError> {
        let request = self
            .client
            .get_shard_iterator()
            .set_stream_name(self.name())
            .set_stream_arn(self.arn())
            .shard_id(shard.as_str());
        let request = match position {
            Position::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Position::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
            Position::At(time) => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp((*time).into()),
            Position::After(sequence) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(&**sequence),
        };
        let answer = request.send().await.map_err(|e| call_error(&e))?;
        answer.shard_iterator.ok_or_else(|| CallError {
            code: "MalformedAnswer".to_owned(),
            message: "GetShardIterator answered without an iterator".to_owned(),
            status: None,
        })
    }

    async fn ask_page(&self, iterator: &str) -> Result<Page, CallError> {
        let records = Records::with(&self.memory);
        let answer = self
            .client
            .get_records()
            .set_stream_arn(self.arn())
            .shard_iterator(iterator)
            .limit(Self::PAGE_RECORDS)
            .customize()
            .interceptor(records.clone())
            .send()
            .await
            .map_err(|e| call_error(&e))?;
        // Servers that leave it out know nothing of lag.
        let behind = answer.millis_behind_latest.unwrap_or(0).max(0);
        Ok(Page {
            records: records.take(),
            next: answer.next_shard_iterator,
            behind: Duration::from_millis(behind.unsigned_abs()),
            children: answer
                .child_shards
                .unwrap_or_default()
                .iter()
                .map(child)
                .collect(),
        })
    }
}

impl ListStream for KinesisStream {
    fn shards(&self) -> BoxFuture<'_, Result<Vec<ListedShard>, CallError>> {
        self.list().boxed()
    }
}

impl ReadStream for KinesisStream {
    fn iterator<'a>(
        &'a self,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> BoxFuture<'a, Result<String, CallError>> {
        self.ask_iterator(shard, position).boxed()
    }

    fn page<'a>(&'a self, iterator: &'a str) -> BoxFuture<'a, Result<Page, CallError>> {
        self.ask_page(iterator).boxed()
    }
}

fn listed(shard: Shard) -> ListedShard {
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
    let numbers = shard.sequence_number_range;
    let begins = numbers
        .as_ref()
        .map(|numbers| &numbers.starting_sequence_number);
    ListedShard {
        id: ShardId::new(&shard.shard_id),
        parents: parents
            .into_iter()
            .flatten()
            .map(|id| ShardId::new(&id))
            .collect(),
        begins: begins.map(|begins| begins.as_str().into()),
        closed: numbers.is_some_and(|numbers| numbers.ending_sequence_number.is_some()),
        range: shard.hash_key_range.as_ref().and_then(range),
    }
}

fn range(range: &HashKeyRange) -> Option<(HashKey, HashKey)> {
    let first = range.starting_hash_key.parse().ok()?;
    Some((first, range.ending_hash_key.parse().ok()?))
}

pub(super) fn child(shard: &ChildShard) -> ListedShard {
    ListedShard {
        id: ShardId::new(shard.shard_id()),
        parents: shard
            .parent_shards()
            .iter()
            .map(|id| ShardId::new(id))
            .collect(),
        // It may be by now; then the end of its pages says so.
        closed: false,
        begins: None,
        range: shard.hash_key_range().and_then(range),
    }
}

pub(super) fn stored(record: Record) -> StoredRecord {
    StoredRecord {
        sequence: record.sequence_number.into(),
        // Absent where the service itself spreads the records.
        partition_key: record.partition_key.unwrap_or_default(),
        data: record.data.into_inner().into(),
        arrived: record
            .approximate_arrival_timestamp
            .and_then(|time| SystemTime::try_from(time).ok()),
    }
}
