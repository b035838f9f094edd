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

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::aws::{self, AwsError, Clients, TimeOuts};
use crate::deadletter::DeadLetters;
use crate::delivery::{MemoryBudget, Receipt, Ticket};
use crate::metrics::{Counters, Counts, Histograms, KeyInUse};
use crate::pipeline::{Observer, Parts, Pipeline, Sealer, Spooled, StreamSettings};
use crate::record::{Record, StreamName, StreamNameError};
use crate::seal::key::{GenerateDataKey, KeyError};
use crate::seal::keyring::Keyring;
use crate::seal::kms::KmsKeys;
use crate::seal::offload::SealPool;
use crate::seal::rawkey::{WrappingKey, WrappingKeyFileError};
use crate::seal::{
    self, CacheSettings, ContextError, EncryptionContext, KeyChoice, Scope, block, message,
};
use crate::send::kinesis::Kinesis;
use crate::shard::kinesis::KinesisShards;
use crate::shard::{ListShards, ListShardsError};
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

/// What all streams of a process share.
#[derive(Debug, Clone)]
pub struct Shared {
    clients: Clients,
    pool: SealPool,
}

impl Shared {
    /// More than there is memory for.
    const MANY_CHUNKS: usize = 1024;

    pub fn new(clients: Clients) -> Result<Self, StartError> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Ok(Self {
            clients,
            pool: SealPool::new(threads)?,
        })
    }

    /// Starts a stream's pipeline, once its key and the stream itself have been seen to be there. What may
    /// heal by itself (no network, throttling) does not stop the start; what somebody has to put right does, unless it
    /// is to be [waited for](WhenMissing).
    pub async fn start(
        &self,
        settings: &StreamSettings,
        budget: MemoryBudget,
        dead_letters: Option<DeadLetters>,
        spool: Option<Spooled>,
        counters: Arc<Counters>,
        when_missing: WhenMissing,
    ) -> Result<Pipeline, StartError> {
        let name = &settings.name;
        let (keyring, sealer) = self.sealer(&settings.encryption)?;
        if let Some(keyring) = keyring
            && let Err(error) = keyring.lease(&[0]).await
        {
            match error {
                error if error.is_outage() => {
                    tracing::warn!(%error, "no data key yet; records wait until there is one");
                }
                error => when_missing.hear(name, error.into())?,
            }
        }
        let shards = KinesisShards::new(self.clients.kinesis.clone());
        if let Err(error) = self.look_up(&shards, name).await {
            when_missing.hear(name, error)?;
        }
        Ok(Pipeline::start(Parts {
            dead_letters,
            spool,
            counters,
            ..self.parts(settings, sealer, budget)
        }))
    }

    /// Starts a stream's pipeline at once: nobody has seen yet whether there is a key or the stream. For callers that
    /// are told of each record; `observer` is told of each call.
    ///
    /// # Errors
    ///
    /// Of the encryption's settings, and of a wrapping key file.
    pub fn start_unseen(
        &self,
        settings: &StreamSettings,
        budget: MemoryBudget,
        dead_letters: Option<DeadLetters>,
        spool: Option<Spooled>,
        counters: Arc<Counters>,
        observer: Arc<dyn Observer>,
    ) -> Result<Pipeline, StartError> {
        let (_, sealer) = self.sealer(&settings.encryption)?;
        Ok(Pipeline::start(Parts {
            dead_letters,
            spool,
            counters,
            // Whoever is told of each record may be one who cannot be made to wait.
            waiting: Self::MANY_CHUNKS,
            observer: Some(observer),
            ..self.parts(settings, sealer, budget)
        }))
    }

    fn parts(&self, settings: &StreamSettings, sealer: Sealer, budget: MemoryBudget) -> Parts {
        let kinesis = &self.clients.kinesis;
        Parts {
            stream: settings.name.clone(),
            aggregation: settings.aggregation.clone(),
            batch: settings.batch.clone(),
            delivery: settings.delivery.clone(),
            sealer,
            pool: self.pool.clone(),
            budget,
            put_records: Arc::new(
                Kinesis::new(kinesis.clone()).speaking(settings.delivery.protocol),
            ),
            shards: Arc::new(KinesisShards::new(kinesis.clone())),
            dead_letters: None,
            spool: None,
            counters: Arc::default(),
            waiting: Pipeline::CHUNKS,
            observer: None,
        }
    }

    /// With what it takes its data keys from.
    fn sealer(
        &self,
        encryption: &seal::Settings,
    ) -> Result<(Option<Arc<Keyring>>, Sealer), StartError> {
        let ours = |key: &&String| key.starts_with(block::CONTEXT_PREFIX);
        if let Some(key) = encryption.context.keys().find(ours) {
            return Err(StartError::ReservedContext { key: key.clone() });
        }
        encryption.check_context()?;
        let (key, block) = match &encryption.scope {
            Scope::Off => {
                let allowed = encryption.plaintext_allowed();
                return Ok((None, Sealer::Plain(allowed.expect("the scope is off"))));
            }
            Scope::Record(key) => (key, None),
            Scope::Block(key, block) => (key, Some(block)),
        };
        let source: Arc<dyn GenerateDataKey> = match key {
            KeyChoice::Kms(keys) => {
                let keys = KmsKeys::new(self.clients.kms.clone(), keys);
                Arc::new(keys.ok_or(StartError::NoEncryptionChoice)?)
            }
            KeyChoice::WrappingKeyFile(path) => Arc::new(WrappingKey::load(path)?),
        };
        let mut context = encryption.context.clone();
        if let Some(block) = block {
            let (key, packing) = block.context_pair();
            context.insert(key.to_owned(), packing.to_owned());
        }
        let mut message = encryption.message;
        if let Some(block) = block {
            message.frame_length = block.frame_length();
        }
        let keyring = Keyring::new(source, context, encryption.cache.clone(), message);
        let sealer = match block {
            Some(block) => Sealer::Blocks(Arc::clone(&keyring), block.clone()),
            None => Sealer::Encrypt(Arc::clone(&keyring)),
        };
        Ok((Some(keyring), sealer))
    }

    async fn look_up(&self, shards: &KinesisShards, stream: &StreamName) -> Result<(), StartError> {
        let Err(error) = shards.list_shards(stream).await else {
            return Ok(());
        };
        let place = self.clients.place.clone();
        let stream = stream.clone();
        match error.code.as_str() {
            "ResourceNotFoundException" => Err(StartError::NoStream { stream, place }),
            "NoCredentials" => Err(StartError::NoCredentials(error)),
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "InvalidClientTokenId"
            | "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => Err(StartError::BadCredentials(error)),
            // Denied or out of reach: the shard map's own task says so, and goes on.
            _ => Ok(()),
        }
    }
}

/// What a start does where the stream, the key or the credentials are not there, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissing {
    /// Fails: a caller can tell its user.
    Fail,
    /// Alarms, and goes on: records wait, as in an outage, until somebody has put it right.
    Wait,
}

impl WhenMissing {
    fn hear(self, stream: &StreamName, error: StartError) -> Result<(), StartError> {
        if self == Self::Fail || !error.may_heal() {
            return Err(error);
        }
        tracing::error!(%stream, %error, "the stream can not be sent to yet: nothing is lost, sources wait");
        Ok(())
    }
}

/// Why a stream's pipeline did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error(transparent)]
    StreamName(#[from] StreamNameError),
    #[error("say how to encrypt: kms_key, wrapping_key_file, or plaintext")]
    NoEncryptionChoice,
    #[error(
        "encryption context key \"{key}\" is reserved: keys that begin with \"kinseal-\" say how a \
         message is packed; choose another name"
    )]
    ReservedContext { key: String },
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    WrappingKey(#[from] WrappingKeyFileError),
    #[error(
        "stream {stream} does not exist in {place}: create it, or correct its name, region or account"
    )]
    NoStream { stream: StreamName, place: String },
    #[error(
        "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
         or give this host a role ({0})"
    )]
    NoCredentials(ListShardsError),
    #[error(
        "the AWS credentials are refused: renew or correct them, and check this host's clock ({0})"
    )]
    BadCredentials(ListShardsError),
    #[error("cannot start the sealing threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl StartError {
    /// Whether somebody may put it right outside of the configuration. What cannot be so remains a mistake.
    fn may_heal(&self) -> bool {
        match self {
            Self::NoStream { .. } | Self::NoCredentials(_) | Self::BadCredentials(_) => true,
            Self::Key(error) => matches!(
                error,
                KeyError::Denied { .. }
                    | KeyError::NotFound { .. }
                    | KeyError::Disabled { .. }
                    | KeyError::InvalidState { .. }
                    | KeyError::Credentials { .. }
            ),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
