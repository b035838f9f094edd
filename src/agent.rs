//! The front door for hosts: sources + one pipeline per stream + checkpoint, and the order in which they stop.
//!
//! Stopping goes with the data: sources first, then pipelines (which drain), then dead letter writers, then
//! the checkpoint one last time. Whatever order fails, nothing is lost: a record that was not stored is not
//! in the checkpoint.

mod report;
mod seen;
mod settings;
mod sources;
mod spools;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub use self::report::{Report, StreamReport};
use self::seen::Seen;
pub use self::settings::{Settings, Source, SourceKind};
use self::sources::{Way, start_source};
use crate::admin::{Admin, AdminError};
use crate::aws::{self, AwsError, TimeOuts};
use crate::checkpoint::{CheckpointError, Checkpoints, Lock};
use crate::deadletter::{self, DeadLetters};
use crate::metrics::{Counters, Counts};
use crate::pipeline::{Pipeline, StreamSettings};
use crate::producer::{Shared, StartError, WhenMissing};
use crate::shutdown::{self, Stop};
use crate::source::keying::KeyingError;
pub use crate::source::keying::PartitionKeyRule;
use crate::source::making::Making;
use crate::source::tail::{self, TailError};
use crate::source::unix;
use crate::source::unix::Desk;
use crate::spool::SpoolError;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    log_interval: Option<Duration>,
    /// What was last logged, per stream.
    logged: Vec<Counts>,
    checkpoints: Checkpoints,
    pipelines: Vec<Pipeline>,
    dead_letter_writers: Vec<JoinHandle<()>>,
    sources: JoinSet<Result<(), AgentError>>,
    stop_sources: Stop,
    /// Ends when every client has its answers.
    answered: mpsc::Receiver<()>,
    /// Save the checkpoint, and see to it that state directory and spool are still ours.
    keepers: JoinSet<Result<(), AgentError>>,
    stop_keepers: Stop,
    /// Answers until the end.
    admin: JoinSet<()>,
    /// Held for as long as anything writes to the spool.
    _spool_lock: Option<Arc<Lock>>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(
        "spool {path} is in use by {holder}; stop that one, or give this one another spool.path"
    )]
    SpoolInUse { path: PathBuf, holder: String },
    #[error(transparent)]
    Keying(#[from] KeyingError),
    #[error(transparent)]
    Tail(#[from] TailError),
    #[error(transparent)]
    Socket(#[from] unix::BindError),
    #[error("cannot read from socket {path}: {source}")]
    SocketBroke {
        path: unix::Address,
        source: std::io::Error,
    },
    #[error("standard input: {0}")]
    Stdin(#[source] std::io::Error),
    #[error(
        "a stream's pipeline has stopped by itself; this is a bug, and the log above says where"
    )]
    PipelineStopped,
}

impl Agent {
    /// Starts everything, once state directory and sockets have been seen to be usable. Keys and streams have been
    /// looked at too: where one is missing, the log says so, and its records wait for it.
    pub async fn start(settings: &Settings) -> Result<Self, AgentError> {
        let makings = (settings.sources.iter()).map(|s| Making::new(&s.partition_key, &s.shape));
        let makings = makings.collect::<Result<Vec<_>, _>>()?;
        let checkpoints = Checkpoints::open(&settings.state_dir)?;
        let admin = match &settings.admin {
            Some(listen) => Some(Admin::bind(listen).await?),
            None => None,
        };
        let spool_lock = settings.lock_spool()?;
        let (pipelines, dead_letter_writers) = settings.pipelines(spool_lock.as_ref()).await?;

        let (stop_sources, shutdown) = shutdown::channel();
        let (answering, answered) = mpsc::channel(1);
        let (mut sources, notifier) = (JoinSet::new(), tail::Notifier::default());
        for (source, making) in settings.sources.iter().zip(makings) {
            let pipeline = pipelines.iter().find(|p| *p.stream() == source.stream);
            let pipeline = pipeline.expect("a pipeline for each stream");
            let intake = match source.kind.can_be_read_again() {
                true => pipeline.intake(),
                false => pipeline.spooled_intake(),
            };
            let desk = Desk {
                stream: source.stream.clone(),
                flush: pipeline.flusher(),
                answering: answering.clone(),
            };
            let way = Way {
                making,
                intake,
                desk,
            };
            start_source(
                &mut sources,
                source,
                way,
                &checkpoints,
                &notifier,
                &shutdown,
            )?;
        }
        let mut answering_admin = JoinSet::new();
        if let Some(admin) = admin {
            let seen = Seen::new(&pipelines, &checkpoints, shutdown);
            answering_admin.spawn(admin.serve(Arc::new(seen)));
        }

        let (stop_keepers, shutdown) = shutdown::channel();
        let interval = settings.checkpoint_interval;
        let mut keepers = JoinSet::new();
        if let Some(lock) = &spool_lock {
            keepers.spawn(spools::hold(Arc::clone(lock), interval, shutdown.clone()));
        }
        let saving = checkpoints.clone();
        keepers.spawn(async move { Ok(saving.keep_saving(interval, shutdown).await?) });
        Ok(Self {
            log_interval: settings.log_interval,
            logged: Vec::new(),
            checkpoints,
            pipelines,
            dead_letter_writers,
            sources,
            stop_sources,
            answered,
            keepers,
            stop_keepers,
            admin: answering_admin,
            _spool_lock: spool_lock,
        })
    }

    /// Resolves when all sources have ended by themselves, as standard input does; logs a report every
    /// `log_interval` meanwhile. Cancel safe.
    ///
    /// # Errors
    ///
    /// What ends all of it: a source that broke, or a state directory that was removed and that another agent has now.
    pub async fn sources_ended(&mut self) -> Result<(), AgentError> {
        let mut next_log = self.log_interval.map(|interval| Instant::now() + interval);
        loop {
            let log_due = async {
                match next_log {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = self.sources.join_next() => match ended {
                    None => return Ok(()),
                    Some(ended) => ended.unwrap_or(Err(AgentError::PipelineStopped))?,
                },
                Some(ended) = self.keepers.join_next() => {
                    ended.unwrap_or(Err(AgentError::PipelineStopped))?;
                }
                () = log_due => {
                    self.log_what_is_new().await;
                    next_log = self.log_interval.map(|interval| Instant::now() + interval);
                }
            }
        }
    }

    /// An idle agent has nothing new to say each minute.
    async fn log_what_is_new(&mut self) {
        let counts = self.counts();
        if counts == self.logged {
            return;
        }
        // One stream's latencies after the other's: of many streams, all at once are megabytes.
        for pipeline in &self.pipelines {
            StreamReport::of(pipeline).await.log();
        }
        self.logged = counts;
    }

    /// What each stream has come to; asks nobody, and so costs nothing that is worth a word.
    pub fn counts(&self) -> Vec<Counts> {
        self.pipelines.iter().map(|p| p.meter().counts()).collect()
    }

    pub async fn report(&self) -> Report {
        let mut streams = Vec::new();
        for pipeline in &self.pipelines {
            streams.push(StreamReport::of(pipeline).await);
        }
        Report { streams }
    }

    /// Puts everything on its way without lingering, and resolves when nothing is pending. Cancel safe.
    pub async fn flush(&self) {
        futures_util::future::join_all(self.pipelines.iter().map(Pipeline::flush)).await;
    }

    /// Stops reading, sends what was read for at most `grace`, and saves the checkpoint. Not cancel safe.
    pub async fn stop(mut self, grace: Duration) -> Result<Report, AgentError> {
        let until = Instant::now() + grace;
        self.stop_sources.stop();
        // A source that waits for room hears the signal there too.
        let _ = tokio::time::timeout_at(until, async {
            while self.sources.join_next().await.is_some() {}
        })
        .await;
        self.sources.abort_all();

        let left = until.saturating_duration_since(Instant::now());
        let closing = self.pipelines.into_iter().map(async |pipeline| {
            let (stream, meter) = (pipeline.stream().clone(), pipeline.meter().clone());
            let histograms = pipeline.close(left).await;
            (stream, meter, histograms)
        });
        let closed = futures_util::future::join_all(closing).await;
        // Everything is known now, and only has to be told.
        let _ = tokio::time::timeout(LAST_ANSWERS, self.answered.recv()).await;
        let left = until.saturating_duration_since(Instant::now());
        deadletter::end(self.dead_letter_writers, left.max(LAST_LETTERS)).await;

        // Its socket goes with it, and not only where there is time for that before the process ends.
        self.admin.shutdown().await;
        self.stop_keepers.stop();
        while self.keepers.join_next().await.is_some() {}
        let checkpoints = self.checkpoints;
        let saved = tokio::task::spawn_blocking(move || checkpoints.save_if_moved());
        saved.await.expect("saving does not panic")?;
        let streams = closed
            .into_iter()
            .map(|(stream, meter, histograms)| StreamReport {
                stream,
                counts: meter.counts(),
                key_in_use: meter.key_in_use(),
                histograms,
            });
        Ok(Report {
            streams: streams.collect(),
        })
    }
}

/// For the last dead letters, whatever is left of the grace period.
const LAST_LETTERS: Duration = Duration::from_secs(1);
/// How long clients have to take their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

impl Settings {
    /// One for each stream, with those who write its dead letters.
    async fn pipelines(
        &self,
        spool_lock: Option<&Arc<Lock>>,
    ) -> Result<(Vec<Pipeline>, Vec<JoinHandle<()>>), AgentError> {
        let clients = aws::clients(&self.aws, time_outs(&self.streams)).await?;
        let shared = Shared::new(clients)?;
        let (mut pipelines, mut writers) = (Vec::new(), Vec::new());
        for (stream, mut shares) in self.streams.iter().zip(self.shares()) {
            let counters: Arc<Counters> = Arc::default();
            let spool = shares.spool(self, stream, spool_lock, &counters).await?;
            let (dead_letters, writer) = DeadLetters::open(
                &self.state_dir,
                &stream.name,
                self.dead_letter.clone(),
                Arc::clone(&counters),
            );
            let started = shared.start(
                stream,
                shares.pipeline,
                Some(dead_letters),
                spool,
                counters,
                WhenMissing::Wait,
            );
            pipelines.push(started.await?);
            writers.push(writer);
        }
        Ok((pipelines, writers))
    }
}

/// Streams may differ; the clients they share take the longest.
fn time_outs(streams: &[StreamSettings]) -> TimeOuts {
    let longest = |of: fn(&StreamSettings) -> Duration, default: Duration| {
        streams.iter().map(of).max().unwrap_or(default)
    };
    let default = TimeOuts::default();
    TimeOuts {
        connect: longest(|s| s.delivery.connect_timeout, default.connect),
        request: longest(|s| s.delivery.request_timeout, default.request),
    }
}
