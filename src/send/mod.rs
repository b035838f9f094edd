//! Batches → the service, and its answer for each entry.

pub mod body;
pub mod kinesis;
pub(crate) mod reading;
pub mod window;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::body::Protocol;
use crate::batch::Batch;
use crate::record::StreamName;
use crate::retry;

/// The `[delivery]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Percent of a shard's quota (1 MiB/s, 1,000 records/s) that this agent may use.
    pub rate_limit: u32,
    /// PutRecords calls under way at once, per stream.
    pub max_in_flight: usize,
    /// A whole PutRecords call; longer, and its outcome is unknown.
    pub request_timeout: Duration,
    pub connect_timeout: Duration,
    /// How long a record may wait to be stored; `None`: for ever.
    pub record_ttl: Option<Duration>,
    /// How long records of callers that are told of each may wait to be sealed, where what is sealed may wait for ever; `None`: as above.
    pub unsealed_ttl: Option<Duration>,
    /// What is throttled is given up, and not sent again: for callers that are told of it.
    pub fail_if_throttled: bool,
    pub ordering: Ordering,
    pub protocol: Protocol,
    pub retry: retry::Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// None, as with PutRecords itself.
    None,
    /// Records of one key arrive in order, across retries too: one request in flight per shard.
    PartitionKey,
}

impl Settings {
    /// Ten thousand times the quota, which is no limit: load tests against stand-ins want none.
    pub const MOST_RATE_LIMIT: u32 = 1_000_000;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate_limit: 100,
            max_in_flight: 16,
            request_timeout: Duration::from_secs(6),
            connect_timeout: Duration::from_secs(6),
            record_ttl: None,
            unsealed_ttl: None,
            fail_if_throttled: false,
            ordering: Ordering::None,
            protocol: Protocol::Json,
            retry: retry::Settings::default(),
        }
    }
}

/// Calls that may be under way at once in a process, for all of its streams together.
#[derive(Debug, Clone, Default)]
pub struct Connections(Option<Arc<Semaphore>>);

impl Connections {
    pub fn at_most(calls: usize) -> Self {
        Self(Some(Arc::new(Semaphore::new(calls))))
    }

    /// Waits for its turn, which lasts until it is dropped. Without a bound there is nothing to wait for. Cancel safe.
    pub async fn one(&self) -> Option<OwnedSemaphorePermit> {
        let calls = Arc::clone(self.0.as_ref()?);
        Some(calls.acquire_owned().await.expect("it is never closed"))
    }
}

/// Makes one PutRecords call. Retries nothing: that is for whoever knows the records.
pub trait PutRecords: Send + Sync + fmt::Debug {
    fn put_records<'a>(
        &'a self,
        stream: &'a StreamName,
        batch: &'a Batch,
    ) -> BoxFuture<'a, CallOutcome>;
}

/// What a call came to.
#[derive(Debug)]
pub enum CallOutcome {
    /// An answer for each entry, in the order they were sent.
    Answered(Vec<EntryOutcome>),
    /// Refused as a whole, or no usable answer came.
    Failed(CallError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryOutcome {
    Stored { shard: Arc<str>, sequence: Arc<str> },
    Refused { code: String, message: String },
}

impl EntryOutcome {
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if is_throttling(code))
    }
}

/// Whether an entry's error code says that its shard takes no more just now.
pub fn is_throttling(code: &str) -> bool {
    let throttled = retry::Verdict::Retry(retry::Class::Throttled);
    retry::judge(code, Some(200), &retry::History::default()) == throttled
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    pub code: String,
    pub message: String,
    /// Absent where no usable answer came: the records may have been stored.
    pub status: Option<u16>,
}
