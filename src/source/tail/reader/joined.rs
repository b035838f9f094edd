//! The record of several lines that a reader holds open.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Ended, Outlet, Reader};
use crate::delivery::MemoryPermit;
use crate::source::frame::Line;
use crate::source::join::{Joiner, Multiline};
use crate::source::lines::Read;

/// Several lines that may become one record.
#[derive(Debug)]
pub(super) struct Joined {
    multiline: Arc<Multiline>,
    pub(super) joiner: Joiner,
    /// For what the joiner holds between turns.
    pub(super) kept: Option<MemoryPermit>,
    /// Of this content of the file.
    cuts: u64,
}

impl Joined {
    pub(super) fn new(multiline: &Arc<Multiline>) -> Self {
        Self {
            joiner: Joiner::new(Arc::clone(multiline)),
            multiline: Arc::clone(multiline),
            kept: None,
            cuts: 0,
        }
    }
}

impl Reader {
    /// What is held waits for nothing any more but a turn.
    pub(in crate::source::tail) fn is_due(&self, now: Instant) -> bool {
        let (Some(joined), Some(since)) = (&self.joined, self.quiet_since) else {
            return false;
        };
        joined.joiner.held_records() > 0 && now >= since + joined.multiline.timeout
    }

    /// How many records are open, and their bytes.
    pub(super) fn open(&self) -> (usize, usize) {
        let joiner = self.joined.as_ref().map(|joined| &joined.joiner);
        joiner.map_or((0, 0), |joiner| {
            (joiner.held_records(), joiner.held_bytes())
        })
    }

    pub(super) fn keep_or_cut(&mut self, outlet: &Outlet) -> Result<(), Ended> {
        let Some(joined) = &mut self.joined else {
            return Ok(());
        };
        joined.kept = None;
        let bytes = joined.joiner.held_bytes();
        if joined.joiner.held_records() > 0 {
            joined.joiner.detach();
            joined.kept = outlet.unfinished.try_reserve(bytes.max(1));
            if joined.kept.is_none() {
                self.send_open(outlet, Joiner::cut)?;
            }
        }
        self.tell_of_cuts();
        Ok(())
    }

    /// Sends the record that is open, if there is one, as `how` gives it out.
    pub(super) fn send_open(
        &mut self,
        outlet: &Outlet,
        how: impl FnOnce(&mut Joiner, &mut Vec<Line>),
    ) -> Result<(), Ended> {
        let (open, bytes) = self.open();
        let Some(joined) = self.joined.as_mut().filter(|_| open > 0) else {
            return Ok(());
        };
        let permit = outlet.reserve(&self.keyer, open, bytes)?;
        let mut records = Vec::new();
        let ((), mut read) = Read::of(|| how(&mut joined.joiner, &mut records));
        joined.kept = None;
        self.pass(self.framer.at(), &Bytes::new());
        self.send(records, outlet, permit, &mut read)
    }

    pub(super) fn tell_of_cuts(&mut self) {
        let Some(joined) = &mut self.joined else {
            return;
        };
        let before = joined.cuts;
        joined.cuts += joined.joiner.take_cuts();
        // The first, and whenever there are twice as many.
        if before.checked_ilog2() != joined.cuts.checked_ilog2() {
            tracing::warn!(
                path = %self.path.display(), records = joined.cuts,
                "records of several lines were longer than multiline.max_bytes or max_lines, or than there is memory to \
                 hold them; they are sent in parts"
            );
        }
    }
}
