//! RegisterStreamConsumer, DescribeStreamConsumer, ListStreamConsumers, DeregisterStreamConsumer: who may subscribe.
//!
//! A consumer is CREATING for as long as [`Limits`](super::Limits) say, then ACTIVE, and gone once it is deregistered.
//!
//! Sources: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_RegisterStreamConsumer.html> and its siblings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::subscribe::Subscribers;
use super::token::Token;
use super::{Kinesis, Stream};
use crate::fake::protocol::{ApiError, json_bytes, parse, timestamp};

/// API_RegisterStreamConsumer: 20 a stream (50 only of a stream with On-demand Advantage), 5 of them CREATING.
const MOST_CONSUMERS: usize = 20;
const MOST_CREATING: usize = 5;
/// API_ListStreamConsumers: MaxResults.
const MOST_RESULTS: usize = 10_000;
const DEFAULT_RESULTS: usize = 100;

const KIND: &str = "consumers";

/// A stream's, by name.
#[derive(Debug, Default)]
pub(crate) struct Consumers(BTreeMap<String, Arc<Consumer>>);

#[derive(Debug)]
pub(crate) struct Consumer {
    name: String,
    arn: String,
    created: Duration,
    active_from: Duration,
    pub(super) subscribers: Subscribers,
}

/// How most calls name a consumer: by its own ARN, or by name and the stream's ARN.
#[derive(Debug, Deserialize)]
struct ConsumerRef {
    #[serde(rename = "StreamARN")]
    stream: Option<String>,
    #[serde(rename = "ConsumerName")]
    name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListStreamConsumers {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

impl Kinesis {
    pub(super) fn register_consumer(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: ConsumerRef = parse(body)?;
        let stream = self.stream_of_arn(request.stream.as_deref())?;
        let name = request
            .name
            .ok_or_else(|| ApiError::missing("consumerName"))?;
        if !is_name(&name) {
            return Err(ApiError::validation(
                "consumerName",
                "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+ and have length 1 to 128",
            ));
        }
        let now = self.clock.now();
        let consumer = Consumer {
            arn: format!("{}/consumer/{name}:{}", stream.arn(), now.as_secs()),
            name,
            created: now,
            active_from: now + self.limits.consumer_creation,
            subscribers: Subscribers::default(),
        };
        // The answer to this call always says so.
        let described = consumer.describe("CREATING");
        stream
            .consumers()
            .add(consumer, now)
            .map_err(|refused| refused.told(&stream, &self.account))?;
        Ok(json_bytes(&json!({ "Consumer": described })))
    }

    pub(super) fn describe_consumer(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let (stream, consumer) = self.consumer_in(body)?;
        let mut described = consumer.describe(consumer.status(self.clock.now()));
        described["StreamARN"] = stream.arn().into();
        Ok(json_bytes(&json!({ "ConsumerDescription": described })))
    }

    pub(super) fn deregister_consumer(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let (stream, consumer) = self.consumer_in(body)?;
        stream.consumers().0.remove(&consumer.name);
        consumer.subscribers.end_all();
        Ok(Vec::new())
    }

    pub(super) fn list_consumers(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: ListStreamConsumers = parse(body)?;
        let stream = self.stream_of_arn(request.stream_arn.as_deref())?;
        let most = match request.max_results {
            None => DEFAULT_RESULTS,
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| (1..=MOST_RESULTS).contains(n))
                .ok_or_else(|| {
                    ApiError::validation("maxResults", "Member must have value from 1 to 10000")
                })?,
        };
        let now = self.clock.now();
        let after = match &request.next_token {
            None => String::new(),
            Some(token) => after(token, &stream, self.clock.now_millis())?,
        };
        let consumers = stream.consumers();
        let mut following = consumers.0.values().filter(|c| c.name > after);
        let page: Vec<_> = following.by_ref().take(most).collect();
        let described: Vec<Value> = (page.iter())
            .map(|consumer| consumer.describe(consumer.status(now)))
            .collect();
        let mut answer = json!({ "Consumers": described });
        if let (Some(_), Some(last)) = (following.next(), page.last()) {
            let millis = self.clock.now_millis();
            answer["NextToken"] = Token::write(KIND, &stream, millis, &[&last.name]).into();
        }
        Ok(json_bytes(&answer))
    }

    fn stream_of_arn(&self, arn: Option<&str>) -> Result<Arc<Stream>, ApiError> {
        self.stream(
            None,
            Some(arn.ok_or_else(|| ApiError::missing("streamARN"))?),
        )
    }

    fn consumer_in(&self, body: &[u8]) -> Result<(Arc<Stream>, Arc<Consumer>), ApiError> {
        let request: ConsumerRef = parse(body)?;
        match (&request.arn, &request.name) {
            (Some(arn), _) => self.consumer(arn),
            (None, Some(name)) => {
                let stream = self.stream_of_arn(request.stream.as_deref())?;
                let found = stream.consumers().0.get(name).map(Arc::clone);
                let found = found.ok_or_else(|| {
                    not_found(name, &format!("stream {}", stream.name()), &self.account)
                })?;
                Ok((stream, found))
            }
            (None, None) => Err(ApiError::invalid_argument(
                "Either ConsumerARN or both StreamARN and ConsumerName must be provided.",
            )),
        }
    }

    /// By its own ARN, which has the stream's in front.
    pub(super) fn consumer(&self, arn: &str) -> Result<(Arc<Stream>, Arc<Consumer>), ApiError> {
        let (stream, rest) = arn.split_once("/consumer/").ok_or_else(|| {
            ApiError::validation(
                "consumerARN",
                "Member must satisfy regular expression pattern: \
                 ^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+",
            )
        })?;
        let stream = self.stream(None, Some(stream))?;
        let name = rest.split(':').next().unwrap_or_default();
        let found = stream.consumers().0.get(name).map(Arc::clone);
        // One that was registered anew has another ARN.
        let found = found
            .filter(|consumer| consumer.arn == arn)
            .ok_or_else(|| not_found(arn, &format!("stream {}", stream.name()), &self.account))?;
        Ok((stream, found))
    }
}

fn not_found(consumer: &str, of: &str, account: &str) -> ApiError {
    ApiError::new(
        "ResourceNotFoundException",
        format!("Consumer {consumer} of {of} under account {account} not found."),
    )
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&name.len()) && name.bytes().all(allowed)
}

/// The name after which a page begins.
fn after(token: &str, stream: &Stream, now: u64) -> Result<String, ApiError> {
    let token = Token::read(KIND, token, 1)
        .filter(|token| token.stream == stream.name() && token.is_of(stream))
        .ok_or_else(|| ApiError::invalid_argument("Invalid NextToken."))?;
    if token.is_expired(now) {
        return Err(ApiError::new(
            "ExpiredNextTokenException",
            "NextToken expired. It was created more than 300 seconds ago.",
        ));
    }
    let [name] = &token.fields[..] else {
        return Err(ApiError::invalid_argument("Invalid NextToken."));
    };
    Ok(name.clone())
}

/// Why one is not registered.
#[derive(Debug)]
enum Refused {
    There(String),
    TooMany,
    TooManyCreating,
}

impl Refused {
    fn told(self, stream: &Stream, account: &str) -> ApiError {
        let stream = format!("stream {} under account {account}", stream.name());
        match self {
            Self::There(name) => ApiError::new(
                "ResourceInUseException",
                format!("Consumer {name} of {stream} already exists."),
            ),
            Self::TooMany => ApiError::new(
                "LimitExceededException",
                format!(
                    "{MOST_CONSUMERS} consumers are registered with {stream}; more are not allowed."
                ),
            ),
            Self::TooManyCreating => ApiError::new(
                "LimitExceededException",
                format!(
                    "{MOST_CREATING} consumers of {stream} are CREATING; more are not allowed at once."
                ),
            ),
        }
    }
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// With their stream they all go.
    pub(crate) fn end_all(&mut self) {
        for consumer in std::mem::take(&mut self.0).values() {
            consumer.subscribers.end_all();
        }
    }

    fn add(&mut self, consumer: Consumer, now: Duration) -> Result<(), Refused> {
        if self.0.contains_key(&consumer.name) {
            return Err(Refused::There(consumer.name));
        }
        if self.0.len() >= MOST_CONSUMERS {
            return Err(Refused::TooMany);
        }
        let creating = self.0.values().filter(|c| !c.is_active(now)).count();
        if creating >= MOST_CREATING {
            return Err(Refused::TooManyCreating);
        }
        self.0.insert(consumer.name.clone(), Arc::new(consumer));
        Ok(())
    }
}

impl Consumer {
    pub(super) fn arn(&self) -> &str {
        &self.arn
    }

    pub(super) fn is_active(&self, now: Duration) -> bool {
        now >= self.active_from
    }

    fn status(&self, now: Duration) -> &'static str {
        match self.is_active(now) {
            true => "ACTIVE",
            false => "CREATING",
        }
    }

    fn describe(&self, status: &str) -> Value {
        json!({
            "ConsumerName": self.name,
            "ConsumerARN": self.arn,
            "ConsumerStatus": status,
            "ConsumerCreationTimestamp": timestamp(u64::try_from(self.created.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}
