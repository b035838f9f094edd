//! `kinseal checkpoint`: how far files are stored, waiting until they are, and another place to go on from.

mod edit;
mod list;
mod wait;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::connection;
use super::state::StateArgs;
use crate::checkpoint::{RealDisk, Saved, SavedFile, Store};
use crate::record::StreamName;

/// See how far files are stored, wait until they are, and change where reading goes on
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::ListArgs),
    Wait(wait::WaitArgs),
    Export(list::ExportArgs),
    Set(edit::SetArgs),
    Reset(edit::ResetArgs),
}

pub fn run(args: &CheckpointArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Wait(args) => wait::run(args),
        Command::Export(args) => list::export(args),
        Command::Set(args) => edit::set(args),
        Command::Reset(args) => edit::reset(args),
    }
}

/// Where the checkpoint lies, and which of its files are meant.
#[derive(Debug, Args)]
struct Selection {
    #[command(flatten)]
    state: StateArgs,
    /// Only files for this stream, as its configuration names it
    #[arg(long, value_name = "STREAM", value_parser = connection::stream)]
    stream: Option<StreamName>,
}

impl Selection {
    fn state_dir(&self) -> anyhow::Result<PathBuf> {
        let settings = self.state.settings()?;
        self.state.existing_dir(settings.as_ref())
    }

    /// What is saved now. An agent may be at work: it replaces the file as a whole.
    fn load(&self, state_dir: &Path) -> anyhow::Result<Saved> {
        Ok(store(state_dir).load()?.unwrap_or_default())
    }

    fn has(&self, file: &SavedFile) -> bool {
        (self.stream.as_ref()).is_none_or(|stream| file.stream == *stream)
    }
}

fn store(state_dir: &Path) -> Store {
    Store::new(state_dir.to_owned(), Box::new(RealDisk))
}

/// As the agent would name it: from the root.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}
