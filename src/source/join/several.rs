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
    text: Text,
    lines: usize,
    state: State,
    /// Lines that belong to it only if a certain one follows.
    doubtful: Vec<Bytes>,
}

impl Several {
    pub(super) fn new(multiline: Arc<Multiline>) -> Self {
        Self {
            multiline,
            open: None,
            cuts: 0,
        }
    }

    /// Takes the line that begins at `at`.
    pub(super) fn take(&mut self, bytes: Bytes, at: u64, out: &mut Vec<Line>) {
        let rule = &self.multiline.rule;
        let Some(open) = &mut self.open else {
            let state = rule.begin(&bytes);
            self.open = Some(Open::new(at, bytes, state));
            return;
        };
        let next = rule.next(open.state, &bytes);
        let state = match next {
            Next::Begins => {
                let state = rule.begin(&bytes);
                self.flush(out);
                self.open = Some(Open::new(at, bytes, state));
                return;
            }
            Next::Continues(state) | Next::Doubtful(state) => state,
        };
        let grown = open.bytes() + 1 + bytes.len();
        let is_full = (self.multiline.max_lines).is_some_and(|most| open.held_lines() >= most);
        if is_full || grown > self.multiline.max_bytes {
            self.cuts += 1;
            self.flush(out);
            self.open = Some(Open::new(at, bytes, state));
            return;
        }
        open.state = state;
        if matches!(next, Next::Doubtful(_)) {
            open.doubtful.push(bytes);
        } else {
            open.join(&bytes);
        }
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        if let Some(open) = self.open.take() {
            out.push(open.text.into_record());
            out.extend(open.doubtful.into_iter().map(|bytes| Line {
                bytes,
                oversized: false,
            }));
        }
    }

    pub(super) fn detach(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.text.detach();
        for bytes in &mut open.doubtful {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }

    pub(super) fn since(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.at)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::bytes)
    }

    pub(super) fn held_records(&self) -> usize {
        self.open.as_ref().map_or(0, |open| 1 + open.doubtful.len())
    }
}

impl Open {
    fn new(at: u64, line: Bytes, state: State) -> Self {
        Self {
            at,
            text: Text::Line(line),
            lines: 1,
            state,
            doubtful: Vec::new(),
        }
    }

    /// What it holds, with the newlines between.
    fn bytes(&self) -> usize {
        let doubtful = self.doubtful.iter().map(|bytes| 1 + bytes.len());
        self.text.len() + doubtful.sum::<usize>()
    }

    fn held_lines(&self) -> usize {
        self.lines + self.doubtful.len()
    }

    /// The doubtful ones belong to it, and so does `line`.
    fn join(&mut self, line: &[u8]) {
        for part in self.doubtful.iter().map(|bytes| &bytes[..]).chain([line]) {
            self.text.push(b"\n");
            self.text.push(part);
            self.lines += 1;
        }
        self.doubtful.clear();
    }
}
