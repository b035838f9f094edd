//! `kinseal config`: about a configuration, without running it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::{self, Environment, Settings, Stream};
use crate::seal::block::Packing;
use crate::seal::{KeyChoice, Scope};

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
    },
}

pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let Command::Check { file } = &args.command;
    let summary = check(file, &config::System)?;
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

fn about(stream: &Stream, settings: &Settings) -> String {
    let sources = settings
        .sources
        .iter()
        .filter(|source| source.stream == stream.name)
        .count();
    let plural = if sources == 1 { "" } else { "s" };
    let under = |key: &KeyChoice| match key {
        KeyChoice::Kms(keys) => keys.join(" and "),
        KeyChoice::WrappingKeyFile(file) => format!("the key in {}", file.display()),
    };
    let encryption = match &stream.encryption.scope {
        Scope::Off => "sent as plaintext".into(),
        Scope::Record(key) => format!("each record encrypted under {}", under(key)),
        Scope::Block(key, block) => {
            let compressed = match block.packing {
                Packing::Kpl => "",
                Packing::KplZstd { .. } => "compressed and ",
            };
            format!(
                "records in blocks, each {compressed}encrypted under {}",
                under(key)
            )
        }
    };
    format!("  {}: {sources} source{plural}, {encryption}", stream.name)
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
            "  shop-logs: 1 source, each record encrypted under alias/shop"
        );
    }
}
