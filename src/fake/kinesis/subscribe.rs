//! SubscribeToShard: a shard's records, pushed as they come.
//!
//! A subscription ends after five minutes, at its shard's end, when another takes it over, or when nobody listens. Owns
//! nothing of the shard: it reads the ring as GetRecords does, from a place of its own.
//!
//! Sources: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html> and
//! API_SubscribeToShardEvent. That the event at a shard's end has children and no ContinuationSequenceNumber is what the
//! KCL holds it to (`FanOutRecordsPublisher`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::consumers::Consumer;
use super::read::{MOST_RECORDS, Place, render_with};
use super::shard::{Batch, READ_BYTES_PER_SECOND, Shard};
use super::throttle::Bucket;
use super::{Kinesis, Stream};
use crate::fake::clock::Clock;
use crate::fake::counters::{Tally, add};
use crate::fake::protocol::{ApiError, parse};

/// Where nothing comes, an empty event does this often. Guess: the KCL takes a minute without any for a broken
/// subscription.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Data and keys of one event, or one record. Guess: what a second's quota lets through.
const MOST_BYTES: usize = 2 << 20;
/// How long one waits that has used up its 2 MiB a second.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SubscribeToShard {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    starting_position: Option<StartingPosition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    r#type: Option<String>,
    sequence_number: Option<String>,
    timestamp: Option<f64>,
}

/// A consumer's subscriptions, by shard: when each was made, and what ends it.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Mutex<BTreeMap<String, Subscribed>>);

#[derive(Debug)]
struct Subscribed {
    since: Duration,
    end: watch::Sender<Option<End>>,
}

/// Why a subscription is told to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A later call has taken its place.
    TakenOver,
    /// Its consumer is gone.
    Deregistered,
}

/// What happens on a shard, from a place on.
#[derive(Debug)]
pub(crate) struct Subscription {
    stream: Arc<Stream>,
    shard: Arc<Shard>,
    position: u64,
    ends: Duration,
    told: watch::Receiver<Option<End>>,
    /// 2 MiB a second, of its own; `None`: not enforced.
    quota: Option<Bucket>,
    clock: Clock,
    tally: Arc<Tally>,
}

/// What is told to a subscriber.
#[derive(Debug)]
pub(crate) enum Told {
    Records(Vec<u8>),
    Exception(ApiError),
}

impl Kinesis {
    pub(super) fn subscribe(&self, body: &[u8]) -> Result<Subscription, ApiError> {
        let request: SubscribeToShard = parse(body)?;
        let missing = |member: &'static str| move || ApiError::missing(member);
        let arn = request.consumer_arn.ok_or_else(missing("consumerARN"))?;
        let shard = request.shard_id.ok_or_else(missing("shardId"))?;
        let from = request
            .starting_position
            .ok_or_else(missing("startingPosition"))?;
        let (stream, consumer) = self.consumer(&arn)?;
        let shard = self.shard(&stream, &shard)?;
        let place = Place {
            kind: from.r#type.as_deref(),
            sequence: from.sequence_number.as_deref(),
            timestamp: from.timestamp,
        };
        let position = place.position(&shard)?;
        let now = self.clock.now();
        if !consumer.is_active(now) {
            return Err(in_use(format!("Consumer {arn} is not ACTIVE.")));
        }
        let told =
            consumer
                .subscribers
                .take(&consumer, shard.id(), now, self.limits.subscription_gap)?;
        let quota = self.limits.read_quota;
        Ok(Subscription {
            stream,
            shard,
            position,
            ends: now + self.limits.subscription,
            told,
            quota: quota.then(|| Bucket::full(READ_BYTES_PER_SECOND, now)),
            clock: self.clock.clone(),
            tally: Arc::clone(&self.tally),
        })
    }
}

fn in_use(message: String) -> ApiError {
    ApiError::new("ResourceInUseException", message)
}

impl Subscribers {
    /// A new subscription in the place of an older one; too soon after that, it is refused.
    fn take(
        &self,
        consumer: &Consumer,
        shard: &str,
        now: Duration,
        gap: Duration,
    ) -> Result<watch::Receiver<Option<End>>, ApiError> {
        let mut subscribed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = subscribed.get(shard) {
            if now < earlier.since + gap {
                return Err(in_use(format!(
                    "Another active subscription exists for this consumer: {} and shard {shard}",
                    consumer.arn()
                )));
            }
            earlier.end.send_replace(Some(End::TakenOver));
        }
        let (end, told) = watch::channel(None);
        subscribed.insert(shard.to_owned(), Subscribed { since: now, end });
        Ok(told)
    }

    pub(super) fn end_all(&self) {
        let mut subscribed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for subscription in std::mem::take(&mut *subscribed).values() {
            subscription.end.send_replace(Some(End::Deregistered));
        }
    }
}

impl Subscription {
    /// Until it ends, or nobody takes what is told.
    pub(crate) async fn run(mut self, out: mpsc::Sender<Told>) {
        let mut last_told = None;
        loop {
            // Before the shard is read: a record may come in between.
            let shard = Arc::clone(&self.shard);
            let changed = shard.changed.notified();
            let now = self.clock.now();
            let end = *self.told.borrow();
            if let Some(end) = end {
                // Nobody may listen any more.
                let _ = out.send(Told::Exception(self.reason(end))).await;
                return;
            }
            if now >= self.ends {
                return;
            }
            let mut next_look = self.ends;
            if self.may_read(now) {
                let batch = self.shard.read(self.position, MOST_RECORDS, MOST_BYTES);
                let ended = batch.next.is_none();
                let heartbeat = last_told.map(|told: Duration| told + HEARTBEAT);
                let is_due = heartbeat.is_none_or(|heartbeat| now >= heartbeat);
                if !batch.records.is_empty() || ended || is_due {
                    let told = Told::Records(self.event(&batch));
                    if out.send(told).await.is_err() || ended {
                        return;
                    }
                    // After records an empty event comes at once: the tip is told.
                    last_told = batch.records.is_empty().then_some(now);
                    continue;
                }
                next_look = next_look.min(heartbeat.unwrap_or(now));
            } else {
                next_look = next_look.min(now + PAUSE);
            }
            tokio::select! {
                () = changed => {}
                () = self.clock.until(next_look) => {}
                _ = self.told.changed() => {}
                () = out.closed() => return,
            }
        }
    }

    fn may_read(&mut self, now: Duration) -> bool {
        self.quota.as_mut().is_none_or(|quota| quota.has(1, now))
    }

    /// What was read, which is paid for, and where to go on.
    fn event(&mut self, batch: &Batch) -> Vec<u8> {
        if let Some(quota) = &mut self.quota {
            quota.take(batch.size());
        }
        add(&self.tally.records_read, batch.records.len());
        let continuation = batch.next.map(|next| {
            self.position = next;
            // What comes after it is what was not read.
            let read = self.shard.sequence(next.saturating_sub(1));
            ("ContinuationSequenceNumber", read)
        });
        let now = self.clock.now_millis();
        render_with(&self.stream, &self.shard, batch, continuation, now)
    }

    fn reason(&self, end: End) -> ApiError {
        match end {
            End::TakenOver => in_use(format!(
                "Another subscription of this consumer to shard {} has taken over.",
                self.shard.id()
            )),
            End::Deregistered => ApiError::new(
                "ResourceNotFoundException",
                "The consumer is not registered any more.",
            ),
        }
    }
}
