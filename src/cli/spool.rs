//! `kinseal spool list`: what waits on disk. It reads only, so an agent may be at work.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::form::{one_line, stdout, unless_closed};
use super::state::StateArgs;
use crate::config::words;
use crate::metrics::report::{Bytes, Thousands};
use crate::spool::{Settings, Standing};

/// See what waits in the spool: records of sources that cannot be read again, not stored yet
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct SpoolArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArgs),
}

/// List streams: how many records wait, since when, and in how many bytes
///
/// May be used while the agent runs, which notes each second what is stored.
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Where the spool is, if not where the configuration says [default: STATE_DIR/spool]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// A JSON object for each stream
    #[arg(long)]
    json: bool,
}

pub fn run(args: &SpoolArgs) -> anyhow::Result<ExitCode> {
    let Command::List(args) = &args.command;
    let path = args.path()?;
    // A mistyped name must not pass for "nothing waits".
    if !path.is_dir() {
        bail!(
            "spool {}: no such directory: no agent with a table [spool], or with --spool, has run with this state \
             directory yet; or the spool is elsewhere: give the agent's --config, or --path",
            path.display()
        );
    }
    let all = Standing::all(&path).with_context(|| format!("spool {}", path.display()))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut out = stdout()?;
    if all.is_empty() && !args.json {
        unless_closed(writeln!(out, "nothing was ever in the spool"))?;
    }
    for standing in &all {
        let text = if args.json {
            as_json(standing)
        } else {
            as_text(standing, now)
        };
        if !unless_closed(writeln!(out, "{text}"))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    unless_closed(out.flush())?;
    Ok(ExitCode::SUCCESS)
}

impl ListArgs {
    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let settings = self.state.settings()?;
        if let Some(spool) = settings
            .as_ref()
            .and_then(|settings| settings.spool.as_ref())
        {
            return Ok(spool.path.clone());
        }
        let state_dir = self.state.existing_dir(settings.as_ref())?;
        Ok(Settings::under(&state_dir).path)
    }
}

/// Folders are named by streams.
fn name(standing: &Standing) -> String {
    let name = standing.dir.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn as_text(standing: &Standing, now: Duration) -> String {
    let records = Thousands(standing.records);
    let mut text = format!("{}: {records} records wait", name(standing));
    if let Some(oldest) = standing.oldest_ms {
        let age = now.saturating_sub(Duration::from_millis(oldest));
        let age = words::show_duration(Duration::from_secs(age.as_secs()));
        text.push_str(&format!(", the oldest for {age}"));
    }
    text.push_str(&format!("; {} on disk", Bytes(standing.bytes)));
    if standing.plain {
        text.push_str(", in plaintext");
    }
    if standing.damaged > 0 {
        text.push_str(&format!("; {} damaged files are kept", standing.damaged));
    }
    one_line(&text)
}

fn as_json(standing: &Standing) -> String {
    json!({
        "stream": name(standing),
        "path": standing.dir.to_string_lossy(),
        "records": standing.records,
        "bytes": standing.bytes,
        "oldest_ms": standing.oldest_ms,
        "plaintext": standing.plain,
        "damaged_files": standing.damaged,
    })
    .to_string()
}
