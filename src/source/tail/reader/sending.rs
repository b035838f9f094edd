//! What a reader has read, as chunks; and the place that goes with each.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ended, Outlet, Reader, TurnError};
use crate::checkpoint::ledger::Place;
use crate::delivery::{FailReason, MemoryPermit, SpanSettled};
use crate::source::frame::Line;
use crate::source::join::Joiner;
use crate::source::lines::{self, MAX_LINES, Read, Span};

impl Reader {
    pub(super) fn send_lines(
        &mut self,
        outlet: &Outlet,
        permit: MemoryPermit,
        mut read: Read,
    ) -> Result<(), Ended> {
        let mut permit = Some(permit);
        loop {
            let (at, held) = (self.framer.at(), self.framer.pending().clone());
            let bytes = held.len() + self.open().1;
            let (records, lines) = match &mut self.joined {
                Some(joined) => read.next_records(&mut self.framer, &mut joined.joiner),
                None => {
                    let lines = read.next_lines(&mut self.framer);
                    let count = lines.len();
                    (lines, count)
                }
            };
            let place = self.place;
            self.pass(at, &held);
            if records.is_empty() && self.place != place {
                self.send_nothing();
            }
            if !records.is_empty() {
                let permit = match permit.take() {
                    Some(permit) => permit,
                    None => outlet.reserve(&self.keyer, records.len(), bytes)?,
                };
                self.send(records, outlet, permit, &mut read)?;
            }
            if lines < MAX_LINES {
                return Ok(());
            }
        }
    }

    pub(super) fn send_rest(&mut self, outlet: &Outlet) -> Result<(), TurnError> {
        let len = self.read_to() - self.framer.at();
        if len > outlet.most_of_a_line() as u64 {
            return self.send_overlong(outlet, len, false);
        }
        let len = len as usize;
        if len == 0 {
            self.send_open(outlet, Joiner::flush)?;
            return Ok(());
        }
        let (open, open_bytes) = self.open();
        let permit = outlet.reserve(&self.keyer, 1 + open, len + open_bytes)?;
        if self.skimmed.is_some() {
            self.read(len)?;
            self.skimmed = None;
        }
        let (at, held) = (self.framer.at(), self.framer.pending().clone());
        let (last, mut read) = Read::of(|| self.framer.finish());
        let Some(line) = last else {
            self.send_open(outlet, Joiner::flush)?;
            return Ok(());
        };
        let mut records = Vec::new();
        match &mut self.joined {
            Some(joined) => {
                if !joined.joiner.skips(true) {
                    joined.joiner.take(line, at, &mut records);
                }
                joined.joiner.flush(&mut records);
                joined.kept = None;
            }
            None => records.push(line),
        }
        self.pass(at, &held);
        if records.is_empty() {
            self.send_nothing();
        } else {
            self.send(records, outlet, permit, &mut read)?;
        }
        self.tell_of_oddities();
        self.kept = None;
        Ok(())
    }

    /// `permit` covers the lines. Those that are too long go by themselves: they have another fate.
    pub(super) fn send(
        &mut self,
        lines: Vec<Line>,
        outlet: &Outlet,
        mut permit: MemoryPermit,
        read: &mut Read,
    ) -> Result<(), Ended> {
        if !lines.iter().any(|line| line.oversized) {
            return self.send_span(lines, self.place, None, outlet, permit, read);
        }
        // The place moves when all of them are settled.
        let before = self.sent;
        let mut lines = lines.into_iter().peekable();
        while let Some(first) = lines.next() {
            let mut part = vec![first];
            if !part[0].oversized {
                while let Some(line) = lines.next_if(|line| !line.oversized) {
                    part.push(line);
                }
            }
            let doomed = part[0].oversized.then(|| FailReason::LineTooLong {
                bytes: part[0].bytes.len() as u64,
                limit: outlet.longest_line(),
                cut: 0,
            });
            let is_last = lines.peek().is_none();
            let end = if is_last { self.place } else { before };
            let permit = if is_last {
                permit.split(usize::MAX)
            } else {
                let bytes: usize = part.iter().map(|line| line.bytes.len()).sum();
                let keys = self.keyer.worst_bytes(part.len(), bytes);
                permit.split(outlet.intake.cost(part.len(), bytes + keys))
            };
            self.send_span(part, end, doomed, outlet, permit, read)?;
        }
        Ok(())
    }

    pub(super) fn send_span(
        &mut self,
        lines: Vec<Line>,
        end: Place,
        doomed: Option<FailReason>,
        outlet: &Outlet,
        permit: MemoryPermit,
        read: &mut Read,
    ) -> Result<(), Ended> {
        self.sent = end;
        let span = Span {
            source: Arc::clone(&self.ledger) as Arc<dyn SpanSettled>,
            id: self.ledger.open(end),
            doomed,
        };
        let keys = read.keys(&self.keyer, &lines);
        let intake = &outlet.intake;
        outlet.send(lines::chunk(lines, keys, intake, permit, span, read))
    }

    /// What was passed is no record: there is no answer to wait for.
    pub(super) fn send_nothing(&mut self) {
        self.sent = self.place;
        let id = self.ledger.open(self.place);
        self.ledger.settled(id);
    }

    /// The framer has moved on from `at`, where it held `held`.
    pub(super) fn pass(&mut self, at: u64, held: &Bytes) {
        let upto = |offset: u64| offset.saturating_sub(at) as usize;
        let since = self.joined.as_ref().and_then(|j| j.joiner.since());
        // Where an open record began before `at`, the place is there already.
        let offset = since.unwrap_or(self.framer.boundary());
        let (before, passed) = (upto(offset), upto(self.framer.at()));
        if offset >= at && offset > self.place.offset {
            self.tail.pass(&held[..before]);
            self.place = Place {
                offset,
                tail: self.tail.hash(),
            };
        }
        // What a restart reads again, an open record or the pieces of a long line: the place stays before it.
        self.tail.pass(&held[before..passed]);
    }
}
