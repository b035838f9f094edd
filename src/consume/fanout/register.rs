//! Who subscribes: a consumer that is registered with the stream, found or made.
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_RegisterStreamConsumer.html>.

use std::time::Duration;

use aws_sdk_kinesis::types::ConsumerStatus;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::shards::KinesisStream;
use super::super::way::{denied, not_found};
use super::FanOutStream;
use crate::retry::{self, Backoff, History, Verdict};
use crate::send::CallError;
use crate::send::kinesis::call_error;

/// A consumer that may subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub name: String,
    pub arn: String,
    /// It was not there before.
    pub is_new: bool,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FanOutError {
    #[error(
        "the stream does not exist: check its name, the account and the region or endpoint ({0})"
    )]
    NoSuchStream(CallError),
    #[error("access denied: allow kinesis:{action} on {on} ({error})")]
    Denied {
        action: &'static str,
        on: &'static str,
        error: CallError,
    },
    #[error(
        "consumer {name} cannot be registered: a stream has 20 at most, and five of them in the making ({error}); \
         aws kinesis list-stream-consumers shows them, deregister one that is not used, or give the name of one that is there"
    )]
    TooMany { name: String, error: CallError },
    #[error("kinesis:{action} for consumer {name}: {error}")]
    Call {
        name: String,
        action: &'static str,
        error: CallError,
    },
}

/// Calls that fail are made so often before a start does; a few seconds.
const TRIES: u32 = 6;

/// Between looks at one that is in the making: DescribeStreamConsumer has 20 calls a second and stream.
const LOOKS: retry::Settings = retry::Settings {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(2),
};

const STREAM: &str = "the stream";
const CONSUMER: &str = "the stream and its consumers (.../consumer/*)";

enum Looked {
    Active(String),
    /// It comes, or goes.
    Changing,
    NotThere,
}

impl FanOutStream {
    /// The consumer of that name: registered, where it is not, and waited for until it is active. It stays registered.
    pub async fn register(stream: &KinesisStream, name: &str) -> Result<Registered, FanOutError> {
        let registrar = Registrar {
            arn: stream_arn(stream, name).await?,
            stream,
            name,
        };
        let mut backoff = backoff();
        let (mut is_new, mut looks) = (false, 0);
        loop {
            match registrar.look().await? {
                Looked::Active(arn) => {
                    let name = name.to_owned();
                    return Ok(Registered { name, arn, is_new });
                }
                Looked::NotThere if !is_new => is_new = registrar.register().await?,
                Looked::NotThere | Looked::Changing => {}
            }
            looks += 1;
            if looks == 10 {
                tracing::info!(consumer = name, "waiting for it to become active");
            }
            tokio::time::sleep(backoff.delay(looks)).await;
        }
    }

    /// Ends what a registered consumer costs.
    pub async fn deregister(&self) -> Result<(), FanOutError> {
        let action = "DeregisterStreamConsumer";
        patiently(&self.consumer.name, action, CONSUMER, async || {
            let call = self.listed.client().deregister_stream_consumer();
            let call = call.consumer_arn(&self.consumer.arn).send();
            match call.await.map_err(|e| call_error(&e)) {
                Err(error) if !not_found(&error) => Err(error),
                Err(_) | Ok(_) => Ok(()),
            }
        })
        .await
    }
}

struct Registrar<'a> {
    stream: &'a KinesisStream,
    arn: String,
    name: &'a str,
}

impl Registrar<'_> {
    async fn look(&self) -> Result<Looked, FanOutError> {
        patiently(self.name, "DescribeStreamConsumer", CONSUMER, async || {
            let call = self.stream.client().describe_stream_consumer();
            let call = call.stream_arn(&self.arn).consumer_name(self.name);
            let answer = match call.send().await.map_err(|e| call_error(&e)) {
                Ok(answer) => answer,
                // Or the stream is not: then registering says so.
                Err(error) if not_found(&error) => return Ok(Looked::NotThere),
                Err(error) => return Err(error),
            };
            let found = answer.consumer_description;
            let active = found.filter(|c| c.consumer_status == ConsumerStatus::Active);
            Ok(active.map_or(Looked::Changing, |c| Looked::Active(c.consumer_arn)))
        })
        .await
    }

    /// Whether it was this call that did.
    async fn register(&self) -> Result<bool, FanOutError> {
        let (name, action) = (self.name, "RegisterStreamConsumer");
        let registered = patiently(name, action, CONSUMER, async || {
            let call = self.stream.client().register_stream_consumer();
            let call = call.stream_arn(&self.arn).consumer_name(name);
            match call.send().await.map_err(|e| call_error(&e)) {
                Ok(_) => {
                    tracing::info!(
                        consumer = name,
                        "registered; it stays until it is deregistered"
                    );
                    Ok(true)
                }
                // By somebody else, meanwhile.
                Err(error) if error.code == "ResourceInUseException" => Ok(false),
                Err(error) => Err(error),
            }
        });
        registered.await.map_err(|failed| match failed {
            FanOutError::Call { name, error, .. } if error.code == "LimitExceededException" => {
                FanOutError::TooMany { name, error }
            }
            failed => failed,
        })
    }
}

/// What consumers are registered with.
async fn stream_arn(stream: &KinesisStream, name: &str) -> Result<String, FanOutError> {
    if let Some(arn) = stream.arn() {
        return Ok(arn);
    }
    patiently(name, "DescribeStreamSummary", STREAM, async || {
        let call = stream.client().describe_stream_summary();
        let answer = call.set_stream_name(stream.name()).send().await;
        let summary = answer
            .map_err(|e| call_error(&e))?
            .stream_description_summary;
        summary.map(|s| s.stream_arn).ok_or_else(|| CallError {
            code: "MalformedAnswer".to_owned(),
            message: "DescribeStreamSummary answered without a summary".to_owned(),
            status: None,
        })
    })
    .await
}

/// Waits out what waiting may mend, for a few seconds.
async fn patiently<T>(
    name: &str,
    action: &'static str,
    on: &'static str,
    mut call: impl AsyncFnMut() -> Result<T, CallError>,
) -> Result<T, FanOutError> {
    let mut backoff = backoff();
    let mut failures = 0;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        failures += 1;
        let verdict = retry::judge(&error.code, error.status, &History::default());
        return Err(match verdict {
            _ if not_found(&error) => FanOutError::NoSuchStream(error),
            _ if denied(&error) => FanOutError::Denied { action, on, error },
            Verdict::Retry(_) | Verdict::Outage if failures < TRIES => {
                tokio::time::sleep(backoff.delay(failures)).await;
                continue;
            }
            _ => FanOutError::Call {
                name: name.to_owned(),
                action,
                error,
            },
        });
    }
}

fn backoff() -> Backoff<StdRng> {
    Backoff::new(LOOKS, StdRng::from_rng(&mut rand::rng()))
}
