//! The shard map's facts from the service: ListShards, and what DescribeStreamSummary says of the stream.

use std::sync::Arc;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::BeforeSerializationInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::operation::list_shards::ListShardsInput;
use aws_sdk_kinesis::types::{RecordDistributionStrategy, ShardFilter, ShardFilterType};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::map::{Description, Distribution, ListShards, ListShardsError, Shard, ShardId};
use crate::record::{HashKey, StreamId, StreamName};

/// Lists shards through aws-sdk-kinesis.
#[derive(Debug, Clone)]
pub struct KinesisShards {
    client: Client,
    id: StreamId,
}

impl KinesisShards {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            id: StreamId::default(),
        }
    }

    /// For the one stream with this id, which goes with each listing once it is told.
    #[must_use]
    pub fn with_id(self, id: StreamId) -> Self {
        Self { id, ..self }
    }

    /// Pages through the open shards. A failure on any page fails the listing: half a map is none.
    async fn list(&self, stream: &StreamName) -> Result<Vec<Shard>, ListShardsError> {
        let open = ShardFilter::builder()
            .r#type(ShardFilterType::AtLatest)
            .build()
            .expect("type is set");
        let mut shards = Vec::new();
        let mut request = match stream.arn() {
            Some(arn) => self.client.list_shards().stream_arn(arn),
            None => self.client.list_shards().stream_name(stream.name()),
        };
        request = request.shard_filter(open);
        let mut id = self.id.told();
        loop {
            let id = WithId(id.take());
            let page = request.max_results(1000).customize().interceptor(id);
            let page = page.send().await.map_err(|e| {
                let error = crate::send::kinesis::call_error(&e);
                ListShardsError {
                    code: error.code,
                    message: error.message,
                }
            })?;
            for shard in page.shards.unwrap_or_default() {
                // Some servers list closed shards too, whatever the filter; a closed one has an end.
                let closed = shard
                    .sequence_number_range
                    .as_ref()
                    .is_some_and(|r| r.ending_sequence_number.is_some());
                if !closed {
                    shards.push(open_shard(shard)?);
                }
            }
            match page.next_token {
                // A token stands for the stream and the filter; the service refuses them beside it.
                Some(token) => request = self.client.list_shards().next_token(token),
                None => return Ok(shards),
            }
        }
    }
}

/// Says a stream's id behind the choice of the endpoint: the SDK would make it a part of the host, whatever endpoint it is
/// told to call.
#[derive(Debug)]
struct WithId(Option<Arc<str>>);

impl Intercept for WithId {
    fn name(&self) -> &'static str {
        "WithId"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let listing = context.input_mut().downcast_mut::<ListShardsInput>();
        if let (Some(listing), Some(id)) = (listing, &self.0) {
            listing.stream_id = Some(id.to_string());
        }
        Ok(())
    }
}

impl ListShards for KinesisShards {
    fn list_shards<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Shard>, ListShardsError>> {
        self.list(stream).boxed()
    }

    fn describe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Description, ListShardsError>> {
        async move {
            let request = match stream.arn() {
                Some(arn) => self.client.describe_stream_summary().stream_arn(arn),
                None => self
                    .client
                    .describe_stream_summary()
                    .stream_name(stream.name()),
            };
            let answer = request.send().await.map_err(|e| {
                let error = crate::send::kinesis::call_error(&e);
                ListShardsError {
                    code: error.code,
                    message: error.message,
                }
            })?;
            let summary = answer.stream_description_summary.as_ref();
            let strategy = summary.and_then(|s| s.record_distribution_strategy());
            let kib = summary.and_then(|s| s.max_record_size_in_kib());
            Ok(Description {
                distribution: match strategy {
                    None | Some(RecordDistributionStrategy::UserPartitionKey) => {
                        Distribution::ByKey
                    }
                    // One that is new: nothing is known of where its records go.
                    Some(_) => Distribution::Auto,
                },
                max_record_bytes: kib.and_then(|kib| usize::try_from(kib).ok()?.checked_mul(1024)),
            })
        }
        .boxed()
    }
}

fn open_shard(shard: aws_sdk_kinesis::types::Shard) -> Result<Shard, ListShardsError> {
    let hash_key = |text: &str| -> Result<HashKey, ListShardsError> {
        text.parse().map_err(|e| ListShardsError {
            code: "MalformedAnswer".to_owned(),
            message: format!("hash key range of {}: {e}", shard.shard_id),
        })
    };
    let range = shard.hash_key_range.as_ref();
    let (start, end) = range.map_or(("", ""), |r| (&r.starting_hash_key, &r.ending_hash_key));
    Ok(Shard {
        id: ShardId::new(&shard.shard_id),
        start: hash_key(start)?,
        end: hash_key(end)?,
    })
}

#[cfg(all(test, feature = "fake"))]
mod tests;
