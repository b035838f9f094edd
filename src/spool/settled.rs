//! Room for the cursor on a full disk.
//!
//! What is settled is deleted once the cursor says so, and a disk that is full to its last byte has no room for a cursor. So
//! one settled segment gets a name that says the same, which takes no room, and gives back what is in it.

use std::io;
use std::path::{Path, PathBuf};

use super::shelf::Segment;
use super::{Disk, Sync};

const EXTENSION: &str = "settled";

/// A file whose name says that of one spool everything before a number is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) spool: u32,
    pub(super) end: u64,
    pub(super) path: PathBuf,
}

impl Marker {
    /// Makes one of a segment of which everything is settled, and all before it.
    pub(super) fn make(
        disk: &dyn Disk,
        dir: &Path,
        spool: u32,
        segment: &Segment,
        sync: Sync,
    ) -> io::Result<Self> {
        let end = segment.end;
        let path = dir.join(format!("{spool:08x}-{end:020}.{EXTENSION}"));
        disk.rename(&segment.path, &path)?;
        // Emptied under its old name it would be a damaged one.
        if sync != Sync::Never {
            disk.sync_dir(dir)?;
        }
        disk.empty(&path)?;
        Ok(Self { spool, end, path })
    }

    /// Those that are there.
    pub(super) fn all(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Self>> {
        let names = disk.list(dir)?.into_iter().map(|(name, _)| name);
        Ok(names.filter_map(|name| Self::of(dir, &name)).collect())
    }

    fn of(dir: &Path, name: &str) -> Option<Self> {
        let (spool, end) = name
            .strip_suffix(EXTENSION)?
            .strip_suffix('.')?
            .split_once('-')?;
        Some(Self {
            spool: u32::from_str_radix(spool, 16).ok()?,
            end: end.parse().ok()?,
            path: dir.join(name),
        })
    }
}
