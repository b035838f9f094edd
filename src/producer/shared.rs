//! What all streams of a process share, and how each stream's pipeline is started with it.

use std::sync::Arc;

use crate::aws::{AwsError, Clients};
use crate::deadletter::DeadLetters;
use crate::delivery::MemoryBudget;
use crate::metrics::Counters;
use crate::pipeline::{Observer, Parts, Pipeline, Sealer, Spooled, StreamSettings};
use crate::record::{StreamId, StreamName, StreamNameError};
use crate::retry::refuses_credentials;
use crate::seal::key::{GenerateDataKey, KeyError};
use crate::seal::keyring::Keyring;
use crate::seal::kms::KmsKeys;
use crate::seal::offload::SealPool;
use crate::seal::rawkey::{WrappingKey, WrappingKeyFileError};
use crate::seal::{self, ContextError, KeyChoice, Scope, block};
use crate::send::Connections;
use crate::send::kinesis::Kinesis;
use crate::shard::kinesis::KinesisShards;
use crate::shard::{ListShards, ListShardsError};

/// Who puts records to a stream that nobody has seen yet.
#[derive(Debug)]
pub struct Caller {
    /// What it knows the stream by beside its name.
    pub id: StreamId,
    pub counters: Arc<Counters>,
    /// Told of each call.
    pub observer: Arc<dyn Observer>,
}

/// What all streams of a process share.
#[derive(Debug, Clone)]
pub struct Shared {
    clients: Clients,
    pool: SealPool,
    connections: Connections,
}

impl Shared {
    /// More than there is memory for.
    const MANY_CHUNKS: usize = 1024;

    pub fn new(clients: Clients) -> Result<Self, StartError> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Ok(Self {
            clients,
            pool: SealPool::new(threads)?,
            connections: Connections::default(),
        })
    }

    /// For all streams that are started from now on, together.
    #[must_use]
    pub fn with_connections(self, connections: Connections) -> Self {
        Self {
            connections,
            ..self
        }
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
            && let Err(error) = keyring.warm().await
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
            ..self.parts(settings, sealer, budget, &StreamId::default())
        }))
    }

    /// Starts a stream's pipeline at once: nobody has seen yet whether there is a key or the stream. For callers that
    /// are told of each record.
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
        caller: Caller,
    ) -> Result<Pipeline, StartError> {
        let (_, sealer) = self.sealer(&settings.encryption)?;
        Ok(Pipeline::start(Parts {
            dead_letters,
            spool,
            counters: caller.counters,
            // Whoever is told of each record may be one who cannot be made to wait.
            waiting: Self::MANY_CHUNKS,
            observer: Some(caller.observer),
            ..self.parts(settings, sealer, budget, &caller.id)
        }))
    }

    fn parts(
        &self,
        settings: &StreamSettings,
        sealer: Sealer,
        budget: MemoryBudget,
        id: &StreamId,
    ) -> Parts {
        let put_records = Kinesis::new(self.clients.kinesis.clone());
        let put_records = put_records.speaking(settings.delivery.protocol);
        let shards = KinesisShards::new(self.clients.kinesis.clone());
        Parts {
            stream: settings.name.clone(),
            aggregation: settings.aggregation.clone(),
            batch: settings.batch.clone(),
            delivery: settings.delivery.clone(),
            sealer,
            pool: self.pool.clone(),
            budget,
            put_records: Arc::new(put_records.with_id(id.clone())),
            connections: self.connections.clone(),
            shards: Arc::new(shards.with_id(id.clone())),
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
        if let Some(key) = block::reserved_key(&encryption.context) {
            let key = key.to_owned();
            return Err(StartError::ReservedContext { key });
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
            code if refuses_credentials(code) => Err(StartError::BadCredentials(error)),
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
    #[error("{}", block::Reserved(key))]
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
