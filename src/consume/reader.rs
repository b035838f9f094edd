//! One shard, page by page.
//!
//! Owns the position: an iterator that expired is asked for again behind the last record that was given
//! out, so nothing is read twice or left out. Paces itself to the service's 5 calls a second, waits out
//! throttling and failures, and says once that something is wrong and once that it is over.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::shards::{Page, Position, ReadStream};
use crate::retry::{self, Backoff, Class, History, Verdict};
use crate::send::CallError;
use crate::shard::ShardId;

/// GetRecords allows 5 calls a second and shard.
const CALL_GAP: Duration = Duration::from_millis(200);

/// What one answer of GetRecords may take: 10 MiB of records, while they are parsed also their base64.
pub(super) const PAGE_WORST: u32 = 24 << 20;

/// Reads a shard from a position on.
#[derive(Debug)]
pub(super) struct ShardReader {
    stream: Arc<dyn ReadStream>,
    shard: ShardId,
    position: Position,
    iterator: Option<String>,
    /// When the next GetRecords may be made.
    next_call: Instant,
    patience: Patience,
}

impl ShardReader {
    pub(super) fn new(stream: Arc<dyn ReadStream>, shard: ShardId, position: Position) -> Self {
        Self {
            patience: Patience::new(format!("shard {shard}")),
            stream,
            shard,
            position,
            iterator: None,
            next_call: Instant::now(),
        }
    }

    /// The next page, and the memory it takes, out of `memory`. Waits as long as it takes; an error is one
    /// that waiting does not mend. After a page without `next` there is none.
    pub(super) async fn page(
        &mut self,
        memory: &Arc<Semaphore>,
    ) -> Result<(Page, OwnedSemaphorePermit), CallError> {
        loop {
            tokio::time::sleep_until(self.next_call).await;
            // For the call only: a shard that waits for the service must not keep memory from others.
            let permit = Arc::clone(memory).acquire_many_owned(PAGE_WORST).await;
            let permit = permit.expect("the semaphore is never closed");
            match self.try_page().await {
                Ok(page) => {
                    self.patience.worked();
                    return Ok((page, permit));
                }
                Err(error) => {
                    drop(permit);
                    let delay = self.patience.failed(&error).ok_or(error)?;
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    async fn try_page(&mut self) -> Result<Page, CallError> {
        let iterator = match self.iterator.take() {
            Some(iterator) => iterator,
            None => self.fresh_iterator().await?,
        };
        self.next_call = Instant::now() + CALL_GAP;
        match self.stream.page(&iterator).await {
            Ok(page) => {
                if let Some(last) = page.records.last() {
                    self.position = Position::After(Arc::clone(&last.sequence));
                }
                self.iterator = page.next.clone();
                Ok(page)
            }
            Err(error) => {
                // An expired one is no use again. Any other answers again as it would have.
                if error.code != "ExpiredIteratorException" {
                    self.iterator = Some(iterator);
                }
                Err(error)
            }
        }
    }

    async fn fresh_iterator(&mut self) -> Result<String, CallError> {
        let asked = SystemTime::now();
        let iterator = self.stream.iterator(&self.shard, &self.position).await?;
        // Should it expire before a record was seen, "latest" would be another place by then. Where the
        // clocks differ, a few records may come that were there before.
        if self.position == Position::Latest {
            self.position = Position::At(asked);
        }
        Ok(iterator)
    }
}

/// Waits between failures, each time longer, and tells of an outage once.
#[derive(Debug)]
pub(super) struct Patience {
    what: String,
    backoff: Backoff<StdRng>,
    failures: u32,
    alarms: bool,
    alarmed: bool,
}

impl Patience {
    /// Single failures are part of a network's day.
    const ALARM_AFTER: u32 = 3;

    pub(super) fn new(what: String) -> Self {
        Self {
            what,
            backoff: Backoff::new(
                retry::Settings::default(),
                StdRng::from_rng(&mut rand::rng()),
            ),
            failures: 0,
            alarms: true,
            alarmed: false,
        }
    }

    /// For who gives up soon, and says why.
    pub(super) fn silent(self) -> Self {
        Self {
            alarms: false,
            ..self
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait now; `None` where waiting does not help.
    pub(super) fn failed(&mut self, error: &CallError) -> Option<Duration> {
        if error.code == "ExpiredIteratorException" {
            return Some(Duration::ZERO);
        }
        let verdict = retry::judge(&error.code, error.status, &History::default());
        // What is not there, or asked wrongly, does not come by waiting.
        if verdict == Verdict::Isolate || error.code == "ResourceNotFoundException" {
            return None;
        }
        self.failures += 1;
        let tell = match verdict {
            // Others read the same shard: its throughput is shared, and slow is not broken.
            Verdict::Retry(Class::Throttled) => false,
            Verdict::Retry(_) => self.failures >= Self::ALARM_AFTER,
            Verdict::Outage | Verdict::Isolate | Verdict::Suspect => true,
        };
        if tell && self.alarms && !self.alarmed {
            self.alarmed = true;
            tracing::warn!(what = self.what, %error, "reading waits, and goes on when it heals");
        }
        Some(self.backoff.delay(self.failures))
    }

    pub(super) fn worked(&mut self) {
        self.failures = 0;
        if std::mem::take(&mut self.alarmed) {
            tracing::info!(what = self.what, "reading goes on");
        }
    }
}
