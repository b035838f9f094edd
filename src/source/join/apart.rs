//! Lines of a container's log, joined by a rule once they are unwrapped: those of each of its streams apart.
//!
//! Records of the two streams lie among one another in the file. A reader that starts anew must not meet one of them in
//! its middle, so where it may start is before all that is held, and within nothing that was complete.

use std::sync::Arc;

use super::container::{Format, Parts, Unwrapped};
use super::several::Several;
use super::{Multiline, Oddities};
use crate::source::frame::Line;

#[derive(Debug)]
pub(super) struct Apart {
    parts: Parts,
    streams: [Stream; 2],
    spans: Spans,
}

#[derive(Debug)]
struct Stream {
    several: Several,
    /// A line has come since somebody asked.
    is_fresh: bool,
}

impl Apart {
    pub(super) fn new(format: Format, multiline: &Arc<Multiline>) -> Self {
        let stream = || Stream {
            several: Several::new(Arc::clone(multiline)),
            is_fresh: false,
        };
        Self {
            parts: Parts::new(format, multiline.max_bytes),
            streams: [stream(), stream()],
            spans: Spans::default(),
        }
    }

    pub(super) fn take(&mut self, line: Line, out: &mut Vec<Line>) {
        let mut unwrapped = Vec::new();
        self.parts.unwrap(line, &mut unwrapped);
        for line in unwrapped {
            self.pass_on(line, out);
        }
        self.spans.forget(self.first_held());
    }

    fn pass_on(&mut self, unwrapped: Unwrapped, out: &mut Vec<Line>) {
        let Unwrapped { line, last, stream } = unwrapped;
        let Some(stream) = stream else {
            // Not of the format, so of no stream either.
            out.push(line);
            return;
        };
        let stream = &mut self.streams[stream];
        stream.is_fresh = true;
        let before = stream.several.span();
        stream.several.take(line, last, out);
        if let Some((first, last)) = before
            && stream.several.since() != Some(first)
        {
            self.spans.add(first, last);
        }
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        let mut unwrapped = Vec::new();
        self.parts.flush_unwrapped(&mut unwrapped);
        for line in unwrapped {
            self.pass_on(line, out);
        }
        for stream in &mut self.streams {
            stream.several.flush(out);
        }
        self.spans = Spans::default();
    }

    /// Records to which no line has come since this was last asked are complete; but none whose line has not all come.
    pub(super) fn flush_stale(&mut self, out: &mut Vec<Line>) {
        for (i, stream) in self.streams.iter_mut().enumerate() {
            if !std::mem::take(&mut stream.is_fresh) && !self.parts.has_open(i) {
                if let Some((first, last)) = stream.several.span() {
                    self.spans.add(first, last);
                }
                stream.several.flush(out);
            }
        }
        self.spans.forget(self.first_held());
    }

    pub(super) fn detach(&mut self) {
        self.parts.detach();
        for stream in &mut self.streams {
            stream.several.detach();
        }
    }

    pub(super) fn since(&self) -> Option<u64> {
        self.first_held().map(|held| self.spans.start_for(held))
    }

    /// Where what is held begins.
    pub(super) fn starts(&self) -> impl Iterator<Item = u64> {
        let several = self.streams.iter().filter_map(|s| s.several.since());
        several.chain(self.parts.since())
    }

    pub(super) fn held_bytes(&self) -> usize {
        let several = self.streams.iter().map(|s| s.several.held_bytes());
        self.parts.held_bytes() + several.sum::<usize>()
    }

    pub(super) fn held_records(&self) -> usize {
        let several = self.streams.iter().map(|s| s.several.held_records());
        self.parts.held_records() + several.sum::<usize>()
    }

    pub(super) fn take_oddities(&mut self) -> Oddities {
        let Oddities { cuts, strange } = self.parts.take_oddities();
        let several = self.streams.iter_mut().map(|s| &mut s.several.cuts);
        Oddities {
            cuts: cuts + several.map(std::mem::take).sum::<u64>(),
            strange,
        }
    }

    pub(super) fn count_cut(&mut self) {
        self.parts.cuts += 1;
    }

    fn first_held(&self) -> Option<u64> {
        self.starts().min()
    }
}

/// From the first line's beginning to the last one's, of records that are complete; those that overlap as one. In order.
#[derive(Debug, Default)]
struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// So many are known apart. More of them are taken for longer ones: a reader would start earlier than it might.
    const MOST: usize = 64;

    fn add(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        self.0.retain(|span| {
            let overlaps = span.0 <= last && first <= span.1;
            if overlaps {
                (first, last) = (first.min(span.0), last.max(span.1));
            }
            !overlaps
        });
        // One look is enough: they are in order and apart, so what grows to the right meets the next ones in turn, and
        // what grows to the left only takes the place of one that met none before it.
        let at = self.0.partition_point(|span| span.0 < first);
        self.0.insert(at, (first, last));
        if self.0.len() > Self::MOST {
            let (_, last) = self.0.remove(1);
            self.0[0].1 = last;
        }
    }

    /// The last place not behind `held` that is within none.
    fn start_for(&self, held: u64) -> u64 {
        let around = self.0.iter().find(|span| span.0 < held && held <= span.1);
        around.map_or(held, |span| span.0)
    }

    /// All that is before what is held.
    fn forget(&mut self, held: Option<u64>) {
        match held {
            Some(held) => self.0.retain(|span| span.1 >= held),
            None => self.0.clear(),
        }
    }
}

#[cfg(test)]
mod tests;
