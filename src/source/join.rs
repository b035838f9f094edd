//! Several lines that belong together, as one record: by a rule, or as the parts of a line in a container's log.
//!
//! A [`Joiner`] takes lines in the order of their file and gives out records. It promises:
//!
//! - by a rule, a record's bytes are the file's, from its first line's beginning to its last line's end; all records,
//!   with the newlines between them, are what was put in;
//! - which lines are joined depends on them alone, not on how they were read;
//! - it holds a record, or one of each of a container's streams, up to [`Multiline::max_bytes`]. What would make it
//!   longer begins a record of its own, and is counted; a line is never cut. A line that is not of its format passes
//!   as it is, and is counted;
//! - a reader that starts anew at [`Joiner::since`] gets what is held again.
//!
//! It knows no time: whoever feeds it decides when an open record has waited long enough, and calls
//! [`Joiner::flush`].

mod apart;
mod container;
mod rule;
mod several;
mod stack;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::apart::Apart;
pub use self::container::Format;
use self::container::Parts;
pub use self::rule::{LinePattern, LinePatternError, Rule};
use self::several::Several;
pub use self::stack::Language;
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

/// Which lines are joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Join {
    /// Each is a record.
    #[default]
    Nothing,
    /// By a rule: several lines are one record.
    Lines(Arc<Multiline>),
    /// Those of a container's log: the parts of one line.
    Parts(Format),
    /// The same, and then several lines of one stream by a rule.
    PartsAndLines(Format, Arc<Multiline>),
}

/// What a source makes of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineRules {
    /// So many lines at the beginning of each file are not sent.
    pub skip_header_lines: u64,
    pub join: Join,
    /// A last line without its newline, or without its last part, is a record once nothing has come for so long.
    pub partial_timeout: Option<Duration>,
}

impl LineRules {
    /// A record that nothing has come to for so long is complete.
    pub fn timeout(&self) -> Option<Duration> {
        match &self.join {
            Join::Lines(multiline) | Join::PartsAndLines(_, multiline) => Some(multiline.timeout),
            Join::Nothing | Join::Parts(_) => self.partial_timeout,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Joiner {
    header: Option<Header>,
    kind: Kind,
}

/// Lines that are yet to be skipped.
#[derive(Debug)]
struct Header {
    at: u64,
    lines: u64,
}

#[derive(Debug)]
enum Kind {
    Nothing,
    Several(Several),
    Parts(Parts),
    Apart(Box<Apart>),
}

/// What was not as it should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Records that were cut for want of room.
    pub cuts: u64,
    /// Lines that are not of the format.
    pub strange: u64,
}

/// What is joined so far.
#[derive(Debug)]
enum Text {
    /// Shares the memory of its read.
    Line(Bytes),
    Lines(Vec<u8>),
}

impl Joiner {
    /// Of a file, from `offset` on. None where each line is a record.
    pub fn new(rules: &LineRules, offset: u64) -> Option<Self> {
        // What starts later has its header behind it: no reader leaves a place within one.
        let is_skipping = rules.skip_header_lines > 0 && offset == 0;
        let kind = match &rules.join {
            Join::Nothing if is_skipping => Kind::Nothing,
            Join::Nothing => return None,
            Join::Lines(multiline) => Kind::Several(Several::new(Arc::clone(multiline))),
            Join::Parts(format) => Kind::Parts(Parts::new(*format, Multiline::MAX_BYTES)),
            Join::PartsAndLines(format, multiline) => {
                Kind::Apart(Box::new(Apart::new(*format, multiline)))
            }
        };
        let header = is_skipping.then_some(Header {
            at: offset,
            lines: rules.skip_header_lines,
        });
        Some(Self { header, kind })
    }

    /// Whether the next line, or piece of one, is not to be taken; with its end if `is_end`.
    pub fn skips(&mut self, is_end: bool) -> bool {
        let Some(header) = &mut self.header else {
            return false;
        };
        header.lines -= u64::from(is_end);
        if header.lines == 0 {
            self.header = None;
        }
        true
    }

    /// Lines are yet to be skipped.
    pub fn is_in_header(&self) -> bool {
        self.header.is_some()
    }

    /// Takes a line, or a piece of an oversized one. What is complete with it goes to `out`.
    pub fn take(&mut self, line: Line, out: &mut Vec<Line>) {
        if line.oversized {
            self.flush(out);
            out.push(line);
            return;
        }
        match &mut self.kind {
            Kind::Nothing => out.push(line),
            Kind::Several(several) => {
                let at = line.at;
                several.take(line, at, out);
            }
            Kind::Parts(parts) => parts.take(line, out),
            Kind::Apart(apart) => apart.take(line, out),
        }
    }

    /// What is held is complete.
    pub fn flush(&mut self, out: &mut Vec<Line>) {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Several(several) => several.flush(out),
            Kind::Parts(parts) => parts.flush(out),
            Kind::Apart(apart) => apart.flush(out),
        }
    }

    /// [`flush`](Self::flush) for want of room: counted as records that were too long.
    pub fn cut(&mut self, out: &mut Vec<Line>) {
        let cuts = self.held_records() as u64;
        self.flush(out);
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Several(several) => several.cuts += cuts.min(1),
            Kind::Parts(parts) => parts.cuts += cuts,
            Kind::Apart(apart) => apart.count_cut(),
        }
    }

    /// Of what is held, what no line has come to since this was last asked is complete, while others grow: a record of
    /// one of a container's streams, beside the other.
    pub fn flush_stale(&mut self, out: &mut Vec<Line>) {
        if let Kind::Apart(apart) = &mut self.kind {
            apart.flush_stale(out);
        }
    }

    /// Places that [`since`](Self::since) may come to be at later, without anything of them being read again.
    pub fn starts(&self) -> Vec<u64> {
        match &self.kind {
            Kind::Apart(apart) => apart.starts().collect(),
            Kind::Nothing | Kind::Several(_) | Kind::Parts(_) => Vec::new(),
        }
    }

    /// Moves what is held to memory of its own, so that it does not pin what was read with it.
    pub fn detach(&mut self) {
        match &mut self.kind {
            Kind::Nothing => {}
            Kind::Several(several) => several.detach(),
            Kind::Parts(parts) => parts.detach(),
            Kind::Apart(apart) => apart.detach(),
        }
    }

    /// Where a reader has to start to meet again, from its first line, all that is held; or a header.
    pub fn since(&self) -> Option<u64> {
        if let Some(header) = &self.header {
            return Some(header.at);
        }
        match &self.kind {
            Kind::Nothing => None,
            Kind::Several(several) => several.since(),
            Kind::Parts(parts) => parts.since(),
            Kind::Apart(apart) => apart.since(),
        }
    }

    pub fn held_bytes(&self) -> usize {
        match &self.kind {
            Kind::Nothing => 0,
            Kind::Several(several) => several.held_bytes(),
            Kind::Parts(parts) => parts.held_bytes(),
            Kind::Apart(apart) => apart.held_bytes(),
        }
    }

    /// Records that [`flush`](Self::flush) would give.
    pub fn held_records(&self) -> usize {
        match &self.kind {
            Kind::Nothing => 0,
            Kind::Several(several) => several.held_records(),
            Kind::Parts(parts) => parts.held_records(),
            Kind::Apart(apart) => apart.held_records(),
        }
    }

    /// Since the last time somebody asked.
    pub fn take_oddities(&mut self) -> Oddities {
        match &mut self.kind {
            Kind::Nothing => Oddities::default(),
            Kind::Several(several) => Oddities {
                cuts: std::mem::take(&mut several.cuts),
                strange: 0,
            },
            Kind::Parts(parts) => parts.take_oddities(),
            Kind::Apart(apart) => apart.take_oddities(),
        }
    }
}

impl Text {
    fn len(&self) -> usize {
        match self {
            Self::Line(bytes) => bytes.len(),
            Self::Lines(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, more: &[u8]) {
        if let Self::Line(first) = self {
            *self = Self::Lines(first.to_vec());
        }
        if let Self::Lines(text) = self {
            text.extend_from_slice(more);
        }
    }

    fn detach(&mut self) {
        if let Self::Line(bytes) = self {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }

    fn into_record(self, at: u64) -> Line {
        let bytes = match self {
            Self::Line(bytes) => bytes,
            Self::Lines(bytes) => Bytes::from(bytes),
        };
        Line {
            bytes,
            at,
            oversized: false,
        }
    }
}

#[cfg(test)]
mod tests;
