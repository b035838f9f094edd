//! A buffer on disk for sources that cannot be read again: sockets and standard input.
//!
//! ```text
//! sealed chunks ─► writer ─append─► segments on disk ─► reader ─sealed chunks─► owner
//!                    │  └─ answers "spooled"               ▲                      │
//!                    └─ memory first: straight on ─────────│──────►               │
//!                                         keeper ◄─settled─┴──────────────────────┘
//!                               (saves the cursor, deletes segments)
//! ```
//!
//! What was sealed is appended to a segment before it is sent; so it holds ciphertext, unless nothing is encrypted,
//! which the log says. Everything that is sent of it is read from there, in order: what an earlier run left behind and
//! what came just now go one way, and a stream that takes nothing costs disk, not memory. A record's answer moves
//! the cursor over the contiguous settled prefix; segments before it are deleted.
//!
//! Promises, of what the writer has taken:
//! - after a crash of the process everything is there that was appended; after a power cut, everything that was
//!   synced, and `sync` says when that is. What was settled after the cursor was last saved (each second) is sent again;
//! - a frame that was cut short ends its segment; damage within is read over, told with how many records it took, and
//!   its file is kept beside, as `.damaged`; so is a damaged cursor, and what is there is sent from the oldest record on;
//! - an older copy of the spool, put in its place, is kept beside, as `.foreign`: its numbers mean other records;
//! - what somebody removes while it is at work is sent all the same, and is on disk again a second later;
//! - a disk that refuses, or has no room within `max_bytes`, is waited for: records keep their memory meanwhile, and
//!   their sources wait, or drop as their `when_full` says;
//! - with [`Mode::MemoryFirst`], records go straight on while the stream takes them: what is in memory when the process
//!   is killed is lost, as it is without a spool.

mod clock;
mod cursor;
mod disk;
mod frame;
mod keeper;
mod look;
mod open;
mod reader;
mod restore;
mod settled;
mod shelf;
mod standing;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{CheckpointError, Lock};
use crate::shutdown::Shutdown;

pub use disk::{Disk, DiskFile, RealDisk};
pub use keeper::Keeper;
pub use open::Spool;
pub use reader::Reader;
pub use shelf::Shelf;
pub use standing::Standing;
pub use writer::Writer;

/// The `[spool]` table; for each stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// A folder for each stream is made in it.
    pub path: PathBuf,
    /// Bytes of all segments of a stream, [`Self::LEAST`] at least.
    pub max_bytes: u64,
    pub sync: Sync,
    pub mode: Mode,
}

/// When what was appended is made to survive a power cut. The process may be killed at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before it is sent or answered. Chunks that wait together share one sync.
    Always,
    /// So often; what came since is lost with the power. Answers on "spooled" wait for it.
    Interval(Duration),
    /// When the system does by itself: Linux within some 30 s. Answers on "spooled" mean the process only.
    Never,
}

/// Which way records take while the stream takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Through the disk.
    DiskFirst,
    /// Through memory; through the disk only while half of the memory is used up.
    MemoryFirst,
}

impl Settings {
    /// 1 GiB: what a shard takes in a quarter of an hour. A guess.
    pub const MAX_BYTES: u64 = 1 << 30;
    /// The largest record in base64, twice, and some.
    pub const LEAST: u64 = 32 << 20;
    /// A power cut costs at most so much.
    pub const SYNC_INTERVAL: Duration = Duration::from_secs(1);

    /// In a state directory, and all else at its default.
    pub fn under(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("spool"),
            max_bytes: Self::MAX_BYTES,
            sync: Sync::Always,
            mode: Mode::DiskFirst,
        }
    }

    /// A segment is deleted as a whole: small enough that few of `max_bytes` are taken by what is settled, large
    /// enough that files are few.
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 16).clamp(1 << 20, 64 << 20)
    }

    /// Files that a stream's part may have open at once: each of its segments, so that one can be read whose name
    /// somebody removes. Those that were left after an error are smaller, and not counted.
    pub fn most_open(&self) -> u64 {
        self.max_bytes / self.segment_bytes() + 2
    }
}

/// The folders of streams in the spool at `path` that have records, or what is left of them.
pub fn folders_with_records(path: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(path).into_iter().flatten().flatten();
    let has_records = |folder: &std::fs::DirEntry| {
        let files = std::fs::read_dir(folder.path()).into_iter().flatten();
        let mut files = files.flatten().map(|file| file.path());
        files.any(|file| file.extension().is_some_and(|e| e == "spool"))
    };
    let named = |folder: std::fs::DirEntry| folder.file_name().to_string_lossy().into_owned();
    folders.filter(has_records).map(named).collect()
}

/// Takes the right to a spool again each `interval`, where somebody has removed its folder. Ends with the stop, or once
/// another process has it.
///
/// # Errors
///
/// [`CheckpointError::InUse`], and no other: what the disk refuses, who writes to the spool says.
pub async fn hold(
    lock: Arc<Lock>,
    interval: Duration,
    shutdown: Shutdown,
) -> Result<(), CheckpointError> {
    while !shutdown.is_stopped() {
        tokio::select! {
            () = shutdown.stopped() => break,
            () = tokio::time::sleep(interval) => {}
        }
        let lock = Arc::clone(&lock);
        let held = tokio::task::spawn_blocking(move || lock.hold()).await;
        if let Err(error @ CheckpointError::InUse { .. }) = held.expect("locking does not panic") {
            return Err(error);
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    #[error(
        "spool {dir} cannot be used: {source}; create it, let this user read and write it, or set spool.path to \
         another"
    )]
    Unusable { dir: PathBuf, source: io::Error },
    #[error(
        "spool segment {path} has version {found}, which this program does not know; let the program that wrote it \
         empty the spool, or move the file away"
    )]
    Version { path: PathBuf, found: u16 },
    #[error(
        "spool cursor {path} has version {found}, which this program does not know; let the program that wrote it empty \
         the spool, or remove the cursor: what is in the spool is then sent from its beginning"
    )]
    Cursor { path: PathBuf, found: u32 },
    #[error(
        "spool {dir} holds {records} records in plaintext, of a time without encryption; they are not sent now that \
         there is: run with scope = \"off\" until the spool is empty, or move its files away"
    )]
    Plaintext { dir: PathBuf, records: u64 },
}
