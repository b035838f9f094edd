//! One open file, from where it was left to its end.
//!
//! A turn reads one block and hands its lines over as chunks, each a span of the file's ledger. Memory is
//! reserved before the block is read, so a file that is faster than the stream waits here.
//!
//! The reader holds its file open, so a rename or a deletion does not stop it, until it is told to close it: then its
//! next turn opens it again by its name. Content that is not the one it
//! was reading (a file shorter than what was read, or with other bytes before that place) is read from its
//! beginning, with a ledger of its own: answers for the old content do not move it.
//!
//! Between turns it keeps an unfinished line in memory only if it is short and the source has room for it.
//! Otherwise it only remembers how far there is no newline, looks for one in what is appended, and reads the line
//! again when it is whole, with the memory for it reserved: a long line is read twice, however slowly it grows.
//!
//! Where lines are joined, the record that is open is kept as well, in the same memory: where there is no room for
//! it, it is complete as it is. The file's place stays before it until then, so that a restart reads it again from
//! its first line.

mod descriptor;
mod ending;
mod joined;
mod overlong;
mod sending;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub(super) use self::descriptor::{Done, Seen};
use self::joined::Joined;
use super::UNFINISHED_KEPT;
use super::content::Content;
use super::identity::{FileId, HEAD, Head, Tail};
use super::outlet::{Ended, Outlet};
use super::skim::Skimmed;
use crate::checkpoint::ledger::{FileLedger, Place, TrackedFile};
use crate::checkpoint::{Claim, Fingerprint};
use crate::delivery::MemoryPermit;
use crate::source::frame::{Framer, MAX_LINE};
use crate::source::join::Joiner;
use crate::source::lines::{self, Read};
use crate::source::making::Maker;

/// Read per turn. Large enough that system calls do not show beside splitting (bench `frame`), small enough to stay in a
/// core's cache, to let other files have their turn, and, with the line that was begun before it, for the allocator to
/// keep at hand: what is larger than 128 KiB glibc maps anew each time, whose page faults cost more than the reading.
pub(super) const BLOCK: usize = 96 * 1024;

/// A longer unfinished line is read again rather than kept: few are.
const LONGEST_KEPT: usize = 256 * 1024;

#[derive(Debug)]
pub(super) enum TurnError {
    Read(io::Error),
    Ended(Ended),
}

/// What a turn found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing behind what was read.
    CaughtUp,
    /// A block was read; there may be more.
    Read,
    /// All was read, and no more will come: a compressed file's end.
    Ended,
    /// The file was closed, and another has its name by now, or none: who looks through the directories finds it.
    Away,
    /// Other content than before: it starts over.
    StartedOver,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    /// None while it is closed.
    file: Option<Content>,
    /// What it was like when it was closed.
    asleep: Option<Seen>,
    /// It was closed, and another may have its inode by now.
    reopened: bool,
    claim: Claim,
    id: FileId,
    path: PathBuf,
    /// By the name it was found under: the rest of a file that is rotated belongs with its beginning.
    maker: Maker,
    head: Head,
    /// Before `framer.at()`.
    tail: Tail,
    framer: Framer,
    /// For what the framer holds between turns.
    kept: Option<MemoryPermit>,
    /// The line that the framer would hold, and does not.
    skimmed: Option<Skimmed>,
    joined: Option<Joined>,
    /// Where a restart would go on if all that was handed over were settled.
    place: Place,
    /// The end of the last span.
    sent: Place,
    ledger: Arc<FileLedger>,
    /// Another process had the time to change what was read before.
    caught_up: bool,
    /// When it was last written to, as far as what was read is known to be there still.
    unchanged_at: Option<SystemTime>,
    /// Since then all was read that was there. Not since it was read: that turn may have waited for room.
    quiet_since: Option<Instant>,
}

impl Reader {
    /// Reads `file` from `offset`, the beginning of a line.
    pub(super) fn new(
        path: PathBuf,
        file: Content,
        offset: u64,
        claim: Claim,
        outlet: &Outlet,
    ) -> io::Result<Self> {
        let meta = file.metadata()?;
        let head = Head::read(&file)?;
        let tail = Tail::read(&file, offset)?;
        let place = Place {
            offset,
            tail: tail.hash(),
        };
        let tracked = tracked(&path, head.fingerprint(), meta.len());
        Ok(Self {
            ledger: claim.track(tracked, place),
            framer: framer(offset, outlet).within_line(tail.is_within_line()),
            kept: None,
            skimmed: None,
            joined: Joined::new(&outlet.rules, offset),
            file: Some(file),
            asleep: None,
            reopened: false,
            id: FileId::of(&meta),
            claim,
            maker: outlet.making.of(&path),
            path,
            head,
            tail,
            place,
            sent: place,
            caught_up: false,
            unchanged_at: None,
            quiet_since: None,
        })
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn ledger(&self) -> &Arc<FileLedger> {
        &self.ledger
    }

    /// The same file under another name.
    pub(super) fn renamed(&mut self, path: PathBuf) {
        self.path = path;
        self.describe();
    }

    /// Takes up what has been written to its first bytes: a compressed copy is told by them, and may be there before the
    /// next turn.
    pub(super) fn look_at_head(&mut self) {
        let have = self.head.len() as u64;
        if have >= HEAD as u64 {
            return;
        }
        let opened = self.opened_if_changed();
        let Some(file) = self.file.as_ref().or(opened.as_ref()) else {
            return;
        };
        if self.head.still_begins(file).unwrap_or(false)
            && let Ok(more) = file.read_upto(have, HEAD)
            && self.head.grow(have, &more)
        {
            self.describe();
        }
    }

    /// Reads and sends one block. Blocks the thread while there is no room.
    pub(super) fn turn(&mut self, outlet: &Outlet, now: Instant) -> Result<Turn, TurnError> {
        let Some(size) = self.wake()? else {
            return Ok(Turn::Away);
        };
        let read_to = self.read_to();
        if size != read_to {
            self.quiet_since = None;
        }
        let is_touched = self.caught_up && size == read_to && self.is_touched()?;
        let may_differ = self.reopened || is_touched || (self.caught_up && size > read_to);
        if size < read_to || (may_differ && !self.is_as_it_was(is_touched)?) {
            self.start_over(outlet)?;
            return Ok(Turn::StartedOver);
        }
        self.reopened = false;
        self.seen(size, read_to);
        if size == read_to {
            self.caught_up = true;
            // What is packed waits for its end, however long that is in coming.
            if !self.is_packed() {
                self.quiet_since.get_or_insert(now);
            }
            if self.rest_is_due(&outlet.rules, now) {
                self.send_rest(outlet)?;
            } else if self.open_is_due(&outlet.rules, now) {
                self.send_open(outlet, Joiner::flush)?;
            }
            return self.caught_up(outlet, now);
        }
        let room = match self.room(size, outlet)? {
            Room::Bytes(room) => room,
            Room::Overlong(line) => {
                self.send_overlong(outlet, line, true)?;
                return Ok(Turn::Read);
            }
            Room::Nothing => {
                self.seen(size, self.read_to());
                self.caught_up = self.read_to() == read_to;
                return Ok(self.progress());
            }
        };
        let held = self.framer.pending().len() + room;
        let (open, open_bytes) = self.open();
        let records = lines::worst_records(held) + open;
        let permit = outlet.reserve(&self.maker, records, held + open_bytes)?;
        let (read, took) = Read::of(|| self.read(room));
        let read = read?;
        self.send_lines(outlet, permit, took)?;
        self.send_stale(outlet, now)?;
        self.keep_or_let_go(outlet)?;
        self.seen(size, self.read_to());
        self.caught_up = read == 0;
        Ok(self.progress())
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.framer.pending().len() + self.open().1
    }

    /// Everything before has been looked at.
    fn read_to(&self) -> u64 {
        let framed = self.framer.read_offset();
        self.skimmed.as_ref().map_or(framed, Skimmed::to)
    }

    fn progress(&self) -> Turn {
        if self.caught_up {
            Turn::CaughtUp
        } else {
            Turn::Read
        }
    }

    /// How much to read from where the framer is, of a file of `size` bytes.
    fn room(&mut self, size: u64, outlet: &Outlet) -> io::Result<Room> {
        let upto_block = |from: u64| (size - from).min(BLOCK as u64) as usize;
        let block = upto_block(self.framer.read_offset());
        let Some(skimmed) = &mut self.skimmed else {
            return Ok(Room::Bytes(block));
        };
        let from = skimmed.to();
        let file = self.file.as_ref().expect("open in a turn");
        let (bytes, is_whole) = skimmed.look(file, upto_block(from))?;
        let line = skimmed.to() - self.framer.at();
        if self.head.grow(from, &bytes) {
            self.describe();
        }
        Ok(match is_whole {
            false => Room::Nothing,
            true if line > outlet.most_of_a_line() as u64 => Room::Overlong(line),
            true => Room::Bytes(block.max(line as usize + 1)),
        })
    }

    fn keep_or_let_go(&mut self, outlet: &Outlet) -> Result<(), Ended> {
        self.keep_or_cut(outlet)?;
        let pending = self.framer.pending();
        (self.kept, self.skimmed) = (None, None);
        if pending.is_empty() {
            return Ok(());
        }
        // What is packed is not easily read again.
        let longest = if self.is_packed() {
            UNFINISHED_KEPT
        } else {
            LONGEST_KEPT
        };
        if pending.len() <= longest {
            self.kept = outlet.unfinished.try_reserve(pending.len());
        }
        if self.kept.is_none() {
            self.skimmed = Some(Skimmed::new(pending, self.framer.read_offset()));
            self.framer.forget();
        }
        Ok(())
    }

    fn read(&mut self, room: usize) -> io::Result<usize> {
        let offset = self.framer.read_offset();
        let file = self.file.as_ref().expect("open in a turn");
        let append = |held: &mut Vec<u8>| file.append_upto(held, offset, room);
        let outcome = self.framer.fill(room, append);
        // Also what was read before an error counts.
        let pending = self.framer.pending();
        let read = (self.framer.read_offset() - offset) as usize;
        if self.head.grow(offset, &pending[pending.len() - read..]) {
            self.describe();
        }
        if outcome.is_err() && self.skimmed.is_some() {
            self.framer.forget();
        }
        outcome.map(|_| read)
    }

    /// `from_its_head`: its first bytes too.
    fn is_as_it_was(&self, from_its_head: bool) -> io::Result<bool> {
        let (at, held) = (self.framer.at(), self.framer.pending());
        let pending = self.skimmed.as_ref().map_or(held, Skimmed::first);
        let file = self.file.as_ref().expect("open in a turn");
        Ok(self.tail.still_precedes(file, at, pending)?
            && (!(self.reopened || from_its_head) || self.head.still_begins(file)?))
    }

    /// How long a packed file is is seen at its end.
    fn seen(&self, size: u64, read_to: u64) {
        let size = if self.is_packed() { read_to } else { size };
        self.ledger.seen(size, read_to);
    }

    fn describe(&self) {
        self.ledger.describe(&self.path, self.head.fingerprint());
    }
}

/// What to read next.
enum Room {
    Bytes(usize),
    /// A line of so many bytes, which is no record.
    Overlong(u64),
    /// It would only be more of a line that is not whole.
    Nothing,
}

fn framer(offset: u64, outlet: &Outlet) -> Framer {
    Framer::new(offset, MAX_LINE).marking(outlet.longest_line())
}

fn tracked(path: &Path, fingerprint: Fingerprint, size: u64) -> TrackedFile {
    TrackedFile {
        path: path.to_owned(),
        fingerprint,
        size_seen: size,
    }
}

impl From<io::Error> for TurnError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<Ended> for TurnError {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}
