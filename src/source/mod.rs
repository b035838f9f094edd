//! Where records come from: bytes in, [`Chunk`]s of records out.
//!
//! A source reserves memory for the worst case of what it is about to read *before* it reads, and hands the
//! surplus back once it knows what it got. So a source that is faster than the stream waits here, with its
//! bytes still in the file or the socket; unless it is told not to, by [`WhenFull::DropNewest`].

mod drops;
mod feed;
pub mod frame;
pub mod framing;
pub mod join;
pub mod keying;
mod lines;
pub mod making;
pub mod shape;
pub mod stdin;
pub mod tail;
pub mod unix;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::delivery::{MemoryBudget, MemoryPermit, Ticket};
use crate::metrics::Counters;
use crate::record::RecordKey;

/// `when_full` of a source that cannot be read again: what becomes of its lines while there is no room for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They are not read, and whoever writes them waits.
    #[default]
    Block,
    /// They are read, counted and thrown away, and whoever writes them goes on.
    DropNewest,
}

/// Records read together, which travel together as far as the aggregator.
#[derive(Debug)]
pub struct Chunk {
    pub records: Vec<Accepted>,
    /// How long it took to read and split them. Waiting for data, for memory or for the pipeline is not in it.
    pub read_took: Duration,
}

/// A record that has a ticket: from here on it is owed an answer.
#[derive(Debug)]
pub struct Accepted {
    pub data: Bytes,
    pub key: RecordKey,
    pub ticket: Ticket,
}

/// A pipeline's way in, as sources and producers see it.
#[derive(Debug, Clone)]
pub struct Intake {
    chunks: mpsc::Sender<Chunk>,
    budget: MemoryBudget,
    costs: Costs,
    counters: Arc<Counters>,
    pause: Duration,
}

impl Intake {
    /// The longest [`pause`](Self::pause): few wake-ups a second, and less than anybody notices in a log. A guess.
    const LONGEST_PAUSE: Duration = Duration::from_millis(10);

    pub fn new(chunks: mpsc::Sender<Chunk>, budget: MemoryBudget, costs: Costs) -> Self {
        Self {
            chunks,
            budget,
            costs,
            counters: Arc::default(),
            pause: Duration::ZERO,
        }
    }

    /// Records wait for company this long anyway.
    #[must_use]
    pub fn lingering(self, linger: Duration) -> Self {
        let pause = (linger / 10).min(Self::LONGEST_PAUSE);
        Self { pause, ..self }
    }

    /// For how long a source that has read all there was, which was little, may leave off before it reads again. Each
    /// read wakes everything behind it, and lines that a program writes one by one are one read each.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Counts what is accepted here.
    #[must_use]
    pub fn counting(mut self, counters: Arc<Counters>) -> Self {
        self.counters = counters;
        self
    }

    /// Waits for room for `records` records of `bytes` bytes in all. Cancel safe.
    pub async fn reserve(&self, records: usize, bytes: usize) -> MemoryPermit {
        self.budget.reserve(self.costs.of(records, bytes)).await
    }

    /// What its records' memory is counted by.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Room that is free now, or nothing.
    pub fn try_reserve(&self, records: usize, bytes: usize) -> Option<MemoryPermit> {
        self.budget.try_reserve(self.costs.of(records, bytes))
    }

    /// The most that a record may be and still have room for all its copies.
    fn largest_record(&self) -> usize {
        self.budget.limit() / Costs::COPIES_OF_A_RECORD
    }

    /// What `records` records of `bytes` bytes in all take.
    pub fn cost(&self, records: usize, bytes: usize) -> usize {
        self.costs.of(records, bytes)
    }

    /// Gives back what `records` records of `bytes` bytes in all do not need.
    pub fn give_back(&self, permit: &mut MemoryPermit, records: usize, bytes: usize) {
        permit.shrink_to(self.costs.of(records, bytes));
    }

    /// Hands a chunk over; waits while the pipeline has enough to do. Not cancel safe: a chunk whose send
    /// is cancelled is dropped, and its tickets with it.
    pub async fn send(&self, chunk: Chunk) -> Result<(), Closed> {
        let place = self.chunks.reserve().await.map_err(|_| Closed)?;
        // Counted before it is sent, so that no record is answered before it was accepted.
        self.accept(&chunk);
        place.send(chunk);
        Ok(())
    }

    /// Waits until a chunk can be handed over without waiting, where nobody else hands over any. Cancel safe.
    pub async fn has_place(&self) {
        // Where the pipeline has ended, there is nothing to wait for.
        let _ = self.chunks.reserve().await;
    }

    /// Counts records that are sent now, or later by [`forward`](Self::forward).
    fn accept(&self, chunk: &Chunk) {
        Counters::add(&self.counters.accepted, chunk.records.len() as u64);
        let beside = |a: &Accepted, b: &Accepted| a.ticket.is_beside(&b.ticket);
        for records in chunk.records.chunk_by(beside) {
            let count = records.iter().map(|record| record.ticket.records()).sum();
            records[0].ticket.count(count, &self.counters);
        }
    }

    /// Hands over a chunk that was counted before; waits as `send` does. Not cancel safe.
    async fn forward(&self, chunk: Chunk) -> Result<(), Closed> {
        self.chunks.send(chunk).await.map_err(|_| Closed)
    }

    /// Counts records that are thrown away unsent. Accepted first: at no moment has there been more of an answer
    /// than of a question.
    fn discard(&self, records: usize) {
        Counters::add(&self.counters.accepted, records as u64);
        Counters::add(&self.counters.dropped, records as u64);
    }

    /// Hands a chunk over without waiting, or gives it back.
    pub fn try_send(&self, chunk: Chunk) -> Result<(), TrySend> {
        match self.chunks.try_reserve() {
            Ok(place) => {
                self.accept(&chunk);
                place.send(chunk);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(TrySend::Full(chunk)),
            Err(mpsc::error::TrySendError::Closed(())) => Err(TrySend::Closed(chunk)),
        }
    }
}

/// Why a chunk was not taken; it comes back.
#[derive(Debug)]
pub enum TrySend {
    Full(Chunk),
    Closed(Chunk),
}

/// The pipeline has ended; what it was given and had not stored was abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline has stopped")]
pub struct Closed;

/// What a record costs in memory at its worst, from read to settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// Bytes that sealing adds to a record.
    sealed_overhead: usize,
    /// Structures that travel with it.
    per_record: usize,
    /// Of the sealed bytes.
    copies: usize,
}

impl Costs {
    /// What the largest record takes of memory, in its own sizes, rounded up: itself, and twice what is sealed.
    pub const COPIES_OF_A_RECORD: usize = 4;
    /// `SealedRecord`, its key, its place in an aggregate and, until that is encoded, in its layout. An estimate, held
    /// against what the system says of records of 20 bytes: with 160 it was 99.9 MiB of the 96 that there are, with 208
    /// once 99.2, and with 240, beside other work on the machine, once 103.
    const IN_AN_AGGREGATE: usize = 280;
    /// An entry of its own, and its part of the SDK's request and answer: strings, a vector, a blob. A guess, held against the
    /// load test: with less here and below its peak was 152 MiB.
    const ALONE: usize = 900;

    /// Of records that sealing makes longer by `sealed_overhead` bytes.
    pub const fn new(sealed_overhead: usize, aggregated: bool) -> Self {
        let (per_record, copies) = match aggregated {
            // A sealed byte's own place and its copy in the aggregate; a request holds no more than a piece of its body.
            true => (Self::IN_AN_AGGREGATE, 2),
            // Small pieces, each freed at its time: between them the allocator keeps about as much as they are.
            false => (Self::ALONE, 3),
        };
        Self {
            sealed_overhead,
            per_record,
            copies,
        }
    }

    pub fn of(self, records: usize, bytes: usize) -> usize {
        let sealed = bytes + records * self.sealed_overhead;
        bytes + self.copies * sealed + records * self.per_record
    }
}
