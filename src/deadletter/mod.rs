//! Where a record that can never be stored goes, with its reason.
//!
//! A folder per stream, `STATE_DIR/dead_letter/STREAM`, of files of JSON Lines: time, stream, keys, attempts,
//! reason, and the payload in base64 *as it would have been sent*: ciphertext where encryption is on. Files
//! are named by when they were begun, so that they sort by age, and another is begun once one is full.
//!
//! Promises: a record is settled only once its line is on disk (fsync; those that wait together share one). A
//! line that a crash has cut short is never continued: the next one begins on a line of its own. Where the disk
//! refuses, or the folder has reached its cap, records stay owed: they keep their memory, so sources stop, the
//! log says why, and the writer looks again every few seconds. Only by the word of the configuration is an
//! old file given up for a new record.

mod folder;
mod line;
mod rewrite;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use folder::{Folder, LetterFile};
pub use line::{Line, Lines, Unreadable};
pub use rewrite::{Fate, rewrite};

use crate::delivery::FailReason;
use crate::metrics::Counters;
use crate::record::StreamName;
use crate::seal::SealedRecord;

/// The `[dead_letter]` table; for each stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of one file; a single longer line has a file of its own.
    pub max_file_size: u64,
    /// Bytes of all files of a stream.
    pub max_total_size: u64,
    pub when_full: WhenFull,
}

/// What happens to a record for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits in memory until there is room.
    Block,
    /// The oldest file makes room for it.
    DropOldest,
}

impl Default for Settings {
    /// Files that an editor still opens; in all what a shard takes in a quarter of an hour. Guesses.
    fn default() -> Self {
        Self {
            max_file_size: 64 << 20,
            max_total_size: 1 << 30,
            when_full: WhenFull::Block,
        }
    }
}

/// A record on its way to the file.
#[derive(Debug)]
pub struct DeadRecord {
    pub record: SealedRecord,
    pub reason: FailReason,
    pub attempts: u32,
}

/// The way to a stream's dead letter files. Never blocks: what waits here still holds its memory permit.
#[derive(Debug, Clone)]
pub struct DeadLetters(mpsc::UnboundedSender<DeadRecord>);

/// Waits for each writer until all is on disk, at most so long. A disk that refuses, or is full, must not hold up the end:
/// those records are not settled, and their source has them still.
pub async fn end(writers: Vec<JoinHandle<()>>, within: Duration) {
    for mut writer in writers {
        if tokio::time::timeout(within, &mut writer).await.is_err() {
            writer.abort();
            let _ = writer.await;
        }
    }
}

impl DeadLetters {
    /// Starts the writer. It ends, with everything on disk, when the last handle is gone.
    pub fn open(
        state_dir: &Path,
        stream: &StreamName,
        settings: Settings,
        counters: Arc<Counters>,
    ) -> (Self, JoinHandle<()>) {
        let (tx, rx) = mpsc::unbounded_channel();
        let folder = Folder::of(state_dir, stream);
        let writer = writer::Writer::new(folder, stream, settings, counters);
        (Self(tx), tokio::spawn(writer.run(rx)))
    }

    pub fn bury(&self, dead: DeadRecord) {
        // The writer only ends after the last sender; should it have panicked, the ticket drops here as
        // abandoned, and its checkpoint stays where it is.
        let _ = self.0.send(dead);
    }
}
