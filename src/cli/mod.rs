//! The command line: arguments → settings → a front door.
//!
//! Exit codes, after `sysexits.h`: 0 done; 1 failed; 64 a mistake on the command line; 78 a mistake in the
//! configuration. Errors go to standard error, as `kinseal: …` in two lines at most, or a line for each
//! mistake of a configuration.

pub mod agent;
pub mod checkpoint;
pub mod config;
mod connection;
pub mod consume;
pub mod deadletter;
pub mod decrypt;
#[cfg(feature = "fake")]
pub mod demo;
mod descriptors;
pub mod encrypt;
mod facts;
mod files;
mod form;
pub mod hardening;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub mod heap;
pub mod key;
mod keys;
pub mod kpl;
mod limits;
#[cfg(feature = "fake")]
pub mod local;
mod log;
pub mod multilang;
pub mod size;
pub mod spool;
mod state;
#[cfg(test)]
mod tests;
mod utc;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Mistakes, System};
use crate::seal::rawkey::redacted;

/// A mistake on the command line.
pub const EX_USAGE: u8 = 64;
/// A mistake in the configuration.
pub const EX_CONFIG: u8 = 78;

/// A mistake on the command line that clap does not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) String);

/// Puts records on Amazon Kinesis Data Streams: encrypted on this host, aggregated, and each accounted for.
#[derive(Debug, Parser)]
#[command(name = "kinseal", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::AgentArgs),
    Checkpoint(checkpoint::CheckpointArgs),
    Consume(consume::ConsumeArgs),
    #[command(name = "deadletter")]
    DeadLetter(deadletter::DeadLetterArgs),
    Encrypt(encrypt::EncryptArgs),
    Decrypt(decrypt::DecryptArgs),
    Multilang(multilang::MultilangArgs),
    Size(size::SizeArgs),
    Spool(spool::SpoolArgs),
    Key(key::KeyArgs),
    #[cfg(feature = "fake")]
    Demo(demo::DemoArgs),
    #[cfg(feature = "fake")]
    Local(local::LocalArgs),
    Config(config::ConfigArgs),
    /// In the place of the KPL's native program, for its unmodified Java client
    #[command(name = "kpl-daemon")]
    KplDaemon(kpl::KplArgs),
}

const EXAMPLES: &str = "\
Examples:
  kinseal demo                   the whole journey on this machine, no AWS account needed
  kinseal agent --config /etc/kinseal/agent.toml
  kinseal agent --stream shop-logs --file '/var/log/shop/*.log' --kms-key alias/shop
  kinseal consume --stream shop-logs --kms-key alias/shop --until-empty
  kinseal multilang --kms-key alias/shop -- python3 processor.py      under the KCL
  kinseal checkpoint wait --config /etc/kinseal/agent.toml /var/log/shop/a.log.1
  kinseal deadletter list --config /etc/kinseal/agent.toml
  kinseal spool list --config /etc/kinseal/agent.toml
  kinseal key new key.toml       and then --wrapping-key key.toml, where there is no KMS
  kinseal decrypt --wrapping-key key.toml message.bin
  kinseal config check /etc/kinseal/agent.toml";

impl Cli {
    pub fn parse_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }

    /// What `--log`, `--verbose` and `KINSEAL_LOG` ask for, on standard error.
    pub fn init_log(&self) {
        self.log.init(&System);
    }

    /// The exit code, where the command has said all there was to say.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Agent(args) => agent::run(args).await,
            Command::Checkpoint(args) => checkpoint::run(&args),
            Command::Consume(args) => consume::run(args).await,
            Command::DeadLetter(args) => deadletter::run(args).await,
            Command::Encrypt(args) => encrypt::run(args, self.log.is_verbose()).await,
            Command::Decrypt(args) => decrypt::run(args, self.log.is_verbose()).await,
            Command::Multilang(args) => multilang::run(args).await,
            Command::Size(args) => size::run(args),
            Command::Spool(args) => spool::run(&args),
            Command::Key(args) => key::run(&args),
            #[cfg(feature = "fake")]
            Command::Demo(args) => demo::run(args).await,
            #[cfg(feature = "fake")]
            Command::Local(args) => local::run(args).await,
            Command::Config(args) => config::run(&args),
            // Seen before, by `kpl::is_kpl`: it has a log and exit codes of its own.
            Command::KplDaemon(_) => Ok(ExitCode::from(EX_USAGE)),
        }
    }
}

/// Prints why the arguments could not be used, or the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
    };
    match error.kind() {
        // A closed pipe is the reader's choice.
        DisplayHelp | DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(EX_USAGE)
        }
        _ => {
            print_error(&usage_lines(&redacted(&error.render().to_string())));
            ExitCode::from(EX_USAGE)
        }
    }
}

/// clap's paragraphs in two lines: what is wrong, and how it is meant.
fn usage_lines(rendered: &str) -> String {
    let (what, rest) = rendered.split_once("Usage:").unwrap_or((rendered, ""));
    let what = what
        .split("For more information")
        .next()
        .unwrap_or_default();
    let what: Vec<&str> = what.split_whitespace().collect();
    let what = what.join(" ");
    let mut what = what.replace(" tip: ", "; ");
    // What is printed is none of a configuration's.
    if what.contains("'--config <FILE>' cannot be used with") && !what.contains("'--raw") {
        what.push_str(": with a configuration, it stands in that file");
    }
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    match rest.lines().next().map(str::trim) {
        Some(usage) if !usage.is_empty() => format!("kinseal: {what}\nusage: {usage}"),
        _ => format!("kinseal: {what}"),
    }
}

/// Prints why a command failed.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    if let Some(mistakes) = error.downcast_ref::<Mistakes>() {
        print_error(&mistakes.to_string());
        return ExitCode::from(EX_CONFIG);
    }
    print_error(&format!("kinseal: {}", with_causes(error)));
    match error.is::<Misuse>() {
        true => ExitCode::from(EX_USAGE),
        false => ExitCode::FAILURE,
    }
}

/// An error and its causes, but for those that it has told itself.
fn with_causes(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

fn print_error(text: &str) {
    // Nobody is left to be told.
    let _ = writeln!(std::io::stderr(), "{text}");
}
