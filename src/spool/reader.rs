//! From disk on to the owner: what the writer has appended, in order, as fast as there is memory for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Spool;
use super::clock::Clock;
use super::frame::Frame;
use super::shelf::{Readable, Shelf, Waiters};
use super::walk::Walk;
use crate::delivery::{MemoryBudget, SpanSettled, Ticket, Tickets};
use crate::metrics::Counters;
use crate::recurring::{Recurring, Unsaid};
use crate::seal::offload::SealedChunk;
use crate::seal::{Route, SealedRecord};
use crate::source::Costs;

/// Reads what lies on disk. The owner's channel ends for it once reading has been stopped.
#[derive(Debug)]
pub struct Reader {
    shelf: Arc<Shelf>,
    /// Its own account: what waits for room on disk may hold all of the sources'.
    budget: MemoryBudget,
    costs: Costs,
    counters: Arc<Counters>,
    sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
    /// Everything before it is settled, or was handed over.
    next: u64,
    /// In which segment, by its ordinal.
    place: Option<(u64, Walk)>,
    unreadable: Recurring,
}

/// The owner is gone.
struct Gone;

impl Reader {
    /// Between tries while the disk refuses.
    const PAUSE: Duration = Duration::from_secs(2);

    /// What it hands to `sealed` has its room in `budget`.
    pub fn new(
        spool: &Spool,
        budget: MemoryBudget,
        costs: Costs,
        counters: Arc<Counters>,
        sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
    ) -> Self {
        Self {
            shelf: spool.shelf(),
            budget,
            costs,
            counters,
            sealed,
            next: spool.settled,
            place: None,
            unreadable: Recurring::default(),
        }
    }

    /// Ends when it is told to stop, or the owner is gone.
    pub async fn run(mut self) {
        loop {
            let at = self
                .place
                .as_ref()
                .map(|(ordinal, walk)| (*ordinal, walk.offset()));
            let Some(readable) = self.shelf.readable(at).await else {
                return;
            };
            let frames = self.read(&readable).await;
            if self.hand_over(&readable, frames).await.is_err() {
                return;
            }
        }
    }

    /// The next frames of a segment, once its disk lets them be read; `None`: the rest of it is damaged, or gone.
    async fn read(&mut self, readable: &Readable) -> Option<Vec<Frame<Bytes>>> {
        loop {
            let walk = match self.place.take() {
                Some((ordinal, walk)) if ordinal == readable.ordinal => walk,
                _ => Walk::new(readable.id, readable.offset),
            };
            let (walk, read) = self.read_block(walk, readable).await;
            self.place = Some((readable.ordinal, walk));
            match read {
                Ok(frames) => {
                    if let Some(down_for) = self.unreadable.end(Instant::now()) {
                        tracing::warn!(
                            path = %readable.path.display(), ?down_for, "the spool can be read again"
                        );
                    }
                    return frames;
                }
                // Another machine removed it from a shared disk: no try brings it back.
                Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                    if let Some((_, walk)) = &mut self.place {
                        walk.go_to(readable.len);
                    }
                    return None;
                }
                Err(error) => {
                    if let Some(Unsaid(others)) = self.unreadable.goes_on(Instant::now()) {
                        tracing::error!(
                            path = %readable.path.display(), %error, others_unsaid = others,
                            "the spool cannot be read: what lies there waits"
                        );
                    }
                    tokio::time::sleep(Self::PAUSE).await;
                }
            }
        }
    }

    async fn read_block(
        &self,
        mut walk: Walk,
        readable: &Readable,
    ) -> (Walk, io::Result<Option<Vec<Frame<Bytes>>>>) {
        let (file, len) = (Arc::clone(&readable.file), readable.len);
        let again = Walk::new(readable.id, walk.offset());
        let reading = tokio::task::spawn_blocking(move || {
            let read = walk.next(&*file, len);
            if let Ok(None) = read {
                walk.go_to(len);
            }
            (walk, read)
        });
        reading
            .await
            .unwrap_or_else(|error| (again, Err(io::Error::other(error))))
    }

    async fn hand_over(
        &mut self,
        readable: &Readable,
        frames: Option<Vec<Frame<Bytes>>>,
    ) -> Result<(), Gone> {
        let Some(mut frames) = frames else {
            self.miss(readable, readable.end);
            return Ok(());
        };
        // Settled before the crash, or written a second time after an error.
        let next = self.next;
        let is_new = |frame: &Frame<Bytes>| frame.number >= next;
        frames.retain(is_new);
        let mut rest = frames.into_iter().peekable();
        while let Some(frame) = rest.peek() {
            self.miss(readable, frame.number);
            let mut together = Vec::new();
            while let Some(frame) = rest.next_if(|frame| frame.number == self.next) {
                self.next += u64::from(frame.records);
                together.push(frame);
            }
            if together.is_empty() {
                // Twice in one block.
                rest.next();
                continue;
            }
            self.send(together).await?;
        }
        Ok(())
    }

    /// There should be records up to `number`, and there are not.
    fn miss(&mut self, readable: &Readable, number: u64) {
        let from = self.next;
        if number <= from {
            return;
        }
        let records = number - from;
        self.next = number;
        let path = readable.path.display();
        match from < readable.first {
            true => tracing::error!(
                %path, records,
                "the spool is damaged: these records were in files before this one, which are gone or damaged, and are not \
                 sent; a damaged one is kept as .damaged"
            ),
            false => tracing::error!(
                %path, records,
                "the spool is damaged: these records of this file cannot be read and are not sent; it is kept as .damaged"
            ),
        }
        self.counters.lose(records);
        self.shelf.lost(from, self.next, readable.ordinal);
    }

    async fn send(&self, frames: Vec<Frame<Bytes>>) -> Result<(), Gone> {
        let bytes: usize = frames.iter().map(|f| f.data.len() + f.key.len()).sum();
        let permit = self
            .budget
            .reserve(self.costs.of(frames.len(), bytes))
            .await;
        let records: u32 = frames.iter().map(|f| f.records).sum();
        let (span, waiters) = self.shelf.read(self.next, frames.iter().map(|f| f.number));
        let clock = Clock::now();
        let born = clock.instant(frames.iter().map(|f| f.born_ms).min().expect("not empty"));
        let shelf = Arc::clone(&self.shelf) as Arc<dyn SpanSettled>;
        let mut rest = Rest(Some(Ticket::for_span(records, born, permit, shelf, span)));
        let records = frames
            .into_iter()
            .zip(waiters)
            .map(|(frame, waiters)| record(frame, waiters, &mut rest));
        let chunk = SealedChunk::replayed(records.collect());
        let (tx, rx) = oneshot::channel();
        let _ = tx.send(chunk);
        self.sealed.send(rx).await.map_err(|_| Gone)?;
        self.shelf.handed_over(self.next);
        Ok(())
    }
}

/// What is left of a chunk's ticket.
struct Rest(Option<Ticket>);

impl Rest {
    fn take(&mut self, records: u32) -> Ticket {
        let rest = self.0.take().expect("as many records as were counted");
        let (taken, rest) = rest.divide(records);
        self.0 = rest;
        taken
    }
}

/// Each of its user records has one ticket: that of whoever waits for it, or the span's.
fn record(frame: Frame<Bytes>, waiters: Waiters, rest: &mut Rest) -> SealedRecord {
    let waited_for = waiters.iter().map(Ticket::records).sum::<u32>();
    let mut tickets: Option<Tickets> = None;
    let mut add = |ticket: Ticket| match &mut tickets {
        Some(tickets) => tickets.join(ticket),
        None => tickets = Some(Tickets::one(ticket)),
    };
    if waited_for < frame.records {
        add(rest.take(frame.records - waited_for));
    }
    for waiter in waiters {
        let records = waiter.records();
        add(waiter.answering_too(rest.take(records)));
    }
    let tickets = tickets.expect("a frame has a record");
    SealedRecord::from_spool(frame.data, Route::of(frame.key), tickets)
}
