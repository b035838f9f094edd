//! A record whose every attempt is told, as the KPL's clients are.

use std::sync::{Arc, Mutex};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::Delivery;

/// Told once of each record, when its answer is known. Called on the owner loop: must not block.
pub trait RecordSettled: Send + Sync {
    fn settled(&self, settled: SettledRecord<'_>);
}

/// A record that has its answer.
#[derive(Debug)]
pub struct SettledRecord<'a> {
    /// As it was given with the ticket.
    pub id: u64,
    /// Its length, likewise.
    pub bytes: usize,
    pub born: Instant,
    pub delivery: &'a Delivery,
    /// The attempts in their order, the last one included.
    pub tried: &'a [Tried],
}

/// A call that was made for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub started: Instant,
    pub ended: Instant,
    /// Why it did not store the record; `None`: it did.
    pub error: Option<Arc<CallRefused>>,
}

/// What an answer, or its lack, said against a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRefused {
    pub code: String,
    pub message: String,
}

/// What is kept of a record for its answer.
pub(super) struct Journal {
    to: Arc<dyn RecordSettled>,
    id: u64,
    bytes: usize,
    /// That it is in the spool is answer enough.
    pub(super) when_spooled: bool,
    /// Mostly one.
    tried: Mutex<SmallVec<[Tried; 1]>>,
}

impl Journal {
    /// Attempts that are told of a record at most: the first, and the last ones. One that waits for days has thousands, and
    /// what all records keep of theirs is beside the memory that they are counted for: 320 bytes each at most.
    const MOST: usize = 8;

    pub(super) fn new(to: Arc<dyn RecordSettled>, id: u64, bytes: usize) -> Self {
        Self {
            to,
            id,
            bytes,
            when_spooled: false,
            tried: Mutex::default(),
        }
    }

    pub(super) fn until_spooled(self) -> Self {
        Self {
            when_spooled: true,
            ..self
        }
    }

    /// Returns when the attempt before ended, if there was one.
    pub(super) fn push(&self, tried: Tried) -> Option<Instant> {
        let mut all = self.tried.lock().expect("no panic while held");
        let before = all.last().map(|last| last.ended);
        if all.len() == Self::MOST {
            all.remove(1);
        }
        all.push(tried);
        before
    }

    /// The last attempt was none after all.
    pub(super) fn amend(&self, error: Arc<CallRefused>) {
        let mut all = self.tried.lock().expect("no panic while held");
        if let Some(last) = all.last_mut() {
            last.error = Some(error);
        }
    }

    pub(super) fn end(&self, born: Instant, delivery: &Delivery) {
        let tried = std::mem::take(&mut *self.tried.lock().expect("no panic while held"));
        self.to.settled(SettledRecord {
            id: self.id,
            bytes: self.bytes,
            born,
            delivery,
            tried: &tried,
        });
    }
}
