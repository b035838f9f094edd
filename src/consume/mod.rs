//! The way back: a stream → user records, in order per shard.
//!
//! ```text
//!            lineage: children after their parents
//!               │
//! shard 0 ──► reader ──► unpack ──┐                    GetRecords: paced, patient,  ─► shards (AWS SDK)
//! shard 1 ──► reader ──► unpack ──┼──► ConsumedBatch    its memory taken before it
//!   …        (one task each)      ┘    (bounded)
//! ```
//!
//! With enhanced fan-out a shard's reader is a `subscriber` to which events are pushed ([`fanout`], AWS SDK); all else is
//! the same.
//!
//! Owns reading from start to tip or for ever, and the memory for it: a page's worst case is taken out of
//! [`Settings::memory_limit`] before it is asked for or let in, and what it really took is given back when its batch
//! is dropped. Promises: each record once, in order within a shard, a shard's children after it; what can
//! not be opened is handed out with its reason, and the rest goes on. How far a shard is read is told with each batch
//! ([`Progress`]); [`checkpoint`] keeps it over a restart.
//!
//! # Without polling
//! Who is handed records, as an AWS Lambda function is, takes the [`Unpacker`] alone: bytes of Kinesis records in, user
//! records out, from aggregates, blocks and single messages. One is made when the process starts, and keeps the data keys
//! that it has had unwrapped.
//!
//! ```
//! use std::sync::Arc;
//! use kinseal::consume::shards::{ListedShard, StoredRecord};
//! use kinseal::consume::{Plaintext, Unpacker};
//! # use kinseal::seal::EncryptionContext;
//! # use kinseal::seal::open::{OpenSettings, Opener};
//! # use kinseal::seal::rawkey::WrappingKey;
//! # use kinseal::seal::sealer::Sealer;
//!
//! /// An event's records are of one shard. The first that failed is the answer: Lambda sends it, and what is behind it,
//! /// again, where `ReportBatchItemFailures` is set.
//! async fn handle(unpacker: &Unpacker, event: &serde_json::Value) -> serde_json::Value {
//!     let records = event["Records"].as_array().expect("an event of Kinesis");
//!     let stored = records.iter().map(|record| {
//!         let text = |name| record["kinesis"][name].as_str().unwrap_or_default();
//!         let data = base64_simd::STANDARD.decode_to_vec(text("data"));
//!         StoredRecord {
//!             sequence: text("sequenceNumber").into(),
//!             partition_key: text("partitionKey").into(),
//!             data: data.expect("Lambda sends base64").into(),
//!             arrived: None,
//!         }
//!     });
//!     // "shardId-000000000000:4959…"
//!     let id = records[0]["eventID"].as_str().unwrap_or_default();
//!     let shard = ListedShard::named(id.split(':').next().unwrap_or_default());
//!     for record in unpacker.unpack(&shard, stored.collect()).await {
//!         match record {
//!             Ok(record) => println!("{}", String::from_utf8_lossy(&record.data)),
//!             Err(unreadable) => {
//!                 eprintln!("{}: {}", unreadable.place.sequence, unreadable.reason);
//!                 let failed = &*unreadable.place.sequence;
//!                 return serde_json::json!({ "batchItemFailures": [{ "itemIdentifier": failed }] });
//!             }
//!         }
//!     }
//!     serde_json::json!({ "batchItemFailures": [] })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let context = EncryptionContext::from([("app".into(), "shop".into())]);
//! # let key = Arc::new(WrappingKey::new("my-company", "laptop", &[7; 32])?);
//! # let sealer = Sealer::new(key.clone(), context.clone(), Default::default(), Default::default())?;
//! # let good = sealer.seal_to_string(b"AMZN").await?;
//! # let event = serde_json::json!({ "Records": [
//! #     { "eventID": "shardId-000000000000:1", "kinesis": { "sequenceNumber": "1", "partitionKey": "a", "data": good } },
//! #     { "eventID": "shardId-000000000000:2", "kinesis": { "sequenceNumber": "2", "partitionKey": "a", "data": "cGxhaW4=" } },
//! # ] });
//! // At the start of the process. Under KMS the key is `KmsUnwrap::new(clients.kms, ["arn:aws:kms:…"])`.
//! let opener = Arc::new(Opener::new(vec![key], context, OpenSettings::default())?);
//! let unpacker = Unpacker::opening(opener, Plaintext::Refused, 1)?
//!     // An outage of KMS ends the call, and Lambda sends its records again.
//!     .without_waiting();
//!
//! // For each event.
//! let answer = handle(&unpacker, &event).await;
//! # assert_eq!(answer["batchItemFailures"][0]["itemIdentifier"], "2");
//! # Ok(())
//! # }
//! ```

pub mod checkpoint;
pub mod fanout;
pub mod letters;
mod lineage;
pub mod output;
mod page;
mod reader;
mod reading;
pub mod shards;
mod subscriber;
pub mod unpack;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

pub use self::fanout::{FanOutStream, SubscribeStream};
use self::reader::PAGE_WORST;
use self::reading::Reading;
pub use self::shards::{KinesisStream, ListStream, ReadStream};
pub use self::unpack::{Place, Plaintext, Reason, SealedInfo, Unpacker, Unreadable, UserRecord};
use self::way::{Way, unwound};
use crate::retry::refuses_credentials;
use crate::send::CallError;
use crate::shard::ShardId;
use crate::shutdown::Shutdown;

/// How to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub from: StartAt,
    /// These shards, and not what they become; `None`: all.
    pub only: Option<BTreeSet<ShardId>>,
    /// How far an earlier reading came, which goes before [`from`](Self::from). Empty: there was none.
    pub places: BTreeMap<ShardId, Progress>,
    /// End where all shards have been read to their tip.
    pub until_empty: bool,
    /// How long a shard at its tip is left alone.
    pub idle: Duration,
    /// Bytes of pages under way; at least one page's worst case.
    pub memory_limit: u32,
}

impl Default for Settings {
    /// Idle: the KCL's own. Memory: eight pages at their worst at once, hundreds of usual ones.
    fn default() -> Self {
        Self {
            from: StartAt::TrimHorizon,
            only: None,
            places: BTreeMap::new(),
            until_empty: false,
            idle: Duration::from_secs(1),
            memory_limit: 8 * PAGE_WORST,
        }
    }
}

/// Where to start. Shards that come up later are read from their beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    TrimHorizon,
    Latest,
    /// What arrived at this moment or later, by the service's clock.
    At(SystemTime),
}

/// How far a shard has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Reading began behind what lay there at this moment, and nothing has come since.
    Since(SystemTime),
    /// Up to the Kinesis record of this sequence number.
    UpTo(Arc<str>),
    /// To its end: nothing more will come in it.
    Ended,
}

/// User records of one shard that were read together, in order; none, where only its [`progress`](Self::progress) is
/// told. Holds its share of memory: reading stops while too many are kept.
#[derive(Debug)]
pub struct ConsumedBatch {
    pub shard: ShardId,
    pub records: Vec<Result<UserRecord, Unreadable>>,
    /// How far behind the tip the shard's reading was.
    pub behind: Duration,
    /// How far the shard is read once these have been seen to.
    pub progress: Progress,
    _memory: Option<OwnedSemaphorePermit>,
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    #[error(
        "the stream does not exist: check its name, the account and the region or endpoint ({0})"
    )]
    NoSuchStream(CallError),
    #[error(
        "access denied: allow kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords on it ({0})"
    )]
    Denied(CallError),
    #[error("the stream has no shard {shard}; it has {there}")]
    NoSuchShard { shard: ShardId, there: String },
    #[error(
        "{shard} begins behind that sequence number, which is of an earlier stream of that name, or of none: give one of this stream's"
    )]
    OfAnEarlierStream { shard: ShardId },
    #[error(
        "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this host a role ({0})"
    )]
    NoCredentials(CallError),
    #[error(
        "the AWS credentials are refused: renew or correct them, and check this host's clock ({0})"
    )]
    BadCredentials(CallError),
    #[error("Kinesis can not be reached: check network, endpoint and region ({0})")]
    Unreachable(CallError),
    #[error("its shards can not be listed: {0}")]
    List(CallError),
    #[error("{shard} can not be read: {error}")]
    Read { shard: ShardId, error: CallError },
    #[error(
        "access denied: allow kinesis:SubscribeToShard on the stream's consumer {consumer} (.../consumer/{consumer}:*) ({error})"
    )]
    NotSubscribed { consumer: String, error: CallError },
    #[error(
        "consumer {consumer} is not registered any more: somebody deregistered it; a new start registers it again ({error})"
    )]
    NoSuchConsumer { consumer: String, error: CallError },
}

impl ConsumeError {
    /// Why shards can not be listed, where waiting did not help or was given up.
    fn of_listing(error: CallError) -> Self {
        match error.code.as_str() {
            "NoCredentials" => Self::NoCredentials(error),
            "ConnectFailed" => Self::Unreachable(error),
            code if refuses_credentials(code) => Self::BadCredentials(error),
            _ => Self::List(error),
        }
    }
}

/// A stream that is being read. Dropping it ends reading.
#[derive(Debug)]
pub struct Consumer {
    batches: mpsc::Receiver<ConsumedBatch>,
    driver: JoinSet<Result<(), ConsumeError>>,
}

impl Consumer {
    /// Batches that wait to be taken. Few: memory is bounded by bytes, and this by what a slow taker should
    /// find waiting.
    const WAITING: usize = 64;

    /// Reads page by page, as everyone who reads the stream; they share each shard's 2 MiB a second.
    pub fn start(
        stream: Arc<dyn ReadStream>,
        unpacker: Unpacker,
        settings: Settings,
        shutdown: Shutdown,
    ) -> Self {
        Self::reading(Reading::Polled(stream), unpacker, settings, shutdown)
    }

    /// Subscribes, with enhanced fan-out: nothing is shared with other readers, and what comes is there sooner.
    pub fn subscribe(
        stream: Arc<dyn SubscribeStream>,
        unpacker: Unpacker,
        settings: Settings,
        shutdown: Shutdown,
    ) -> Self {
        Self::reading(Reading::pushed(stream), unpacker, settings, shutdown)
    }

    fn reading(
        reading: Reading,
        unpacker: Unpacker,
        settings: Settings,
        shutdown: Shutdown,
    ) -> Self {
        let (out, batches) = mpsc::channel(Self::WAITING);
        let memory = settings.memory_limit.max(PAGE_WORST) as usize;
        let way = Arc::new(Way {
            reading,
            unpacker,
            settings,
            shutdown,
            memory: Arc::new(Semaphore::new(memory)),
            out,
        });
        let mut driver = JoinSet::new();
        driver.spawn(way.drive());
        Self { batches, driver }
    }

    /// The next batch of whichever shard. `None`: reading has ended, [`Self::finish`] says how. Cancel safe.
    pub async fn next(&mut self) -> Option<ConsumedBatch> {
        self.batches.recv().await
    }

    /// The same, for a thread that is not tokio's.
    pub fn blocking_next(&mut self) -> Option<ConsumedBatch> {
        self.batches.blocking_recv()
    }

    /// A batch that is there already.
    pub fn try_next(&mut self) -> Option<ConsumedBatch> {
        self.batches.try_recv().ok()
    }

    /// Why there are no more batches: all was read, stop was said, or an error. Batches that were not taken
    /// are lost.
    pub async fn finish(mut self) -> Result<(), ConsumeError> {
        self.batches.close();
        match self.driver.join_next().await {
            Some(ended) => unwound(ended),
            None => Ok(()),
        }
    }
}

impl ConsumedBatch {
    #[cfg(test)]
    pub(crate) fn for_test(shard: ShardId, records: Vec<Result<UserRecord, Unreadable>>) -> Self {
        Self {
            shard,
            records,
            behind: Duration::ZERO,
            progress: Progress::Ended,
            _memory: None,
        }
    }
}

#[cfg(test)]
mod tests;
