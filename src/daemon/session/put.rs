//! Hands the client's records over, once there is room for them, or refuses them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Asked, Session};
use crate::daemon::streams::Desk;
use crate::delivery::{Delivery, FailReason, MemoryPermit, RecordSettled, Ticket};
use crate::metrics::Trouble;
use crate::pipeline::Meter;
use crate::shutdown::Shutdown;
use crate::source::{Accepted, Chunk, Intake, TrySend};

/// How long records wait for a place in a busy pipeline, where the client may not wait.
const PATIENCE: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(5);

impl Session {
    /// Hands records over, each with a ticket of its own.
    pub(super) async fn put(
        &mut self,
        place: usize,
        asked: Vec<Asked>,
        read_at: Instant,
        shutdown: &Shutdown,
    ) {
        let stream = self.streams.get(place);
        let intake = stream.intake();
        let ticket = match self.streams.are_spooled() {
            true => Ticket::for_journal_until_spooled,
            false => Ticket::for_journal,
        };
        let desk: Arc<dyn RecordSettled> = Arc::<Desk>::clone(&stream.desk);
        stream.desk.metrics.received(asked.len(), Instant::now());
        let total = asked.iter().map(Asked::bytes).sum();
        let meter = stream.pipeline.meter().clone();
        let room = self.room(&intake, &meter, (asked.len(), total), shutdown);
        let Some(mut room) = room.await else {
            let reason = match self.give_up_at.is_some() {
                true => FailReason::Abandoned,
                false => FailReason::Overloaded,
            };
            self.notice_overload(asked.len());
            for Asked { id, .. } in asked {
                self.refuse(id, reason.code(), reason.to_string());
            }
            return;
        };
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
        self.hand_over(&intake, chunk, shutdown).await;
    }

    async fn room(
        &mut self,
        intake: &Intake,
        meter: &Meter,
        (records, bytes): (usize, usize),
        shutdown: &Shutdown,
    ) -> Option<MemoryPermit> {
        if self.has_pinged {
            return intake.try_reserve(records, bytes);
        }
        let reserving = async {
            tokio::select! {
                biased;
                room = intake.reserve(records, bytes) => Some(room),
                () = credentials_are_refused(meter) => None,
            }
        };
        self.in_time(reserving, shutdown).await.flatten()
    }

    /// `None` once the stop, or the client's death, is longer ago than the grace period.
    async fn in_time<T>(
        &mut self,
        waiting: impl Future<Output = T>,
        shutdown: &Shutdown,
    ) -> Option<T> {
        let mut waiting = pin!(waiting);
        if self.give_up_at.is_none() {
            tokio::select! {
                biased;
                ended = &mut waiting => return Some(ended),
                () = shutdown.stopped() => {}
                () = self.parent.gone() => {}
            }
        }
        let by = *(self.give_up_at).get_or_insert_with(|| Instant::now() + self.grace);
        tokio::time::timeout_at(by, waiting).await.ok()
    }

    async fn hand_over(&mut self, intake: &Intake, mut chunk: Chunk, shutdown: &Shutdown) {
        if !self.has_pinged {
            // Whoever is gone, or takes too long, has dropped their tickets, which says so.
            let _ = self.in_time(intake.send(chunk), shutdown).await;
            return;
        }
        let began = Instant::now();
        while let Err(TrySend::Full(back)) = intake.try_send(chunk) {
            chunk = back;
            if began.elapsed() > PATIENCE {
                self.notice_overload(chunk.records.len());
                for Accepted { ticket, .. } in chunk.records {
                    ticket.settle(&Delivery::Failed {
                        reason: FailReason::Overloaded,
                        attempts: 0,
                    });
                }
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn notice_overload(&mut self, records: usize) {
        if self.overload.goes_on(Instant::now()).is_some() {
            tracing::error!(
                records,
                "there is no room for records, and the client may not be made to wait: they fail as Overloaded"
            );
        }
    }
}

async fn credentials_are_refused(meter: &Meter) {
    while !meter.has(Trouble::RefusedCredentials) {
        tokio::time::sleep(PATIENCE).await;
    }
}
