//! The record of several lines that a reader holds open.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Ended, Outlet, Reader};
use crate::checkpoint::ledger::Place;
use crate::delivery::MemoryPermit;
use crate::source::frame::Line;
use crate::source::join::{Joiner, LineRules, Oddities};
use crate::source::lines::Read;

/// Several lines that may become one record.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) joiner: Joiner,
    /// For what the joiner holds between turns.
    pub(super) kept: Option<MemoryPermit>,
    /// Where the place may be later, though all of it is passed: the beginnings of what is held.
    pub(super) marks: Vec<Place>,
    /// When what is stale was last looked for.
    looked_at: Option<Instant>,
    /// Of this content of the file.
    told: Oddities,
}

impl Joined {
    pub(super) fn new(rules: &LineRules, offset: u64) -> Option<Self> {
        Some(Self {
            joiner: Joiner::new(rules, offset)?,
            kept: None,
            marks: Vec::new(),
            looked_at: None,
            told: Oddities::default(),
        })
    }
}

impl Reader {
    /// What is held waits for nothing any more but a turn.
    pub(in crate::source::tail) fn is_due(&self, rules: &LineRules, now: Instant) -> bool {
        self.open_is_due(rules, now) || self.rest_is_due(rules, now)
    }

    /// An unfinished line, or a record that more lines may be joined to.
    pub(in crate::source::tail) fn holds_something(&self) -> bool {
        self.open().0 > 0 || self.read_to() > self.framer.at()
    }

    /// The last line has been without its newline for long enough.
    pub(super) fn rest_is_due(&self, rules: &LineRules, now: Instant) -> bool {
        let is_in_header =
            (self.joined.as_ref()).is_some_and(|joined| joined.joiner.is_in_header());
        self.is_quiet_for(rules.partial_timeout, now)
            && self.read_to() > self.framer.at()
            && !is_in_header
    }

    pub(super) fn open_is_due(&self, rules: &LineRules, now: Instant) -> bool {
        self.open().0 > 0 && self.is_quiet_for(rules.timeout(), now)
    }

    fn is_quiet_for(&self, timeout: Option<Duration>, now: Instant) -> bool {
        let until = timeout.zip(self.quiet_since);
        until.is_some_and(|(timeout, since)| now >= since + timeout)
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
        self.tell_of_oddities();
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
        let permit = outlet.reserve(&self.maker, open, bytes)?;
        let mut records = Vec::new();
        let ((), mut read) = Read::of(|| how(&mut joined.joiner, &mut records));
        if records.is_empty() {
            return Ok(());
        }
        if joined.joiner.held_records() == 0 {
            joined.kept = None;
        }
        self.pass(self.framer.at(), &Bytes::new());
        self.send(records, outlet, permit, &mut read)
    }

    /// A record that no line has come to for its timeout, while others do: once within two of them.
    pub(super) fn send_stale(&mut self, outlet: &Outlet, now: Instant) -> Result<(), Ended> {
        let timeout = outlet.rules.timeout();
        let Some((joined, timeout)) = self.joined.as_mut().zip(timeout) else {
            return Ok(());
        };
        let looked_at = *joined.looked_at.get_or_insert(now);
        if now < looked_at + timeout {
            return Ok(());
        }
        joined.looked_at = Some(now);
        self.send_open(outlet, Joiner::flush_stale)
    }

    /// The first time, and whenever there are twice as many.
    pub(super) fn tell_of_oddities(&mut self) {
        let Some(joined) = &mut self.joined else {
            return;
        };
        let (before, new) = (joined.told, joined.joiner.take_oddities());
        joined.told.cuts += new.cuts;
        joined.told.strange += new.strange;
        if before.cuts.checked_ilog2() != joined.told.cuts.checked_ilog2() {
            tracing::warn!(
                path = %self.path.display(), records = joined.told.cuts,
                "records of several lines were longer than may be joined, or than there is memory to hold them; they \
                 are sent in parts"
            );
        }
        if before.strange.checked_ilog2() != joined.told.strange.checked_ilog2() {
            tracing::warn!(
                path = %self.path.display(), lines = joined.told.strange,
                "lines are not of this source's format; they are sent as they are"
            );
        }
    }
}
