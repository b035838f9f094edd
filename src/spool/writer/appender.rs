//! The file that is written now. Blocks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::spool::frame::{FRAME_HEAD, Frame, Header};
use crate::spool::open::segment_path;
use crate::spool::shelf::Shelf;
use crate::spool::{Append, Disk, Spool, Sync};

#[derive(Debug)]
pub(super) struct Appender {
    shelf: Arc<Shelf>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
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
}

#[derive(Debug)]
struct Current {
    file: Box<dyn Append>,
    path: PathBuf,
    id: u64,
    len: u64,
}

impl Current {
    fn is_removed(&self) -> io::Result<bool> {
        Ok(!self.file.is_at(&self.path)?)
    }

    /// A file without a name holds nothing for the next run.
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        match self.is_removed()? {
            true => Err(io::Error::other(format!(
                "somebody removed {}",
                self.path.display()
            ))),
            false => Ok(()),
        }
    }
}

/// What became of frames that were to be appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// Their numbers end before `end`, and the segment is so long now.
    Written { end: u64, len: u64 },
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
            dir: spool.dir.clone(),
            plain: spool.plain,
            sync: spool.settings.sync,
            max_bytes: spool.settings.max_bytes,
            segment_bytes: spool.settings.segment_bytes(),
            next: spool.next,
            current: None,
            left: Vec::new(),
            buf: Vec::new(),
        }
    }

    /// The number of the record that is appended next.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// All of them or none, numbered from [`next_number`](Self::next_number) on. After an error the file is not
    /// written any more: what is in it is not known, and they go into another under the same numbers.
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
        let (end, len) = written?;
        self.next = end;
        Ok(Appended::Written { end, len })
    }

    /// Makes what was appended survive a power cut. After an error nobody knows whether it will, and another try would
    /// not tell (Linux reports an error of writing back once).
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for mut file in std::mem::take(&mut self.left) {
            outcome = outcome.and(file.sync());
        }
        let synced = self.current.as_mut().map_or(Ok(()), Current::sync);
        if synced.is_err() {
            self.current = None;
            self.shelf.close_last();
        }
        outcome.and(synced)
    }

    fn write(&mut self, frames: &[Frame<Bytes>]) -> io::Result<(u64, u64)> {
        if let Some(current) = self.current.take_if(|c| c.is_removed().unwrap_or(true)) {
            tracing::error!(
                path = %current.path.display(),
                "somebody removed this file of the spool, and what was in it and not sent yet is lost; the spool goes on \
                 in a new one. Stop the agent before its spool is removed"
            );
            self.shelf.close_last();
        }
        let is_full = |current: &Current| current.len >= self.segment_bytes;
        if self.current.as_ref().is_none_or(is_full) {
            self.begin()?;
        }
        let current = self.current.as_mut().expect("begun just now");
        self.buf.clear();
        for frame in frames {
            frame.encode(current.id, &mut self.buf);
        }
        current.file.append(&self.buf)?;
        if self.sync == Sync::Always {
            current.file.sync()?;
        }
        current.len += self.buf.len() as u64;
        let records: u64 = frames.iter().map(|f| u64::from(f.records)).sum();
        Ok((self.next + records, current.len))
    }

    fn begin(&mut self) -> io::Result<()> {
        self.leave();
        self.sync()?;
        let header = Header {
            plain: self.plain,
            id: rand::random(),
            first: self.next,
        };
        let (path, mut file) = self.create()?;
        let bytes = header.encode();
        let begun = file.append(&bytes).and_then(|()| match self.sync {
            Sync::Never => Ok(()),
            Sync::Always | Sync::Interval(_) => {
                file.sync().and_then(|()| self.disk.sync_dir(&self.dir))
            }
        });
        if let Err(error) = begun {
            // Nothing is in it.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        let len = bytes.len() as u64;
        self.shelf.begin(path.clone(), header.id, self.next, len);
        let id = header.id;
        self.current = Some(Current {
            file,
            path,
            id,
            len,
        });
        Ok(())
    }

    /// One of the same number may be there, into which nothing could be written.
    fn create(&self) -> io::Result<(PathBuf, Box<dyn Append>)> {
        // Its folder may have been removed.
        self.disk.create_dir(&self.dir)?;
        let mut again = 0;
        loop {
            let path = segment_path(&self.dir, self.next, again);
            match self.disk.create(&path) {
                Ok(file) => return Ok((path, file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => again += 1,
                Err(e) => return Err(e),
            }
        }
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
