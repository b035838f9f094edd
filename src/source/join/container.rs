//! Lines of container logs: what a container wrote, in an envelope of its runtime's.
//!
//! Runtimes cut long lines in parts and say so; the parts of standard output and standard error come in between one
//! another, and are joined apart.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::{Oddities, Text};
use crate::source::frame::Line;

/// `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<time> <stdout|stderr> <P|F> <text>`, as containerd and CRI-O write it:
    /// <https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>
    Cri,
    /// `{"log":"<text>\n","stream":"stdout","time":"…"}`, as Docker's `json-file` driver writes it.
    Docker,
}

/// What one line holds of a container's.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// 0: standard output, 1: standard error.
    stream: usize,
    text: Bytes,
    is_last: bool,
}

/// A line as the container wrote it.
#[derive(Debug)]
pub(super) struct Unwrapped {
    pub(super) line: Line,
    /// Where its last part begins.
    pub(super) last: u64,
    /// `None` if it is not of the format.
    pub(super) stream: Option<usize>,
}

/// Lines whose parts have not all come.
#[derive(Debug)]
pub(super) struct Parts {
    format: Format,
    max_bytes: usize,
    open: [Option<Open>; 2],
    /// Where the first line begins since which there was always one open: a reader that started later would meet
    /// another in its middle.
    since: Option<u64>,
    pub(super) cuts: u64,
    strange: u64,
}

/// A line whose last part has not come.
#[derive(Debug)]
struct Open {
    /// Where its first part's line begins.
    at: u64,
    /// Where its last part's line begins.
    last: u64,
    text: Text,
}

impl Parts {
    pub(super) fn new(format: Format, max_bytes: usize) -> Self {
        Self {
            format,
            max_bytes,
            open: [None, None],
            since: None,
            cuts: 0,
            strange: 0,
        }
    }

    pub(super) fn take(&mut self, line: Line, out: &mut Vec<Line>) {
        let mut unwrapped = Vec::new();
        self.unwrap(line, &mut unwrapped);
        out.extend(unwrapped.into_iter().map(|unwrapped| unwrapped.line));
    }

    /// The same, with what else is known of what is complete.
    pub(super) fn unwrap(&mut self, line: Line, out: &mut Vec<Unwrapped>) {
        let Some(part) = self.format.part(&line.bytes) else {
            self.strange += 1;
            out.push(Unwrapped {
                last: line.at,
                line,
                stream: None,
            });
            return;
        };
        let open = &mut self.open[part.stream];
        let is_full = |open: &mut Open| open.text.len() + part.text.len() > self.max_bytes;
        if let Some(cut) = open.take_if(is_full) {
            self.cuts += 1;
            out.push(cut.into_unwrapped(part.stream));
        }
        let grown = match open.take() {
            None => Open {
                at: line.at,
                last: line.at,
                text: Text::Line(part.text),
            },
            Some(mut grown) => {
                grown.text.push(&part.text);
                grown.last = line.at;
                grown
            }
        };
        if part.is_last {
            out.push(grown.into_unwrapped(part.stream));
        } else {
            *open = Some(grown);
            self.since.get_or_insert(line.at);
        }
        if self.open.iter().all(Option::is_none) {
            self.since = None;
        }
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        let mut unwrapped = Vec::new();
        self.flush_unwrapped(&mut unwrapped);
        out.extend(unwrapped.into_iter().map(|unwrapped| unwrapped.line));
    }

    pub(super) fn flush_unwrapped(&mut self, out: &mut Vec<Unwrapped>) {
        for (stream, open) in self.open.iter_mut().enumerate() {
            out.extend(open.take().map(|open| open.into_unwrapped(stream)));
        }
        self.since = None;
    }

    /// Of this stream, a line's last part has not come.
    pub(super) fn has_open(&self, stream: usize) -> bool {
        self.open[stream].is_some()
    }

    pub(super) fn detach(&mut self) {
        for open in self.open.iter_mut().flatten() {
            open.text.detach();
        }
    }

    pub(super) fn since(&self) -> Option<u64> {
        self.since
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.open.iter().flatten().map(|open| open.text.len()).sum()
    }

    pub(super) fn held_records(&self) -> usize {
        self.open.iter().flatten().count()
    }

    pub(super) fn take_oddities(&mut self) -> Oddities {
        Oddities {
            cuts: std::mem::take(&mut self.cuts),
            strange: std::mem::take(&mut self.strange),
        }
    }
}

impl Open {
    fn into_unwrapped(self, stream: usize) -> Unwrapped {
        Unwrapped {
            line: self.text.into_record(self.at),
            last: self.last,
            stream: Some(stream),
        }
    }
}

impl Format {
    /// `None` if the line is not of this format.
    fn part(self, line: &Bytes) -> Option<Part> {
        match self {
            Self::Cri => cri(line),
            Self::Docker => docker(line),
        }
    }
}

fn cri(line: &Bytes) -> Option<Part> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (fields.next()?, fields.next()?, fields.next()?);
    // Without text, the space before it may be missing.
    let text = fields.next().unwrap_or_default();
    // `2016-10-06T00:17:09.669794202Z`; whether it is a day of the calendar matters to nobody here.
    let is_time = time.len() >= "2016-10-06T00:17:09Z".len()
        && time[..4].iter().all(u8::is_ascii_digit)
        && (time[4], time[7], time[10], time[13]) == (b'-', b'-', b'T', b':');
    // More tags may follow, after colons.
    let is_last = match tags.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    is_time.then_some(())?;
    Some(Part {
        stream: stream_of(stream)?,
        text: line.slice_ref(text),
        is_last,
    })
}

fn docker(line: &Bytes) -> Option<Part> {
    #[derive(Deserialize)]
    struct Entry<'l> {
        #[serde(borrow)]
        log: Cow<'l, str>,
        #[serde(borrow)]
        stream: Cow<'l, str>,
    }
    let entry: Entry<'_> = serde_json::from_slice(line).ok()?;
    let (text, is_last) = match entry.log.strip_suffix('\n') {
        Some(text) => (text, true),
        None => (&*entry.log, false),
    };
    Some(Part {
        stream: stream_of(entry.stream.as_bytes())?,
        text: Bytes::copy_from_slice(text.as_bytes()),
        is_last,
    })
}

fn stream_of(name: &[u8]) -> Option<usize> {
    match name {
        b"stdout" => Some(0),
        b"stderr" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
