//! Where there is no more of a file, or of what it held: what becomes of an unfinished line.

use std::time::Instant;

use super::{Joined, Outlet, Reader, Turn, TurnError, framer, tracked};
use crate::checkpoint::SavedFile;
use crate::checkpoint::ledger::Place;
use crate::source::join::Joiner;
use crate::source::tail::identity::{HEAD, Head, Tail};
use crate::source::tail::packed::End;

impl Reader {
    pub(super) fn caught_up(&mut self, outlet: &Outlet, now: Instant) -> Result<Turn, TurnError> {
        let file = self.file.as_ref().expect("open in a turn");
        let Some(end) = file.end(&self.path, now) else {
            return Ok(Turn::CaughtUp);
        };
        let packed = file.metadata()?.len();
        match end {
            End::Whole => {
                self.send_rest(outlet)?;
                self.ledger.unpacked(packed, false);
                self.forget_damaged();
            }
            // The line, or the record of several, at which it breaks off is in a whole copy as a whole.
            End::Damaged => self.ledger.unpacked(packed, true),
        }
        Ok(Turn::Ended)
    }

    /// Damaged files that had this content, and have gone, are of no interest any more.
    fn forget_damaged(&self) {
        let is_copy = |saved: &SavedFile| {
            let is_telling = saved.fingerprint.len as usize == HEAD;
            let is_here = self.path.to_string_lossy() == saved.path;
            (is_telling || is_here) && self.head.begins_with(saved.fingerprint)
        };
        self.claim.forget_damaged(&self.path, is_copy);
    }

    /// An earlier run has met the end of this compressed file, which has `packed` bytes on disk, and it was damaged: it is, until
    /// it turns out to be whole now.
    pub(in crate::source::tail) fn was_damaged(&self, packed: u64) {
        self.ledger.unpacked(packed, true);
    }

    /// It is compressed, and what there is of it is not all.
    pub(in crate::source::tail) fn lacks_its_end(&self) -> bool {
        let Some(file) = self.file.as_ref().filter(|file| file.is_packed()) else {
            return false;
        };
        // Of one that was only made nothing may ever come.
        !file.is_whole() && file.metadata().is_ok_and(|meta| meta.len() > 0)
    }

    /// No newline will come: sends what is left as a line, and has the checkpoint forget the file once all of
    /// it is settled.
    pub(in crate::source::tail) fn close(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        self.send_rest(outlet)?;
        self.ledger.close();
        Ok(())
    }

    pub(super) fn start_over(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        tracing::info!(
            path = %self.path.display(), read = self.read_to(),
            "file has other content now; reading it from its beginning"
        );
        self.leave_unfinished(outlet)?;
        if std::mem::take(&mut self.reopened) {
            self.maker = outlet.making.of(&self.path);
        }
        self.head = Head::none();
        self.tail = Tail::default();
        self.framer = framer(0, outlet);
        self.joined = Joined::new(&outlet.rules, 0);
        self.place = Place {
            offset: 0,
            tail: self.tail.hash(),
        };
        let tracked = tracked(&self.path, self.head.fingerprint(), 0);
        self.sent = self.place;
        self.ledger = self.claim.track(tracked, self.place);
        self.caught_up = false;
        Ok(())
    }

    /// The newline of its last line went with the old content; a line cut short is better than none. But not of what is
    /// packed: there may be a whole copy.
    fn leave_unfinished(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        let skimmed = self.skimmed.take();
        let read_to = skimmed
            .as_ref()
            .map_or(self.framer.read_offset(), |s| s.to());
        let lost = if self.is_packed() {
            read_to - self.place.offset
        } else if skimmed.is_some() {
            read_to - self.framer.at()
        } else {
            return self.send_rest(outlet);
        };
        if lost > 0 {
            tracing::warn!(
                path = %self.path.display(), bytes = lost,
                "file was truncated within an unfinished line; these bytes of it are lost"
            );
        }
        if !self.is_packed() {
            self.send_open(outlet, Joiner::flush)?;
        }
        Ok(())
    }
}
