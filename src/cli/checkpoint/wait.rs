//! `kinseal checkpoint wait`: for scripts that take a file away.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use super::{Selection, absolute};
use crate::checkpoint::{Saved, SavedFile};
use crate::cli::connection;
use crate::cli::form::one_line;
use crate::metrics::report::Bytes;
use crate::source::tail::Standing;

/// The agent saves each second; looking is cheap.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Wait until everything in these files is stored, and exit 0: then they are safe to delete
///
/// Before a file is rotated its last line may be unfinished, and its writer may write on: wait for it under the name
/// it was rotated to. A file that is there and that the agent does not know (yet) is waited for too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WaitArgs {
    #[command(flatten)]
    selection: Selection,
    /// Give up after so long, with exit code 1 [default: never]
    #[arg(long, value_name = "TIME", value_parser = connection::duration)]
    timeout: Option<Duration>,
    /// The files, by their names of now
    #[arg(required = true, value_name = "LOG")]
    files: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Example, in a logrotate configuration:
  postrotate
    kinseal checkpoint wait --config /etc/kinseal/agent.toml --timeout 5m /var/log/shop/a.log.1
  endscript";

pub(super) fn run(args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let dir = args.selection.state_dir()?;
    let files: Vec<PathBuf> = (args.files.iter())
        .map(|path| absolute(path))
        .collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut told = false;
    loop {
        let saved = args.selection.load(&dir)?;
        let waits: Vec<String> = (files.iter())
            .filter_map(|path| waits(path, &saved, &args.selection).transpose())
            .collect::<Result<_, _>>()?;
        if waits.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if args.timeout.is_some_and(|time| began.elapsed() >= time) {
            for wait in waits {
                eprintln!("kinseal: {wait}");
            }
            return Ok(ExitCode::FAILURE);
        }
        if !told && began.elapsed() >= Duration::from_secs(10) {
            told = true;
            for wait in waits {
                eprintln!("kinseal: waiting: {wait}");
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Why it is not over yet for this file. Over, if it is for each stream that it goes to.
///
/// # Errors
///
/// It never will be.
fn waits(path: &Path, saved: &Saved, selection: &Selection) -> anyhow::Result<Option<String>> {
    // Names are a stranger's.
    let shown = one_line(&path.display().to_string());
    let of_file: Vec<&SavedFile> = match fs::metadata(path) {
        Ok(meta) => saved
            .files
            .iter()
            .filter(|f| f.inode == meta.ino() && f.device == meta.dev() && selection.has(f))
            .collect(),
        // Under its last name, if it has gone.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let by_name = |f: &&SavedFile| Path::new(&f.path) == path && selection.has(f);
            let of_name: Vec<_> = saved.files.iter().filter(by_name).collect();
            if of_name.is_empty() {
                bail!("{shown}: no such file, and none of that name in the checkpoint");
            }
            of_name
        }
        Err(e) => return Ok(Some(format!("{shown}: {e}"))),
    };
    if of_file.is_empty() {
        return Ok(Some(format!(
            "{shown}: not in the checkpoint; is it included by a [[source]], and does the agent run?"
        )));
    }
    for file in of_file {
        let stream = &file.stream;
        let why = match Standing::of(file) {
            Ok(standing) if standing.is_stored(file) => continue,
            Ok(Standing::Damaged { size, .. }) => bail!(
                "{shown}: damaged: {} of the {} that can be unpacked of it are stored for {stream}, and the rest cannot be \
                 read. Put a whole copy in its place: it is read on from there. If the rest is not wanted, remove it, or \
                 stop the agent and run: kinseal checkpoint set {shown} end",
                Bytes(file.offset),
                Bytes(size)
            ),
            Ok(Standing::Gone) if file.damaged => bail!(
                "{shown}: gone, and it was damaged: {} that could be unpacked of it are stored for {stream}. Put a whole \
                 copy in its place: it is read on from there",
                Bytes(file.offset)
            ),
            Ok(Standing::Present { behind: 0, .. } | Standing::Gone) if file.cut => bail!(
                "{shown}: a line of it is longer than any record, and of that only the beginning is kept, as a dead letter of \
                 {stream}: the rest is in the file alone. If that is not wanted, remove the file, or stop the agent and run: \
                 kinseal checkpoint set {shown} end"
            ),
            Ok(Standing::Present { behind, .. } | Standing::Unended { behind, .. })
                if behind > 0 =>
            {
                format!("{shown}: {} behind for {stream}", Bytes(behind))
            }
            Ok(Standing::Present { .. } | Standing::Unended { .. }) => {
                format!("{shown}: not read to its end for {stream}; is it still being written?")
            }
            Ok(Standing::Changed { .. }) => {
                format!("{shown}: written anew and not read yet for {stream}")
            }
            Ok(Standing::Gone) => format!(
                "{shown}: gone, and for {stream} only {} of {} are stored",
                Bytes(file.offset),
                Bytes(file.size_seen)
            ),
            Err(e) => format!("{shown}: {e}"),
        };
        return Ok(Some(why));
    }
    Ok(None)
}
