//! What the spool asks of a file system; a test's forgets what was not synced, is full, or breaks.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::durable;
use crate::readat::read_upto;

/// Calls block.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Made, and its parents, if it is not there; they survive a power cut.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names and lengths of the files in it.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// A new file, to be appended to.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// A file that is there, to be read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives back all that is in a file.
    fn empty(&self, path: &Path) -> io::Result<()>;
    /// Makes what another process wrote to a file survive a power cut.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// The same for the names in a directory.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that is open, whatever becomes of its name: what was removed can be read to its end. Calls block.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// All of them; what is on disk after an error is not known. One caller at a time.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Up to `len` bytes from `offset`; fewer only at the end.
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Makes what was appended survive a power cut.
    fn sync(&self) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
    /// Whether this is the file that has that name; it has none any more if somebody removed or moved it.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// Whether there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Renames a file that nobody is to take for what it was, and has its new name, which no other file had.
pub(super) fn put_aside(disk: &dyn Disk, path: &Path, extension: &str) -> io::Result<PathBuf> {
    let mut aside = path.with_extension(extension);
    for again in 1.. {
        match disk.open(&aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
            Ok(_) => aside = path.with_extension(format!("{again}.{extension}")),
        }
    }
    disk.rename(path, &aside)?;
    Ok(aside)
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

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn empty(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(0)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        read_upto(self, offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        durable::is_at(self, path)
    }
}
