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

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, watch as value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::aggregate::reducer::Routes;
use crate::batch::{self, Limits, RecordLimit};
use crate::metrics::{Counters, Trouble};
use crate::record::StreamName;
use crate::recurring::{Recurring, Unsaid};
use crate::retry::{self, Backoff, refuses_credentials};
use crate::shard::{Description, Distribution, ListShards, ListShardsError, ShardMap};
use crate::source::Costs;

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

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) routes: Routes,
    pub(super) limits: Limits,
}

impl Facts {
    /// Not so where the service distributes records by itself.
    pub(super) fn are_by_keys(&self) -> bool {
        !matches!(self.routes, Routes::Auto)
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
        stream,
        batch,
        affordable,
        waiting,
        described: None,
        described_at: Arc::clone(&refresh.described),
        listed_at: Arc::clone(&refresh.listed),
        asked_at: Instant::now(),
        may_not_describe: false,
        may_not_list: false,
        seems_auto: false,
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

/// How a stream's description and its shards are waited for.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// How long before records go on without; `None`: as long as it takes.
    pub(super) unlisted_after: Option<Duration>,
    pub(super) undescribed_after: Option<Duration>,
    /// Whose trouble it is, and whose records wait.
    pub(super) counters: Arc<Counters>,
    /// Asks on although no record waits.
    pub(super) when_idle: bool,
}

/// Tries after which nobody asks on for no record's sake.
const IDLE_AFTER: u32 = 5;
/// Between two looks whether there is one.
const IDLE_LOOK: Duration = Duration::from_secs(1);

impl Waiting {
    /// Whether a service takes the credentials, as its answer says.
    fn hear(&self, error: Option<&ListShardsError>) {
        let troubles = &self.counters.troubles;
        match error {
            Some(error) if refuses_credentials(&error.code) => {
                troubles.begin(Trouble::RefusedCredentials);
            }
            Some(_) => {}
            None => troubles.end(Trouble::RefusedCredentials),
        }
    }

    /// Until there is a record to ask for.
    async fn until_wanted(&self, attempts: u32) {
        let is_idle = || !self.when_idle && self.counters.snapshot().pending == 0;
        while attempts >= IDLE_AFTER && is_idle() {
            tokio::time::sleep(IDLE_LOOK).await;
        }
    }
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
    stream: StreamName,
    batch: batch::Settings,
    affordable: usize,
    waiting: Waiting,
    /// `None` until the first answer.
    described: Option<Description>,
    described_at: Arc<Mutex<Instant>>,
    /// When the latest listing was asked for that the facts are by, and the latest one of all.
    listed_at: Arc<Mutex<Instant>>,
    asked_at: Instant,
    /// Denied, and said so.
    may_not_describe: bool,
    may_not_list: bool,
    /// Where nobody may ask: by where records are stored.
    seems_auto: bool,
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
                tokio::time::sleep_until(self.described_at() + DOUBT_PAUSE).await;
                self.describe_at_last().await;
                routes = self.routes().await;
                if is_published(&routes) && requested.notified().now_or_never().is_some() {
                    self.assume_auto();
                    routes = self.routes().await;
                }
            }
            let limits = self.limits();
            latest.send_modify(|latest| match latest {
                // The keys drawn for its shards stay.
                Some(old) if old.routes == routes => old.limits = limits,
                _ => *latest = Some(Facts { routes, limits }),
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
        let limits = self.limits();
        let mut describing = pin!(self.describe_at_last());
        if tokio::time::timeout(patience, &mut describing)
            .await
            .is_err()
        {
            let routes = Routes::Unpredictable;
            latest.send_replace(Some(Facts { routes, limits }));
            describing.await;
        }
    }

    /// The first there are. Meanwhile none are better than none for ever.
    async fn first_routes(&mut self, latest: &value::Sender<Option<Facts>>) -> Routes {
        let (stream, limits) = (self.stream.clone(), self.limits());
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
        let routes = Routes::Unpredictable;
        latest.send_replace(Some(Facts { routes, limits }));
        listed.await
    }

    /// Waits for an answer: aggregates in a stream that distributes by itself are lost on its readers.
    async fn describe_at_last(&mut self) {
        let (shards, stream) = (Arc::clone(&self.shards), self.stream.clone());
        let failing = &mut self.undescribed;
        let waiting = &self.waiting;
        let answer = until_answered(&stream, "DescribeStreamSummary", failing, waiting, || {
            shards.describe(&stream)
        });
        let answer = answer.await;
        self.take(answer);
    }

    /// Once: what is known serves until the next time.
    async fn describe_again(&mut self) {
        let answer = self.shards.describe(&self.stream).await;
        match answer {
            Err(error) if !error.is_denied() => {
                tracing::debug!(stream = %self.stream, %error, "DescribeStreamSummary failed; asked again later");
            }
            answer => self.take(answer),
        }
    }

    /// An answer: a description, or that there will be none.
    fn take(&mut self, answer: Result<Description, ListShardsError>) {
        *self.described_at.lock().expect("no panic while held") = Instant::now();
        let stream = &self.stream;
        match answer {
            Ok(description) => {
                if description.max_record_bytes
                    != self
                        .described
                        .and_then(|described| described.max_record_bytes)
                {
                    self.say_limits(&description);
                }
                let was_by_key = self.distributes_by_key();
                match description.distribution {
                    Distribution::Auto if was_by_key => tracing::warn!(
                        %stream,
                        "the stream's RecordDistributionStrategy is AUTO: keys are ignored, so nothing is aggregated, \
                         and explicit hash keys are left out"
                    ),
                    Distribution::ByKey if !was_by_key => tracing::warn!(
                        %stream,
                        "the stream's RecordDistributionStrategy is USER_PARTITION_KEY again: keys count"
                    ),
                    _ => {}
                }
                self.described = Some(description);
                self.may_not_describe = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.may_not_describe, true) {
                    tracing::warn!(
                        %stream, %error,
                        "kinesis:DescribeStreamSummary is denied: assuming that records are distributed by key, and, where \
                         batch.max_record_bytes is not set, that one may have 1 MiB"
                    );
                }
            }
        }
    }

    fn limits(&self) -> Limits {
        let of_the_stream = self.described.and_then(|d| d.max_record_bytes);
        (self.batch).limits(
            of_the_stream.unwrap_or(Limits::LEAST_OF_A_STREAM),
            self.affordable,
        )
    }

    fn say_limits(&self, description: &Description) {
        let (RecordLimit::OfTheStream | RecordLimit::OfTheStreamAlone, Some(taken)) =
            (self.batch.max_record_bytes, description.max_record_bytes)
        else {
            return;
        };
        let (stream, limit) = (&self.stream, self.batch.limits(taken, self.affordable));
        let limit = limit.max_record_bytes;
        if limit < taken && self.batch.max_bytes == Some(limit) {
            tracing::warn!(
                %stream, taken, limit,
                "the stream takes larger records than batch.max_bytes allows: larger ones become dead letters; raise it"
            );
        } else if limit < taken {
            let copies = Costs::COPIES_OF_A_RECORD;
            tracing::warn!(
                %stream, taken, limit,
                "the stream takes larger records than memory_limit has room for: larger ones become dead letters; \
                 raise it until the stream's share of it is {copies} times the largest record"
            );
        } else {
            tracing::info!(%stream, limit, "the stream says how large a record may be");
        }
    }

    /// The facts are what the latest listing says.
    fn is_published(&self) {
        *self.listed_at.lock().expect("no panic while held") = self.asked_at;
    }

    fn described_at(&self) -> Instant {
        *self.described_at.lock().expect("no panic while held")
    }

    /// Without permission to ask, assumes what nearly all streams do, until the evidence is against it.
    fn distributes_by_key(&self) -> bool {
        match self.described {
            Some(description) => description.distribution == Distribution::ByKey,
            None => !self.seems_auto,
        }
    }

    /// The listing has been the same for as long as doubts wait, and records go on being stored elsewhere than it says.
    /// Where nobody may ask why, they go unaggregated, which is right wherever they land; else each aggregate that
    /// lands elsewhere would be sent again for ever.
    fn assume_auto(&mut self) {
        if self.described.is_none() && !std::mem::replace(&mut self.seems_auto, true) {
            tracing::warn!(
                stream = %self.stream,
                "records are stored on other shards than the listing says, and kinesis:DescribeStreamSummary, which would say \
                 why, is denied: taken for a stream whose RecordDistributionStrategy is AUTO. Nothing is aggregated from now \
                 on; allow it for this identity"
            );
        }
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
                    if !self.distributes_by_key() {
                        return None;
                    }
                }
            }
        }
    }

    async fn routes(&mut self) -> Routes {
        self.asked_at = Instant::now();
        if !self.distributes_by_key() {
            return Routes::Auto;
        }
        let (shards, stream) = (Arc::clone(&self.shards), self.stream.clone());
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

/// Tries until there is an answer or it is denied.
async fn until_answered<T, F>(
    stream: &StreamName,
    operation: &str,
    failing: &mut Recurring,
    waiting: &Waiting,
    call: impl Fn() -> F,
) -> Result<T, ListShardsError>
where
    F: Future<Output = Result<T, ListShardsError>>,
{
    let mut backoff = Backoff::new(
        retry::Settings::default(),
        StdRng::from_rng(&mut rand::rng()),
    );
    let mut attempts = 0;
    loop {
        match call().await {
            Err(error) if !error.is_denied() => {
                attempts += 1;
                waiting.hear(Some(&error));
                if let Some(Unsaid(others)) = failing.goes_on(Instant::now()) {
                    tracing::warn!(
                        %stream, %error, attempts, others_unsaid = others,
                        "{operation} failed; trying until it succeeds"
                    );
                }
            }
            answer => {
                waiting.hear(None);
                if let Some(down_for) = failing.end(Instant::now()) {
                    tracing::info!(%stream, ?down_for, "{operation} is answered again");
                }
                return answer;
            }
        }
        tokio::time::sleep(backoff.delay(attempts)).await;
        waiting.until_wanted(attempts).await;
    }
}

#[cfg(test)]
mod tests;
