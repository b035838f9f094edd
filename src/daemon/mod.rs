//! The KPL's native daemon, as its Java client starts it and speaks with it.
//!
//! The client starts a program with two pipes, a configuration, and perhaps credentials on its command line, sends it
//! records, and waits for one answer to each. That contract, of all client generations since 0.12, is what is here;
//! records go the way of all others from there. The acknowledged socket (`framing = "kpl"`) speaks the same messages.
//!
//! Stopping, by the client's end of the pipe or by a signal: what the client had sent is read, put on its way without
//! lingering, and waited for; then its answers are written, to whoever still reads them.

pub mod clients;
pub mod configuration;
pub mod log;
pub mod message;
pub mod metrics;
pub mod pipes;
pub mod results;
mod seen;
mod session;
pub mod spools;
mod statistics;
mod streams;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::clients::{ClientsError, Overrides, PipeCredentials};
use self::configuration::Configuration;
use self::message::Credentials;
use self::metrics::Metrics;
use self::pipes::{Parent, PipeError, Pipes};
use self::results::Outbox;
use self::seen::Seen;
use self::session::{Ended, Session};
use self::spools::Home;
pub use self::streams::Template;
use self::streams::{Streams, Unanswered, Watched};
use self::upload::Upload;
use crate::admin::Listen;
use crate::aws::{self, AwsError};
use crate::checkpoint::Lock;
use crate::producer::{Shared, StartError};
use crate::seal;
use crate::send::Connections;
use crate::shutdown::{self, Shutdown};
use crate::spool::{self, SpoolError};

/// All that a daemon is started with.
#[derive(Debug)]
pub struct Start {
    pub from_client: PathBuf,
    pub to_client: PathBuf,
    pub configuration: Configuration,
    /// Clients since 1.0.8 send them over the pipe only.
    pub credentials: Option<Credentials>,
    /// `None`: the same.
    pub metrics_credentials: Option<Credentials>,
    pub overrides: Overrides,
    pub encryption: seal::Settings,
    /// For calls to KMS; what it does not say is as for Kinesis.
    pub aws: aws::Settings,
    /// Where records wait on disk until they are stored.
    pub spool: Option<spools::Settings>,
    /// Where it can be asked how it is.
    pub admin: Option<Listen>,
    /// Bytes of all records between the pipe and their answers.
    pub memory_limit: usize,
    /// How long records are waited for at the end.
    pub grace: Duration,
    pub parent: Parent,
}

impl Start {
    /// With the sink stalled, all of the process stays within 96 MiB.
    pub const MEMORY_LIMIT: usize = 48 << 20;
    pub const GRACE: Duration = Duration::from_secs(10);
}

/// Why a daemon does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Pipe(#[from] PipeError),
    #[error(transparent)]
    Clients(#[from] ClientsError),
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the pipe from the client broke: {0}")]
    Broken(std::io::Error),
}

/// What is measured this often.
const MEASURED: Duration = Duration::from_millis(200);
/// How long a client may take to read its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Serves the client until it hangs up or `shutdown` says so.
///
/// # Errors
///
/// What keeps it from starting, and a pipe that cannot be read.
pub async fn run(start: Start, shutdown: Shutdown) -> Result<(), DaemonError> {
    for key in &start.configuration.ignored {
        tracing::info!(key, "has no effect here");
    }
    // Asked of the instance, perhaps, for seconds.
    let region = tokio::select! {
        region = clients::region(&start.configuration) => region?,
        () = shutdown.stopped() => return Ok(()),
        () = start.parent.gone() => return Err(PipeError::Orphaned.into()),
    };
    let services = Services::new(&start, &region).await?;
    let home = start.spool.as_ref().map(Home::take).transpose()?;
    let shutdown = match &home {
        Some(home) => {
            tracing::info!(path = %home.dir().display(), "records wait on disk there until they are stored");
            until_lost(home.lock(), shutdown)
        }
        None => shutdown,
    };
    let pipes = tokio::select! {
        pipes = Pipes::open(&start.from_client, &start.to_client, start.parent) => pipes?,
        () = shutdown.stopped() => return Ok(()),
    };
    serve(&start, services, home, pipes, &shutdown).await
}

/// What a daemon works with, made as the client says.
struct Services {
    shared: Shared,
    credentials: Arc<PipeCredentials>,
    metrics_credentials: Arc<PipeCredentials>,
    metrics: Arc<Metrics>,
    /// `None`: they are not to be uploaded.
    upload: Option<Upload>,
}

impl Services {
    async fn new(start: &Start, region: &str) -> Result<Self, DaemonError> {
        let Start {
            configuration,
            overrides,
            ..
        } = start;
        let credentials = Arc::new(PipeCredentials::new(start.credentials.clone()));
        let for_metrics = (start.metrics_credentials.clone()).or_else(|| start.credentials.clone());
        let metrics_credentials = Arc::new(PipeCredentials::new(for_metrics));
        let http = clients::http_client(configuration, &overrides.trust)?;
        let mut made =
            clients::clients(configuration, overrides, region, http.clone(), &credentials);
        if let Some(settings) = own_kms(&start.aws, region) {
            made.kms = aws::clients(&settings, aws::TimeOuts::default()).await?.kms;
        }
        let metrics = Arc::new(Metrics::new(configuration.dimensions.clone()));
        let connections = usize::try_from(configuration.max_connections);
        let connections = Connections::at_most(connections.expect("256 at most"));
        let upload = Upload::new(
            configuration,
            region,
            overrides.cloudwatch_url.clone(),
            http,
            &metrics_credentials,
            Arc::clone(&metrics),
        );
        Ok(Self {
            shared: Shared::new(made)?.with_connections(connections),
            credentials,
            metrics_credentials,
            metrics,
            upload,
        })
    }
}

async fn serve(
    start: &Start,
    services: Services,
    home: Option<Home>,
    pipes: Pipes,
    shutdown: &Shutdown,
) -> Result<(), DaemonError> {
    let metrics = services.metrics;
    let outbox: Arc<Outbox> = Arc::default();
    let (ended, has_ended) = watch::channel(false);
    let writing = tokio::spawn({
        let outbox = Arc::clone(&outbox);
        async move { outbox.write_to(pipes.to_client, has_ended).await }
    });
    let watched = Watched::default();
    let encryption = start.encryption.clone();
    let mut streams = Streams::new(
        services.shared,
        Template::new(&start.configuration, encryption, home.is_some()),
        start.memory_limit,
        home,
        Arc::clone(&metrics),
        Arc::clone(&outbox),
        watched.clone(),
    );
    streams.take_up();
    let seen = Seen {
        watched: watched.clone(),
        metrics: Arc::clone(&metrics),
        shutdown: shutdown.clone(),
    };
    let mut beside = JoinSet::new();
    beside.spawn(statistics::tell({
        let watched = watched.clone();
        move || watched.statistics()
    }));
    beside.spawn(measure(watched));
    if let Some(upload) = services.upload {
        beside.spawn(upload.run());
    }
    if let Some(listen) = start.admin.clone() {
        beside.spawn(seen::answer(listen, seen));
    }
    let mut session = Session::new(
        streams,
        outbox,
        metrics,
        services.credentials,
        services.metrics_credentials,
        start.grace,
        start.parent,
    );
    let why = session.read(&pipes.from_client, shutdown).await;
    let by = session.ends_by();
    let (streams, without_room) = session.into_parts();
    let Unanswered { abandoned, spooled } = streams.close(by).await;
    let abandoned = abandoned + without_room;
    if abandoned > 0 {
        tracing::error!(abandoned, grace = ?start.grace, "records had no answer in time");
    }
    if spooled > 0 {
        tracing::warn!(
            records = spooled,
            "wait on disk, and are sent by the next process"
        );
    }
    ended.send_replace(true);
    let _ = tokio::time::timeout(LAST_ANSWERS, writing).await;
    beside.shutdown().await;
    match why {
        Ended::Broken(error) => Err(DaemonError::Broken(error)),
        Ended::ClientGone | Ended::Stopped => Ok(()),
    }
}

/// Where the file names credentials or an endpoint of its own; in the client's region, where it names none.
fn own_kms(settings: &aws::Settings, region: &str) -> Option<aws::Settings> {
    if *settings == aws::Settings::default() {
        return None;
    }
    let region = settings.region.clone().or_else(|| Some(region.to_owned()));
    Some(aws::Settings {
        region,
        ..settings.clone()
    })
}

/// Hears the stop, and that another process has the spool.
fn until_lost(lock: Arc<Lock>, shutdown: Shutdown) -> Shutdown {
    let (stop, either) = shutdown::channel();
    tokio::spawn(async move {
        if let Err(error) = spool::hold(lock, HELD, shutdown).await {
            tracing::error!("{error}; this process stops");
        }
        stop.stop();
    });
    either
}

/// How often the right to the spool is looked at.
const HELD: Duration = Duration::from_secs(1);

async fn measure(watched: Watched) {
    let mut ticks = interval(MEASURED);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        watched.measure(Instant::now());
    }
}
