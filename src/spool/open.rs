//! Taking up a stream's spool: what earlier runs left there, and the three that work on it from now on.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::{self, Cursor};
use super::frame::{HEADER_LEN, Header, NoHeader};
use super::keeper::Keeper;
use super::shelf::{Segment, Shelf};
use super::walk::Walk;
use super::{Disk, RealDisk, Settings, SpoolError, Sync};
use crate::checkpoint::Lock;
use crate::metrics::Counters;
use crate::record::StreamName;

const EXTENSION: &str = "spool";

/// A stream's spool, looked through and not yet in use.
#[derive(Debug)]
pub struct Spool {
    pub(super) shelf: Arc<Shelf>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) settings: Settings,
    /// The next record's number.
    pub(super) next: u64,
    pub(super) settled: u64,
    pub(super) plain: bool,
}

impl Spool {
    /// `PATH/STREAM`, made if need be. `plain`: nothing is encrypted. `lock` is the right to `PATH`. Blocks: it reads
    /// through all that is there.
    pub fn open(
        settings: &Settings,
        stream: &StreamName,
        plain: bool,
        lock: Arc<Lock>,
        counters: Arc<Counters>,
    ) -> Result<Self, SpoolError> {
        let disk = Arc::new(RealDisk);
        Self::open_on(disk, settings, stream, plain, lock, counters)
    }

    /// The same on another disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        settings: &Settings,
        stream: &StreamName,
        plain: bool,
        lock: Arc<Lock>,
        counters: Arc<Counters>,
    ) -> Result<Self, SpoolError> {
        let dir = settings.path.join(stream.folder_name());
        let unusable = |source| SpoolError::Unusable {
            dir: dir.clone(),
            source,
        };
        disk.create_dir(&dir).map_err(unusable)?;
        let saved = match cursor::load(&*disk, &dir)? {
            Cursor::At(settled) => Some(settled),
            Cursor::Damaged { why } => {
                cursor::put_aside(&*disk, &dir, &why).map_err(unusable)?;
                None
            }
        };
        let look = Look::through_all(&*disk, &dir, saved, settings.sync)?;
        if !plain && look.plain > 0 {
            let records = look.plain;
            return Err(SpoolError::Plaintext { dir, records });
        }
        look.tidy(&dir).map_err(unusable)?;
        let Look {
            segments,
            settled,
            next,
            ..
        } = look;
        let found = next - settled;
        if found > 0 {
            tracing::warn!(
                path = %dir.display(), records = found,
                "the spool has records of an earlier run: they are sent first"
            );
        }
        if plain {
            tracing::warn!(path = %dir.display(), "the spool holds plaintext, since encryption is off");
        }
        // Accepted anew: they are owed an answer by this process.
        Counters::add(&counters.accepted, found);
        counters.spool(found);
        let shelf = Shelf::new(dir, lock, segments, (settled, next), counters);
        Ok(Self {
            shelf: Arc::new(shelf),
            disk,
            settings: settings.clone(),
            next,
            settled,
            plain,
        })
    }

    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    pub fn keeper(&self) -> Keeper {
        Keeper {
            shelf: Arc::clone(&self.shelf),
            disk: Arc::clone(&self.disk),
            sync: self.settings.sync,
        }
    }
}

/// A segment's name is the number of its first record, so that names sort by age.
pub(super) fn segment_path(dir: &Path, first: u64, again: u32) -> PathBuf {
    match again {
        0 => dir.join(format!("{first:020}.{EXTENSION}")),
        // One of the same number was begun and got no record.
        n => dir.join(format!("{first:020}-{n}.{EXTENSION}")),
    }
}

/// First number, path and length of what lies there, the oldest first.
pub(super) fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf, u64)>> {
    let mut segments = Vec::new();
    for (name, len) in disk.list(dir)? {
        let stem = name
            .strip_suffix(EXTENSION)
            .and_then(|stem| stem.strip_suffix('.'));
        let Some(stem) = stem else { continue };
        let (number, again) = stem.split_once('-').unwrap_or((stem, "0"));
        if let (Ok(first), Ok(again)) = (number.parse::<u64>(), again.parse::<u32>()) {
            segments.push((first, again, dir.join(name), len));
        }
    }
    segments.sort();
    let ordered = (segments.into_iter()).map(|(first, _, path, len)| (first, path, len));
    Ok(ordered.collect())
}

/// What is found on the way through the segments.
struct Look<'a> {
    disk: &'a dyn Disk,
    segments: VecDeque<Segment>,
    /// Everything before it is settled.
    settled: u64,
    /// Behind the last record that was found.
    next: u64,
    /// The segment before had no header: what is missing was in it.
    is_behind_damage: bool,
    /// The segment before ends within a frame, with so many bytes. Who begins behind it tells what that means.
    torn: Option<(PathBuf, u64)>,
    sync: Sync,
    /// Segments of which everything is settled, or is in an earlier one too.
    useless: Vec<PathBuf>,
    /// User records that are not encrypted, of those that are to be sent.
    plain: u64,
}

impl<'a> Look<'a> {
    /// From the first record on if it is not known which are `settled`.
    fn through_all(
        disk: &'a dyn Disk,
        dir: &Path,
        settled: Option<u64>,
        sync: Sync,
    ) -> Result<Self, SpoolError> {
        let listed = segments(disk, dir).map_err(|source| SpoolError::Unusable {
            dir: dir.to_owned(),
            source,
        })?;
        let oldest = listed.first().map_or(0, |(first, _, _)| *first);
        let settled = settled.unwrap_or(oldest);
        let mut look = Self {
            disk,
            segments: VecDeque::new(),
            settled,
            next: settled,
            is_behind_damage: false,
            torn: None,
            sync,
            useless: Vec::new(),
            plain: 0,
        };
        for (_, path, len) in listed {
            look.through(path, len)?;
        }
        look.tell_torn(look.next);
        Ok(look)
    }

    /// Before anything more is written, which must not outlive what a killed process had not synced yet.
    fn tidy(&self, dir: &Path) -> io::Result<()> {
        if self.sync != Sync::Never {
            self.segments
                .iter()
                .try_for_each(|segment| self.disk.sync(&segment.path))?;
            self.disk.sync_dir(dir)?;
        }
        self.useless
            .iter()
            .try_for_each(|path| self.disk.remove(path))
    }

    fn through(&mut self, path: PathBuf, len: u64) -> Result<(), SpoolError> {
        let unusable = |source| SpoolError::Unusable {
            dir: path.clone(),
            source,
        };
        let file = self.disk.open(&path).map_err(unusable)?;
        let head = file.read(0, HEADER_LEN).map_err(unusable)?;
        let header = match Header::decode(&head) {
            Ok(header) => header,
            Err(NoHeader::Version(found)) => return Err(SpoolError::Version { path, found }),
            Err(NoHeader::Damaged) => {
                self.is_behind_damage = true;
                // A file that was begun when the power went has nothing in it; anything else is kept.
                if len > HEADER_LEN as u64 {
                    tracing::error!(
                        path = %path.display(), bytes = len,
                        "a spool segment has no readable header: it is kept as .damaged, and its records are not sent"
                    );
                    let aside = path.with_extension("damaged");
                    return self.disk.rename(&path, &aside).map_err(unusable);
                }
                tracing::warn!(
                    path = %path.display(), bytes = len,
                    "a spool segment has no record and no whole header, as when the machine goes down while it is begun: \
                     it is removed"
                );
                return self.disk.remove(&path).map_err(unusable);
            }
        };
        self.tell_torn(header.first);
        let is_behind_damage = std::mem::take(&mut self.is_behind_damage);
        if header.first > self.next && !is_behind_damage {
            match self.segments.back_mut() {
                // Segments before it were deleted since the cursor was saved: they were settled.
                None => (self.settled, self.next) = (header.first, header.first),
                Some(before) => before.damaged = true,
            }
        }
        let before = self.next;
        let mut walk = Walk::new(header.id, HEADER_LEN as u64);
        while let Some(frames) = walk.next(&*file, len).map_err(unusable)? {
            for frame in frames {
                // What was written again after an error counts once.
                if frame.number >= self.next {
                    self.next = frame.number + u64::from(frame.records);
                }
            }
        }
        let valid = walk.offset();
        if valid < len {
            self.torn = Some((path.clone(), len - valid));
        }
        if header.plain {
            self.plain += self.next - before;
        }
        if self.next == before {
            self.useless.push(path);
            return Ok(());
        }
        self.segments.push_back(Segment {
            ordinal: self.segments.len() as u64,
            path,
            file,
            id: header.id,
            first: header.first,
            end: self.next,
            len: valid,
            open: false,
            damaged: false,
        });
        Ok(())
    }

    /// The next segment begins with record `next`. Of those that are missing before it the reader keeps count.
    fn tell_torn(&mut self, next: u64) {
        let Some((path, bytes)) = self.torn.take() else {
            return;
        };
        let (path, missing) = (path.display(), next.saturating_sub(self.next));
        match (missing, self.sync) {
            (0, _) => tracing::warn!(
                %path, bytes,
                "a spool segment ends in a frame that was cut short, as when the process or the machine goes down while it \
                 is written: it is left out. If neither did, somebody has cut the file, and its last records are lost"
            ),
            (_, Sync::Always) => tracing::error!(
                %path, bytes, missing,
                "a spool segment is damaged: it was cut short, and records that had been synced are missing at its end"
            ),
            (_, Sync::Interval(_) | Sync::Never) => tracing::error!(
                %path, bytes, missing,
                "a spool segment was cut short, and records are missing at its end that were not synced, or were damaged \
                 since"
            ),
        }
    }
}
