//! One pipeline for each stream that the client names, made when it first does.

mod desk;
mod idle;
mod template;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::desk::Measured;
pub(super) use self::desk::{Desk, Watched};
#[cfg(test)]
pub(super) use self::idle::IDLE;
pub(super) use self::idle::LOOK;
use self::idle::Rest;
pub use self::template::Template;
use super::message::StreamStrategyUpdate;
use super::metrics::{Metrics, StreamMetrics};
use super::results::SharedOutbox;
use super::spools::{Budgets, Home, Opened};
use super::statistics::Statistics;
use crate::deadletter;
use crate::delivery::MemoryBudget;
use crate::metrics::{Counters, Trouble};
use crate::pipeline::{Observer, Pipeline};
use crate::producer::{Caller, Shared, StartError};
use crate::record::{StreamId, StreamName, beginning};
use crate::seal::Scope;
use crate::source::Intake;
use crate::spool::SpoolError;

/// All of them, and what each is made of.
#[derive(Debug)]
pub(super) struct Streams {
    shared: Shared,
    template: Template,
    /// The part of the memory for what waits to be handed over.
    read_ahead: usize,
    budget: MemoryBudget,
    /// Where records go over a disk.
    home: Option<(Home, Budgets)>,
    /// Of dead letters.
    writers: Vec<JoinHandle<()>>,
    metrics: Arc<Metrics>,
    outbox: SharedOutbox,
    by_name: HashMap<String, Known>,
    /// By their places, of which those of streams that were let go are free.
    all: Vec<Option<Stream>>,
    free: Vec<usize>,
    last: Option<(String, usize)>,
    watched: Watched,
}

/// What stays of a stream, whether it has a pipeline now or not.
#[derive(Debug, Default)]
struct Known {
    place: Option<usize>,
    /// The client may tell it before the first record.
    id: StreamId,
    counters: Arc<Counters>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pipeline: Pipeline,
    pub(super) desk: Arc<Desk>,
    rest: Rest,
    began: Instant,
}

impl Stream {
    /// Whether it is still to be heard whether records must have keys. Where nobody says it in time, they need none.
    pub(super) fn is_to_be_described(&self, now: Instant) -> bool {
        now < self.began + DESCRIBED && self.pipeline.needs_keys().is_none()
    }

    /// Over the disk, where there is a spool.
    pub(super) fn intake(&self) -> Intake {
        self.pipeline.spooled_intake()
    }
}

impl Streams {
    pub(super) fn new(
        shared: Shared,
        template: Template,
        memory_limit: usize,
        home: Option<Home>,
        metrics: Arc<Metrics>,
        outbox: SharedOutbox,
        watched: Watched,
    ) -> Self {
        let read_ahead = memory_limit / 8;
        let of_records = memory_limit - read_ahead;
        let (budget, home) = match home {
            None => (MemoryBudget::new(of_records), None),
            Some(home) => {
                let (budget, budgets) = Budgets::of(of_records);
                (budget, Some((home, budgets)))
            }
        };
        Self {
            shared,
            template,
            read_ahead,
            budget,
            home,
            writers: Vec::new(),
            metrics,
            outbox,
            by_name: HashMap::new(),
            all: Vec::new(),
            free: Vec::new(),
            last: None,
            watched,
        }
    }

    /// The place of the stream of this name, which is made where it is new.
    ///
    /// # Errors
    ///
    /// What is no stream's name, and an encryption that cannot be set up.
    pub(super) fn place(&mut self, name: &str) -> Result<usize, NoStream> {
        // Mostly the one that was named last.
        if let Some((last, place)) = &self.last
            && last == name
        {
            return Ok(*place);
        }
        if let Some(place) = self.by_name.get(name).and_then(|known| known.place) {
            self.last = Some((name.to_owned(), place));
            return Ok(place);
        }
        let stream = StreamName::new(name).map_err(|error| NoStream {
            code: "InvalidStreamName",
            message: error.to_string(),
        })?;
        let place = self.free.last().copied().unwrap_or(self.all.len());
        let desk = Arc::new(Desk {
            outbox: Arc::clone(&self.outbox),
            metrics: StreamMetrics::new(name, Arc::clone(&self.metrics)),
            statistics: Arc::new(Statistics::new(name, self.template.aggregation.linger)),
            is_sealed: self.template.encryption.scope != Scope::Off,
        });
        let pipeline = self.start(stream, place, &desk)?;
        if self.template.tells_strategies {
            let telling = tell_strategies(name.to_owned(), &pipeline, Arc::clone(&self.outbox));
            tokio::spawn(telling);
        }
        let counters = Arc::clone(pipeline.counters());
        let mut watched = self.watched.0.lock().expect("no panic while held");
        watched.push(Measured {
            desk: Arc::clone(&desk),
            counters,
            view: pipeline.view(),
        });
        drop(watched);
        let stream = Some(Stream {
            pipeline,
            desk,
            rest: Rest::begin(Instant::now()),
            began: Instant::now(),
        });
        match self.free.pop() {
            Some(place) => self.all[place] = stream,
            None => self.all.push(stream),
        }
        self.by_name.entry(name.to_owned()).or_default().place = Some(place);
        Ok(place)
    }

    /// The client knows the stream by this id too; it is made where it is new.
    ///
    /// # Errors
    ///
    /// As for [`place`](Self::place).
    pub(super) fn know(&mut self, name: &str, id: &str) -> Result<(), NoStream> {
        if self.by_name.contains_key(name) || StreamName::new(name).is_ok() {
            let known = self.by_name.entry(name.to_owned()).or_default();
            if known.id.set(id) {
                let id = beginning(id);
                tracing::info!(stream = name, id, "goes with its calls");
            }
        }
        self.place(name).map(|_| ())
    }

    fn start(
        &mut self,
        stream: StreamName,
        place: usize,
        desk: &Arc<Desk>,
    ) -> Result<Pipeline, NoStream> {
        let known = self.by_name.entry(stream.to_string()).or_default();
        let (id, counters) = (known.id.clone(), Arc::clone(&known.counters));
        let observer: Arc<dyn Observer> = Arc::<Desk>::clone(desk);
        let settings = self.template.of(stream);
        let (mut dead_letters, mut spool) = (None, None);
        if let Some((home, budgets)) = &self.home {
            let plain = settings.encryption.scope == Scope::Off;
            let open = || home.open(&settings.name, plain, (budgets, place), &counters);
            let opened = tokio::task::block_in_place(open)?;
            let Opened {
                spooled,
                dead_letters: letters,
                writer,
            } = opened;
            self.writers.push(writer);
            (dead_letters, spool) = (Some(letters), Some(spooled));
        }
        let budget = self.budget.clone();
        let caller = Caller {
            id,
            counters,
            observer,
        };
        let started = (self.shared).start_unseen(&settings, budget, dead_letters, spool, caller);
        Ok(started?)
    }

    /// Takes up what an earlier process left of each stream.
    pub(super) fn take_up(&mut self) {
        let left = self.home.as_ref().map(|(home, _)| home.left_behind());
        for stream in left.into_iter().flatten() {
            if let Err(error) = self.place(&stream.to_string()) {
                tracing::error!(%stream, code = error.code, "what is in its spool waits: {}", error.message);
            }
        }
    }

    /// There are other credentials.
    pub(super) fn probe(&self) {
        for stream in self.all.iter().flatten() {
            stream.pipeline.probe();
        }
    }

    /// Whether a service takes no call of some stream under the credentials there are.
    pub(super) fn refuse_credentials(&self) -> bool {
        let refused = |stream: &Stream| stream.pipeline.meter().has(Trouble::RefusedCredentials);
        self.all.iter().flatten().any(refused)
    }

    pub(super) fn read_ahead(&self) -> usize {
        self.read_ahead
    }

    pub(super) fn are_spooled(&self) -> bool {
        self.home.is_some()
    }

    /// # Panics
    ///
    /// There is none: it is for places that [`place`](Self::place) gave since streams were [let go](Self::let_go).
    pub(super) fn get(&self, place: usize) -> &Stream {
        self.all[place].as_ref().expect("records are on their way")
    }

    /// The place of the stream of this name, if there is one: one that no record has named yet has nothing to flush.
    pub(super) fn known(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).and_then(|known| known.place)
    }

    /// Of one stream, or of all.
    pub(super) fn flush(&self, place: Option<usize>) {
        let asked = match place {
            None => &self.all[..],
            Some(place) => &self.all[place..=place],
        };
        for stream in asked.iter().flatten() {
            (stream.pipeline.flusher())();
        }
    }

    /// Waits until every record has its answer, at most until then. Returns how many records had none by then, and how many
    /// wait on disk for the next process.
    pub(super) async fn close(self, until: Instant) -> Unanswered {
        let closing = self.all.into_iter().flatten().map(|stream| async move {
            let Stream { pipeline, desk, .. } = stream;
            // What lingers may go at once.
            let _ = tokio::time::timeout_at(until, pipeline.drain()).await;
            let left = until.saturating_duration_since(Instant::now());
            pipeline.close(left).await;
            desk.metrics.settle(Instant::now());
        });
        join_all(closing).await;
        let mut sum = Unanswered::default();
        for known in self.by_name.values() {
            let counts = known.counters.snapshot();
            sum.abandoned += counts.abandoned;
            sum.spooled += counts.spooled;
        }
        deadletter::end(self.writers, LAST_LETTERS).await;
        sum
    }
}

/// Tells the client how the stream distributes its records, once that is known and whenever it changes.
fn tell_strategies(
    stream: String,
    pipeline: &Pipeline,
    outbox: SharedOutbox,
) -> impl Future<Output = ()> + use<> {
    let mut distribution = pipeline.distribution();
    async move {
        while let Some(by_keys) = distribution.changed().await {
            let strategy = match by_keys {
                true => "USER_PARTITION_KEY",
                false => "AUTO",
            };
            let update = StreamStrategyUpdate {
                stream_name: stream.clone(),
                record_distribution_strategy: strategy.to_owned(),
            };
            // It answers nothing.
            outbox.push(|frames| update.encode(0, frames));
        }
    }
}

/// How long records without a key wait for what their stream says of keys, from when it is first named. The KPL's own asks three
/// times, a second apart.
const DESCRIBED: Duration = Duration::from_secs(3);

/// For the last dead letters, where the disk is slow.
const LAST_LETTERS: Duration = Duration::from_secs(1);

/// Records at the end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unanswered {
    pub(super) abandoned: u64,
    pub(super) spooled: u64,
}

impl From<StartError> for NoStream {
    fn from(error: StartError) -> Self {
        Self {
            code: "EncryptionFailed",
            message: error.to_string(),
        }
    }
}

impl From<SpoolError> for NoStream {
    fn from(error: SpoolError) -> Self {
        Self {
            code: "SpoolFailed",
            message: error.to_string(),
        }
    }
}

/// A record for which there is no stream.
#[derive(Debug)]
pub(super) struct NoStream {
    pub(super) code: &'static str,
    pub(super) message: String,
}
