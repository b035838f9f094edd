//! A run's temporary folder, which goes with the run: when it ends, when it fails, and when Ctrl-C or SIGTERM ends this program.
//! After `kill -9` it is left, and its name says whose it was.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Those that are there now.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Whether somebody removes them when this program is interrupted.
static LISTENS: AtomicBool = AtomicBool::new(false);

/// Removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn make() -> anyhow::Result<Self> {
        if !LISTENS.swap(true, Ordering::Relaxed) {
            remove_when_interrupted()?;
        }
        let parent = std::env::temp_dir();
        let made = tempfile::Builder::new()
            .prefix("kinseal-loadtest-")
            .tempdir_in(&parent);
        let folder = made.with_context(|| {
            let parent = parent.display();
            format!("cannot make a folder in {parent}; TMPDIR names another one")
        })?;
        all().push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let mut folders = all();
        folders.retain(|path| path != self.0.path());
    }
}

fn all() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(|held| held.into_inner())
}

/// From now on SIGINT and SIGTERM end this program with the shell's exit code for them, after its folders. The processes of a
/// run end by themselves: each waits for the end of this one on its standard input.
fn remove_when_interrupted() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    let waiting = thread::Builder::new().name("signals".to_owned());
    waiting.spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        // What a process of the run writes meanwhile is written into nothing.
        for folder in all().iter() {
            let _ = std::fs::remove_dir_all(folder);
        }
        eprintln!("\nloadtest: interrupted; --json and --html have the runs that had ended");
        std::process::exit(code);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_for_as_long_as_it_is_there() {
        let folder = Folder::make().unwrap();
        let path = folder.path().to_owned();
        assert!(all().contains(&path) && path.is_dir());
        drop(folder);
        assert!(!all().contains(&path) && !path.exists());
    }
}
