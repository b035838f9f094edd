//! Hands the client's records over, once there is room for them, or refuses them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Asked, ENTRY, Queued, Session};
use crate::daemon::streams::Desk;
use crate::delivery::{FailReason, MemoryPermit, RecordSettled, Ticket};
use crate::source::{Accepted, Chunk};

impl Session {
    /// Waits for room for the first records of the queue, in memory and in their stream. Cancel safe.
    ///
    /// # Panics
    ///
    /// There are none.
    pub(super) async fn room(&self) -> MemoryPermit {
        let Some(Queued::Records { place, records, .. }) = self.queue.front() else {
            unreachable!("asked for where records are first");
        };
        let intake = self.streams.get(*place).intake();
        let total = records.iter().map(Asked::bytes).sum();
        let room = intake.reserve(records.len(), total).await;
        // Nobody else takes it.
        intake.has_place().await;
        room
    }

    /// Hands over the records that `room` is for, each with a ticket of its own.
    pub(super) fn put_first(&mut self, mut room: MemoryPermit) {
        let Some((place, mut asked, read_at)) = self.take_first() else {
            return;
        };
        let stream = self.streams.get(place);
        if stream.pipeline.needs_keys() == Some(true) {
            let keyless = asked.extract_if(.., |asked| asked.has_no_key());
            keyless.for_each(|asked| self.refuse_without_key(place, asked.id));
        }
        if asked.is_empty() {
            return;
        }
        let intake = stream.intake();
        let ticket = match self.streams.are_spooled() {
            true => Ticket::for_journal_until_spooled,
            false => Ticket::for_journal,
        };
        let desk: Arc<dyn RecordSettled> = Arc::<Desk>::clone(&stream.desk);
        stream.desk.metrics.received(asked.len(), Instant::now());
        let records = asked.into_iter().map(|asked| {
            let memory = room.split(intake.cost(1, asked.bytes()));
            let Asked { id, key, data } = asked;
            let ticket = ticket(read_at, memory, Arc::clone(&desk), id, data.len());
            Accepted { data, key, ticket }
        });
        let chunk = Chunk {
            records: records.collect(),
            read_took: Duration::ZERO,
        };
        // Where its stream has ended, the tickets say so as they are dropped.
        let _ = intake.try_send(chunk);
    }

    /// Of a stream whose records go by their keys.
    fn refuse_without_key(&self, place: usize, id: u64) {
        let metrics = &self.streams.get(place).desk.metrics;
        metrics.refused(1, Instant::now());
        let why = "partitionKey cannot be null".to_owned();
        self.refuse(id, "InvalidPartitionKey", why);
    }

    /// There was no room for them in time.
    pub(super) fn abandon_first(&mut self) {
        if let Some((place, asked, _)) = self.take_first() {
            self.abandoned += asked.len() as u64;
            self.refuse_all(place, asked, &FailReason::Abandoned);
        }
    }

    /// There is no room for them, and the client may not be made to wait.
    pub(super) fn overload(&mut self, place: usize, asked: Vec<Asked>) {
        if self.overload.goes_on(Instant::now()).is_some() {
            tracing::error!(
                records = asked.len(),
                "there is no room for records, and the client may not be made to wait: they fail as Overloaded"
            );
        }
        self.refuse_all(place, asked, &FailReason::Overloaded);
    }

    fn refuse_all(&self, place: usize, asked: Vec<Asked>, reason: &FailReason) {
        let metrics = &self.streams.get(place).desk.metrics;
        metrics.refused(asked.len(), Instant::now());
        let why = reason.to_string();
        for Asked { id, .. } in asked {
            self.refuse(id, reason.code(), why.clone());
        }
    }

    fn take_first(&mut self) -> Option<(usize, Vec<Asked>, Instant)> {
        match self.queue.pop_front()? {
            Queued::Records {
                place,
                records,
                read_at,
            } => {
                self.queued_bytes -= ENTRY + records.iter().map(Asked::bytes).sum::<usize>();
                Some((place, records, read_at))
            }
            Queued::Flush(_) => unreachable!("passed before"),
        }
    }
}
