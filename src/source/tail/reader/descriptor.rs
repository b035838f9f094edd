//! The reader's descriptor: given up while there is nothing to read, taken up again by the file's name.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BLOCK, Reader, TurnError};
use crate::checkpoint::{Claim, FileLedger};
use crate::source::tail::content::Content;
use crate::source::tail::identity::FileId;
use crate::source::tail::outlet::Outlet;

/// Longer than a tick of any file system's clock: 10 ms with `CONFIG_HZ=100`, a second and more on old ones.
const SAME_TIME: Duration = Duration::from_secs(2);

/// By what a look at a file's name sees that it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source::tail) struct Seen {
    size: u64,
    modified: (i64, i64),
}

impl Seen {
    pub(in crate::source::tail) fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// A compressed file that there is nothing left to read of. It keeps its place in the checkpoint as long as it is there.
#[derive(Debug)]
pub(in crate::source::tail) struct Done {
    pub(in crate::source::tail) _claim: Claim,
    pub(in crate::source::tail) ledger: Arc<FileLedger>,
    pub(in crate::source::tail) path: PathBuf,
    /// Looked at again when it is something else; None: never.
    pub(in crate::source::tail) seen: Option<Seen>,
}

impl Reader {
    pub(in crate::source::tail) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// What it was when it was closed.
    pub(in crate::source::tail) fn asleep(&self) -> Option<Seen> {
        self.asleep
    }

    /// It is compressed, and not yet read to its end.
    pub(in crate::source::tail) fn is_unpacking(&self) -> bool {
        self.file.as_ref().is_some_and(Content::is_unpacking)
    }

    pub(in crate::source::tail) fn is_packed(&self) -> bool {
        self.file.as_ref().is_some_and(Content::is_packed)
    }

    /// Ends the reading of a file that has ended; what it was when it did.
    pub(in crate::source::tail) fn into_done(self) -> io::Result<Done> {
        let file = self.file.as_ref().expect("it has just had its last turn");
        let seen = Seen::of(&file.metadata()?);
        Ok(Done {
            _claim: self.claim,
            ledger: self.ledger,
            path: self.path,
            seen: Some(seen),
        })
    }

    /// Whether a look that sees `meta` tells something new of a file that is closed.
    pub(in crate::source::tail) fn has_changed(&self, meta: &Metadata) -> bool {
        self.asleep.is_some_and(|asleep| asleep != Seen::of(meta))
    }

    /// All was read for so long, and there is nothing that the file is needed for.
    pub(in crate::source::tail) fn is_idle_for(&self, time: Duration, now: Instant) -> bool {
        self.skimmed.is_none() && self.quiet_since.is_some_and(|since| now >= since + time)
    }

    /// Closes the file until there is something to read of it. It stays open if it has grown since the last turn: false
    /// then, unless it is `forced`.
    pub(in crate::source::tail) fn close_file(&mut self, forced: bool) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(true);
        };
        let meta = file.metadata()?;
        if !forced && meta.len() != self.read_to() {
            return Ok(false);
        }
        self.asleep = Some(Seen::of(&meta));
        self.file = None;
        Ok(true)
    }

    /// It was found again, under whatever name.
    pub(in crate::source::tail) fn reopen(&mut self, file: Content) {
        self.file = Some(file);
        self.asleep = None;
        self.reopened = true;
    }

    /// One that is closed and has changed since, for a look: to read it, it is woken.
    pub(super) fn opened_if_changed(&self) -> Option<Content> {
        let asleep = self.asleep?;
        let is_it = |meta: &Metadata| FileId::of(meta) == self.id;
        let changed = |meta: &Metadata| is_it(meta) && Seen::of(meta) != asleep;
        self.path.metadata().ok().filter(changed)?;
        let file = Content::open(&self.path).ok()?;
        file.metadata()
            .is_ok_and(|meta| is_it(&meta))
            .then_some(file)
    }

    /// The size of the file, which is open then; none where its name leads to another, or nowhere.
    pub(super) fn wake(&mut self) -> io::Result<Option<u64>> {
        if let Some(file) = &self.file {
            return Ok(Some(file.size(self.read_to(), BLOCK as u64)?));
        }
        let file = match Content::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        if FileId::of(&meta) != self.id {
            return Ok(None);
        }
        let size = file.size(self.read_to(), BLOCK as u64)?;
        self.reopen(file);
        Ok(Some(size))
    }

    /// Whether it was written to since this was last asked: with nothing behind what was read, that was over it, as by a
    /// refill to the same size.
    pub(super) fn is_touched(&mut self) -> io::Result<bool> {
        let Some(file @ Content::Plain(_)) = &self.file else {
            return Ok(false);
        };
        let modified = file.metadata()?.modified()?;
        let is_touched = self.unchanged_at != Some(modified);
        // What is written within the same tick of the file system's clock has the same time: it is asked again.
        let is_over = modified.elapsed().is_ok_and(|ago| ago > SAME_TIME);
        self.unchanged_at = is_over.then_some(modified);
        Ok(is_touched)
    }

    /// Its file has gone while it was closed: sends what is held of it, and returns how many bytes were there, when it was
    /// last seen, that nobody has read.
    pub(in crate::source::tail) fn close_gone(
        &mut self,
        outlet: &Outlet,
    ) -> Result<u64, TurnError> {
        let seen = self.asleep.map_or(0, |asleep| asleep.size);
        let unread = seen.saturating_sub(if self.skimmed.is_some() {
            self.framer.at()
        } else {
            self.framer.read_offset()
        });
        self.skimmed = None;
        self.send_rest(outlet)?;
        FileLedger::close(&self.ledger);
        Ok(unread)
    }
}
