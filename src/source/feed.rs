//! A stream of bytes that cannot be read again, on its way into a pipeline.
//!
//! Whoever writes waits while there is no room: room for the worst case is reserved before a block is read. With
//! `when_full = "drop_newest"` nobody waits; so room is looked for once it is known what for, and not for a
//! worst case that would drop lines while there is some. It promises then:
//!
//! - each line for which there is room now, for the most that it may become, is sent, whole and in order; each other
//!   one is dropped, whole, and counted;
//! - what waits for the pipeline's attention has its room: only memory bounds it, and nothing is dropped for it;
//! - beside that a client has its partial line and one block, as it would have otherwise. Lines that are kept
//!   do not keep the memory of those that are dropped beside them.
//!
//! A line of more than twice the framer's limit comes in pieces, for the dead letter; there, a piece is what is
//! dropped or not.

mod joined;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::joined::Joined;
pub(super) use self::joined::Joining;
use super::drops::Drops;
use super::frame::Line;
use super::framing::{Framing, Splitter};
use super::lines::{MAX_LINES, Read, Span, chunk, worst_records};
use super::making::Maker;
use super::{Chunk, Closed, Intake};
use crate::delivery::{MemoryPermit, SpanSettled};

/// What was read and is neither stored nor in a spool is lost when the process is killed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) framer: Splitter,
    intake: Intake,
    maker: Maker,
    /// Several lines that may become one record.
    joined: Option<Joined>,
    /// Where nobody may wait.
    outlet: Option<Outlet>,
    /// A line of what was read last has been dropped.
    cut: bool,
}

/// Chunks that have their room and wait for the pipeline. Dropped, it drops them.
#[derive(Debug)]
struct Outlet {
    // Not bounded but by memory: each chunk holds its permit.
    waiting: mpsc::UnboundedSender<Chunk>,
    forwarding: JoinSet<()>,
    drops: Arc<Drops>,
}

/// Nothing to note: there is no place to go on from.
struct Unrepeatable;

impl SpanSettled for Unrepeatable {
    fn settled(&self, _: u64) {}
}

impl Feed {
    /// Lines wait for room; or where `drops` counts them, those that have none are dropped.
    pub(super) fn new(intake: Intake, maker: Maker, drops: Option<&Arc<Drops>>) -> Self {
        Self {
            framer: Splitter::new(Framing::Newline),
            outlet: drops.map(|drops| Outlet::new(intake.clone(), Arc::clone(drops))),
            intake,
            maker,
            joined: None,
            cut: false,
        }
    }

    /// Before anything is read: records end otherwise than with a newline.
    #[must_use]
    pub(super) fn framed(mut self, framing: Framing) -> Self {
        self.framer = Splitter::new(framing);
        self
    }

    /// For how long reading may be left off once little came.
    pub(super) fn pause(&self) -> Duration {
        self.intake.pause()
    }

    /// Room for `more` bytes and what is held already; none where nobody may wait for it. Cancel safe.
    pub(super) async fn reserve(&self, more: usize) -> Option<MemoryPermit> {
        if self.outlet.is_some() {
            return None;
        }
        let bytes = self.framer.pending().len() + more;
        let (open, open_bytes) = self.joined.as_ref().map_or((0, 0), Joined::held);
        let records = worst_records(bytes) + open;
        Some(self.room(records, bytes + open_bytes).await)
    }

    async fn room(&self, records: usize, bytes: usize) -> MemoryPermit {
        let bytes = self.maker.worst_bytes(records, bytes);
        self.intake.reserve(records, bytes).await
    }

    fn room_now(&self, records: usize, bytes: usize) -> Option<MemoryPermit> {
        let bytes = self.maker.worst_bytes(records, bytes);
        self.intake.try_reserve(records, bytes)
    }

    /// Sends all whole records of what was just read. `permit` covers the first chunk; others wait for room, or do
    /// without. Not cancel safe.
    pub(super) async fn send_lines(
        &mut self,
        mut permit: Option<MemoryPermit>,
        mut read: Read,
    ) -> Result<(), Closed> {
        self.cut = false;
        loop {
            let (records, may_be_more) = match &mut self.joined {
                Some(joined) => joined.next_records(&mut self.framer, &mut read),
                None => {
                    let lines = read.up_to_max(|| self.framer.next_record());
                    let is_full = lines.len() == MAX_LINES;
                    (lines, is_full)
                }
            };
            if !records.is_empty() {
                self.send(records, permit.take(), &mut read).await?;
            }
            if !may_be_more {
                break;
            }
        }
        drop(permit);
        self.keep_open().await?;
        self.give_way().await;
        Ok(())
    }

    /// Sends records that need no splitting, as many as a chunk may have; `permit` covers them. Not cancel safe.
    pub(super) async fn send_records(
        &mut self,
        records: Vec<Line>,
        permit: Option<MemoryPermit>,
        mut read: Read,
    ) -> Result<(), Closed> {
        self.cut = false;
        if !records.is_empty() {
            self.send(records, permit, &mut read).await?;
        }
        self.give_way().await;
        Ok(())
    }

    async fn give_way(&self) {
        if self.outlet.is_some() {
            // Nothing else here waits: the pipeline gets its turn, and with it the room that it makes.
            tokio::task::yield_now().await;
        }
    }

    /// Sends a last line without its newline, if there is one, and waits until the pipeline has everything. Not
    /// cancel safe.
    pub(super) async fn finish(mut self) -> Result<(), Closed> {
        let (last, mut read) = Read::of(|| self.framer.finish());
        let mut records = Vec::new();
        match &mut self.joined {
            Some(joined) => {
                if let Some(line) = last {
                    joined.take(line, &mut records);
                }
                joined.flush(&mut records);
            }
            None => records.extend(last),
        }
        if !records.is_empty() {
            self.send(records, None, &mut read).await?;
        }
        if let Some(outlet) = self.outlet {
            outlet.finish().await;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        lines: Vec<Line>,
        permit: Option<MemoryPermit>,
        read: &mut Read,
    ) -> Result<(), Closed> {
        let (lines, permit) = match permit {
            Some(permit) => (lines, permit),
            None if self.outlet.is_some() => match self.fitting(lines) {
                Some(fitting) => fitting,
                None => return Ok(()),
            },
            None => {
                let permit = self.room(lines.len(), bytes_of(&lines)).await;
                (lines, permit)
            }
        };
        let (keys, lines) = read.make_in_task(&self.maker, lines).await;
        let span = Span {
            source: Arc::new(Unrepeatable),
            id: 0,
            doomed: None,
        };
        let chunk = chunk(lines, keys, &self.intake, permit, span, read);
        match &self.outlet {
            Some(outlet) => {
                // Before it waits: whatever happens to it then, it is accounted for.
                self.intake.accept(&chunk);
                outlet.waiting.send(chunk).map_err(|_| Closed)
            }
            None => self.intake.send(chunk).await,
        }
    }

    /// Those lines for which there is room now, if any, and their room. The others are dropped.
    fn fitting(&mut self, lines: Vec<Line>) -> Option<(Vec<Line>, MemoryPermit)> {
        if let Some(permit) = self.room_now(lines.len(), bytes_of(&lines)) {
            let lines = if self.cut { apart(lines) } else { lines };
            return Some((lines, permit));
        }
        self.cut = true;
        let (offered, mut kept) = (lines.len(), Vec::new());
        let mut all: Option<MemoryPermit> = None;
        for line in lines {
            let Some(permit) = self.room_now(1, line.bytes.len()) else {
                continue;
            };
            match &mut all {
                Some(all) => all.absorb(permit),
                None => all = Some(permit),
            }
            kept.push(line);
        }
        self.discard(offered - kept.len());
        Some((apart(kept), all?))
    }

    fn discard(&self, lines: usize) {
        if let (Some(outlet), 1..) = (&self.outlet, lines) {
            self.intake.discard(lines);
            outlet.drops.add(lines as u64);
        }
    }
}

impl Outlet {
    fn new(intake: Intake, drops: Arc<Drops>) -> Self {
        let (waiting, mut chunks) = mpsc::unbounded_channel();
        let mut forwarding = JoinSet::new();
        // A task of its own keeps its place in the line for the pipeline, however fast is read meanwhile.
        forwarding.spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                if intake.forward(chunk).await.is_err() {
                    return;
                }
            }
        });
        Self {
            waiting,
            forwarding,
            drops,
        }
    }

    /// Waits until the pipeline has all, or has gone.
    async fn finish(mut self) {
        drop(self.waiting);
        self.forwarding.join_next().await;
    }
}

fn bytes_of(lines: &[Line]) -> usize {
    lines.iter().map(|line| line.bytes.len()).sum()
}

/// The same lines in memory of their own.
fn apart(lines: Vec<Line>) -> Vec<Line> {
    let mut held = Vec::with_capacity(bytes_of(&lines));
    for line in &lines {
        held.extend_from_slice(&line.bytes);
    }
    let mut held = Bytes::from(held);
    let apart = lines.into_iter().map(|line| Line {
        bytes: held.split_to(line.bytes.len()),
        ..line
    });
    apart.collect()
}

#[cfg(test)]
mod tests;
