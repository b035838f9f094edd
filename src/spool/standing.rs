//! What lies in a spool, seen from outside: an agent may be at work on it.

use std::io;
use std::path::{Path, PathBuf};

use super::cursor::{self, Cursor, Note};
use super::disk::{Disk, RealDisk};
use super::frame::{HEADER_LEN, Header};
use super::look::segments;
use super::walk::Walk;

/// A stream's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub dir: PathBuf,
    /// User records that are not settled, as far as the cursor on disk says: that of an agent at work is a second old.
    pub records: u64,
    /// Bytes of all segments, what is settled in them included.
    pub bytes: u64,
    /// When the oldest of the records was read, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Whether some of it is not encrypted.
    pub plain: bool,
    /// Files that were damaged and are kept.
    pub damaged: usize,
}

impl Standing {
    /// Of all streams under `path`, by name. Blocks: it reads what is there.
    pub fn all(path: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let dir = entry?.path();
            if dir.is_dir() {
                all.push(Self::of(&RealDisk, dir)?);
            }
        }
        all.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(all)
    }

    fn of(disk: &dyn Disk, dir: PathBuf) -> io::Result<Self> {
        let mut next = match cursor::load(disk, &dir).map_err(io::Error::other)? {
            Cursor::Settled(settled) | Cursor::Noted(Note { settled, .. }) => settled,
            // As for the agent that will find it.
            Cursor::Missing | Cursor::Damaged { .. } => 0,
        };
        let mut standing = Self {
            records: 0,
            bytes: 0,
            oldest_ms: None,
            plain: false,
            damaged: disk
                .list(&dir)?
                .iter()
                .filter(|(name, _)| name.ends_with(".damaged"))
                .count(),
            dir,
        };
        for (_, path, len) in segments(disk, &standing.dir)? {
            match standing.add(disk, &path, len, &mut next) {
                // Deleted just now: all of it is settled.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                added => added?,
            }
        }
        Ok(standing)
    }

    fn add(&mut self, disk: &dyn Disk, path: &Path, len: u64, next: &mut u64) -> io::Result<()> {
        let file = disk.open(path)?;
        let head = file.read(0, HEADER_LEN)?;
        self.bytes += len;
        let Ok(header) = Header::decode(&head) else {
            return Ok(());
        };
        let mut walk = Walk::new(header.id, HEADER_LEN as u64);
        while let Some(frames) = walk.next(&*file, len)? {
            for frame in frames {
                if frame.number < *next {
                    continue;
                }
                *next = frame.number + u64::from(frame.records);
                self.records += u64::from(frame.records);
                self.oldest_ms.get_or_insert(frame.born_ms);
                self.plain |= header.plain;
            }
        }
        Ok(())
    }
}
