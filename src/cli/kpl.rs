//! `kinseal kpl-daemon`: in the place of the native program that the KPL's Java client starts.
//!
//! The client calls it as it calls its own: with that program's options, by whatever name. So these are recognised without
//! a subcommand too. Exit codes are that program's: 1 where it cannot start, 2 where it broke. Before it exits with 1 it
//! waits a little: the client starts it again at once, for ever.

mod arguments;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::arguments::{KplArgs, is_kpl};
use super::hardening::{CoreDumpArgs, allow_core_files};
use super::log::{filter, of_level};
use crate::config::{DaemonSettings, Environment, System};
use crate::daemon::clients::{Overrides, Trust};
use crate::daemon::log::{KplLog, LogGuard, say};
use crate::daemon::pipes::Parent;
use crate::daemon::{self, DaemonError, Start};
use crate::shutdown;

/// Before an exit that the client answers with another start.
const BEFORE_EXIT: Duration = Duration::from_secs(2);
/// For the last lines of the log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The option that says where the encryption is.
const CONFIG: &str = "KINSEAL_CONFIG";
const CONFIG_FILE: &str = "kinseal.toml";

#[derive(Debug, Parser)]
#[command(
    name = "kinseal kpl-daemon",
    bin_name = "kinseal kpl-daemon",
    disable_version_flag = true,
    max_term_width = 100,
    about = "In the place of the KPL's native program, for its unmodified Java client"
)]
struct KplCli {
    #[command(flatten)]
    args: KplArgs,
}

/// The whole program, where [`is_kpl`] says that the client means it.
pub fn main(given: Vec<OsString>) -> ExitCode {
    // Before it can have died.
    let parent = Parent::new();
    let given = match arguments::taken_over(given) {
        Ok(given) => given,
        Err(error) => return cannot_start(&error.to_string()),
    };
    let args = match KplCli::try_parse_from(arguments::without_subcommand(given)) {
        Ok(cli) => cli.args,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = super::redacted(&error.to_string());
            return cannot_start(&arguments::without_blobs(&text));
        }
    };
    let log = init_log(&args.log_level);
    let ended = run(&args, parent);
    let code = match &ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            log.flush(LAST_LINES);
            match error {
                CannotRun::Daemon(DaemonError::Broken(_)) => ExitCode::from(2),
                _ => {
                    std::thread::sleep(BEFORE_EXIT);
                    ExitCode::FAILURE
                }
            }
        }
    };
    log.flush(LAST_LINES);
    code
}

#[derive(Debug, thiserror::Error)]
enum CannotRun {
    #[error(transparent)]
    Arguments(#[from] arguments::ArgumentsError),
    #[error("{0}; nothing is sent: it may say that records are to be encrypted")]
    Config(#[from] crate::config::Mistakes),
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

fn run(args: &KplArgs, parent: Parent) -> Result<(), CannotRun> {
    let said = args.decode()?;
    let allowed = said.configuration.core_dumps == Some(true);
    CoreDumpArgs { allowed }.apply();
    if allowed {
        allow_core_files();
    }
    let settings = daemon_settings(&System)?;
    let start = Start {
        from_client: args.output_pipe.clone(),
        to_client: args.input_pipe.clone(),
        configuration: said.configuration,
        credentials: said.credentials,
        metrics_credentials: said.metrics_credentials,
        overrides: overrides(&System, args.ca_path.clone()),
        encryption: settings.encryption,
        aws: settings.aws,
        spool: settings.spool,
        admin: settings.admin,
        memory_limit: settings.memory_limit.unwrap_or(Start::MEMORY_LIMIT),
        grace: Start::GRACE,
        parent,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CannotRun::Threads)?;
    let ended = runtime.block_on(serve(start));
    runtime.shutdown_background();
    Ok(ended?)
}

async fn serve(start: Start) -> Result<(), DaemonError> {
    let (stop, shutdown) = shutdown::channel();
    let stopping = tokio::spawn(async move {
        let hear = |kind| signal(kind).expect("signals can be listened to");
        let mut terminate = hear(SignalKind::terminate());
        let mut interrupt = hear(SignalKind::interrupt());
        // The KPL's own prints a stack trace and goes on.
        let mut trace = hear(SignalKind::user_defined1());
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = trace.recv() => tracing::info!("SIGUSR1: this program prints no stack trace, and goes on"),
            }
        }
        stop.stop();
    });
    let ended = daemon::run(start, shutdown).await;
    stopping.abort();
    ended
}

/// What the file says that `KINSEAL_CONFIG` names, or the one beside the program; nothing, where there is none.
fn daemon_settings(env: &dyn Environment) -> Result<DaemonSettings, crate::config::Mistakes> {
    // Whatever its characters: not to be found would be to send in clear.
    let in_any_letters = || std::env::var_os(CONFIG).filter(|path| path.to_str().is_none());
    let named = env.var(CONFIG).map(OsString::from);
    let named = named.or_else(in_any_letters);
    let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
    match named.or_else(beside_the_program) {
        Some(path) => {
            let settings = DaemonSettings::load(&path, env)?;
            tracing::info!(config = %path.display(), "read");
            Ok(settings)
        }
        None => Ok(DaemonSettings::of_no_file()),
    }
}

/// Beside the program by the name that it was started under, or beside what that links to. A link to what is not there is a file
/// that cannot be read, and no absence.
fn beside_the_program() -> Option<PathBuf> {
    let started_as = std::env::args_os().next().map(PathBuf::from);
    let programs = [started_as, std::env::current_exe().ok()];
    let folder_of = |program: PathBuf| match program.parent() {
        // A name without a folder was looked for along the PATH.
        Some(folder) if folder.as_os_str().is_empty() => on_the_path(&program),
        folder => folder.map(Path::to_owned),
    };
    let folders = programs.into_iter().flatten().filter_map(folder_of);
    let mut beside = folders.map(|folder| folder.join(CONFIG_FILE));
    beside.find(|path| path.symlink_metadata().is_ok())
}

fn on_the_path(program: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join(program).is_file())
}

fn overrides(env: &dyn Environment, ca_path: Option<PathBuf>) -> Overrides {
    let var = |name: &str| env.var(name).filter(|value| !value.is_empty());
    let all = || var("AWS_ENDPOINT_URL");
    Overrides {
        trust: Trust {
            directory: ca_path.or_else(|| var("CA_DIR").map(PathBuf::from)),
            file: var("CA_FILE").map(PathBuf::from),
        },
        kinesis_url: var("AWS_ENDPOINT_URL_KINESIS").or_else(all),
        kms_url: var("AWS_ENDPOINT_URL_KMS").or_else(all),
        cloudwatch_url: var("AWS_ENDPOINT_URL_CLOUDWATCH").or_else(all),
    }
}

/// At the level that the client asks for; one that is not known is info, as in the KPL's own.
fn init_log(level: &str) -> LogGuard {
    let level = match level.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "warn" | "warning" => "warn",
        "error" | "fatal" => "error",
        "off" => "off",
        _ => "info",
    };
    let (layer, guard) = KplLog::start();
    // An embedder's own subscriber stays.
    let _ = tracing_subscriber::registry()
        .with(filter(&of_level(level)))
        .with(layer)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(at, "a defect of this program, please report it: {what}");
    }));
    guard
}

fn cannot_start(why: &str) -> ExitCode {
    say("error", why);
    // A person need not wait.
    if !std::io::stderr().is_terminal() {
        std::thread::sleep(BEFORE_EXIT);
    }
    ExitCode::FAILURE
}
