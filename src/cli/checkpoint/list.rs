//! `kinseal checkpoint list` and `export`. They read only, so an agent may be at work.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::Selection;
use crate::checkpoint::SavedFile;
use crate::checkpoint::store::encode;
use crate::cli::form::{one_line, stdout, unless_closed};
use crate::config::words;
use crate::metrics::report::Bytes;
use crate::source::tail::Standing;

/// List files: how much of each is stored, how far it is behind, and whether it is safe to delete
///
/// A file is "stored" if all of it is: also its last line, so that while a line is unfinished it is not. A compressed one
/// is "damaged" if it cannot be unpacked to its end. May be used while the agent runs, which saves its checkpoint each
/// second.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    #[command(flatten)]
    selection: Selection,
    /// A JSON object for each file
    #[arg(long)]
    json: bool,
}

/// Print the whole checkpoint, as JSON
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    selection: Selection,
}

const EXAMPLES: &str = "\
Examples:
  kinseal checkpoint list --config /etc/kinseal/agent.toml
  kinseal checkpoint list --state-dir ./state --stream shop-logs --json";

pub(super) fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let saved = args.selection.load(&args.selection.state_dir()?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut out = stdout()?;
    let mut none = true;
    for file in saved.files.iter().filter(|f| args.selection.has(f)) {
        none = false;
        let standing = Standing::of(file);
        let row = Row::of(file, standing, now);
        let text = if args.json {
            row.as_json()
        } else {
            row.as_text()
        };
        if !unless_closed(writeln!(out, "{text}"))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if none && !args.json {
        unless_closed(writeln!(out, "no such files in the checkpoint"))?;
    }
    unless_closed(out.flush())?;
    Ok(ExitCode::SUCCESS)
}

/// What is shown of a file.
struct Row<'a> {
    file: &'a SavedFile,
    path: String,
    state: &'static str,
    is_stored: bool,
    /// What went wrong in looking at it.
    error: Option<String>,
    size: Option<u64>,
    behind: Option<u64>,
    /// Since the checkpoint last moved, where something is left to store.
    behind_for: Option<Duration>,
}

impl<'a> Row<'a> {
    fn of(file: &'a SavedFile, standing: std::io::Result<Standing>, now: Duration) -> Self {
        let mut row = Self {
            file,
            path: file.path.clone(),
            state: "unreadable",
            is_stored: false,
            error: None,
            size: None,
            behind: None,
            behind_for: None,
        };
        let standing = match standing {
            Ok(standing) => standing,
            Err(e) => {
                row.error = Some(e.to_string());
                return row;
            }
        };
        row.is_stored = standing.is_stored(file);
        (row.state, row.behind) = match &standing {
            Standing::Present { behind: 0, .. } if file.cut => ("cut", Some(0)),
            Standing::Present { behind: 0, .. } => ("stored", Some(0)),
            Standing::Present { behind, .. } | Standing::Unended { behind, .. } => {
                ("behind", Some(*behind))
            }
            // How much it should have nobody knows.
            Standing::Damaged { .. } => ("damaged", None),
            Standing::Changed { size, .. } => ("changed", Some(*size)),
            Standing::Gone if row.is_stored => ("stored, gone", Some(0)),
            Standing::Gone if file.damaged => ("damaged, gone", None),
            Standing::Gone if file.cut => ("cut, gone", None),
            Standing::Gone => ("gone", None),
        };
        if let Standing::Present { path, size, .. }
        | Standing::Unended { path, size, .. }
        | Standing::Damaged { path, size }
        | Standing::Changed { path, size } = standing
        {
            row.path = path.to_string_lossy().into_owned();
            row.size = Some(size);
        }
        if !row.is_stored {
            let since = now.saturating_sub(Duration::from_secs(file.updated));
            row.behind_for = Some(Duration::from_secs(since.as_secs()));
        }
        row
    }

    fn as_text(&self) -> String {
        let mut text = format!("{}: {}: {}", self.file.stream, self.path, self.state);
        if let Some(error) = &self.error {
            text.push_str(&format!(": {error}"));
        }
        text.push_str(&format!(", {} stored", Bytes(self.file.offset)));
        if let Some(size) = self.size {
            text.push_str(&format!(" of {}", Bytes(size)));
        }
        if self.state == "damaged" {
            text.push_str(" that can be unpacked");
        }
        if self.state == "cut" {
            text.push_str(" but for the rest of lines that were cut off as dead letters");
        }
        if let (Some(behind), Some(time)) = (self.behind, self.behind_for) {
            let time = words::show_duration(time);
            let since = match self.file.offset {
                0 => format!("for {time}"),
                _ => format!("moved {time} ago"),
            };
            text.push_str(&format!(", {} behind, {since}", Bytes(behind)));
        }
        // Names are a stranger's.
        one_line(&text)
    }

    fn as_json(&self) -> String {
        json!({
            "stream": self.file.stream.to_string(), "path": self.path, "device": self.file.device,
            "inode": self.file.inode, "state": self.state, "stored": self.is_stored,
            "error": self.error, "size": self.size, "offset": self.file.offset, "bytes_behind": self.behind,
            "seconds_behind": self.behind_for.map_or(0, |time| time.as_secs()), "updated": self.file.updated,
            "finished": self.file.finished,
        })
        .to_string()
    }
}

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let dir = args.selection.state_dir()?;
    let mut saved = args.selection.load(&dir)?;
    saved.files.retain(|file| args.selection.has(file));
    let stream = args.selection.stream.as_ref();
    (saved.includes).retain(|include| stream.is_none_or(|s| include.stream == *s));
    let mut out = stdout()?;
    unless_closed(out.write_all(&encode(&saved)?))?;
    unless_closed(out.flush())?;
    Ok(ExitCode::SUCCESS)
}
