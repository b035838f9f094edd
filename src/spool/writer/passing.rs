//! The way that leaves out the disk, where memory comes first.

use tokio::sync::{mpsc, oneshot};

use crate::delivery::MemoryBudget;
use crate::seal::SealedRecord;
use crate::seal::offload::SealedChunk;
use crate::spool::shelf::Shelf;

#[derive(Debug)]
pub(super) struct Passing {
    /// Of the sources.
    pub(super) budget: MemoryBudget,
    pub(super) sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
}

impl Passing {
    /// Goes past the disk, while nothing waits there and the stream takes what it is given.
    pub(super) fn pass(
        way: Option<&Self>,
        shelf: &Shelf,
        chunk: SealedChunk,
    ) -> Result<(), SealedChunk> {
        let Some(Self { budget, sealed }) = way else {
            return Err(chunk);
        };
        let has_room = budget.in_use() <= budget.limit() / 2;
        // Who waits for the disk is answered by it.
        let waits = |record: &SealedRecord| record.tickets().wait_for_the_spool();
        if !has_room || !shelf.is_caught_up() || chunk.records.iter().any(waits) {
            return Err(chunk);
        }
        let Ok(place) = sealed.try_reserve() else {
            return Err(chunk);
        };
        let (tx, rx) = oneshot::channel();
        let _ = tx.send(chunk);
        place.send(rx);
        Ok(())
    }
}
