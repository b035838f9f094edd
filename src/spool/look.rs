//! Looking through what earlier runs left: which segments, how far they can be read, and what is missing.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::Cursor;
use super::disk::put_aside;
use super::frame::{Found, HEADER_LEN, Header, MOST_FRAME, NoHeader, frame_at, id_by_first_frame};
use super::restore::put_foreign_aside;
use super::settled::Marker;
use super::shelf::Segment;
use super::walk::Walk;
use super::{Disk, DiskFile, SpoolError, Sync};
use crate::seal::open::looks_sealed;

const EXTENSION: &str = "spool";

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
pub(super) struct Look<'a> {
    disk: &'a dyn Disk,
    pub(super) segments: VecDeque<Segment>,
    /// As they lie there, of this spool or of another.
    pub(super) markers: Vec<Marker>,
    /// Everything before it is settled.
    pub(super) settled: u64,
    /// Behind the last record that was found.
    pub(super) next: u64,
    /// In the ids of its segments.
    pub(super) spool: u32,
    /// Behind the last one; they had been there.
    pub(super) missing: u64,
    /// The segment before had no header: what is missing was in it.
    is_behind_damage: bool,
    /// The segment before ends within a frame, with so many bytes. Who begins behind it tells what that means.
    torn: Option<(PathBuf, u64)>,
    sync: Sync,
    /// The cursor was saved before anything that it says is settled was deleted.
    is_exact: bool,
    /// Segments of which everything is settled, or is in an earlier one too.
    useless: Vec<PathBuf>,
    /// User records that are not encrypted, of those that are to be sent.
    pub(super) plain: u64,
}

impl<'a> Look<'a> {
    pub(super) fn through_all(
        disk: &'a dyn Disk,
        dir: &Path,
        cursor: &Cursor,
        sync: Sync,
    ) -> Result<Self, SpoolError> {
        let listed = segments(disk, dir).map_err(|source| SpoolError::Unusable {
            dir: dir.to_owned(),
            source,
        })?;
        // From the first record on, if it is not known which are settled.
        let oldest = || listed.first().map_or(0, |(first, _, _)| *first);
        let (settled, spool, end) = match cursor {
            Cursor::Missing => (oldest(), None, 0),
            Cursor::Settled(settled) => (*settled, None, 0),
            Cursor::Noted(note) => (note.settled, Some(note.spool), note.end),
            Cursor::Damaged { .. } => (oldest(), None, 0),
        };
        let markers = Marker::all(disk, dir).map_err(|source| SpoolError::Unusable {
            dir: dir.to_owned(),
            source,
        })?;
        // What was written last is this spool's, where it is not known otherwise.
        let of_file = |path: &PathBuf| {
            let head = disk.open(path).and_then(|file| file.read(0, HEADER_LEN));
            Header::decode(&head.ok()?).ok()?.spool()
        };
        let newest = || listed.iter().rev().find_map(|(_, path, _)| of_file(path));
        let spool = spool.or_else(newest).unwrap_or_else(rand::random);
        let ours = markers.iter().filter(|marker| marker.spool == spool);
        let settled = ours.map(|marker| marker.end).fold(settled, u64::max);
        let mut look = Self {
            disk,
            segments: VecDeque::new(),
            markers,
            settled,
            next: settled,
            spool,
            missing: 0,
            is_behind_damage: false,
            torn: None,
            sync,
            is_exact: matches!(cursor, Cursor::Noted(_)),
            useless: Vec::new(),
            plain: 0,
        };
        for (_, path, len) in listed {
            look.through(path, len)?;
        }
        look.count_missing(end, dir)?;
        Ok(look)
    }

    /// There were records up to number `end`, and they had been synced.
    fn count_missing(&mut self, end: u64, dir: &Path) -> Result<(), SpoolError> {
        self.missing = end.saturating_sub(self.next);
        if self.missing > 0 {
            if self.torn.is_none() {
                tracing::error!(
                    path = %dir.display(), missing = self.missing,
                    "the spool is damaged: its last records are missing, though they had been synced"
                );
            }
            if let Some(last) = self.segments.back_mut() {
                last.damaged = true;
            }
            // One of which nothing can be read is no segment, and is kept all the same.
            let torn = self.torn.as_ref().map(|(path, _)| path);
            if let Some(at) = self.useless.iter().position(|path| Some(path) == torn) {
                let path = self.useless.remove(at);
                let kept = put_aside(self.disk, &path, "damaged");
                kept.map_err(|source| SpoolError::Unusable { dir: path, source })?;
            }
        }
        self.tell_torn(end.max(self.next));
        Ok(())
    }

    /// Before anything more is written, which must not outlive what a killed process had not synced yet.
    pub(super) fn tidy(&self, dir: &Path) -> io::Result<()> {
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
                if let Some(header) = self.salvaged(&head, &*file).map_err(unusable)? {
                    tracing::warn!(
                        path = %path.display(),
                        "the header of a spool segment is damaged; its records are not, and are sent"
                    );
                    return self.through_frames(header, path, file, len);
                }
                self.is_behind_damage = true;
                // A file that was begun when the power went has nothing in it; anything else is kept.
                if len > HEADER_LEN as u64 {
                    tracing::error!(
                        path = %path.display(), bytes = len,
                        "a spool segment has no readable header: it is kept as .damaged, and its records are not sent"
                    );
                    let kept = put_aside(self.disk, &path, "damaged");
                    return kept.map(drop).map_err(unusable);
                }
                tracing::warn!(
                    path = %path.display(), bytes = len,
                    "a spool segment has no record and no whole header, as when the machine goes down while it is begun: \
                     it is removed"
                );
                return self.disk.remove(&path).map_err(unusable);
            }
        };
        if header.spool().is_some_and(|spool| spool != self.spool) {
            return put_foreign_aside(self.disk, &path).map_err(unusable);
        }
        self.through_frames(header, path, file, len)
    }

    /// What a header with a changed bit said, as far as its first frame tells.
    fn salvaged(&self, head: &[u8], file: &dyn DiskFile) -> io::Result<Option<Header>> {
        let after: Bytes = file.read(HEADER_LEN as u64, MOST_FRAME)?.into();
        let found = id_by_first_frame(head, &after).map(|id| (id, frame_at(&after, id)));
        let Some((id, Found::Frame(frame, _))) = found else {
            return Ok(None);
        };
        let is_of_a_spool = (id >> 32) as u32 == self.spool;
        Ok(is_of_a_spool.then_some(Header {
            // Never sent in clear by a changed bit.
            plain: !looks_sealed(&frame.data),
            id,
            is_of_a_spool,
            first: frame.number,
        }))
    }

    fn through_frames(
        &mut self,
        header: Header,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        len: u64,
    ) -> Result<(), SpoolError> {
        let unusable = |source| SpoolError::Unusable {
            dir: path.clone(),
            source,
        };
        self.tell_torn(header.first);
        let is_behind_damage = std::mem::take(&mut self.is_behind_damage);
        if header.first > self.next && !is_behind_damage {
            match self.segments.back_mut() {
                // An older program deleted what was settled before it saved the cursor.
                None if !self.is_exact => (self.settled, self.next) = (header.first, header.first),
                // Somebody removed it: the reader counts what is missing.
                None => tracing::error!(
                    path = %path.display(), missing = header.first - self.next,
                    "the spool is damaged: files before this one, its oldest, are gone"
                ),
                Some(before) => before.damaged = true,
            }
        }
        let before = self.next;
        let mut taken = 0;
        let mut walk = Walk::new(header.id, HEADER_LEN as u64);
        while let Some(frames) = walk.next(&*file, len).map_err(unusable)? {
            for frame in frames {
                // What was written again after an error counts once.
                if frame.number >= self.next {
                    self.next = frame.number + u64::from(frame.records);
                    taken += u64::from(frame.records);
                }
            }
        }
        let valid = walk.offset();
        if valid < len {
            self.torn = Some((path.clone(), len - valid));
        }
        if header.plain {
            self.plain += taken;
        }
        if self.next == before {
            if valid > HEADER_LEN as u64 {
                tracing::warn!(
                    path = %path.display(), bytes = valid,
                    "all records of this file of the spool are stored already, by its cursor: it is deleted"
                );
            }
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
            cut: false,
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
