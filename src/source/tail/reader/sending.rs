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
                    None => outlet.reserve(&self.maker, records.len(), bytes)?,
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
        let permit = outlet.reserve(&self.maker, 1 + open, len + open_bytes)?;
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
                    joined.joiner.take(line, &mut records);
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
                let made = self.maker.worst_bytes(part.len(), bytes);
                permit.split(outlet.intake.cost(part.len(), made))
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
        let (keys, lines) = read.make(&self.maker, lines);
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
        let joiner = self.joined.as_ref().map(|joined| &joined.joiner);
        let since = joiner.and_then(Joiner::since);
        let offset = since.unwrap_or(self.framer.boundary());
        let mut starts = joiner.map_or_else(Vec::new, Joiner::starts);
        let mut marks = match &mut self.joined {
            Some(joined) => std::mem::take(&mut joined.marks),
            None => Vec::new(),
        };
        marks.retain(|mark| mark.offset == offset || starts.contains(&mark.offset));
        // What is behind it, a restart reads again: an open record, or the pieces of a long line.
        starts.push(offset);
        starts.retain(|start| *start >= at);
        starts.sort_unstable();
        starts.dedup();
        let mut passed = 0;
        for start in starts {
            self.tail.pass(&held[passed..upto(start)]);
            passed = upto(start);
            marks.push(Place {
                offset: start,
                tail: self.tail.hash(),
            });
        }
        self.tail.pass(&held[passed..upto(self.framer.at())]);
        // Where an open record began before `at` and is not marked, the place is there already, or further back.
        let there = marks.iter().position(|mark| mark.offset == offset);
        if let Some(there) = there
            && offset > self.place.offset
        {
            self.place = marks.swap_remove(there);
        }
        if let Some(joined) = &mut self.joined {
            joined.marks = marks;
        }
    }
}
