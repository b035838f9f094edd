//! `kinseal agent`: sources → streams, until stopped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::connection::{self, ConnectionArgs};
use super::descriptors;
use super::hardening::CoreDumpArgs;
use crate::admin::Listen;
use crate::agent::{Agent, AgentError, Report};
use crate::config::{self, Environment, Settings, SourceKind, words};
use crate::metrics::report::Thousands;
use crate::record::StreamName;
use crate::seal::{self, CacheSettings, KeyChoice, Scope, block, message};
use crate::source::{stdin, tail, unix};
use crate::{spool, statedir};

/// Send records from files, sockets or standard input to Kinesis streams, until stopped
///
/// SIGTERM and SIGINT end it: what was read is sent within the grace period, the checkpoint is saved. What
/// is not sent by then is read again by the next agent with the same state directory. A second signal ends
/// it at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("from").required(true).args(["config", "stream"]))]
#[command(group = ArgGroup::new("source").args(["files", "stdin"]))]
#[command(group = ArgGroup::new("key").args(["kms_key", "wrapping_key", "encryption"]))]
pub struct AgentArgs {
    /// The configuration, with everything that the other options cannot say
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "key", "context", "preset", "state_dir",
        "start_position", "spool", "region", "profile", "endpoint_url", "kms_endpoint_url"])]
    pub config: Option<PathBuf>,
    /// Without a configuration: the stream to send to, by name or ARN
    #[arg(long, value_name = "STREAM", requires = "source", requires = "key", value_parser = connection::stream)]
    pub stream: Option<StreamName>,
    /// Follow this file, or the files of this glob (repeatable)
    #[arg(long = "file", value_name = "PATH", num_args = 1.., requires = "stream")]
    pub files: Vec<PathBuf>,
    /// Send the lines of standard input
    #[arg(long, requires = "stream")]
    pub stdin: bool,
    /// Encrypt under this KMS key: id, ARN or alias (repeatable: each of them opens the records)
    #[arg(long, value_name = "KEY", requires = "stream", value_parser = connection::kms_key)]
    pub kms_key: Vec<String>,
    /// Encrypt under the raw AES key in this file
    #[arg(long, value_name = "FILE", requires = "stream")]
    pub wrapping_key: Option<PathBuf>,
    /// off: send plaintext
    #[arg(
        long,
        value_name = "off",
        hide_possible_values = true,
        requires = "stream"
    )]
    pub encryption: Option<EncryptionWord>,
    /// Bind each record to this pair, which stays readable beside it (repeatable)
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "encryption", value_parser = connection::own_context_pair)]
    pub context: Vec<(String, String)>,
    /// compact: compressed blocks that wait 5 s to fill. Fewest bytes; unfit where strangers write lines too
    #[arg(
        long,
        value_name = "compact",
        hide_possible_values = true,
        requires = "stream",
        conflicts_with = "encryption"
    )]
    pub preset: Option<PresetWord>,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    pub connection: ConnectionArgs,
    /// Where checkpoints and dead letters are kept [default: /var/lib/kinseal, or for an
    /// ordinary user ~/.local/state/kinseal]
    #[arg(long, value_name = "DIR", help_heading = "Running")]
    pub state_dir: Option<PathBuf>,
    /// Standard input: records wait on disk until they are stored, and the next agent sends what this one could not
    #[arg(long, requires = "stdin", help_heading = "Running")]
    pub spool: bool,
    /// Where to start in a file without a checkpoint [default: end]
    #[arg(
        long,
        value_name = "WHERE",
        requires = "files",
        help_heading = "Running"
    )]
    pub start_position: Option<StartWord>,
    /// How long to go on sending after a signal
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = connection::duration, help_heading = "Running")]
    pub grace: Duration,
    /// Answer /metrics (Prometheus), /healthz, /readyz and /status here: HOST:PORT, or the path of a socket
    #[arg(long, value_name = "ADDRESS", value_parser = words::listen, help_heading = "Running")]
    pub admin: Option<Listen>,
    #[command(flatten)]
    pub core_dumps: CoreDumpArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EncryptionWord {
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PresetWord {
    Compact,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartWord {
    /// The whole file
    Beginning,
    /// Only what is appended from now on
    End,
}

const EXAMPLES: &str = "\
Examples:
  kinseal agent --config /etc/kinseal/agent.toml
  kinseal agent --stream shop-logs --file '/var/log/*.log' --kms-key alias/shop --context app=shop
  kinseal agent --stream shop-logs --file '/var/log/*.log' --kms-key alias/shop --preset compact
  journalctl -f -o json | kinseal agent --stream journal --stdin --spool --kms-key alias/logs

A glob that the agent is to expand, also for files to come, has to be quoted.";

pub async fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let mut settings = args.settings(&config::System)?;
    // With a file too: it is often for one run.
    settings.admin = args.admin.clone().or(settings.admin);
    args.core_dumps.or(settings.core_dumps).apply();
    descriptors::make_room(&mut settings);
    // Before anything is started: a signal during the start must end it too.
    let mut signals = Signals::listen()?;
    let early = tokio::spawn(end_a_start_that_blocks(Signals::listen()?));
    let mut agent = tokio::select! {
        started = Agent::start(&settings) => started?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    early.abort();
    for source in &settings.sources {
        tracing::info!(stream = %source.stream, source = %source.kind, "started");
    }
    unix::inherited::tell_untaken();
    let ended = tokio::select! {
        ended = async { agent.sources_ended().await?; agent.flush().await; Ok(()) } => ended,
        _ = signals.next() => Ok(()),
    };
    tokio::spawn(async move {
        // Some senders say it twice in one breath, like timeout(1) to the process and to its group.
        let until = tokio::time::Instant::now() + ONE_BREATH;
        while signals.next().await < until {}
        let _ = writeln!(
            std::io::stderr(),
            "kinseal: stopped at once; what was not acknowledged is not in the checkpoint"
        );
        // Nothing to clean up: the checkpoint on disk is right at every moment.
        std::process::exit(1);
    });
    let report = agent.stop(args.grace).await?;
    let _ = write!(std::io::stderr(), "{report}");
    ended.map_err(|e: AgentError| anyhow::Error::from(e))?;

    let Abandoned { again, never, lost } = Abandoned::of(&report, &settings);
    if again > 0 {
        let (were, them) = if again == 1 {
            ("record was", "it")
        } else {
            ("records were", "them")
        };
        let _ = writeln!(
            std::io::stderr(),
            "kinseal: {} {were} not stored within the grace period: the next agent with this state directory \
             reads {them} again from the files, and what comes after {them} there",
            Thousands(again)
        );
    }
    if lost > 0 {
        anyhow::bail!(
            "{} {}; the log says why, and which files",
            Thousands(lost),
            match lost {
                1 => "record of the spool is lost",
                _ => "records of the spool are lost",
            }
        );
    }
    if never > 0 {
        let were = if never == 1 {
            "record was"
        } else {
            "records were"
        };
        let why = match settings.spool {
            None => ", and a source that is no file cannot be read again; give a longer --grace",
            Some(_) => {
                ", nor on disk: the log says what kept the spool from taking them; give it room, or a longer --grace"
            }
        };
        anyhow::bail!(
            "{} {were} not stored within the grace period{why}",
            Thousands(never)
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Records that were not stored by the end, by whether their source has them still.
struct Abandoned {
    again: u64,
    /// Of streams to which others than files went: which of the records were theirs is not known.
    never: u64,
    /// In the spool.
    lost: u64,
}

impl Abandoned {
    fn of(report: &Report, settings: &Settings) -> Self {
        let (mut again, mut never, mut lost) = (0, 0, 0);
        for stream in &report.streams {
            let mut sources = settings
                .sources
                .iter()
                .filter(|s| s.stream == stream.stream);
            let counts = &stream.counts;
            let not_in_time = counts.abandoned - counts.lost_in_spool;
            lost += counts.lost_in_spool;
            match sources.all(|source| matches!(source.kind, SourceKind::File(_))) {
                true => again += not_in_time,
                false => never += not_in_time,
            }
        }
        Self { again, never, lost }
    }
}

/// A disk that hangs, say: whoever waits for it without giving way can not be dropped.
async fn end_a_start_that_blocks(mut signals: Signals) {
    signals.next().await;
    tokio::time::sleep(ONE_BREATH).await;
    // Nothing was sent, and nothing read.
    std::process::exit(0);
}

/// A second signal counts as one only after this. A guess.
const ONE_BREATH: Duration = Duration::from_millis(250);

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// When the next one came. Cancel safe.
    pub(super) async fn next(&mut self) -> tokio::time::Instant {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tokio::time::Instant::now()
    }
}

impl AgentArgs {
    /// From the file, or from the other options.
    pub fn settings(&self, env: &dyn Environment) -> anyhow::Result<Settings> {
        if let Some(path) = &self.config {
            return Ok(config::load(path, env)?);
        }
        let stream = self
            .stream
            .clone()
            .ok_or_else(|| missing("--config FILE or --stream STREAM"))?;
        let encryption = seal::Settings {
            scope: self.scope()?,
            context: connection::context(&self.context)?,
            cache: CacheSettings::default(),
            message: message::Settings::default(),
        };
        let state_dir = match &self.state_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => statedir::default_dir(),
        };
        let spool = self.spool.then(|| spool::Settings::under(&state_dir));
        Ok(Settings {
            spool,
            ..Settings::for_one(
                stream,
                self.source()?,
                encryption,
                self.connection.settings(),
                state_dir,
            )
        })
    }

    fn scope(&self) -> anyhow::Result<Scope> {
        let key = match (&self.kms_key[..], &self.wrapping_key, self.encryption) {
            ([], None, Some(EncryptionWord::Off)) => return Ok(Scope::Off),
            ([], Some(file), None) => KeyChoice::WrappingKeyFile(std::path::absolute(file)?),
            (keys @ [_, ..], None, None) => {
                words::kms_keys(keys).map_err(|e| anyhow::anyhow!("--kms-key: {e}"))?;
                KeyChoice::Kms(keys.to_vec())
            }
            _ => {
                return Err(missing(
                    "--kms-key KEY, --wrapping-key FILE or --encryption off",
                ));
            }
        };
        Ok(match self.preset {
            Some(PresetWord::Compact) => Scope::Block(key, block::Settings::compact()),
            None => Scope::Record(key),
        })
    }

    fn source(&self) -> anyhow::Result<SourceKind> {
        if self.stdin {
            return Ok(SourceKind::Stdin(stdin::Settings::default()));
        }
        if self.files.is_empty() {
            return Err(missing("--file PATH or --stdin"));
        }
        let start_position = match self.start_position {
            Some(StartWord::Beginning) => tail::StartPosition::Beginning,
            Some(StartWord::End) | None => tail::StartPosition::End,
        };
        Ok(SourceKind::File(tail::Settings {
            include: self
                .files
                .iter()
                .map(|path| glob(path))
                .collect::<Result<_, _>>()?,
            start_position,
            ..tail::Settings::default()
        }))
    }
}

fn missing(what: &str) -> anyhow::Error {
    anyhow::anyhow!("give {what}")
}

/// A file that is there is meant by its name, whatever characters are in it.
fn glob(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path)?;
    let (Some(given), Some(absolute)) = (path.to_str(), absolute.to_str()) else {
        anyhow::bail!(
            "--file {}: not UTF-8; give a glob that matches it, with ? for each odd byte",
            path.display()
        );
    };
    if path.is_dir() {
        anyhow::bail!(
            "--file {given}: a directory; give the files in it, like --file '{}/*.log'",
            absolute.trim_end_matches('/')
        );
    }
    if path.exists() {
        if let Err(error) = std::fs::File::open(path) {
            anyhow::bail!("--file {given}: {error}; let this user read it");
        }
        return Ok(globset::escape(absolute));
    }
    if !given.contains(['*', '?', '[', '{']) {
        anyhow::bail!(
            "--file {given}: no such file; make it first, or give a quoted glob that will match it"
        );
    }
    let glob = match absolute.strip_suffix(given) {
        // The working directory's name is no glob.
        Some(folder) => format!("{}{given}", globset::escape(folder)),
        None => absolute.to_owned(),
    };
    words::absolute_glob(&glob)
        .map_err(|allowed| anyhow::anyhow!("--file {given}: allowed: {allowed}"))
}
