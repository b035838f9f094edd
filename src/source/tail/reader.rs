//! One open file, from where it was left to its end.
//!
//! A turn reads one block and hands its lines over as chunks, each a span of the file's ledger. Memory is
//! reserved before the block is read, so a file that is faster than the stream waits here.
//!
//! The reader holds its file open, so a rename or a deletion does not stop it. Content that is not the one it
//! was reading (a file shorter than what was read, or with other bytes before that place) is read from its
//! beginning, with a ledger of its own: answers for the old content do not move it.
//!
//! Between turns it keeps an unfinished line in memory only if it is short and the source has room for it.
//! Otherwise it only remembers how far there is no newline, looks for one in what is appended, and reads the line
//! again when it is whole, with the memory for it reserved: a long line is read twice, however slowly it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::identity::{Head, Tail};
use super::skim::Skimmed;
use crate::checkpoint::ledger::{FileLedger, Place, TrackedFile};
use crate::checkpoint::{Claim, Fingerprint};
use crate::delivery::{MemoryBudget, MemoryPermit, SpanSettled};
use crate::shutdown::Shutdown;
use crate::source::frame::{Framer, Line, MAX_LINE};
use crate::source::keying::{Keyer, Keying};
use crate::source::lines::{self, MAX_LINES, Read};
use crate::source::{Chunk, Intake};

/// Read per turn. Large enough that system calls do not show beside splitting (bench `frame`), small enough
/// to stay in a core's cache and to let other files have their turn.
pub(super) const BLOCK: usize = 256 * 1024;

/// A longer unfinished line is read again rather than kept: few are.
const LONGEST_KEPT: usize = 64 * 1024;

/// Where a source's chunks go, from a thread that may block.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) runtime: Handle,
    pub(super) intake: Intake,
    pub(super) keying: Keying,
    /// For unfinished lines between turns.
    pub(super) unfinished: MemoryBudget,
    pub(super) shutdown: Shutdown,
}

/// No more chunks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    PipelineClosed,
}

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
    /// Other content than before: it starts over.
    StartedOver,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    claim: Claim,
    path: PathBuf,
    /// By the name it was found under: the rest of a file that is rotated belongs with its beginning.
    keyer: Keyer,
    head: Head,
    /// Before `framer.at()`.
    tail: Tail,
    framer: Framer,
    /// For what the framer holds between turns.
    kept: Option<MemoryPermit>,
    /// The line that the framer would hold, and does not.
    skimmed: Option<Skimmed>,
    /// Where a restart would go on if all that was handed over were settled.
    place: Place,
    ledger: Arc<FileLedger>,
    /// Another process had the time to change what was read before.
    caught_up: bool,
}

impl Reader {
    /// Reads `file` from `offset`, the beginning of a line.
    pub(super) fn new(
        path: PathBuf,
        file: File,
        offset: u64,
        claim: Claim,
        keying: &Keying,
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
            framer: Framer::new(offset, MAX_LINE),
            kept: None,
            skimmed: None,
            file,
            claim,
            keyer: keying.of(&path),
            path,
            head,
            tail,
            place,
            caught_up: false,
        })
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

    /// Reads and sends one block. Blocks the thread while there is no room.
    pub(super) fn turn(&mut self, outlet: &Outlet) -> Result<Turn, TurnError> {
        let size = self.file.metadata()?.len();
        let read_to = self.read_to();
        if size < read_to || (self.caught_up && size > read_to && !self.is_as_it_was()?) {
            self.start_over(outlet)?;
            return Ok(Turn::StartedOver);
        }
        self.ledger.seen(size, read_to);
        if size == read_to {
            self.caught_up = true;
            return Ok(Turn::CaughtUp);
        }
        let Some(room) = self.room(size)? else {
            self.ledger.seen(size, self.read_to());
            self.caught_up = self.read_to() == read_to;
            return Ok(self.progress());
        };
        let held = self.framer.pending().len() + room;
        let permit = outlet.reserve(&self.keyer, lines::worst_records(held), held)?;
        let (read, took) = Read::of(|| self.read(room));
        let read = read?;
        self.send_lines(outlet, permit, took)?;
        self.keep_or_let_go(outlet);
        self.ledger.seen(size, self.read_to());
        self.caught_up = read == 0;
        Ok(self.progress())
    }

    /// No newline will come: sends what is left as a line, and has the checkpoint forget the file once all of
    /// it is settled.
    pub(super) fn close(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        self.send_rest(outlet)?;
        self.ledger.close();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.framer.pending().len()
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

    /// How much to read from where the framer is, of a file of `size` bytes. None while it would only be more of
    /// a line that is not whole.
    fn room(&mut self, size: u64) -> io::Result<Option<usize>> {
        let upto_block = |from: u64| (size - from).min(BLOCK as u64) as usize;
        let block = upto_block(self.framer.read_offset());
        let Some(skimmed) = &mut self.skimmed else {
            return Ok(Some(block));
        };
        let from = skimmed.to();
        let (bytes, is_whole) = skimmed.look(&self.file, upto_block(from))?;
        let line = (skimmed.to() - self.framer.at()) as usize;
        if self.head.grow(from, &bytes) {
            self.describe();
        }
        // A line too long for the framer to give out whole comes in pieces.
        Ok(if is_whole {
            Some(block.max(line + 1))
        } else {
            (line > 2 * MAX_LINE).then_some(line)
        })
    }

    fn keep_or_let_go(&mut self, outlet: &Outlet) {
        let pending = self.framer.pending();
        (self.kept, self.skimmed) = (None, None);
        if pending.is_empty() {
            return;
        }
        if pending.len() <= LONGEST_KEPT {
            self.kept = outlet.unfinished.try_reserve(pending.len());
        }
        if self.kept.is_none() {
            self.skimmed = Some(Skimmed::new(pending, self.framer.read_offset()));
            self.framer.forget();
        }
    }

    fn read(&mut self, room: usize) -> io::Result<usize> {
        let offset = self.framer.read_offset();
        (&self.file).seek(SeekFrom::Start(offset))?;
        let mut block = (&self.file).take(room as u64);
        let outcome = self.framer.fill(room, |held| block.read_to_end(held));
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

    fn send_lines(
        &mut self,
        outlet: &Outlet,
        permit: MemoryPermit,
        mut read: Read,
    ) -> Result<(), Ended> {
        let mut permit = Some(permit);
        loop {
            let (at, held) = (self.framer.at(), self.framer.pending().clone());
            let lines = read.next_lines(&mut self.framer);
            if lines.is_empty() {
                return Ok(());
            }
            let is_last = lines.len() < MAX_LINES;
            let permit = match permit.take() {
                Some(permit) => permit,
                None => outlet.reserve(&self.keyer, lines.len(), held.len())?,
            };
            self.pass(at, &held);
            self.send(lines, outlet, permit, &mut read)?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn send_rest(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        let len = (self.read_to() - self.framer.at()) as usize;
        if len == 0 {
            return Ok(());
        }
        let permit = outlet.reserve(&self.keyer, 1, len)?;
        if self.skimmed.is_some() {
            self.read(len)?;
            self.skimmed = None;
        }
        let (at, held) = (self.framer.at(), self.framer.pending().clone());
        let (last, mut read) = Read::of(|| self.framer.finish());
        let Some(line) = last else {
            return Ok(());
        };
        self.pass(at, &held);
        self.send(vec![line], outlet, permit, &mut read)?;
        self.kept = None;
        Ok(())
    }

    fn send(
        &self,
        lines: Vec<Line>,
        outlet: &Outlet,
        permit: MemoryPermit,
        read: &mut Read,
    ) -> Result<(), Ended> {
        let source = Arc::clone(&self.ledger) as Arc<dyn SpanSettled>;
        let span = (source, self.ledger.open(self.place));
        let keys = read.keys(&self.keyer, &lines);
        let intake = &outlet.intake;
        outlet.send(lines::chunk(lines, keys, intake, permit, span, read))
    }

    /// The framer has moved on from `at`, where it held `held`.
    fn pass(&mut self, at: u64, held: &Bytes) {
        let upto = |offset: u64| offset.saturating_sub(at) as usize;
        let (boundary, passed) = (upto(self.framer.boundary()), upto(self.framer.at()));
        if boundary > 0 {
            self.tail.pass(&held[..boundary]);
            self.place = Place {
                offset: self.framer.boundary(),
                tail: self.tail.hash(),
            };
        }
        // Pieces of a long line, which a restart reads again: the place stays before them.
        self.tail.pass(&held[boundary..passed]);
    }

    fn is_as_it_was(&self) -> io::Result<bool> {
        let (at, held) = (self.framer.at(), self.framer.pending());
        let pending = self.skimmed.as_ref().map_or(held, Skimmed::first);
        self.tail.still_precedes(&self.file, at, pending)
    }

    fn start_over(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        tracing::info!(
            path = %self.path.display(), read = self.read_to(),
            "file has other content now; reading it from its beginning"
        );
        // Its newline went with the old content; a line cut short is better than none.
        match self.skimmed.take() {
            None => self.send_rest(outlet)?,
            Some(skimmed) => tracing::warn!(
                path = %self.path.display(), bytes = skimmed.to() - self.framer.at(),
                "file was truncated within an unfinished line; these bytes of it are lost"
            ),
        }
        self.head = Head::none();
        self.tail = Tail::default();
        self.framer = Framer::new(0, MAX_LINE);
        self.place = Place {
            offset: 0,
            tail: self.tail.hash(),
        };
        let tracked = tracked(&self.path, self.head.fingerprint(), 0);
        self.ledger = self.claim.track(tracked, self.place);
        self.caught_up = false;
        Ok(())
    }

    fn describe(&self) {
        self.ledger.describe(&self.path, self.head.fingerprint());
    }
}

fn tracked(path: &Path, fingerprint: Fingerprint, size: u64) -> TrackedFile {
    TrackedFile {
        path: path.to_owned(),
        fingerprint,
        size_seen: size,
    }
}

impl Outlet {
    /// Waits for room, or for the end.
    fn reserve(&self, keyer: &Keyer, records: usize, bytes: usize) -> Result<MemoryPermit, Ended> {
        let bytes = bytes + keyer.worst_bytes(records, bytes);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.shutdown.stopped() => Err(Ended::Stopped),
                permit = self.intake.reserve(records, bytes) => Ok(permit),
            }
        })
    }

    /// A chunk that is not taken before the end is dropped, and its span with it: it is read again.
    fn send(&self, chunk: Chunk) -> Result<(), Ended> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                sent = self.intake.send(chunk) => sent.map_err(|_| Ended::PipelineClosed),
                () = self.shutdown.stopped() => Err(Ended::Stopped),
            }
        })
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
