//! A place in a file, for those who say where reading is to go on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::content::Content;
use super::identity::{FileId, Head, Tail};
use crate::checkpoint::SavedFile;
use crate::record::StreamName;

/// A file that reading can be set to go on in. Offsets are in what a compressed one unpacks to.
#[derive(Debug)]
pub struct Settable {
    path: PathBuf,
    file: Content,
    size: u64,
}

impl Settable {
    /// What is compressed is unpacked for this.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = Content::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            size: file.whole_size()?,
            file,
        })
    }

    /// Bytes that can be read of it, unpacked.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a line begins at `offset`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn begins_line(&self, offset: u64) -> io::Result<bool> {
        match offset.checked_sub(1) {
            None => Ok(true),
            Some(before) => Ok(self.file.read_upto(before, 1)? == b"\n"),
        }
    }

    /// What the checkpoint would know of it if it were stored up to `offset`, on its way to `stream`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn saved_at(&self, stream: &StreamName, offset: u64) -> io::Result<SavedFile> {
        let meta = self.file.metadata()?;
        let FileId { device, inode } = FileId::of(&meta);
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Whatever else there should be of it is not wanted.
        let is_all = self.file.is_packed() && offset == self.size;
        Ok(SavedFile {
            stream: stream.clone(),
            path: self.path.to_string_lossy().into_owned(),
            device,
            inode,
            fingerprint: Head::read(&self.file)?.fingerprint(),
            offset,
            tail_hash: Tail::read(&self.file, offset)?.hash(),
            size_seen: self.size,
            updated: since_1970.map_or(0, |since| since.as_secs()),
            finished: false,
            packed_bytes: is_all.then_some(meta.len()),
            damaged: false,
            cut: false,
        })
    }
}
