//! What the spool asks of a file system; a test's forgets what was not synced, is full, or breaks.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::durable;
use crate::readat::read_upto;

/// Calls block.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Made, and its parents, if it is not there; they survive a power cut.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names and lengths of the files in it.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// A new file, to be appended to.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>>;
    /// Up to `len` bytes from `offset`; fewer only at the end.
    fn read(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what another process wrote to a file survive a power cut.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// The same for the names in a directory.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that is written from its beginning to its end.
pub trait Append: Send + fmt::Debug {
    /// All of them; what is on disk after an error is not known.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Whether this is the file that has that name; it has none any more if somebody removed or moved it.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// The machine's own. What it makes is for this user alone.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        durable::create_dir(dir, 0o700)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(about) if about.is_file() => {
                    // A name of ours is UTF-8.
                    files.extend(
                        entry
                            .file_name()
                            .into_string()
                            .ok()
                            .map(|n| (n, about.len())),
                    );
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(files)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        read_upto(&File::open(path)?, offset, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl Append for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        durable::is_at(self, path)
    }
}
