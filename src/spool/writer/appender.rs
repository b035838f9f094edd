//! The file that is written now. Blocks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::spool::disk::is_full;
use crate::spool::frame::{FRAME_HEAD, Frame, Header};
use crate::spool::restore::{self, restore};
use crate::spool::shelf::Shelf;
use crate::spool::{Disk, DiskFile, Spool, Sync};

#[derive(Debug)]
pub(super) struct Appender {
    shelf: Arc<Shelf>,
    disk: Arc<dyn Disk>,
    plain: bool,
    sync: Sync,
    max_bytes: u64,
    segment_bytes: u64,
    /// The next record's number.
    next: u64,
    current: Option<Current>,
    /// Given up after an error, or full; what was written before that is not synced.
    left: Vec<Current>,
    buf: Vec<u8>,
    /// Where the frames in it end.
    ends: Vec<u64>,
}

#[derive(Debug)]
struct Current {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    id: u64,
    /// Bytes of whole frames.
    len: u64,
    /// There was no room for more, and half a frame is at its end.
    torn: bool,
}

impl Current {
    /// It has its name, and nobody cut it.
    fn is_whole(&self) -> bool {
        self.file.is_at(&self.path).unwrap_or(false)
            && self.file.size().is_ok_and(|len| len >= self.len)
    }
}

/// What became of frames that were to be appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// The first `frames` of them. Their numbers end before `end`, and the segment is so long now.
    Written { frames: usize, end: u64, len: u64 },
    /// There is no room: so many bytes lie there.
    Full { bytes: u64 },
}

/// Of a frame, beside its data: head, number, birth, count, key.
const MOST_BESIDE_DATA: usize = FRAME_HEAD + 21 + 2 + 256 * 4 + 16;

impl Appender {
    pub(super) fn new(spool: &Spool) -> Self {
        Self {
            shelf: spool.shelf(),
            disk: Arc::clone(&spool.disk),
            plain: spool.plain,
            sync: spool.settings.sync,
            max_bytes: spool.settings.max_bytes,
            segment_bytes: spool.settings.segment_bytes(),
            next: spool.next,
            current: None,
            left: Vec::new(),
            buf: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The number of the record that is appended next.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// All of them or none, or on a full disk as many as fit, numbered from [`next_number`](Self::next_number) on. After
    /// an error the file is not written any more: what is in it is not known, and they go into another under the same
    /// numbers.
    pub(super) fn append(&mut self, frames: &[Frame<Bytes>]) -> io::Result<Appended> {
        let needed: usize = frames.iter().map(|f| f.data.len() + MOST_BESIDE_DATA).sum();
        let bytes = self.shelf.bytes();
        if bytes + needed as u64 > self.max_bytes {
            // What is written now can be deleted too, once it is settled.
            self.leave();
            return Ok(Appended::Full { bytes });
        }
        let written = self.write(frames);
        if written.is_err() {
            self.leave();
        }
        let frames = written?;
        self.next = frames
            .last()
            .map_or(self.next, |last| last.number + u64::from(last.records));
        let current = self.current.as_ref().expect("written to just now");
        Ok(Appended::Written {
            frames: frames.len(),
            end: self.next,
            len: current.len,
        })
    }

    /// Writes again what somebody removed, where it waits. After an error it is looked for again the next time.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        if self.current.take_if(|c| !c.is_whole()).is_some() {
            self.shelf.close_last();
        }
        restore(&self.shelf, &*self.disk, self.sync)
    }

    /// Makes what was appended survive a power cut, and be there for the next run. After an error nobody knows whether
    /// it will, and another try would not tell (Linux reports an error of writing back once).
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let mut outcome = self.restore();
        for left in std::mem::take(&mut self.left) {
            outcome = outcome.and(left.file.sync());
        }
        let synced = self.current.as_ref().map_or(Ok(()), |c| c.file.sync());
        if synced.is_err() {
            self.current = None;
            self.shelf.close_last();
        }
        outcome.and(synced)
    }

    /// Those that were.
    fn write<'a>(&mut self, frames: &'a [Frame<Bytes>]) -> io::Result<&'a [Frame<Bytes>]> {
        // What is written now is to be answered for.
        if self.current.as_ref().is_some_and(|c| !c.is_whole()) {
            self.restore()?;
        }
        let is_done = |current: &Current| current.torn || current.len >= self.segment_bytes;
        if self.current.as_ref().is_none_or(is_done) {
            self.begin()?;
        }
        let current = self.current.as_mut().expect("begun just now");
        self.buf.clear();
        self.ends.clear();
        for frame in frames {
            frame.encode(current.id, &mut self.buf);
            self.ends.push(self.buf.len() as u64);
        }
        let written = match current.file.append(&self.buf) {
            Ok(()) => frames.len(),
            Err(error) if is_full(&error) => {
                current.torn = true;
                let fits = current.file.size()?.saturating_sub(current.len);
                self.ends.partition_point(|end| *end <= fits)
            }
            Err(error) => return Err(error),
        };
        let Some(last) = written.checked_sub(1) else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        if self.sync == Sync::Always {
            current.file.sync()?;
        }
        current.len += self.ends[last];
        Ok(&frames[..written])
    }

    fn begin(&mut self) -> io::Result<()> {
        self.leave();
        self.sync()?;
        self.shelf.hold()?;
        let header = Header::new(self.plain, self.shelf.spool, self.next);
        let (path, file) = restore::create(&*self.disk, self.shelf.dir(), self.next)?;
        let bytes = header.encode();
        let begun = file.append(&bytes).and_then(|()| match self.sync {
            Sync::Never => Ok(()),
            Sync::Always | Sync::Interval(_) => file
                .sync()
                .and_then(|()| self.disk.sync_dir(self.shelf.dir())),
        });
        if let Err(error) = begun {
            // Nothing is in it.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        let len = bytes.len() as u64;
        let id = header.id;
        self.shelf
            .begin(path.clone(), Arc::clone(&file), (id, self.next, len));
        self.current = Some(Current {
            file,
            path,
            id,
            len,
            torn: false,
        });
        Ok(())
    }

    fn leave(&mut self) {
        if let Some(current) = self.current.take() {
            self.shelf.close_last();
            if self.sync != Sync::Never {
                self.left.push(current);
            }
        }
    }
}
