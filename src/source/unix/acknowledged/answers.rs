//! What a client is told, as soon as it is known.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::unconstrained;
use tokio::time::Instant;

use crate::daemon::message::{Attempt, MetricsResponse, PutRecordResult};
use crate::delivery::{Delivery, FailReason, Receipt};
use crate::source::unix::complaints::{Complaint, Complaints};
use crate::source::unix::peer::Peer;

/// An answer that a client waits for, and its place among those.
pub(super) enum Owed {
    Record {
        id: u64,
        receipt: Receipt,
        born: Instant,
        slot: OwnedSemaphorePermit,
    },
    Refused {
        id: u64,
        result: PutRecordResult,
        slot: OwnedSemaphorePermit,
    },
    NoMetrics {
        id: u64,
        slot: OwnedSemaphorePermit,
    },
}

impl Owed {
    /// A record that nobody will store.
    pub(super) fn refused(id: u64, code: &str, why: String, slot: OwnedSemaphorePermit) -> Self {
        let result = failed(code.to_owned(), why, Duration::ZERO);
        Self::Refused { id, result, slot }
    }
}

/// The task that answers one client.
pub(super) struct Answers {
    to: OwnedWriteHalf,
    owed: mpsc::UnboundedReceiver<Owed>,
    /// Records on their way. Asked outside of the runtime's budget: once that is spent, each of thousands would be asked
    /// again and again, and none would know.
    waiting: FuturesUnordered<BoxFuture<'static, Known>>,
    /// Frames that are not written yet, and the slots that they free.
    frames: Vec<u8>,
    slots: Vec<OwnedSemaphorePermit>,
    complaints: Complaints,
    peer: Peer,
}

struct Known {
    id: u64,
    delivery: Delivery,
    took: Duration,
    slot: OwnedSemaphorePermit,
}

impl Answers {
    /// A client that does not take its answers for so long is given up.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// Written at once, about.
    const BLOCK: usize = 64 * 1024;

    pub(super) fn new(
        to: OwnedWriteHalf,
        complaints: Complaints,
        peer: Peer,
    ) -> (mpsc::UnboundedSender<Owed>, Self) {
        let (sender, owed) = mpsc::unbounded_channel();
        let answers = Self {
            to,
            owed,
            waiting: FuturesUnordered::new(),
            frames: Vec::new(),
            slots: Vec::new(),
            complaints,
            peer,
        };
        (sender, answers)
    }

    /// Ends when the client is read no more and has all its answers, or does not take them. `_answering` is held
    /// meanwhile.
    pub(super) async fn run(mut self, _answering: mpsc::Sender<()>) {
        let mut is_read = true;
        while is_read || !self.waiting.is_empty() {
            tokio::select! {
                biased;
                Some(known) = unconstrained(self.waiting.next()), if !self.waiting.is_empty() => self.answer(known),
                owed = self.owed.recv(), if is_read => match owed {
                    Some(owed) => self.owe(owed),
                    None => is_read = false,
                },
            }
            self.answer_ready();
            if let Err(why) = self.write().await {
                let complaint = Complaint::Unanswerable(&why);
                self.complaints.about(self.peer, &complaint);
                return;
            }
        }
    }

    fn owe(&mut self, owed: Owed) {
        match owed {
            Owed::Record {
                id,
                receipt,
                born,
                slot,
            } => {
                let known = receipt.map(move |delivery| Known {
                    id,
                    delivery,
                    took: born.elapsed(),
                    slot,
                });
                self.waiting.push(known.boxed());
            }
            Owed::Refused { id, result, slot } => {
                result.encode(id, &mut self.frames);
                self.slots.push(slot);
            }
            Owed::NoMetrics { id, slot } => {
                MetricsResponse::default().encode(id, &mut self.frames);
                self.slots.push(slot);
            }
        }
    }

    /// What is known by now shares a write.
    fn answer_ready(&mut self) {
        while self.frames.len() < Self::BLOCK {
            if let Ok(owed) = self.owed.try_recv() {
                self.owe(owed);
            } else if let Some(Some(known)) = unconstrained(self.waiting.next()).now_or_never() {
                self.answer(known);
            } else {
                return;
            }
        }
    }

    fn answer(&mut self, known: Known) {
        let Known {
            id,
            delivery,
            took,
            slot,
        } = known;
        self.slots.push(slot);
        if let Some(result) = result(delivery, took) {
            result.encode(id, &mut self.frames);
        }
    }

    async fn write(&mut self) -> Result<(), String> {
        if !self.frames.is_empty() {
            let writing = self.to.write_all(&self.frames);
            match tokio::time::timeout(Self::PATIENCE, writing).await {
                Ok(Ok(())) => self.frames.clear(),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("it has read nothing for {:?}", Self::PATIENCE)),
            }
            self.frames.shrink_to(2 * Self::BLOCK);
        }
        self.slots.clear();
        Ok(())
    }
}

/// `None` where nobody knows: then the connection's end says so.
fn result(delivery: Delivery, took: Duration) -> Option<PutRecordResult> {
    let stored = |shard_id, sequence_number| PutRecordResult {
        attempts: vec![attempt(took)],
        success: true,
        shard_id,
        sequence_number,
    };
    match delivery {
        Delivery::Stored {
            shard, sequence, ..
        } => Some(stored(Some(shard.to_string()), Some(sequence.to_string()))),
        Delivery::Spooled => Some(stored(None, None)),
        Delivery::Failed {
            reason: FailReason::Abandoned,
            ..
        } => None,
        Delivery::Failed { reason, .. } => {
            Some(failed(reason.code().to_owned(), reason.to_string(), took))
        }
    }
}

fn failed(code: String, why: String, took: Duration) -> PutRecordResult {
    PutRecordResult {
        attempts: vec![Attempt {
            success: false,
            error_code: Some(code),
            error_message: Some(why),
            ..attempt(took)
        }],
        success: false,
        shard_id: None,
        sequence_number: None,
    }
}

/// The only one that is told: from when the record was read to its answer.
fn attempt(took: Duration) -> Attempt {
    Attempt {
        delay: 0,
        duration: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        success: true,
        error_code: None,
        error_message: None,
    }
}
