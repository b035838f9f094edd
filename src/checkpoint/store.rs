//! The checkpoint on disk: one JSON file that a person can read.
//!
//! ```json
//! {"crc32":"3b6fd1a4",
//!  "version":1,
//!  "includes":[{"stream":"shop-logs","glob":"/var/log/shop/*.log"}],
//!  "files":[{"stream":"shop-logs","path":"/var/log/shop/a.log","device":64768,"inode":1311,
//!            "fingerprint":{"len":256,"hash":"9f86d081884c7d65"},
//!            "offset":81920,"tail_hash":{"len":64,"hash":"2c26b46b68ffc68f"},
//!            "size_seen":82944,"updated":1767225600}]}
//! ```
//!
//! `crc32` is of all behind its line, in hexadecimal digits: a byte that changed on disk is noticed. Whoever edits the file
//! takes that line out.
//!
//! A compressed file that was read to its end has its size on disk too, `"packed_bytes":23404`, and `"damaged":true` where
//! that was not the end of what was packed. One of which a line was cut off has `"cut":true`. Programs that knew none of these did
//! without.
//!
//! A stream is named as the configuration names it: the same one by its ARN is another. A file that goes to two
//! streams has an entry for each.
//!
//! It is replaced as a whole: written beside, synced, renamed over the old one, and the directory synced. So a
//! crash at any point, also one that loses what was not synced, leaves the old or the new one. What is left of
//! an unfinished write is ignored and overwritten.

mod written;

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::written::encode;
use self::written::{VERSION, parse};
use crate::durable;
use crate::record::StreamName;

const NAME: &str = "checkpoint.json";
const UNFINISHED: &str = "checkpoint.json.new";
const LOCK: &str = "lock";

/// Everything that is saved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Globs that have been looked at before: what matches them and has no entry appeared since.
    #[serde(default)]
    pub includes: Vec<SavedInclude>,
    pub files: Vec<SavedFile>,
    /// What files held that hold something else now, the last ones: a compressed copy of it may turn up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<SavedFile>,
}

/// A glob, for the stream that its files go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedInclude {
    #[serde(with = "text")]
    pub stream: StreamName,
    pub glob: String,
}

/// A file, how to know it again, and where to go on reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    #[serde(with = "text")]
    pub stream: StreamName,
    /// For people, and for where to look after a rotation; what is not UTF-8 in it is replaced.
    pub path: String,
    pub device: u64,
    pub inode: u64,
    pub fingerprint: Fingerprint,
    pub offset: u64,
    /// Of the bytes before `offset`.
    pub tail_hash: ShortHash,
    pub size_seen: u64,
    /// Seconds since 1970 when this entry last changed.
    pub updated: u64,
    /// All of it is settled, and it is not looked at any more: deleted, or rotated away. Kept for a while, for whoever
    /// asks what became of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
    /// Of a compressed file that there is nothing left to read of: its size on disk. Offsets are in what it unpacks to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_bytes: Option<u64>,
    /// And it was more, that cannot be unpacked: what was read of it is not all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
    /// Of a line that was longer than any record, only the beginning is a dead letter: the rest is in the file alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl SavedFile {
    /// A compressed file that has `packed` bytes on disk has been read as far as it can be.
    pub fn is_all_of(&self, packed: u64) -> bool {
        self.packed_bytes == Some(packed)
    }
}

/// A hash of the first bytes of a file: up to 256, fewer while the file is shorter.
pub type Fingerprint = ShortHash;

/// The first 8 bytes of a SHA-256, and over how many bytes. Compared with one other, so 64 bits are plenty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortHash {
    pub len: u32,
    #[serde(with = "hex")]
    pub hash: u64,
}

impl ShortHash {
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let first = digest.first_chunk().expect("a SHA-256 has 32 bytes");
        Self {
            len: u32::try_from(bytes.len()).expect("heads and tails are short"),
            hash: u64::from_be_bytes(*first),
        }
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16)
            .map_err(|_| D::Error::custom(format!("{text:?} is not a hash of 16 hex digits")))
    }
}

mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    #[error(
        "state directory {dir} cannot be used: {source}; create it, let this user write to it, make room on \
         its disk, or set state_dir to another"
    )]
    StateDir { dir: PathBuf, source: io::Error },
    #[error(
        "state directory {dir} is in use by {holder}; stop that one, or give this one another state_dir"
    )]
    InUse { dir: PathBuf, holder: String },
    #[error("checkpoint {path} cannot be read: {source}; let this user read it")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "checkpoint {path} is damaged: {why}; put back a copy of it, or move it away to start over: files \
         are then read from start_position, which repeats or skips lines"
    )]
    Damaged { path: PathBuf, why: String },
    #[error(
        "checkpoint {path} has version {found}, this program knows {VERSION}; use the program that wrote \
         it, or move it away to start over"
    )]
    Version { path: PathBuf, found: u32 },
    #[error(
        "checkpoint {path} cannot be written: {source}; free space on its disk and let this user write to \
         it. Sending goes on and writing is tried again; until then a restart sends lines again"
    )]
    Unwritable { path: PathBuf, source: io::Error },
}

/// What the store asks of a file system; a test's forgets what was not synced, or is full.
pub trait Disk: Send + Sync + fmt::Debug {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written to a file, or the names in a directory, survive a power cut.
    fn sync(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
}

/// The checkpoint file of one state directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    disk: Box<dyn Disk>,
}

impl Store {
    pub fn new(dir: PathBuf, disk: Box<dyn Disk>) -> Self {
        Self { dir, disk }
    }

    /// What was saved last; nothing if nothing ever was.
    pub fn load(&self) -> Result<Option<Saved>, CheckpointError> {
        let path = self.path();
        let bytes = match self.disk.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CheckpointError::Unreadable { path, source }),
        };
        parse(&bytes, path).map(Some)
    }

    /// Replaces what was saved; once this returns it survives a power cut.
    pub fn save(&self, saved: &Saved) -> Result<(), CheckpointError> {
        let (path, unfinished) = (self.path(), self.dir.join(UNFINISHED));
        let replace = || {
            let bytes = encode(saved)?;
            self.disk.write(&unfinished, &bytes)?;
            self.disk.sync(&unfinished)?;
            self.disk.rename(&unfinished, &path)?;
            self.disk.sync(&self.dir)
        };
        replace().map_err(|source| CheckpointError::Unwritable {
            path: self.path(),
            source,
        })
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }
}

/// The right to write to a state directory, for as long as it lives; the system ends it with the process.
#[derive(Debug)]
pub struct Lock {
    dir: PathBuf,
    /// Held for its lock.
    file: Mutex<File>,
}

impl Lock {
    /// Creates the directory if it is not there.
    pub fn take(dir: &Path) -> Result<Self, CheckpointError> {
        Ok(Self {
            dir: dir.to_owned(),
            file: Mutex::new(locked(dir)?),
        })
    }

    /// Takes it again where somebody has removed its file, or the directory: under that name another process could
    /// take it too. True if it had to be. Blocks.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::InUse`]: another process was first.
    pub fn hold(&self) -> Result<bool, CheckpointError> {
        let mut file = self.file.lock().expect("no panic while held");
        // Where it cannot be seen, the disk says why when it is written to.
        if durable::is_at(&file, &self.dir.join(LOCK)).unwrap_or(true) {
            return Ok(false);
        }
        *file = locked(&self.dir)?;
        tracing::warn!(
            path = %self.dir.display(),
            "somebody removed this directory, or the lock in it, while it is in use: it is made and locked again. Stop \
             this process before its state is removed"
        );
        Ok(true)
    }
}

/// The lock file, locked.
fn locked(dir: &Path) -> Result<File, CheckpointError> {
    let unusable = |source| CheckpointError::StateDir {
        dir: dir.to_owned(),
        source,
    };
    // Others may look at it, as far as the umask lets them.
    durable::create_dir(dir, 0o777).map_err(unusable)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOCK))
        .map_err(unusable)?;
    match durable::lock_soon(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(CheckpointError::InUse {
                dir: dir.to_owned(),
                holder: holder(&mut file),
            });
        }
        Err(TryLockError::Error(e)) => return Err(unusable(e)),
    }
    // Only for the message above: that it cannot be written (a full disk) is no reason not to start.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn holder(lock: &mut File) -> String {
    let mut pid = String::new();
    match lock.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests;
