//! Somebody removed files of the spool while it is at work: what waits in them is written again.
//!
//! An open file keeps what is in it when its name is gone, for as long as this process lives. So it is read to its end as
//! if nothing had happened; what this is about is the next run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::open::segment_path;
use super::shelf::{Segment, Shelf};
use super::{Disk, DiskFile, Sync};

/// How often names are looked at, where something waits: so much is lost at most, if the process is killed.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Read and written at once.
const PIECE: usize = 1 << 20;

/// Writes each segment again that has lost its name and holds what is not settled; nobody may append to one meanwhile.
/// Blocks.
///
/// # Errors
///
/// Those before are there again; of the one that failed nothing is left on disk.
pub(super) fn restore(shelf: &Shelf, disk: &dyn Disk, sync: Sync) -> io::Result<()> {
    let _one_at_a_time = shelf.files.lock().expect("no panic while held");
    let mut restored = 0;
    let outcome = shelf.waiting().iter().try_for_each(|segment| {
        if !segment.file.is_at(&segment.path)? {
            restore_one(segment, shelf, disk, sync)?;
            restored += 1;
        }
        Ok(())
    });
    if restored > 0 {
        // It went with them, mostly: without it, all that is in these files would be sent again after a crash.
        *shelf.saved.lock().expect("no panic while held") = None;
        shelf.moved.notify_one();
        tracing::warn!(
            path = %shelf.dir().display(), files = restored,
            "somebody removed files of the spool: what waits in them was written again, and nothing is lost. Stop the agent \
             before its spool is removed"
        );
    }
    outcome
}

fn restore_one(segment: &Segment, shelf: &Shelf, disk: &dyn Disk, sync: Sync) -> io::Result<()> {
    // Another process may have the directory by now, and records of the same numbers.
    shelf.hold()?;
    let (path, file) = create(disk, shelf.dir(), segment.first)?;
    let written = copy(segment, &*file).and_then(|()| match sync {
        Sync::Never => Ok(()),
        Sync::Always | Sync::Interval(_) => file.sync().and_then(|()| disk.sync_dir(shelf.dir())),
    });
    if let Err(error) = written {
        let _ = disk.remove(&path);
        return Err(error);
    }
    shelf.moved_to(segment.ordinal, path, file);
    Ok(())
}

/// Records that are not settled, and whose file has no name.
pub(super) fn missing(shelf: &Shelf) -> u64 {
    let settled = shelf.settled_to();
    let is_missing = |s: &&Segment| !s.file.is_at(&s.path).unwrap_or(false);
    let records = |s: &Segment| s.end - s.first.max(settled);
    shelf.waiting().iter().filter(is_missing).map(records).sum()
}

/// A new segment of the records from number `first` on. One of that name may be there: into it nothing could be written,
/// or somebody else put it there.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    first: u64,
) -> io::Result<(PathBuf, Arc<dyn DiskFile>)> {
    // Its folder may have been removed.
    disk.create_dir(dir)?;
    let mut again = 0;
    loop {
        let path = segment_path(dir, first, again);
        match disk.create(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => again += 1,
            Err(e) => return Err(e),
        }
    }
}

fn copy(segment: &Segment, to: &dyn DiskFile) -> io::Result<()> {
    let mut offset = 0;
    while offset < segment.len {
        let left = segment.len - offset;
        let piece = segment
            .file
            .read(offset, PIECE.min(usize::try_from(left).unwrap_or(PIECE)))?;
        if piece.is_empty() {
            // Somebody cut it short as well: the reader tells what is missing.
            break;
        }
        to.append(&piece)?;
        offset += piece.len() as u64;
    }
    Ok(())
}
