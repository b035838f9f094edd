//! Who reads what: one source's view of the checkpoint, and its right to a file.

use std::path::Path;
use std::sync::Arc;

use super::ledger::{FileLedger, Place, TrackedFile};
use super::store::SavedFile;
use super::tracked::Checkpoints;
use crate::record::StreamName;

/// A file on its way to a stream. Device and inode alone would let one stream's answers move another's
/// offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) stream: StreamName,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// The checkpoint as one source of one stream sees it. Clones are the same source.
#[derive(Debug, Clone)]
pub struct SourceCheckpoints {
    all: Checkpoints,
    stream: StreamName,
    name: Arc<str>,
}

/// The right of one source to read a file for its stream, until dropped.
#[derive(Debug)]
pub struct Claim {
    all: Checkpoints,
    id: Id,
    by: Arc<str>,
}

/// The file is read, or what was read of it is still under way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("file is being read for this stream by the source of {by}")]
pub struct Taken {
    pub by: Arc<str>,
    /// By a source that asks again for what it has let go.
    pub by_itself: bool,
}

impl SourceCheckpoints {
    pub(super) fn new(all: Checkpoints, stream: StreamName, name: &str) -> Self {
        Self {
            all,
            stream,
            name: name.into(),
        }
    }

    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// What a person knows the source by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an earlier run has looked at this glob for this stream: what matches it and has no entry has
    /// appeared since.
    pub fn has_looked_at(&self, glob: &str) -> bool {
        self.all.has_looked_at(&self.stream, glob)
    }

    /// Every file that matches `glob` now has its entry.
    pub fn looked_at(&self, glob: &str) {
        self.all.looked_at(&self.stream, glob);
    }

    /// Entries of this stream that nobody reads: from earlier runs, or let go by another source.
    pub fn unclaimed(&self) -> Vec<SavedFile> {
        self.all.unclaimed(&self.stream)
    }

    /// All that is known of what the files of this stream hold or held, and whether a source reads it now.
    pub fn contents(&self) -> Vec<(SavedFile, bool)> {
        self.all.contents(&self.stream)
    }

    /// The rest of `file`, which is gone, is read from another file.
    pub fn finish(&self, file: &SavedFile) {
        self.all.finish(file);
    }

    /// Takes a file, unless another source of the stream has it. Once that one has let go of it and all it
    /// read is settled, whoever asks next goes on where it stopped.
    pub fn claim(&self, device: u64, inode: u64) -> Result<Claim, Taken> {
        let id = Id {
            stream: self.stream.clone(),
            device,
            inode,
        };
        self.all.claim(&id, &self.name)?;
        Ok(Claim {
            all: self.all.clone(),
            id,
            by: Arc::clone(&self.name),
        })
    }

    /// Saves if there is something new, of any source, before anything of a new file is read; the log says of trouble what
    /// there is to say. Blocks on the disk.
    pub fn save_new(&self) {
        // That another process has the state directory is for whoever saves at intervals to act on.
        let _ = self.all.save_and_tell();
    }
}

impl Claim {
    /// What is known of the file from before: by its device and inode, or, because devices are numbered anew
    /// at every boot, by its inode and `path`. Whether it is the same content is for the caller to see.
    pub fn saved(&self, path: &Path) -> Option<SavedFile> {
        self.all.find(&self.id, path)
    }

    /// This file, at `path`, has been read to its end: forgets damaged ones that it takes the place of, of those that
    /// `is_copy` says hold the same.
    pub fn forget_damaged(&self, path: &Path, is_copy: impl Fn(&SavedFile) -> bool) {
        self.all.forget_damaged(&self.id, path, is_copy);
    }

    /// Follows the file from `start` on. Whatever was known of it, or of other content in it, is forgotten.
    pub fn track(&self, file: TrackedFile, start: Place) -> Arc<FileLedger> {
        self.all.track(&self.id, &self.by, file, start)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.release(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tracked::tests::{place, track};
    use crate::delivery::SpanSettled;

    const PATH: &str = "/a";

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    fn saved_offset(claim: &Claim) -> Option<u64> {
        claim.saved(Path::new(PATH)).map(|saved| saved.offset)
    }

    #[test]
    fn one_file_for_two_streams_has_two_entries() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let shop = checkpoints.of_source(&stream("shop"), PATH);
        let audit = checkpoints.of_source(&stream("audit"), PATH);
        let (a, b) = (shop.claim(1, 7).unwrap(), audit.claim(1, 7).unwrap());
        let (fast, slow) = (track(&a, PATH, 0), track(&b, PATH, 0));
        fast.settled(fast.open(place(50)));
        slow.open(place(50));
        shop.looked_at("/*");
        checkpoints.save_if_moved().unwrap();
        drop((checkpoints, shop, audit, a, b));

        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let shop = checkpoints.of_source(&stream("shop"), PATH);
        let audit = checkpoints.of_source(&stream("audit"), PATH);
        assert!(shop.has_looked_at("/*") && !audit.has_looked_at("/*"));
        assert_eq!(shop.unclaimed().len(), 1);
        let (a, b) = (shop.claim(1, 7).unwrap(), audit.claim(1, 7).unwrap());
        assert_eq!(saved_offset(&a), Some(50));
        assert_eq!(saved_offset(&b), Some(0));
        track(&a, PATH, 50);
        assert_eq!(audit.unclaimed().len(), 1, "still there for the other");
    }

    #[test]
    fn second_source_of_a_stream_takes_over_only_what_is_let_go_and_settled() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let first = checkpoints.of_source(&stream("shop"), "first");
        let second = checkpoints.of_source(&stream("shop"), "second");
        let claim = first.claim(1, 7).unwrap();
        let ledger = track(&claim, PATH, 0);
        let span = ledger.open(place(50));
        let taken = second.claim(1, 7).unwrap_err();
        assert_eq!((&*taken.by, taken.by_itself), ("first", false));

        ledger.close();
        drop(claim);
        assert!(second.claim(1, 7).is_err(), "still under way");
        assert!(first.claim(1, 7).unwrap_err().by_itself);
        ledger.settled(span);
        checkpoints.save_if_moved().unwrap();
        let claim = second.claim(1, 7).unwrap();
        assert_eq!(saved_offset(&claim), Some(50));
    }
}
