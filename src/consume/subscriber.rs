//! One shard, event by event, through one subscription after the other.
//!
//! Owns the position: what ends or breaks, as each subscription does after five minutes, is followed by one that goes on
//! behind what was given out, so nothing is read twice or left out. Paces itself to the service's one call a second, waits
//! for a consumer's earlier subscription to be gone, and waits out failures as the polling reader does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::fanout::{Room, SubscribeStream, Subscription};
use super::reader::Patience;
use super::shards::{Page, Position};
use super::way::denied;
use crate::send::CallError;
use crate::shard::ShardId;

/// SubscribeToShard allows one call a second for each consumer and shard.
const CALL_GAP: Duration = Duration::from_secs(1);

/// For five seconds after one that succeeded a call is refused, be it of this process or of one that was killed. What
/// lasts longer is told.
const IN_USE_FOR: Duration = Duration::from_secs(10);

/// What one shard's subscriber knows for all.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    /// Access was there once.
    is_allowed: AtomicBool,
    /// It was told that somebody else subscribes as the same consumer.
    is_told: AtomicBool,
}

/// Reads a shard from a position on.
#[derive(Debug)]
pub(super) struct ShardSubscriber {
    stream: Arc<dyn SubscribeStream>,
    known: Known,
    shard: ShardId,
    position: Position,
    subscribed: Option<Subscribed>,
    /// When the next SubscribeToShard may be made.
    next_call: Instant,
    patience: Patience,
    /// Since when calls are refused because there is a subscription.
    in_use: Option<Instant>,
}

#[derive(Debug)]
struct Subscribed {
    events: Box<dyn Subscription>,
    room: Room,
}

impl ShardSubscriber {
    pub(super) fn new(
        stream: Arc<dyn SubscribeStream>,
        known: Known,
        shard: ShardId,
        position: Position,
    ) -> Self {
        Self {
            patience: Patience::new(format!("shard {shard}")),
            stream,
            known,
            shard,
            position,
            subscribed: None,
            next_call: Instant::now(),
            in_use: None,
        }
    }

    /// The next event, and the memory it takes, out of `memory`. Waits as long as it takes; an error is one
    /// that waiting does not mend. After a page without `next` there is none.
    pub(super) async fn page(
        &mut self,
        memory: &Arc<Semaphore>,
    ) -> Result<(Page, OwnedSemaphorePermit), CallError> {
        loop {
            let mut subscribed = match self.subscribed.take() {
                Some(subscribed) => subscribed,
                None => self.subscribe(memory).await?,
            };
            match subscribed.events.next().await {
                Ok(Some(page)) => {
                    self.patience.worked();
                    let permit = subscribed.room.of_event().await;
                    self.go_on_behind(&page);
                    self.subscribed = Some(subscribed);
                    return Ok((page, permit));
                }
                // Its time is over: the next one goes on.
                Ok(None) => {}
                Err(error) if is_in_use(&error) => self.tell_taken_over(),
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    /// A record's own number says exactly what it is behind. Where there was none the service's word is all there is, and
    /// worth having: it may have passed over hours without records.
    fn go_on_behind(&mut self, page: &Page) {
        let continuation = page.next.as_deref().filter(|next| !next.is_empty());
        if let Some(last) = page.records.last() {
            self.position = Position::After(Arc::clone(&last.sequence));
        } else if let Some(continuation) = continuation {
            self.position = Position::After(continuation.into());
        }
    }

    async fn subscribe(&mut self, memory: &Arc<Semaphore>) -> Result<Subscribed, CallError> {
        loop {
            tokio::time::sleep_until(self.next_call).await;
            self.next_call = Instant::now() + CALL_GAP;
            tracing::debug!(shard = %self.shard, from = ?self.position, "subscribing");
            let (asked, room) = (SystemTime::now(), Room::new(Arc::clone(memory)));
            let call = self
                .stream
                .subscribe(&self.shard, &self.position, room.clone());
            match call.await {
                Ok(events) => {
                    self.in_use = None;
                    self.known.0.is_allowed.store(true, Ordering::Relaxed);
                    // Should it end before anything was seen, "latest" would be another place by then. Where the
                    // clocks differ, a few records may come that were there before.
                    if self.position == Position::Latest {
                        self.position = Position::At(asked);
                    }
                    return Ok(Subscribed { events, room });
                }
                Err(error) if is_in_use(&error) => self.is_in_use_still(&error),
                // Before it ever worked it is a mistake in policy or credentials.
                Err(error) if denied(&error) && !self.is_allowed() => return Err(error),
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    async fn wait_out(&mut self, error: CallError) -> Result<(), CallError> {
        let delay = self.patience.failed(&error).ok_or(error)?;
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// The other is waited for at the pace of calls, until it is gone or can be taken over.
    fn is_in_use_still(&mut self, error: &CallError) {
        let since = *self.in_use.get_or_insert_with(Instant::now);
        if since.elapsed() > IN_USE_FOR {
            // For what it tells; the pace stays.
            self.patience.failed(error);
        }
    }

    fn is_allowed(&self) -> bool {
        self.known.0.is_allowed.load(Ordering::Relaxed)
    }

    /// Once is enough for all shards.
    fn tell_taken_over(&self) {
        if !self.known.0.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                consumer = self.stream.consumer(),
                shard = %self.shard,
                "somebody else subscribes as the same consumer, and each takes over from the other every few seconds: \
                 give each reader a name of its own"
            );
        }
    }
}

fn is_in_use(error: &CallError) -> bool {
    error.code == "ResourceInUseException"
}
