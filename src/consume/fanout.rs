//! Enhanced fan-out: a shard's records are pushed to a registered consumer, which has 2 MiB a second of each shard for
//! itself.
//!
//! [`SubscribeStream`] is one call and what comes of it; pacing, positions and going on after an end are `subscriber`'s.
//! Memory: before an event is read, its worst case is taken out of the reading's ([`Room`]); what lies in front of that,
//! in the connection of a shard that is not read, is its window of HTTP/2 (2 MiB).
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html>.

mod gate;
mod register;

use std::fmt;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_types::body::SdkBody;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::gate::Gated;
pub use self::gate::Room;
pub use self::register::{FanOutError, Registered};
use super::shards::{KinesisStream, ListStream, ListedShard, Page, Position, child, stored};
use crate::send::CallError;
use crate::send::kinesis::{as_one_line, call_error, with_causes};
use crate::shard::ShardId;

/// The call that subscribes to a shard. Retries nothing.
pub trait SubscribeStream: ListStream {
    /// Whose subscriptions these are, for messages.
    fn consumer(&self) -> &str;

    fn subscribe<'a>(
        &'a self,
        shard: &'a ShardId,
        from: &'a Position,
        room: Room,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, CallError>>;
}

/// A shard's events, as they come.
pub trait Subscription: fmt::Debug + Send {
    /// `None`: the service has ended it, as it does after five minutes. After an error nothing comes.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Page>, CallError>>;
}

/// Subscribes through aws-sdk-kinesis, as a consumer that [is registered](Self::register).
#[derive(Debug, Clone)]
pub struct FanOutStream {
    listed: KinesisStream,
    subscribing: Client,
    consumer: Registered,
}

impl FanOutStream {
    /// Before the first frame, and between one piece of an answer and the next, so long at most. The KCL's own
    /// (`MAX_TIME_BETWEEN_REQUEST_RESPONSE`): the service sends an empty event now and then where there is nothing.
    const SILENCE: Duration = Duration::from_secs(60);

    /// `subscribing` is a client whose calls do not share connections, as [`crate::aws::unshared`] makes it.
    pub fn new(listed: KinesisStream, subscribing: Client, consumer: Registered) -> Self {
        Self {
            listed,
            subscribing,
            consumer,
        }
    }

    async fn call(
        &self,
        shard: &ShardId,
        from: &Position,
        room: Room,
    ) -> Result<Box<dyn Subscription>, CallError> {
        let call = self
            .subscribing
            .subscribe_to_shard()
            .consumer_arn(&self.consumer.arn)
            .shard_id(shard.as_str())
            .starting_position(starting(from))
            .customize()
            .interceptor(Through(room));
        let answer = tokio::time::timeout(Self::SILENCE, call.send());
        match answer.await {
            Ok(Ok(events)) => Ok(Box::new(Events(events))),
            Ok(Err(error)) => Err(call_error(&error)),
            Err(_) => Err(CallError {
                code: "Timeout".to_owned(),
                message: "SubscribeToShard was not answered".to_owned(),
                status: None,
            }),
        }
    }
}

impl ListStream for FanOutStream {
    fn shards(&self) -> BoxFuture<'_, Result<Vec<ListedShard>, CallError>> {
        self.listed.shards()
    }
}

impl SubscribeStream for FanOutStream {
    fn consumer(&self) -> &str {
        &self.consumer.name
    }

    fn subscribe<'a>(
        &'a self,
        shard: &'a ShardId,
        from: &'a Position,
        room: Room,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, CallError>> {
        self.call(shard, from, room).boxed()
    }
}

fn starting(position: &Position) -> StartingPosition {
    let from = StartingPosition::builder();
    let from = match position {
        Position::TrimHorizon => from.r#type(ShardIteratorType::TrimHorizon),
        Position::Latest => from.r#type(ShardIteratorType::Latest),
        Position::At(time) => from
            .r#type(ShardIteratorType::AtTimestamp)
            .timestamp((*time).into()),
        Position::After(sequence) => from
            .r#type(ShardIteratorType::AfterSequenceNumber)
            .sequence_number(&**sequence),
    };
    from.build().expect("the type is set")
}

/// Lets an answer through as there is room for it.
#[derive(Debug)]
struct Through(Room);

impl Intercept for Through {
    fn name(&self) -> &'static str {
        "Through"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        // A refusal is short, and read before it is looked at.
        if response.status().is_success() {
            let gated = Gated::new(response.take_body(), self.0.clone(), FanOutStream::SILENCE);
            *response.body_mut() = SdkBody::from_body_1_x(gated);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Events(SubscribeToShardOutput);

impl Subscription for Events {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Page>, CallError>> {
        async move {
            loop {
                return match self.0.event_stream.recv().await {
                    Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                        Ok(Some(page(event)))
                    }
                    // Of a kind that is newer than this program.
                    Ok(Some(_)) => continue,
                    Ok(None) => Ok(None),
                    Err(error) => Err(broken(&error)),
                };
            }
        }
        .boxed()
    }
}

fn page(event: SubscribeToShardEvent) -> Page {
    let children: Vec<_> = event
        .child_shards
        .unwrap_or_default()
        .iter()
        .map(child)
        .collect();
    let continuation = event.continuation_sequence_number;
    // The service tells children at the end only, and then nothing to go on from. Other servers tell both as soon as
    // the shard is closed, and its end by an event without records.
    let ended = !children.is_empty() && (continuation.is_empty() || event.records.is_empty());
    Page {
        records: event.records.into_iter().map(stored).collect(),
        next: (!ended).then_some(continuation),
        behind: Duration::from_millis(event.millis_behind_latest.max(0).unsigned_abs()),
        children,
    }
}

/// The code and message of an event that tells an error, or of a connection that broke.
fn broken<R: fmt::Debug + Send + Sync + 'static>(
    error: &SdkError<SubscribeToShardEventStreamError, R>,
) -> CallError {
    if let Some(told) = error.as_service_error() {
        // The frame's header has it, the payload need not.
        let code = told.code().unwrap_or(match told {
            told if told.is_resource_in_use_exception() => "ResourceInUseException",
            told if told.is_resource_not_found_exception() => "ResourceNotFoundException",
            told if told.is_kms_throttling_exception() => "KMSThrottlingException",
            _ => "InternalFailure",
        });
        return CallError {
            code: as_one_line(code),
            message: as_one_line(told.message().unwrap_or_default()),
            status: Some(if code == "InternalFailure" { 500 } else { 400 }),
        };
    }
    let code = match error {
        SdkError::ResponseError(_) => "MalformedAnswer",
        _ => "ConnectionLost",
    };
    CallError {
        code: code.to_owned(),
        message: as_one_line(&with_causes(error)),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::Blob;
    use aws_sdk_kinesis::types::{ChildShard, HashKeyRange, Record};

    use super::*;

    fn event(records: usize, go_on: &str, children: &[&str]) -> SubscribeToShardEvent {
        let record = Record::builder().sequence_number("1").partition_key("k");
        let record = record.data(Blob::new("x")).build().unwrap();
        let range = HashKeyRange::builder().starting_hash_key("0");
        let range = range.ending_hash_key("9").build().unwrap();
        let child = |id: &&str| {
            let child = ChildShard::builder().shard_id(*id).parent_shards("0");
            child.hash_key_range(range.clone()).build().unwrap()
        };
        SubscribeToShardEvent::builder()
            .set_records(Some(vec![record; records]))
            .continuation_sequence_number(go_on)
            .millis_behind_latest(7)
            .set_child_shards(Some(children.iter().map(child).collect()))
            .build()
            .unwrap()
    }

    #[test]
    fn a_shard_ends_where_its_children_are_told_and_nothing_more_can_come() {
        for (records, go_on, children, ends) in [
            (1, "1", &[][..], false),
            (0, "1", &[], false),
            // As the service tells it.
            (0, "", &["1", "2"], true),
            (1, "", &["1"], true),
            // As a server does that tells children while there are records to come.
            (1, "1", &["1", "2"], false),
            (0, "1", &["1", "2"], true),
        ] {
            let page = page(event(records, go_on, children));
            assert_eq!(
                page.next.is_none(),
                ends,
                "{records} {go_on:?} {children:?}"
            );
            assert_eq!(
                (page.records.len(), page.children.len()),
                (records, children.len())
            );
            assert_eq!(page.behind, Duration::from_millis(7));
        }
    }
}
