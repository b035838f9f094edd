//! `kinseal deadletter`: what could not be stored, and another try for it.
//!
//! Payloads are never shown: they are what would have been sent, plaintext where encryption is off.

mod list;
mod resend;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::connection;
use super::form::plural;
use super::state::StateArgs;
use super::utc::Utc;
use crate::deadletter::{Folder, Line, Lines};
use crate::record::StreamName;

/// See what could not be stored, and send it again
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct DeadLetterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::ListArgs),
    Resend(resend::ResendArgs),
}

pub async fn run(args: DeadLetterArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list::run(&args),
        Command::Resend(args) => resend::run(args).await,
    }
}

/// Where dead letters lie, and which of them are meant.
#[derive(Debug, Args)]
struct Selection {
    #[command(flatten)]
    state: StateArgs,
    /// Only those for this stream, as its configuration names it
    #[arg(long, value_name = "STREAM", value_parser = connection::stream)]
    stream: Option<StreamName>,
    /// Only those whose reason has this in it, like TooLarge or AccessDenied
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those that have lain there for longer than this, like 5m or 7d
    #[arg(long, value_name = "TIME", value_parser = connection::duration)]
    older_than: Option<Duration>,
    /// One moment for all: what is shown and what is counted are the same.
    #[arg(skip = SystemTime::now())]
    asked: SystemTime,
}

impl Selection {
    fn has(&self, line: &Line<'_>) -> bool {
        let since_1970 = self.asked.duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = since_1970.saturating_sub(Duration::from_millis(line.time_ms));
        let says = |text: &String| line.kind.contains(text) || line.reason.contains(text);
        (self.stream.as_ref()).is_none_or(|stream| stream.to_string() == line.stream)
            && self.reason.as_ref().is_none_or(says)
            && self.older_than.is_none_or(|least| age >= least)
    }

    /// Shows each letter that is meant, file by file, the oldest first. Says how many lines cannot be read.
    fn each(
        &self,
        state_dir: &Path,
        mut show: impl FnMut(&Line<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Unreadable>> {
        let mut unreadable = Vec::new();
        for path in files(state_dir)? {
            let mut lines = match Lines::open(&path) {
                Ok(lines) => lines,
                // Taken away just now.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e).with_context(|| path.display().to_string()),
            };
            let mut bad = 0;
            while let Some(line) = lines.next() {
                match line.with_context(|| path.display().to_string())? {
                    Ok((_, line)) if self.has(&line) => show(&line)?,
                    Ok(_) => {}
                    Err(_) => bad += 1,
                }
            }
            if bad > 0 {
                unreadable.push(Unreadable { path, lines: bad });
            }
        }
        Ok(unreadable)
    }

    fn totals(&self, state_dir: &Path) -> anyhow::Result<(Totals, Vec<Unreadable>)> {
        let mut totals = Totals::default();
        let unreadable = self.each(state_dir, |line| {
            totals.add(line);
            Ok(())
        })?;
        Ok((totals, unreadable))
    }
}

/// Of all streams, each stream's oldest first.
fn files(state_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = || format!("dead letters in {}", state_dir.display());
    let mut files = Vec::new();
    for folder in Folder::all(state_dir).with_context(shown)? {
        let of_stream = folder.files().with_context(shown)?;
        files.extend(of_stream.into_iter().map(|file| file.path));
    }
    Ok(files)
}

/// Lines that a crash has cut short, or that somebody has changed.
#[derive(Debug)]
struct Unreadable {
    path: PathBuf,
    lines: u64,
}

/// What lies there, by stream and kind of reason.
#[derive(Debug, Default)]
struct Totals(BTreeMap<(String, String), Total>);

#[derive(Debug)]
struct Total {
    /// User records; in block scope a letter has several.
    records: u64,
    letters: u64,
    bytes: u64,
    oldest_ms: u64,
    newest_ms: u64,
}

impl Totals {
    fn add(&mut self, line: &Line<'_>) {
        let key = (line.stream.clone(), line.kind.clone());
        let total = self.0.entry(key).or_insert(Total {
            records: 0,
            letters: 0,
            bytes: 0,
            oldest_ms: line.time_ms,
            newest_ms: line.time_ms,
        });
        // A file that somebody has changed may say anything.
        total.records = total.records.saturating_add(line.records);
        total.letters += 1;
        total.bytes = total.bytes.saturating_add(line.bytes() as u64);
        total.oldest_ms = total.oldest_ms.min(line.time_ms);
        total.newest_ms = total.newest_ms.max(line.time_ms);
    }

    fn letters(&self) -> u64 {
        self.0.values().map(|total| total.letters).sum()
    }
}

fn at(time_ms: u64) -> Utc {
    Utc(UNIX_EPOCH + Duration::from_millis(time_ms))
}
