//! Folders whose names survive a power cut, files that have lost theirs, and files that are locked.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// Makes `dir`, and what is missing above it. A folder is there after a power cut once the one above it was synced, and
/// so on up; one that is there already may have been made by a process that was killed before it came to that.
pub(crate) fn create_dir(dir: &Path, mode: u32) -> io::Result<()> {
    let missing = dir.ancestors().take_while(|d| !is_there(d)).count();
    DirBuilder::new().recursive(true).mode(mode).create(dir)?;
    for (i, above) in dir.ancestors().skip(1).enumerate() {
        let synced = File::open(or_here(above)).and_then(|above| above.sync_all());
        // Others above may be closed to us, and were there before.
        if i < missing {
            synced?;
        }
    }
    Ok(())
}

/// Whether `path` is the name of this very file: somebody may have removed it, or put another in its place.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match path.symlink_metadata() {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let own = file.metadata()?;
    Ok((there.dev(), there.ino()) == (own.dev(), own.ino()))
}

fn is_there(dir: &Path) -> bool {
    or_here(dir).is_dir()
}

/// Above a relative path's first folder is nothing that has a name.
fn or_here(dir: &Path) -> &Path {
    match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    }
}

/// A process that was killed holds its lock until the kernel has cleared it away: a restart right after
/// waits for that a moment.
pub(crate) fn lock_soon(file: &File) -> Result<(), TryLockError> {
    for _ in 0..5 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
            ended => return ended,
        }
    }
    file.try_lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_made_and_again_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        for _ in 0..2 {
            create_dir(&deep, 0o700).unwrap();
            assert!(deep.is_dir());
        }
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "").unwrap();
        create_dir(&file, 0o700).unwrap_err();
        create_dir(&file.join("b"), 0o700).unwrap_err();
    }
}
