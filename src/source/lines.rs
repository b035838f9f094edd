//! Lines become a [`Chunk`], with one ticket each.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::frame::{Framer, Line};
use super::join::Joiner;
use super::keying::Keys;
use super::making::Maker;
use super::{Accepted, Chunk, Intake};
use crate::delivery::{FailReason, MemoryPermit, SpanSettled, Ticket};
use crate::metrics::Counters;

/// Lines in a chunk at most: bounds what a read of nothing but newlines can cost.
pub(super) const MAX_LINES: usize = 1024;

/// When bytes were read, and the time spent on them that no chunk has taken into account yet: reading, and
/// then splitting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    born: Instant,
    took: Duration,
}

impl Read {
    /// Times `read`, which does not wait for data.
    pub(super) fn of<T>(read: impl FnOnce() -> T) -> (T, Self) {
        let born = Instant::now();
        let result = read();
        let took = born.elapsed();
        (result, Self { born, took })
    }

    /// What no chunk has taken into account yet; then it is.
    pub(super) fn take(&mut self) -> Duration {
        std::mem::take(&mut self.took)
    }

    /// The next lines that `framer` has, up to [`MAX_LINES`].
    pub(super) fn next_lines(&mut self, framer: &mut Framer) -> Vec<Line> {
        self.up_to_max(|| framer.next_line())
    }

    /// What `next` gives, up to [`MAX_LINES`].
    pub(super) fn up_to_max(&mut self, next: impl FnMut() -> Option<Line>) -> Vec<Line> {
        let began = Instant::now();
        let lines = std::iter::from_fn(next).take(MAX_LINES).collect();
        self.took += began.elapsed();
        lines
    }

    /// The records that the next lines of `framer` complete, up to [`MAX_LINES`] of them, and how many lines there
    /// were.
    pub(super) fn next_records(
        &mut self,
        framer: &mut Framer,
        joiner: &mut Joiner,
    ) -> (Vec<Line>, usize) {
        let began = Instant::now();
        let (mut records, mut lines) = (Vec::new(), 0);
        while lines < MAX_LINES {
            let Some(line) = framer.next_line() else {
                break;
            };
            lines += 1;
            let is_end = framer.boundary() == framer.at();
            if !joiner.skips(is_end) {
                joiner.take(line, &mut records);
            }
        }
        self.took += began.elapsed();
        (records, lines)
    }

    /// What `maker` makes of these lines.
    pub(super) fn make(&mut self, maker: &Maker, lines: Vec<Line>) -> (Keys, Vec<Line>) {
        let began = Instant::now();
        let made = maker.make(lines);
        self.took += began.elapsed();
        made
    }

    /// The same from a task. Not cancel safe.
    pub(super) async fn make_in_task(
        &mut self,
        maker: &Maker,
        lines: Vec<Line>,
    ) -> (Keys, Vec<Line>) {
        let began = Instant::now();
        let made = maker.make_in_task(lines).await;
        self.took += began.elapsed();
        made
    }
}

/// The worst that `bytes` read can become in one chunk: its records. An empty line is a byte, its newline.
pub(super) fn worst_records(bytes: usize) -> usize {
    bytes.clamp(1, MAX_LINES)
}

/// What of a source a chunk's answer is for.
pub(super) struct Span {
    pub(super) source: Arc<dyn SpanSettled>,
    pub(super) id: u64,
    /// None of its lines is to be stored.
    pub(super) doomed: Option<FailReason>,
}

/// At least one line, with its keys, as a chunk whose span is `span`. What `permit` has too much is given back.
pub(super) fn chunk(
    lines: Vec<Line>,
    keys: Keys,
    intake: &Intake,
    mut permit: MemoryPermit,
    span: Span,
    read: &mut Read,
) -> Chunk {
    let bytes: usize = lines.iter().map(|line| line.bytes.len()).sum();
    intake.give_back(&mut permit, lines.len(), bytes + keys.bytes());
    Counters::add(&intake.counters.unkeyed, keys.missing() as u64);
    let count = u32::try_from(lines.len()).expect("a chunk has hardly more than MAX_LINES lines");
    let largest = lines.iter().map(|line| line.bytes.len()).max();
    let each = intake.cost(
        1,
        largest.unwrap_or(0) + keys.bytes().min(Keys::MOST_OF_ONE),
    );
    let Span { source, id, doomed } = span;
    let ticket = Ticket::for_span(count, read.born, permit, source, id)
        .taking_each(each)
        .doomed(doomed);
    let mut rest = Some(ticket);
    let mut take_ticket = || match rest.as_mut() {
        Some(ticket) if ticket.records() > 1 => ticket.take_one(),
        _ => rest.take().expect("the ticket is for as many as there are"),
    };
    let records = lines
        .into_iter()
        .zip(keys.into_each())
        .map(|(line, key)| Accepted {
            data: line.bytes,
            key,
            ticket: take_ticket(),
        })
        .collect();
    Chunk {
        records,
        read_took: std::mem::take(&mut read.took),
    }
}
