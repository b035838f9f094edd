//! `kinseal checkpoint set` and `reset`. They write, so the agent must be stopped; they hold its lock meanwhile.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::{Selection, absolute, store};
use crate::checkpoint::{Lock, SavedFile};
use crate::cli::form::{one_line, plural};
use crate::record::StreamName;
use crate::source::tail::Settable;

/// Change where reading of a file goes on, while the agent is stopped
///
/// Lines before that place are not sent, lines after it are sent (again).
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    selection: Selection,
    /// The file, by its name of now
    #[arg(value_name = "LOG")]
    file: PathBuf,
    /// "beginning", "end", or a number of bytes (unpacked ones of a compressed file), which is where a line begins
    #[arg(value_name = "PLACE", value_parser = place)]
    place: Place,
}

/// Forget files, while the agent is stopped
///
/// It will meet them as if for the first time: those that are there then are read from their `start_position`.
#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    #[command(flatten)]
    selection: Selection,
    /// Files to forget, by their names in the checkpoint
    #[arg(
        value_name = "LOG",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    files: Vec<PathBuf>,
    /// All files, and which globs were looked at
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Beginning,
    End,
    Offset(u64),
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "beginning" => Ok(Place::Beginning),
        "end" => Ok(Place::End),
        _ => text
            .parse()
            .map(Place::Offset)
            .map_err(|_| "\"beginning\", \"end\" or a number of bytes is meant".to_owned()),
    }
}

pub(super) fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    let dir = args.selection.state_dir()?;
    let _lock = Lock::take(&dir)?;
    let mut saved = args.selection.load(&dir)?;
    let path = absolute(&args.file)?;
    // Names are a stranger's.
    let shown = one_line(&path.display().to_string());
    let meta = (path.metadata())
        .with_context(|| format!("{shown}: give the name of a file that is there"))?;
    let is_it = |f: &SavedFile| f.inode == meta.ino() && f.device == meta.dev();
    let known = saved
        .files
        .iter()
        .filter(|f| is_it(f) && args.selection.has(f));
    let mut streams: Vec<StreamName> = known.map(|f| f.stream.clone()).collect();
    if streams.is_empty() {
        let Some(stream) = &args.selection.stream else {
            bail!("{shown}: not in the checkpoint; give --stream, for which it is to be added");
        };
        streams.push(stream.clone());
    }
    let file = Settable::open(&path).with_context(|| shown.clone())?;
    let offset = offset(args.place, &file).with_context(|| shown.clone())?;
    saved
        .files
        .retain(|f| !is_it(f) || !streams.contains(&f.stream));
    for stream in &streams {
        let stored = file.saved_at(stream, offset);
        saved.files.push(stored.with_context(|| shown.clone())?);
        println!("{stream}: {shown}: goes on at {offset}");
    }
    store(&dir).save(&saved)?;
    Ok(ExitCode::SUCCESS)
}

fn offset(place: Place, file: &Settable) -> anyhow::Result<u64> {
    let offset = match place {
        Place::Beginning => return Ok(0),
        Place::End => return Ok(file.size()),
        Place::Offset(offset) => offset,
    };
    if offset > file.size() {
        bail!("{offset} is past its end, which is at {}", file.size());
    }
    if !file.begins_line(offset)? {
        bail!("{offset} is in the middle of a line; give where one begins");
    }
    Ok(offset)
}

pub(super) fn reset(args: &ResetArgs) -> anyhow::Result<ExitCode> {
    let dir = args.selection.state_dir()?;
    let _lock = Lock::take(&dir)?;
    let mut saved = args.selection.load(&dir)?;
    let paths: Vec<PathBuf> = (args.files.iter())
        .map(|path| absolute(path))
        .collect::<Result<_, _>>()?;
    for path in &paths {
        let is_it = |f: &SavedFile| is_called(f, path) && args.selection.has(f);
        if !saved.files.iter().any(is_it) {
            let shown = one_line(&path.display().to_string());
            bail!("{shown}: not in the checkpoint; nothing was changed");
        }
    }
    let before = saved.files.len();
    let is_meant = |f: &SavedFile| args.all || paths.iter().any(|path| is_called(f, path));
    saved
        .files
        .retain(|f| !(args.selection.has(f) && is_meant(f)));
    if args.all {
        let stream = args.selection.stream.as_ref();
        (saved.includes).retain(|include| stream.is_some_and(|s| include.stream != *s));
    }
    store(&dir).save(&saved)?;
    let forgotten = before - saved.files.len();
    println!("{} forgotten", plural(forgotten as u64, "file"));
    Ok(ExitCode::SUCCESS)
}

/// By its name in the checkpoint, where what is not UTF-8 is replaced: of names that come to be alike, the file tells.
fn is_called(file: &SavedFile, path: &Path) -> bool {
    let is_it = |meta: Metadata| (meta.dev(), meta.ino()) == (file.device, file.inode);
    file.path == path.to_string_lossy()
        && (path.to_str().is_some() || path.metadata().is_ok_and(is_it))
}
