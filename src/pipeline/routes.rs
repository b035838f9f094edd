//! Keeps what is known of the stream, its shards and the records it takes: read at the start, on evidence that it is wrong, and by age.
//! Meanwhile what was known goes on serving.
//!
//! - *Evidence* is an entry that was stored elsewhere than the map says, or a stream that is not found: it brings a
//!   new listing.
//! - *Age* brings a new listing too, and a new description. Who distributes the records can be switched while the
//!   agent runs, and where a stream has one shard, or nothing is aggregated, no entry would tell. Nor would one tell
//!   that larger records are taken.
//! - *Doubt* is evidence that a new listing does not explain: then the stream may no longer distribute by key, and
//!   is described anew before anything is judged by the map. The entries in question wait for that. So it is while a
//!   listing fails.

mod asked;
mod described;

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch as value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(super) use self::asked::Waiting;
use self::asked::until_answered;
use self::described::Described;
use crate::aggregate::reducer::Routes;
use crate::batch::{self, Limits};
use crate::record::StreamName;
use crate::recurring::Recurring;
use crate::shard::{ListShards, ListShardsError, ShardMap};

/// Asks for a new listing, and tells how old the description is.
#[derive(Debug, Clone)]
pub(super) struct Refresh {
    requested: Arc<Notify>,
    described: Arc<Mutex<Instant>>,
    listed: Arc<Mutex<Instant>>,
}

impl Refresh {
    /// Any number of times before the next listing makes one listing.
    pub(super) fn request(&self) {
        self.requested.notify_one();
    }

    /// Whether it was asked since then who distributes the stream's records, and the latest facts are by that.
    pub(super) fn is_described_since(&self, then: Instant) -> bool {
        *self.described.lock().expect("no panic while held") > then
    }

    /// Whether a listing that was asked for since then came, and the latest facts are by that.
    pub(super) fn is_listed_since(&self, then: Instant) -> bool {
        *self.listed.lock().expect("no panic while held") >= then
    }
}

/// Between two listings at least: evidence comes entry by entry.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two listings at most, in milliseconds: five minutes, and a fifth more or less, drawn anew each time, so
/// that agents that were started together do not ask together.
///
/// ListShards takes 1,000 calls a second for each stream, and DescribeStreamSummary 20 for each account
/// (<https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>): at this pace 6,000 pipelines of an
/// account ask the second 20 times a second. The KPL's description has the same age.
const AGE_MILLIS: RangeInclusive<u64> = 240_000..=360_000;

/// Between two descriptions in doubt: a switched stream is doubted by all its agents at once, and they share the
/// account's 20 calls a second. A guess.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// So long, records wait for a listing: at the start, and where they were stored elsewhere than the latest one said.
/// Then they go on as if there were none to come, until one does. Twice the ten seconds that a stream's description may
/// take to be asked for again: whether the service distributes records by itself is not to be guessed.
pub(super) const WAIT_FOR_LISTING: Duration = Duration::from_secs(20);

/// The same for records with a time to live, who want an answer within it.
pub(super) fn wait_within(ttl: Duration) -> Duration {
    WAIT_FOR_LISTING.min(ttl / 2)
}

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) routes: Routes,
    pub(super) limits: Limits,
    /// Else the routes are what nearly all streams have.
    pub(super) is_described: bool,
}

impl Facts {
    /// Not so where the service distributes records by itself; `None` where that is not known.
    pub(super) fn are_by_keys(&self) -> Option<bool> {
        match self.routes {
            Routes::Auto => Some(false),
            Routes::Known(_) | Routes::Unpredictable => self.is_described.then_some(true),
        }
    }
}

/// The latest facts, `None` until the first listing, or `unlisted_after` so long without, or `undescribed_after`
/// without a description. `affordable`: bytes of the largest record that memory has room for.
pub(super) fn watch(
    shards: Arc<dyn ListShards>,
    stream: StreamName,
    batch: batch::Settings,
    affordable: usize,
    waiting: Waiting,
) -> (Refresh, value::Receiver<Option<Facts>>, JoinHandle<()>) {
    let (tx, rx) = value::channel(None);
    let refresh = Refresh {
        requested: Arc::default(),
        described: Arc::new(Mutex::new(Instant::now())),
        listed: Arc::new(Mutex::new(Instant::now())),
    };
    let requested = Arc::clone(&refresh.requested);
    let upkeep = Upkeep {
        shards,
        described: Described {
            stream,
            batch,
            affordable,
            latest: None,
            at: Arc::clone(&refresh.described),
            is_denied: false,
            seems_auto: false,
        },
        waiting,
        listed_at: Arc::clone(&refresh.listed),
        asked_at: Instant::now(),
        may_not_list: false,
        undescribed: Recurring::default(),
        unlisted: Recurring::default(),
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = upkeep.run(&requested, &tx) => {}
            () = tx.closed() => {}
        }
    });
    (refresh, rx, task)
}

/// Why something is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Evidence,
    Age,
}

#[derive(Debug)]
struct Upkeep {
    shards: Arc<dyn ListShards>,
    described: Described,
    waiting: Waiting,
    /// When the latest listing was asked for that the facts are by, and the latest one of all.
    listed_at: Arc<Mutex<Instant>>,
    asked_at: Instant,
    /// Denied, and said so.
    may_not_list: bool,
    undescribed: Recurring,
    unlisted: Recurring,
}

impl Upkeep {
    async fn run(mut self, requested: &Notify, latest: &value::Sender<Option<Facts>>) {
        self.first_description(latest).await;
        let mut first = Some(self.first_routes(latest).await);
        let mut cause = Cause::Age;
        let is_published = |routes: &Routes| {
            let published = latest.borrow();
            published
                .as_ref()
                .is_some_and(|facts| facts.routes == *routes)
        };
        loop {
            let mut routes = match first.take() {
                Some(routes) => routes,
                None => self.routes().await,
            };
            if cause == Cause::Evidence
                && matches!(routes, Routes::Known(_))
                && is_published(&routes)
            {
                self.is_published();
                tokio::time::sleep_until(self.described.at() + DOUBT_PAUSE).await;
                self.describe_at_last().await;
                routes = self.routes().await;
                if is_published(&routes) && requested.notified().now_or_never().is_some() {
                    self.described.assume_auto();
                    routes = self.routes().await;
                }
            }
            let facts = self.described.facts(routes);
            latest.send_modify(|latest| match latest {
                // The keys drawn for its shards stay.
                Some(old) if old.routes == facts.routes => {
                    old.limits = facts.limits;
                    old.is_described = facts.is_described;
                }
                _ => *latest = Some(facts),
            });
            self.is_published();
            let age = Duration::from_millis(rand::random_range(AGE_MILLIS));
            let aged = Instant::now() + age;
            tokio::time::sleep(PAUSE).await;
            cause = tokio::select! {
                () = requested.notified() => Cause::Evidence,
                () = tokio::time::sleep_until(aged) => Cause::Age,
            };
            if cause == Cause::Age {
                self.describe_again().await;
            }
        }
    }

    /// Who gives records a time to live has them fail sooner than wait: they go on without aggregation, which is right
    /// for whoever distributes them.
    async fn first_description(&mut self, latest: &value::Sender<Option<Facts>>) {
        let Some(patience) = self.waiting.undescribed_after else {
            return self.describe_at_last().await;
        };
        let facts = self.described.facts(Routes::Unpredictable);
        let mut describing = pin!(self.describe_at_last());
        if tokio::time::timeout(patience, &mut describing)
            .await
            .is_err()
        {
            latest.send_replace(Some(facts));
            describing.await;
        }
    }

    /// The first there are. Meanwhile none are better than none for ever.
    async fn first_routes(&mut self, latest: &value::Sender<Option<Facts>>) -> Routes {
        let stream = self.described.stream.clone();
        let facts = self.described.facts(Routes::Unpredictable);
        let Some(patience) = self.waiting.unlisted_after else {
            return self.routes().await;
        };
        let mut listed = pin!(self.routes());
        if let Ok(routes) = tokio::time::timeout(patience, &mut listed).await {
            return routes;
        }
        tracing::warn!(
            %stream,
            "no listing of shards since the start: records go on without, and nothing is aggregated until one comes"
        );
        latest.send_replace(Some(facts));
        listed.await
    }

    /// Waits for an answer: aggregates in a stream that distributes by itself are lost on its readers.
    async fn describe_at_last(&mut self) {
        let (shards, stream) = (Arc::clone(&self.shards), self.described.stream.clone());
        let failing = &mut self.undescribed;
        let waiting = &self.waiting;
        let answer = until_answered(&stream, "DescribeStreamSummary", failing, waiting, || {
            shards.describe(&stream)
        });
        let answer = answer.await;
        self.described.take(answer);
    }

    /// Once: what is known serves until the next time.
    async fn describe_again(&mut self) {
        let answer = self.shards.describe(&self.described.stream).await;
        match answer {
            Err(error) if !error.is_denied() => {
                tracing::debug!(stream = %self.described.stream, %error, "DescribeStreamSummary failed; asked again later");
            }
            answer => self.described.take(answer),
        }
    }

    /// The facts are what the latest listing says.
    fn is_published(&self) {
        *self.listed_at.lock().expect("no panic while held") = self.asked_at;
    }

    /// That the service distributes records by itself now, no listing would tell that does not come: `None` then.
    async fn unless_auto<T>(&mut self, listed: impl Future<Output = T>) -> Option<T> {
        let mut listed = pin!(listed);
        loop {
            tokio::select! {
                biased;
                listed = &mut listed => return Some(listed),
                () = tokio::time::sleep(DOUBT_PAUSE) => {
                    self.describe_again().await;
                    if !self.described.distributes_by_key() {
                        return None;
                    }
                }
            }
        }
    }

    async fn routes(&mut self) -> Routes {
        self.asked_at = Instant::now();
        if !self.described.distributes_by_key() {
            return Routes::Auto;
        }
        let (shards, stream) = (Arc::clone(&self.shards), self.described.stream.clone());
        // Aside, since the stream may have to be described meanwhile.
        let mut failing = std::mem::take(&mut self.unlisted);
        let waiting = self.waiting.clone();
        let listed = until_answered(&stream, "ListShards", &mut failing, &waiting, || async {
            let asked = Instant::now();
            let listed = shards.list_shards(&stream).await?;
            let count = listed.len();
            let map = ShardMap::new(listed).ok_or_else(|| ListShardsError {
                code: "IncompleteListing".to_owned(),
                message: format!(
                    "the {count} open shards listed do not cover the hash key range once"
                ),
            })?;
            Ok((asked, map))
        });
        let listed = self.unless_auto(listed).await;
        self.unlisted = failing;
        match listed {
            None => Routes::Auto,
            Some(Ok((asked, map))) => {
                self.asked_at = asked;
                tracing::debug!(%stream, shards = map.shards().len(), "shard map");
                self.may_not_list = false;
                Routes::Known(Arc::new(map))
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut self.may_not_list, true) {
                    tracing::warn!(
                        %stream, %error,
                        "kinesis:ListShards is denied: nothing is aggregated, blocks hold records without a key only, \
                         and shards are given more than they take; allow it for this identity"
                    );
                }
                Routes::Unpredictable
            }
        }
    }
}

#[cfg(test)]
mod tests;
