//! The front door for hosts: sources + one pipeline per stream + checkpoint, and the order in which they stop.
//!
//! Stopping goes with the data: sources first, then pipelines (which drain), then dead letter writers, then
//! the checkpoint one last time. Whatever order fails, nothing is lost: a record that was not stored is not
//! in the checkpoint.

mod seen;
mod spools;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use self::seen::Seen;
use crate::admin::{self, Admin, AdminError};
use crate::aws::{self, AwsError, TimeOuts};
use crate::checkpoint::{CheckpointError, Checkpoints, Lock};
use crate::deadletter::DeadLetters;
use crate::metrics::report::{Account, Calls, Keys, Latencies, Unkeyed, Volume};
use crate::metrics::{Counters, Counts, Histograms, KeyInUse};
use crate::pipeline::{Pipeline, StreamSettings};
use crate::producer::{Shared, StartError, WhenMissing};
use crate::record::StreamName;
use crate::shutdown::{self, Shutdown, Stop};
use crate::source::keying::KeyingError;
pub use crate::source::keying::PartitionKeyRule;
use crate::source::making::Making;
use crate::source::shape::Shape;
use crate::source::tail::{self, Tail, TailError};
use crate::source::unix::Desk;
use crate::source::{Intake, stdin, unix};
use crate::spool::{self, SpoolError};
use crate::{aggregate, batch, deadletter, seal, send};

/// Everything the agent needs to know, all of it valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Checkpoints and dead letters.
    pub state_dir: PathBuf,
    /// Bytes between read and settled.
    pub memory_limit: usize,
    pub aws: aws::Settings,
    pub sources: Vec<Source>,
    /// One per stream that a source names.
    pub streams: Vec<StreamSettings>,
    /// Latencies and counters go to the log this often; `None`: only at exit.
    pub log_interval: Option<Duration>,
    /// How often the checkpoint is saved, if it has moved.
    pub checkpoint_interval: Duration,
    pub dead_letter: deadletter::Settings,
    /// For sources that cannot be read again: their records wait on disk.
    pub spool: Option<spool::Settings>,
    /// Where it can be asked how it is; `None`: nowhere.
    pub admin: Option<admin::Listen>,
    /// Whether a crash may leave a core dump, which holds keys. A process has one answer, so whoever owns it
    /// acts on this: the command line does.
    pub core_dumps: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub kind: SourceKind,
    pub stream: StreamName,
    pub partition_key: PartitionKeyRule,
    pub shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    File(tail::Settings),
    Unix(unix::Settings),
    UnixDatagram(unix::DatagramSettings),
    Stdin(stdin::Settings),
}

impl SourceKind {
    /// Whether what was read is still there after a crash.
    pub fn can_be_read_again(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// As a person names it.
impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(settings) => f.write_str(&settings.include.join(" ")),
            Self::Unix(settings) => settings.path.fmt(f),
            Self::UnixDatagram(settings) => settings.path.fmt(f),
            Self::Stdin(_) => f.write_str("standard input"),
        }
    }
}

impl Settings {
    /// A few seconds of a busy log at a shard's pace.
    pub const MEMORY_LIMIT: usize = 64 << 20;
    pub const LOG_INTERVAL: Duration = Duration::from_secs(60);
    /// A crash costs at most this much reading again.
    pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
    /// Less leaves no room for a source to read while a request is under way. A guess.
    pub const LEAST_MEMORY: usize = 8 << 20;

    /// One source, one stream, and everything else at its default: the agent without a file.
    pub fn for_one(
        stream: StreamName,
        kind: SourceKind,
        encryption: seal::Settings,
        aws: aws::Settings,
        state_dir: PathBuf,
    ) -> Self {
        Self {
            state_dir,
            memory_limit: Self::MEMORY_LIMIT,
            aws,
            sources: vec![Source {
                kind,
                stream: stream.clone(),
                partition_key: PartitionKeyRule::Random,
                shape: Shape::default(),
            }],
            streams: vec![StreamSettings {
                name: stream,
                encryption,
                aggregation: aggregate::Settings::default(),
                batch: batch::Settings::default(),
                delivery: send::Settings::default(),
            }],
            log_interval: Some(Self::LOG_INTERVAL),
            checkpoint_interval: Self::CHECKPOINT_INTERVAL,
            dead_letter: deadletter::Settings::default(),
            spool: None,
            admin: None,
            core_dumps: false,
        }
    }

    pub fn stream(&self, name: &StreamName) -> Option<&StreamSettings> {
        self.streams.iter().find(|stream| stream.name == *name)
    }
}

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
    _admin: JoinSet<()>,
    /// Held for as long as anything writes to the spool.
    _spool_lock: Option<Arc<Lock>>,
}

/// What was done, per stream.
#[derive(Debug, Clone)]
pub struct Report {
    pub streams: Vec<StreamReport>,
}

#[derive(Debug, Clone)]
pub struct StreamReport {
    pub stream: StreamName,
    pub counts: Counts,
    /// None where nothing is encrypted.
    pub key_in_use: Option<KeyInUse>,
    pub histograms: Histograms,
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
        let makings = settings
            .sources
            .iter()
            .map(|s| Making::new(&s.partition_key, &s.shape));
        let makings = makings.collect::<Result<Vec<_>, _>>()?;
        let checkpoints = Checkpoints::open(&settings.state_dir)?;
        let admin = match &settings.admin {
            Some(listen) => Some(Admin::bind(listen).await?),
            None => None,
        };
        let clients = aws::clients(&settings.aws, time_outs(&settings.streams)).await?;
        let shared = Shared::new(clients)?;
        let spool_lock = settings.lock_spool()?;

        let mut pipelines = Vec::new();
        let mut dead_letter_writers = Vec::new();
        for (stream, mut shares) in settings.streams.iter().zip(settings.shares()) {
            let counters: Arc<Counters> = Arc::default();
            let lock = spool_lock.as_ref();
            let spool = shares.spool(settings, stream, lock, &counters).await?;
            let (dead_letters, writer) = DeadLetters::open(
                &settings.state_dir,
                &stream.name,
                settings.dead_letter.clone(),
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
            dead_letter_writers.push(writer);
        }

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
            _admin: answering_admin,
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
        for mut writer in self.dead_letter_writers {
            // A disk that refuses, or is full, must not hold up the end: those records are not in the
            // checkpoint.
            let left = left.max(Duration::from_secs(1));
            if tokio::time::timeout(left, &mut writer).await.is_err() {
                writer.abort();
                let _ = writer.await;
            }
        }

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

/// How long clients have to take their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Where a source's records go, and who answers for them.
struct Way {
    making: Making,
    intake: Intake,
    desk: Desk,
}

fn start_source(
    sources: &mut JoinSet<Result<(), AgentError>>,
    source: &Source,
    way: Way,
    checkpoints: &Checkpoints,
    notifier: &tail::Notifier,
    shutdown: &Shutdown,
) -> Result<(), AgentError> {
    let Way {
        making,
        intake,
        desk,
    } = way;
    let shutdown = shutdown.clone();
    match &source.kind {
        SourceKind::File(settings) => {
            let stream = &source.stream;
            let tail = Tail::spawn(
                settings,
                notifier,
                stream,
                checkpoints,
                intake,
                making,
                shutdown,
            )?;
            sources.spawn(async move {
                tail.finished()
                    .await
                    .map_err(|_| AgentError::PipelineStopped)
            });
        }
        SourceKind::Unix(settings) => {
            let listener = unix::Listener::bind(settings)?;
            let listener = match settings.acknowledged {
                Some(ack) => listener.acknowledging(ack, desk),
                None => listener,
            };
            sources.spawn(async move {
                listener.run(intake, &making, shutdown).await;
                Ok(())
            });
        }
        SourceKind::UnixDatagram(settings) => {
            let socket = unix::DatagramSocket::bind(settings)?;
            let path = settings.path.clone();
            sources.spawn(async move {
                let ended = socket.run(intake, &making, shutdown).await;
                ended.map_err(|source| AgentError::SocketBroke { path, source })
            });
        }
        SourceKind::Stdin(settings) => {
            let settings = settings.clone();
            sources.spawn(async move {
                stdin::run(&settings, intake, &making, shutdown)
                    .await
                    .map_err(AgentError::Stdin)
            });
        }
    }
    Ok(())
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

/// What a person reads when the agent ends.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for StreamReport {
            stream,
            counts,
            key_in_use,
            histograms,
        } in &self.streams
        {
            writeln!(f, "{stream}: {}", Account(counts))?;
            writeln!(f, "{stream}: {}", Calls(counts))?;
            writeln!(f, "{stream}: {}", Volume(counts))?;
            if let Some(unkeyed) = Unkeyed::of(counts) {
                writeln!(f, "{stream}: {unkeyed}")?;
            }
            if let Some(keys) = Keys::of(counts, key_in_use.as_ref()) {
                writeln!(f, "{stream}: {keys}")?;
            }
            write!(f, "{}", Latencies(histograms))?;
        }
        Ok(())
    }
}

impl StreamReport {
    async fn of(pipeline: &Pipeline) -> Self {
        Self {
            histograms: pipeline.histograms().await,
            stream: pipeline.stream().clone(),
            counts: pipeline.meter().counts(),
            key_in_use: pipeline.meter().key_in_use(),
        }
    }

    fn log(&self) {
        let (counts, stream) = (&self.counts, &self.stream);
        tracing::info!(%stream, "{}", Account(counts));
        tracing::info!(%stream, "{}; {}", Calls(counts), Volume(counts));
        if let Some(unkeyed) = Unkeyed::of(counts) {
            tracing::info!(%stream, "{unkeyed}");
        }
        if let Some(keys) = Keys::of(counts, self.key_in_use.as_ref()) {
            tracing::info!(%stream, "{keys}");
        }
        for line in Latencies(&self.histograms).to_string().lines() {
            tracing::info!(%stream, "{line}");
        }
    }
}
