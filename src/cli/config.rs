//! `kinseal config`: about a configuration, without running it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::{self, DaemonSettings, Environment, Settings, Stream, words};
use crate::metrics::report::Count;
use crate::seal::block::Packing;
use crate::seal::message::Encoding;
use crate::seal::{self, KeyChoice, Scope};

/// Check a configuration without running it
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name every mistake at once: FILE:LINE: KEY: what was found; what is allowed
    ///
    /// Exits with 0 if there is none, and with 78 otherwise. ${VARIABLES} are taken from this environment.
    Check {
        /// The configuration, like /etc/kinseal/agent.toml
        file: PathBuf,
        /// It is of `kinseal kpl-daemon`, as KINSEAL_CONFIG names it
        #[arg(long)]
        kpl_daemon: bool,
    },
}

pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let Command::Check { file, kpl_daemon } = &args.command;
    let summary = match kpl_daemon {
        true => check_daemons(file, &config::System)?,
        false => check(file, &config::System)?,
    };
    // A closed pipe is the reader's choice.
    let _ = writeln!(std::io::stdout(), "{summary}");
    Ok(ExitCode::SUCCESS)
}

/// What a good configuration comes to, in a few lines.
fn check(path: &Path, env: &dyn Environment) -> Result<String, config::Mistakes> {
    let settings = config::load(path, env)?;
    let mut lines = vec![format!("{}: good", path.display())];
    lines.extend(
        settings
            .streams
            .iter()
            .map(|stream| about(stream, &settings)),
    );
    Ok(lines.join("\n"))
}

/// The same of the file that stands beside what the KPL's Java client says.
fn check_daemons(path: &Path, env: &dyn Environment) -> Result<String, config::Mistakes> {
    let settings = DaemonSettings::load(path, env)?;
    let encryption = encryption(&settings.encryption, "the client's recordMaxBufferedTime");
    Ok(format!(
        "{}: good\n  all streams: {encryption}",
        path.display()
    ))
}

fn about(stream: &Stream, settings: &Settings) -> String {
    let sources = settings
        .sources
        .iter()
        .filter(|source| source.stream == stream.name)
        .count();
    let sources = Count(sources as u64, "source");
    let linger = words::show_duration(stream.aggregation.linger);
    let encryption = encryption(&stream.encryption, &linger);
    format!("  {}: {sources}, {encryption}", stream.name)
}

/// What presets and defaults come to, in words.
fn encryption(settings: &seal::Settings, linger: &str) -> String {
    let (what, key) = match &settings.scope {
        Scope::Off => return "sent as plaintext".into(),
        Scope::Record(key) => ("each record encrypted".to_owned(), key),
        Scope::Block(key, block) => {
            let compressed = match block.packing {
                Packing::Kpl => String::new(),
                Packing::KplZstd { level } => format!("compressed (zstd, level {level}) and "),
            };
            let size = words::show_bytes(block.max_size as u64);
            let linger = block
                .linger
                .map_or_else(|| linger.to_owned(), words::show_duration);
            let what =
                format!("records in blocks of {size} or {linger}, each {compressed}encrypted");
            (what, key)
        }
    };
    let key = match key {
        KeyChoice::Kms(keys) => keys.join(" and "),
        KeyChoice::WrappingKeyFile(file) => format!("the key in {}", file.display()),
    };
    let text = match settings.message.encoding {
        Encoding::Binary => "",
        Encoding::Base64 => ", as base64",
    };
    format!("{what} under {key}, suite {}{text}", settings.message.suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_says_where_records_go_and_how() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.toml");
        let summary = check(&path, &config::System).unwrap();
        let (first, rest) = summary.split_once('\n').unwrap();
        assert!(first.ends_with("minimal.toml: good"), "{first}");
        assert_eq!(
            rest,
            "  shop-logs: 1 source, each record encrypted under alias/shop, suite 0478"
        );
    }

    #[test]
    fn a_daemons_file_is_held_against_what_the_daemon_takes() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let daemons = dir.join("kpl-daemon.toml");
        let summary = check_daemons(&daemons, &config::System).unwrap();
        assert!(
            summary.contains("kpl-daemon.toml: good\n  all streams: "),
            "{summary}"
        );
        assert!(check(&daemons, &config::System).is_err());
        assert!(check_daemons(&dir.join("minimal.toml"), &config::System).is_err());
    }

    #[test]
    fn what_a_preset_comes_to_is_said() {
        let about = |keys: &str| {
            let text = format!(
                "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\nkms_key = ['alias/a', 'alias/b']\n{keys}"
            );
            let settings = config::parse("f", &text, &config::System).unwrap();
            about(&settings.streams[0], &settings)
        };
        assert_eq!(
            about("preset = 'compact'"),
            "  s: 1 source, records in blocks of 48KiB or 5s, each compressed (zstd, level 1) and encrypted \
             under alias/a and alias/b, suite 0478"
        );
        assert_eq!(
            about("scope = 'block'"),
            "  s: 1 source, records in blocks of 48KiB or 100ms, each encrypted under alias/a and alias/b, \
             suite 0478"
        );
        assert_eq!(
            about("scope = 'record'\ncompatibility = 'kinesisencryption'\ncontext.Kinesis = 'x'"),
            "  s: 1 source, each record encrypted under alias/a and alias/b, suite 0178, as base64"
        );
    }
}
