//! One pipeline for each stream that the client names, made when it first does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::configuration::Configuration;
use super::message::StreamStrategyUpdate;
use super::metrics::{Metrics, StreamMetrics};
use super::results::{SharedOutbox, encode};
use crate::aggregate::ContainerKey;
use crate::batch::RecordLimit;
use crate::delivery::{MemoryBudget, RecordSettled, SettledRecord};
use crate::metrics::Counters;
use crate::pipeline::{Observer, Pipeline, StreamSettings, Waited};
use crate::producer::{Shared, StartError};
use crate::record::StreamName;
use crate::{aggregate, batch, seal, send};

/// All of them, and what each is made of.
#[derive(Debug)]
pub(super) struct Streams {
    shared: Shared,
    template: Template,
    budget: MemoryBudget,
    metrics: Arc<Metrics>,
    outbox: SharedOutbox,
    by_name: HashMap<String, usize>,
    all: Vec<Stream>,
    last: Option<(String, usize)>,
    watched: Watched,
}

/// The streams there are, for whoever measures them.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched(Arc<Mutex<Vec<Measured>>>);

type Measured = (Arc<Desk>, Arc<Counters>);

impl Watched {
    /// What is measured of each now.
    pub(super) fn measure(&self, now: Instant) {
        for (desk, counters) in self.0.lock().expect("no panic while held").iter() {
            desk.metrics.pending(counters.snapshot().pending, now);
            desk.metrics.settle(now);
        }
    }
}

/// A stream's settings but for its name.
#[derive(Debug, Clone)]
pub struct Template {
    pub encryption: seal::Settings,
    pub aggregation: aggregate::Settings,
    pub batch: batch::Settings,
    pub delivery: send::Settings,
    /// Whether the client wants to know of the streams' strategies.
    pub tells_strategies: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pipeline: Pipeline,
    pub(super) desk: Arc<Desk>,
}

/// Who answers a stream's records.
pub(super) struct Desk {
    outbox: SharedOutbox,
    pub(super) metrics: StreamMetrics,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl RecordSettled for Desk {
    fn settled(&self, settled: SettledRecord<'_>) {
        let SettledRecord {
            id,
            bytes,
            born,
            delivery,
            tried,
        } = settled;
        self.metrics.answered_record(delivery, bytes, tried.len());
        self.outbox
            .push(|frames| encode(id, born, delivery, tried, frames));
    }
}

impl Template {
    /// A record of 1 MiB with its key.
    const LARGEST_AGGREGATE: usize = batch::Limits::LEAST_OF_A_STREAM - 1024;

    /// As the KPL's client configures it; encrypted as somebody else says.
    pub fn new(configuration: &Configuration, encryption: seal::Settings) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let collected =
            size(configuration.collection_max_size).min(batch::Limits::MOST_OF_A_REQUEST);
        Self {
            tells_strategies: configuration.is_newest,
            encryption,
            aggregation: aggregate::Settings {
                enabled: configuration.aggregation_enabled,
                // No stream takes less; some take no more.
                max_size: size(configuration.aggregation_max_size).min(Self::LARGEST_AGGREGATE),
                max_count: size(configuration.aggregation_max_count),
                // What waited for all of its time to live would be over when it is due.
                linger: (configuration.record_max_buffered_time).min(configuration.record_ttl / 2),
                container_key: ContainerKey::Kpl,
            },
            batch: batch::Settings {
                max_records: size(configuration.collection_max_count),
                max_bytes: Some(collected),
                max_record_bytes: RecordLimit::OfTheStreamAlone,
            },
            delivery: send::Settings {
                rate_limit: u32::try_from(configuration.rate_limit)
                    .unwrap_or(u32::MAX)
                    .min(send::Settings::MOST_RATE_LIMIT),
                max_in_flight: size(configuration.max_connections),
                request_timeout: configuration.request_timeout,
                connect_timeout: configuration.connect_timeout,
                record_ttl: Some(configuration.record_ttl),
                fail_if_throttled: configuration.fail_if_throttled,
                ..send::Settings::default()
            },
        }
    }

    fn of(&self, name: StreamName) -> StreamSettings {
        StreamSettings {
            name,
            encryption: self.encryption.clone(),
            aggregation: self.aggregation.clone(),
            batch: self.batch.clone(),
            delivery: self.delivery.clone(),
        }
    }
}

impl Streams {
    pub(super) fn new(
        shared: Shared,
        template: Template,
        budget: MemoryBudget,
        metrics: Arc<Metrics>,
        outbox: SharedOutbox,
        watched: Watched,
    ) -> Self {
        Self {
            shared,
            template,
            budget,
            metrics,
            outbox,
            by_name: HashMap::new(),
            all: Vec::new(),
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
        if let Some(place) = self.by_name.get(name) {
            self.last = Some((name.to_owned(), *place));
            return Ok(*place);
        }
        let stream = StreamName::new(name).map_err(|error| NoStream {
            code: "InvalidStreamName",
            message: error.to_string(),
        })?;
        let desk = Arc::new(Desk {
            outbox: Arc::clone(&self.outbox),
            metrics: StreamMetrics::new(name, Arc::clone(&self.metrics)),
        });
        let pipeline = self.start(stream, &desk).map_err(|error| NoStream {
            code: "EncryptionFailed",
            message: error.to_string(),
        })?;
        if self.template.tells_strategies {
            let telling = tell_strategies(name.to_owned(), &pipeline, Arc::clone(&self.outbox));
            tokio::spawn(telling);
        }
        let counters = Arc::clone(pipeline.counters());
        let mut watched = self.watched.0.lock().expect("no panic while held");
        watched.push((Arc::clone(&desk), counters));
        drop(watched);
        let place = self.all.len();
        self.all.push(Stream { pipeline, desk });
        self.by_name.insert(name.to_owned(), place);
        Ok(place)
    }

    fn start(&self, stream: StreamName, desk: &Arc<Desk>) -> Result<Pipeline, StartError> {
        let counters: Arc<Counters> = Arc::default();
        let observer: Arc<dyn Observer> = Arc::<Desk>::clone(desk);
        let settings = self.template.of(stream);
        self.shared
            .start_unseen(&settings, self.budget.clone(), counters, observer)
    }

    pub(super) fn get(&self, place: usize) -> &Stream {
        &self.all[place]
    }

    /// Of one stream, or of all. One that no record has named yet has nothing to flush.
    pub(super) fn flush(&self, name: Option<&str>) {
        let all = self.all.iter().enumerate();
        let asked = all.filter(|(place, _)| match name {
            None => true,
            Some(name) => self.by_name.get(name) == Some(place),
        });
        for (_, stream) in asked {
            (stream.pipeline.flusher())();
        }
    }

    /// Waits until every record has its answer, at most so long. Returns how many records had none by then.
    pub(super) async fn close(self, grace: Duration) -> u64 {
        let closing = self.all.into_iter().map(|stream| async move {
            let Stream { pipeline, desk } = stream;
            let counters = Arc::clone(pipeline.counters());
            // What lingers may go at once.
            (pipeline.flusher())();
            pipeline.close(grace).await;
            desk.metrics.settle(Instant::now());
            counters.snapshot().abandoned
        });
        join_all(closing).await.into_iter().sum()
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

/// A record for which there is no stream.
#[derive(Debug)]
pub(super) struct NoStream {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Observer for Desk {
    fn answered(
        &self,
        batch: &batch::Batch,
        outcome: &send::CallOutcome,
        waited: &[Waited],
        started: Instant,
        ended: Instant,
    ) {
        self.metrics
            .answered(batch, outcome, waited, started, ended);
    }

    fn misplaced(&self, entry: &aggregate::AggregatedRecord) {
        self.metrics.misplaced(entry);
    }
}
