//! Somebody removed files of the spool while it is at work: what waits in them is written again.
//!
//! An open file keeps what is in it when its name is gone, for as long as this process lives. So it is read to its end as
//! if nothing had happened; what this is about is the next run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::put_aside;
use super::frame::HEADER_LEN;
use super::look::{segment_path, segments};
use super::shelf::{Segment, Shelf};
use super::walk::Walk;
use super::{Disk, DiskFile, Sync, cursor};

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
        tell_cut(segment, shelf)?;
        if !segment.file.is_at(&segment.path)? {
            restore_one(segment, shelf, disk, sync)?;
            restored += 1;
        }
        Ok(())
    });
    let mut saved = shelf.saved.lock().expect("no panic while held");
    // Without it, all that is in these files would be sent again after a crash; another one is of another spool.
    if restored > 0 || (saved.is_some() && !cursor::is_there(disk, shelf.dir())) {
        *saved = None;
        shelf.moved.notify_one();
    }
    drop(saved);
    if restored > 0 {
        tracing::warn!(
            path = %shelf.dir().display(), files = restored,
            "somebody removed files of the spool: what waits in them was written again, and is not lost. Stop the agent \
             before its spool is removed"
        );
    }
    outcome
}

/// What is gone from an open file is gone. Nothing is written behind the hole, and the reader counts what is missing.
fn tell_cut(segment: &Segment, shelf: &Shelf) -> io::Result<()> {
    let len = segment.file.size()?;
    if len < segment.len {
        tracing::error!(
            path = %segment.path.display(), bytes = segment.len - len,
            "somebody cut this file of the spool: what was there is lost, if it was not read before. The spool goes on in \
             another one"
        );
        shelf.cut(segment.ordinal, len);
    }
    Ok(())
}

fn restore_one(segment: &Segment, shelf: &Shelf, disk: &dyn Disk, sync: Sync) -> io::Result<()> {
    // Another process may have the directory by now, and records of the same numbers.
    shelf.hold()?;
    // It may have gone with them.
    disk.create_dir(shelf.dir())?;
    put_others_aside(shelf, disk)?;
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

/// Files that somebody put there instead: their numbers are those of another spool, and the next run would take them for
/// ours.
fn put_others_aside(shelf: &Shelf, disk: &dyn Disk) -> io::Result<()> {
    let all = shelf.all();
    for (_, path, _) in segments(disk, shelf.dir())? {
        let is_it = |segment: &Segment| segment.path == path;
        let ours = all.iter().find(|segment| is_it(segment));
        if ours.is_none_or(|segment| !segment.file.is_at(&path).unwrap_or(true)) {
            put_foreign_aside(disk, &path)?;
        }
    }
    Ok(())
}

/// Under its other name nobody takes it for a segment of this spool.
pub(super) fn put_foreign_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let aside = put_aside(disk, path, "foreign")?;
    tracing::error!(
        path = %aside.display(),
        "this file was written for another spool, whose numbers mean others here: it is kept under this name, and its records \
         are not sent. To send them, give it back its name in a folder of the stream in an empty spool.path, and run an agent \
         with that"
    );
    Ok(())
}

/// Records that are not settled, and that the next run will not find.
pub(super) fn missing(shelf: &Shelf) -> u64 {
    let settled = shelf.settled_to();
    let of = |segment: &Segment| {
        let from = match segment.file.is_at(&segment.path) {
            Ok(true) if segment.cut => end_on_disk(segment),
            Ok(true) => segment.end,
            _ => segment.first,
        };
        segment.end - from.clamp(segment.first.max(settled), segment.end)
    };
    shelf.waiting().iter().map(of).sum()
}

/// Everything before it is settled, or was in files that are gone.
pub(super) fn behind_gone(shelf: &Shelf) -> u64 {
    let mut behind = shelf.settled_to();
    for segment in shelf.waiting() {
        if !matches!(segment.file.is_at(&segment.path), Ok(false)) {
            break;
        }
        behind = segment.end;
    }
    behind
}

/// Behind the last record that can be read.
fn end_on_disk(segment: &Segment) -> u64 {
    let mut walk = Walk::new(segment.id, HEADER_LEN as u64);
    let mut end = segment.first;
    while let Ok(Some(frames)) = walk.next(&*segment.file, segment.len) {
        for frame in frames {
            end = end.max(frame.number + u64::from(frame.records));
        }
    }
    end
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
