//! Several lines that belong together, as one record.
//!
//! A [`Joiner`] takes lines in the order of their file and gives out records. It promises:
//!
//! - a record's bytes are the file's, from its first line's beginning to its last line's end; all records, with
//!   the newlines between them, are what was put in;
//! - which lines are joined depends on them alone, not on how they were read;
//! - it holds one record, up to [`Multiline::max_bytes`]. What would make it longer begins a record of its own,
//!   and is counted ([`Joiner::take_cuts`]); a line is never cut;
//! - a reader that starts anew at [`Joiner::since`] gets what is held again.
//!
//! It knows no time: whoever feeds it decides when an open record has waited long enough, and calls
//! [`Joiner::flush`].

mod rule;
mod stack;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::rule::{LinePattern, LinePatternError, Rule};
pub use self::stack::Language;
use self::stack::{Next, State};
use super::frame::Line;

/// `[source.multiline]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multiline {
    pub rule: Rule,
    /// A record that no line has come to for so long is complete.
    pub timeout: Duration,
    pub max_lines: Option<usize>,
    pub max_bytes: usize,
}

impl Multiline {
    /// Long beside the writes of one trace, short beside a person's patience. A guess.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// What every stream takes, 1 MiB, less room for a key and for what sealing adds.
    pub const MAX_BYTES: usize = 1000 * 1024;
}

/// What a source makes of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineRules {
    pub multiline: Option<Multiline>,
}

/// See the module.
#[derive(Debug)]
pub struct Joiner {
    multiline: Arc<Multiline>,
    open: Option<Open>,
    cuts: u64,
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

#[derive(Debug)]
enum Text {
    /// Shares the memory of its read.
    Line(Bytes),
    Lines(Vec<u8>),
}

impl Joiner {
    pub fn new(multiline: Arc<Multiline>) -> Self {
        Self {
            multiline,
            open: None,
            cuts: 0,
        }
    }

    /// Takes the line that begins at `at`, or a piece of an oversized one. What is complete with it goes to `out`.
    pub fn take(&mut self, line: Line, at: u64, out: &mut Vec<Line>) {
        if line.oversized {
            self.flush(out);
            out.push(line);
            return;
        }
        let bytes = line.bytes;
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

    /// What is held is complete.
    pub fn flush(&mut self, out: &mut Vec<Line>) {
        if let Some(open) = self.open.take() {
            let record = match open.text {
                Text::Line(bytes) => bytes,
                Text::Lines(bytes) => Bytes::from(bytes),
            };
            out.extend(
                std::iter::once(record)
                    .chain(open.doubtful)
                    .map(|bytes| Line {
                        bytes,
                        oversized: false,
                    }),
            );
        }
    }

    /// [`flush`](Self::flush) for want of room: counted as a record that was too long.
    pub fn cut(&mut self, out: &mut Vec<Line>) {
        self.cuts += u64::from(self.open.is_some());
        self.flush(out);
    }

    /// Moves what is held to memory of its own, so that it does not pin what was read with it.
    pub fn detach(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        if let Text::Line(bytes) = &mut open.text {
            *bytes = Bytes::copy_from_slice(bytes);
        }
        for bytes in &mut open.doubtful {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }

    /// Where the oldest line that is held begins.
    pub fn since(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.at)
    }

    pub fn held_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, Open::bytes)
    }

    /// Records that [`flush`](Self::flush) would give.
    pub fn held_records(&self) -> usize {
        self.open.as_ref().map_or(0, |open| 1 + open.doubtful.len())
    }

    /// How many records were cut for want of room since the last time somebody asked.
    pub fn take_cuts(&mut self) -> u64 {
        std::mem::take(&mut self.cuts)
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
        let text = match &self.text {
            Text::Line(bytes) => bytes.len(),
            Text::Lines(bytes) => bytes.len(),
        };
        let doubtful = self.doubtful.iter().map(|bytes| 1 + bytes.len());
        text + doubtful.sum::<usize>()
    }

    fn held_lines(&self) -> usize {
        self.lines + self.doubtful.len()
    }

    /// The doubtful ones belong to it, and so does `line`.
    fn join(&mut self, line: &[u8]) {
        if let Text::Line(first) = &self.text {
            self.text = Text::Lines(first.to_vec());
        }
        let Text::Lines(text) = &mut self.text else {
            unreachable!("made so above");
        };
        for part in self.doubtful.iter().map(|bytes| &bytes[..]).chain([line]) {
            text.push(b'\n');
            text.extend_from_slice(part);
            self.lines += 1;
        }
        self.doubtful.clear();
    }
}

#[cfg(test)]
mod tests;
