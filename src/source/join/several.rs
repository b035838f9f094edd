//! Lines that a rule joins.

use std::sync::Arc;

use bytes::Bytes;

use super::stack::{Next, State};
use super::{Multiline, Text};
use crate::source::frame::Line;

/// At most one record is open.
#[derive(Debug)]
pub(super) struct Several {
    multiline: Arc<Multiline>,
    open: Option<Open>,
    pub(super) cuts: u64,
}

/// A record that may go on.
#[derive(Debug)]
struct Open {
    /// Where its first line begins.
    at: u64,
    /// Where its last line begins, or the last part of that.
    last: u64,
    text: Text,
    lines: usize,
    state: State,
    /// Lines that belong to it only if a certain one follows.
    doubtful: Vec<Line>,
}

impl Several {
    pub(super) fn new(multiline: Arc<Multiline>) -> Self {
        Self {
            multiline,
            open: None,
            cuts: 0,
        }
    }

    /// Takes a line whose last part begins at `last`.
    pub(super) fn take(&mut self, line: Line, last: u64, out: &mut Vec<Line>) {
        let rule = &self.multiline.rule;
        let Some(open) = &mut self.open else {
            let state = rule.begin(&line.bytes);
            self.open = Some(Open::new(line, last, state));
            return;
        };
        let next = rule.next(open.state, &line.bytes);
        let state = match next {
            Next::Begins => {
                let state = rule.begin(&line.bytes);
                self.flush(out);
                self.open = Some(Open::new(line, last, state));
                return;
            }
            Next::Continues(state) | Next::Doubtful(state) => state,
        };
        let grown = open.bytes() + 1 + line.bytes.len();
        let is_full = (self.multiline.max_lines).is_some_and(|most| open.held_lines() >= most);
        if is_full || grown > self.multiline.max_bytes {
            self.cuts += 1;
            self.flush(out);
            self.open = Some(Open::new(line, last, state));
            return;
        }
        (open.state, open.last) = (state, last);
        if matches!(next, Next::Doubtful(_)) {
            open.doubtful.push(line);
        } else {
            open.join(&line.bytes);
        }
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        if let Some(open) = self.open.take() {
            out.push(open.text.into_record(open.at));
            out.extend(open.doubtful);
        }
    }

    pub(super) fn detach(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.text.detach();
        for line in &mut open.doubtful {
            line.bytes = Bytes::copy_from_slice(&line.bytes);
        }
    }

    pub(super) fn since(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.at)
    }

    /// Where the first and the last line of what is open begin.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        self.open.as_ref().map(|open| (open.at, open.last))
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::bytes)
    }

    pub(super) fn held_records(&self) -> usize {
        self.open.as_ref().map_or(0, |open| 1 + open.doubtful.len())
    }
}

impl Open {
    fn new(line: Line, last: u64, state: State) -> Self {
        Self {
            at: line.at,
            last,
            text: Text::Line(line.bytes),
            lines: 1,
            state,
            doubtful: Vec::new(),
        }
    }

    /// What it holds, with the newlines between.
    fn bytes(&self) -> usize {
        let doubtful = self.doubtful.iter().map(|line| 1 + line.bytes.len());
        self.text.len() + doubtful.sum::<usize>()
    }

    fn held_lines(&self) -> usize {
        self.lines + self.doubtful.len()
    }

    /// The doubtful ones belong to it, and so does `line`.
    fn join(&mut self, line: &[u8]) {
        for part in self
            .doubtful
            .iter()
            .map(|line| &line.bytes[..])
            .chain([line])
        {
            self.text.push(b"\n");
            self.text.push(part);
            self.lines += 1;
        }
        self.doubtful.clear();
    }
}
