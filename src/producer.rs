//! The public way to put records: [`Producer`].
//!
//! ```no_run
//! use std::time::Duration;
//! use kinseal::delivery::Delivery;
//! use kinseal::producer::Producer;
//! use kinseal::record::Record;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder("shop-logs")
//!     .kms_key("alias/shop")
//!     .context("app", "shop")
//!     .build()
//!     .await?;
//! let receipt = producer.put(Record::new("one line")).await?;
//! match receipt.await {
//!     Delivery::Stored { shard, sequence, .. } => println!("{shard} {sequence}"),
//!     Delivery::Failed { reason, .. } => eprintln!("{reason}"),
//!     other => eprintln!("{other:?}"),
//! }
//! producer.close(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/producer.rs` is the same against the stand-ins, and runs anywhere.

mod shared;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::shared::{Caller, Shared, StartError, WhenMissing};
use crate::aws::{self, TimeOuts};
use crate::delivery::{MemoryBudget, Receipt, Ticket};
use crate::metrics::{Counts, Histograms, KeyInUse};
use crate::pipeline::{Pipeline, StreamSettings};
use crate::record::{Record, StreamName, StreamNameError};
use crate::seal::{self, CacheSettings, EncryptionContext, KeyChoice, Scope, block, message};
use crate::source::{Accepted, Chunk, Closed, TrySend};
use crate::{aggregate, batch, send};

/// Puts records on one stream. Cheap to share by reference; dropping it abandons what is pending, so
/// [`close`](Self::close) it.
#[derive(Debug)]
pub struct Producer {
    pipeline: Pipeline,
}

impl Producer {
    /// For a stream by name or ARN. How it is encrypted must be said before [`build`](Builder::build).
    pub fn builder(stream: impl AsRef<str>) -> Builder {
        Builder::new(stream.as_ref())
    }

    /// Accepts a record: waits until there is room for it within the memory limit, then promises exactly one
    /// [`Delivery`](crate::delivery::Delivery) through the receipt. A dropped receipt changes nothing.
    ///
    /// Cancel safe: a cancelled put has not accepted its record.
    pub async fn put(&self, record: Record) -> Result<Receipt, Closed> {
        let intake = self.pipeline.intake();
        let memory = intake.reserve(1, record.data.len()).await;
        let (chunk, receipt) = single(record, memory);
        intake.send(chunk).await?;
        Ok(receipt)
    }

    /// Accepts a record if there is room for it now, or gives it back.
    pub fn try_put(&self, record: Record) -> Result<Receipt, TryPutError> {
        let intake = self.pipeline.intake();
        let Some(memory) = intake.try_reserve(1, record.data.len()) else {
            return Err(TryPutError::Full(record));
        };
        let (chunk, receipt) = single(record, memory);
        match intake.try_send(chunk) {
            Ok(()) => Ok(receipt),
            Err(TrySend::Full(chunk)) => Err(TryPutError::Full(take_back(chunk))),
            Err(TrySend::Closed(chunk)) => Err(TryPutError::Closed(take_back(chunk))),
        }
    }

    /// Puts everything on its way without lingering, and resolves when nothing is pending.
    pub async fn flush(&self) {
        self.pipeline.flush().await;
    }

    pub fn counts(&self) -> Counts {
        self.pipeline.meter().counts()
    }

    /// The data key in use: its age, and what it has sealed. `None` where nothing is encrypted.
    pub fn key_in_use(&self) -> Option<KeyInUse> {
        self.pipeline.meter().key_in_use()
    }

    pub async fn histograms(&self) -> Histograms {
        self.pipeline.histograms().await
    }

    /// Waits until every record has its answer, at most `grace`; what is pending then is answered with
    /// `Abandoned`. Not cancel safe: cancelled, it abandons at once.
    pub async fn close(self, grace: Duration) -> Histograms {
        self.pipeline.close(grace).await
    }
}

/// Why a record was not accepted; it comes back.
#[derive(Debug, thiserror::Error)]
pub enum TryPutError {
    #[error("there is no room within the memory limit now")]
    Full(Record),
    #[error("the producer has stopped")]
    Closed(Record),
}

fn single(record: Record, memory: crate::delivery::MemoryPermit) -> (Chunk, Receipt) {
    let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
    let chunk = Chunk {
        records: vec![Accepted {
            data: record.data,
            key: record.key,
            ticket,
        }],
        read_took: Duration::ZERO,
    };
    (chunk, receipt)
}

fn take_back(chunk: Chunk) -> Record {
    let accepted = chunk
        .records
        .into_iter()
        .next()
        .expect("one record went in");
    Record {
        data: accepted.data,
        key: accepted.key,
    }
}

/// Settings of a [`Producer`], all with defaults but the stream and the choice on encryption.
#[derive(Debug, Clone)]
pub struct Builder {
    stream: Result<StreamName, StreamNameError>,
    scope: Option<Scope>,
    context: EncryptionContext,
    cache: CacheSettings,
    message: message::Settings,
    aws: aws::Settings,
    aggregation: aggregate::Settings,
    batch: batch::Settings,
    delivery: send::Settings,
    memory_limit: usize,
}

impl Builder {
    /// 64 MiB, the agent's default too.
    const MEMORY_LIMIT: usize = 64 << 20;

    fn new(stream: &str) -> Self {
        Self {
            stream: StreamName::new(stream),
            scope: None,
            context: EncryptionContext::new(),
            cache: CacheSettings::default(),
            message: message::Settings::default(),
            aws: aws::Settings::default(),
            aggregation: aggregate::Settings::default(),
            batch: batch::Settings::default(),
            delivery: send::Settings::default(),
            memory_limit: Self::MEMORY_LIMIT,
        }
    }

    /// Each record is encrypted under data keys of this KMS key: an ARN, an id, or `alias/…`.
    #[must_use]
    pub fn kms_key(self, key: impl Into<String>) -> Self {
        self.kms_keys([key])
    }

    /// The same under several, each of which opens the records; one at least. The first makes data keys, the
    /// others wrap them too: of other Regions, for readers there.
    #[must_use]
    pub fn kms_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let keys = keys.into_iter().map(Into::into).collect();
        self.scope = Some(Scope::Record(KeyChoice::Kms(keys)));
        self
    }

    /// Each record is encrypted under data keys wrapped by a local key.
    #[must_use]
    pub fn wrapping_key_file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.scope = Some(Scope::Record(KeyChoice::WrappingKeyFile(path.into())));
        self
    }

    /// Records are packed into blocks, and a block is encrypted as one. Takes effect on the key chosen
    /// before.
    #[must_use]
    pub fn blocks(mut self, block: block::Settings) -> Self {
        if let Some(Scope::Record(key) | Scope::Block(key, _)) = self.scope.take() {
            self.scope = Some(Scope::Block(key, block));
        }
        self
    }

    /// Records are sent as they are.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.scope = Some(Scope::Off);
        self
    }

    /// Adds a pair to the encryption context: authenticated, and in clear beside each ciphertext.
    #[must_use]
    pub fn context(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(key.into(), value.into());
        self
    }

    #[must_use]
    pub fn cache(mut self, cache: CacheSettings) -> Self {
        self.cache = cache;
        self
    }

    /// Another suite, encoding or frame length.
    #[must_use]
    pub fn message(mut self, message: message::Settings) -> Self {
        self.message = message;
        self
    }

    #[must_use]
    pub fn aws(mut self, aws: aws::Settings) -> Self {
        self.aws = aws;
        self
    }

    #[must_use]
    pub fn aggregation(mut self, aggregation: aggregate::Settings) -> Self {
        self.aggregation = aggregation;
        self
    }

    #[must_use]
    pub fn batch(mut self, batch: batch::Settings) -> Self {
        self.batch = batch;
        self
    }

    #[must_use]
    pub fn delivery(mut self, delivery: send::Settings) -> Self {
        self.delivery = delivery;
        self
    }

    /// Bytes of everything between `put` and its answer.
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Finds credentials, fetches the first data key, and looks the stream up, so that a mistake is told
    /// here and not by the first record.
    pub async fn build(self) -> Result<Producer, StartError> {
        let settings = StreamSettings {
            name: self.stream?,
            encryption: seal::Settings {
                scope: self.scope.ok_or(StartError::NoEncryptionChoice)?,
                context: self.context,
                cache: self.cache,
                message: self.message,
            },
            aggregation: self.aggregation,
            batch: self.batch,
            delivery: self.delivery,
        };
        let time_outs = TimeOuts {
            connect: settings.delivery.connect_timeout,
            request: settings.delivery.request_timeout,
        };
        let clients = aws::clients(&self.aws, time_outs).await?;
        let shared = Shared::new(clients)?;
        let budget = MemoryBudget::new(self.memory_limit);
        let started = shared.start(
            &settings,
            budget,
            None,
            None,
            Arc::default(),
            WhenMissing::Fail,
        );
        let pipeline = started.await?;
        Ok(Producer { pipeline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::ContextError;

    #[tokio::test]
    async fn a_context_that_no_message_has_room_for_is_refused_before_anything_is_called() {
        let suite = "0578".parse().expect("a suite");
        let producer = Producer::builder("s")
            .kms_key("alias/shop")
            .blocks(block::Settings::default())
            .context("app", "x".repeat(65_440))
            .message(message::Settings {
                suite,
                ..message::Settings::default()
            })
            .aws(nowhere())
            .build();
        let error = producer.await.unwrap_err();
        let (found, allowed) = (65_449, 65_535 - 93 - 20);
        let expected = ContextError::TooLong { found, allowed };
        assert!(
            matches!(&error, StartError::Context(error) if *error == expected),
            "{error}"
        );
    }

    fn nowhere() -> aws::Settings {
        aws::Settings {
            region: Some("eu-west-1".into()),
            credentials: Some(aws::Credentials::new("test", "test")),
            ..aws::Settings::default()
        }
    }

    #[tokio::test]
    async fn context_names_of_our_own_are_refused_before_anything_is_called() {
        let producer = Producer::builder("s")
            .kms_key("alias/shop")
            .context(block::CONTEXT_KEY, "kpl")
            .aws(nowhere())
            .build();
        let error = producer.await.unwrap_err();
        assert!(
            matches!(&error, StartError::ReservedContext { key } if key == "kinseal-block"),
            "{error}"
        );
    }
}
