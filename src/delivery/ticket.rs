//! A record's claim to an answer, and what is held until it has it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::journal::{CallRefused, Journal, RecordSettled, Tried};
use super::{Delivery, FailReason, MemoryPermit, Receipt};
use crate::metrics::Counters;

/// One or more records' claim to an answer. Settled once, by value.
pub struct Ticket {
    group: Arc<Group>,
    records: u32,
}

/// The tickets of one chunk: told together, freed together.
struct Group {
    open: AtomicU32,
    abandoned: AtomicBool,
    born: Instant,
    reply: Reply,
    /// The rest is freed with the group, when the last ticket has gone.
    memory: Mutex<MemoryPermit>,
    /// Not to be stored: for the dead letter, sealed.
    doomed: Option<Box<FailReason>>,
    /// What the largest of the records takes of it; 0 where that is not known.
    each: usize,
    /// After so many answers what they took is given back.
    step: u32,
    /// Where the records are counted as pending, from when they were accepted.
    counted: OnceLock<Arc<Counters>>,
    /// The spool counts them now.
    on_disk: AtomicBool,
}

/// Memory is given back in so many steps: it takes a lock.
const STEPS: u32 = 64;

enum Reply {
    /// A caller waits for this record.
    Caller {
        waiting: Mutex<Waiting>,
        /// That it is in the spool is answer enough.
        when_spooled: bool,
    },
    /// A source has this span outstanding.
    Span {
        source: Arc<dyn SpanSettled>,
        id: u64,
    },
    /// Whoever asked for this record is told of each attempt too.
    Journal(Journal),
}

/// Taken by the one answer.
struct Waiting {
    reply: Option<oneshot::Sender<Delivery>>,
    /// Of the record's copy on disk.
    too: Option<Ticket>,
}

/// Told when every record of a span has its answer. Called on the owner loop: must not block.
pub trait SpanSettled: Send + Sync {
    fn settled(&self, id: u64);

    /// So many records of some span have theirs.
    fn answered(&self, _records: u32) {}
}

impl Ticket {
    /// For one record whose caller waits for the answer.
    pub fn for_caller(born: Instant, memory: MemoryPermit) -> (Self, Receipt) {
        Self::waited_for(born, memory, false)
    }

    /// The same for a caller to whom [`Delivery::Spooled`] is answer enough, where there is a spool.
    pub fn for_caller_until_spooled(born: Instant, memory: MemoryPermit) -> (Self, Receipt) {
        Self::waited_for(born, memory, true)
    }

    fn waited_for(born: Instant, memory: MemoryPermit, when_spooled: bool) -> (Self, Receipt) {
        let (tx, rx) = oneshot::channel();
        let waiting = Mutex::new(Waiting {
            reply: Some(tx),
            too: None,
        });
        let reply = Reply::Caller {
            waiting,
            when_spooled,
        };
        (Self::new(1, born, reply, memory), Receipt(rx))
    }

    /// For one record of `bytes` bytes, which its caller knows as `id`, and of which it is told each attempt.
    pub fn for_journal(
        born: Instant,
        memory: MemoryPermit,
        to: Arc<dyn RecordSettled>,
        id: u64,
        bytes: usize,
    ) -> Self {
        let reply = Reply::Journal(Journal::new(to, id, bytes));
        Self::new(1, born, reply, memory)
    }

    /// The same for a caller to whom [`Delivery::Spooled`] is answer enough, where there is a spool.
    pub fn for_journal_until_spooled(
        born: Instant,
        memory: MemoryPermit,
        to: Arc<dyn RecordSettled>,
        id: u64,
        bytes: usize,
    ) -> Self {
        let journal = Journal::new(to, id, bytes).until_spooled();
        Self::new(1, born, Reply::Journal(journal), memory)
    }

    /// For the `records` records of a source's span `id`; at least one.
    pub fn for_span(
        records: u32,
        born: Instant,
        memory: MemoryPermit,
        source: Arc<dyn SpanSettled>,
        id: u64,
    ) -> Self {
        Self::new(records, born, Reply::Span { source, id }, memory)
    }

    fn new(records: u32, born: Instant, reply: Reply, memory: MemoryPermit) -> Self {
        assert!(records > 0, "a ticket stands for at least one record");
        Self {
            group: Arc::new(Group {
                open: AtomicU32::new(records),
                abandoned: AtomicBool::new(false),
                born,
                reply,
                memory: Mutex::new(memory),
                doomed: None,
                each: 0,
                step: (records / STEPS).max(1),
                counted: OnceLock::new(),
                on_disk: AtomicBool::new(false),
            }),
            records,
        }
    }

    /// The records were accepted: from here on they are pending, until their tickets have gone.
    ///
    /// # Panics
    ///
    /// They were counted before, or a ticket of the chunk has gone.
    pub fn count(&self, records: u32, counters: &Arc<Counters>) {
        let open = self.group.open.load(Ordering::Acquire);
        assert_eq!(
            open, records,
            "all of the chunk's tickets are counted at once"
        );
        Counters::add(&counters.pending, u64::from(records));
        let counted = self.group.counted.set(Arc::clone(counters));
        assert!(counted.is_ok(), "tickets are counted once");
    }

    /// Whether the other one is of the same chunk.
    pub fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.group, &other.group)
    }

    /// Gives memory back as the records have their answers, of which each takes `bytes` at most.
    ///
    /// # Panics
    ///
    /// A ticket was taken off this one.
    #[must_use]
    pub fn taking_each(mut self, bytes: usize) -> Self {
        let group = Arc::get_mut(&mut self.group).expect("no other ticket of the chunk yet");
        group.each = bytes;
        self
    }

    /// The records are not to be stored, for this reason: they go the way of the others as far as they are sealed.
    ///
    /// # Panics
    ///
    /// A ticket was taken off this one.
    #[must_use]
    pub fn doomed(mut self, reason: Option<FailReason>) -> Self {
        let group = Arc::get_mut(&mut self.group).expect("no other ticket of the chunk yet");
        group.doomed = reason.map(Box::new);
        self
    }

    /// Why the records are not to be stored, if they are not.
    pub fn doom(&self) -> Option<&FailReason> {
        self.group.doomed.as_deref()
    }

    /// How many records this ticket stands for.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// When the records were read; deadlines and latencies count from here.
    pub fn born(&self) -> Instant {
        self.group.born
    }

    /// Whether a caller waits for the answer, and will be told of a failure.
    pub fn has_caller(&self) -> bool {
        matches!(self.group.reply, Reply::Caller { .. } | Reply::Journal(_))
    }

    /// A call was made for the record. Returns since when it had waited for it: when the attempt before ended, where its
    /// caller is told of attempts, or when it was read.
    pub fn tried(&self, tried: &Tried) -> Instant {
        let before = match &self.group.reply {
            Reply::Journal(journal) => journal.push(tried.clone()),
            Reply::Caller { .. } | Reply::Span { .. } => None,
        };
        before.unwrap_or(self.born())
    }

    /// The last attempt, told as one that stored the record, did not.
    pub fn tried_in_vain(&self, error: &Arc<CallRefused>) {
        if let Reply::Journal(journal) = &self.group.reply {
            journal.amend(Arc::clone(error));
        }
    }

    /// Whether a caller waits who needs no other answer than [`Delivery::Spooled`].
    pub fn is_answered_when_spooled(&self) -> bool {
        match &self.group.reply {
            Reply::Caller { when_spooled, .. } => *when_spooled,
            Reply::Journal(journal) => journal.when_spooled,
            Reply::Span { .. } => false,
        }
    }

    /// The record is on disk now, which owes its answer and counts it. Whoever waits goes on waiting; of what it takes of
    /// memory, all but `bytes` is given back.
    ///
    /// # Panics
    ///
    /// Nobody waits for it.
    pub fn park(&self, bytes: usize) {
        assert!(self.has_caller(), "only who waits for a record is parked");
        if let Some(counters) = self.group.counted.get()
            && !self.group.on_disk.swap(true, Ordering::AcqRel)
        {
            counters
                .pending
                .fetch_sub(u64::from(self.records), Ordering::Release);
        }
        let mut memory = self.group.memory.lock().expect("no panic while held");
        memory.shrink_to(bytes);
    }

    /// Whoever answers this one answers `other` too, which counts as no record of its own.
    ///
    /// # Panics
    ///
    /// Nobody waits for this one.
    #[must_use]
    pub fn answering_too(self, other: Self) -> Self {
        let Reply::Caller { waiting, .. } = &self.group.reply else {
            panic!("only who waits for one record can do so for its copy");
        };
        waiting.lock().expect("no panic while held").too = Some(other);
        self
    }

    /// A ticket for the first `records` of them, and one for the rest, if there is any.
    ///
    /// # Panics
    ///
    /// It stands for fewer.
    pub fn divide(mut self, records: u32) -> (Self, Option<Self>) {
        assert!(
            records > 0 && records <= self.records,
            "some of those it stands for"
        );
        if records == self.records {
            return (self, None);
        }
        self.records -= records;
        let taken = Self {
            group: Arc::clone(&self.group),
            records,
        };
        (taken, Some(self))
    }

    /// Takes another ticket of the same chunk in, or gives it back.
    pub fn absorb(&mut self, mut other: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.group, &other.group) {
            return Err(other);
        }
        self.records += std::mem::take(&mut other.records);
        Ok(())
    }

    /// Takes one record's ticket off this one, which must stand for more than one.
    pub fn take_one(&mut self) -> Self {
        assert!(self.records > 1, "a ticket for one record cannot be split");
        self.records -= 1;
        Self {
            group: Arc::clone(&self.group),
            records: 1,
        }
    }

    /// Gives the answer.
    pub fn settle(mut self, delivery: &Delivery) {
        let records = std::mem::take(&mut self.records);
        self.group.close(records, Some(delivery));
    }

    /// Gives the answer to a source, which asks no more than that there is one.
    ///
    /// # Panics
    ///
    /// It is a caller who waits.
    pub fn settle_of_source(mut self) {
        let Reply::Span { source, id } = &self.group.reply else {
            panic!("a caller is told what became of the record");
        };
        let records = std::mem::take(&mut self.records);
        self.group.uncount(records, true);
        self.group.close_span(source.as_ref(), *id, records, true);
    }

    /// Which chunk's it is, among those that there are.
    pub(super) fn chunk(&self) -> usize {
        Arc::as_ptr(&self.group).addr()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records > 0 {
            self.group.close(records, None);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("records", &self.records)
            .field("born", &self.group.born)
            .finish_non_exhaustive()
    }
}

impl Group {
    fn close(&self, records: u32, delivery: Option<&Delivery>) {
        self.uncount(records, delivery.is_some());
        match &self.reply {
            Reply::Caller { waiting, .. } => {
                let (reply, too) = {
                    let mut waiting = waiting.lock().expect("no panic while held");
                    (waiting.reply.take(), waiting.too.take())
                };
                if let (Some(too), Some(delivery)) = (too, delivery) {
                    too.settle(delivery);
                }
                if let Some(sender) = reply {
                    let answer = delivery.cloned().unwrap_or(Delivery::Failed {
                        reason: FailReason::Abandoned,
                        attempts: 0,
                    });
                    // A caller that dropped its receipt does not want to know.
                    let _ = sender.send(answer);
                }
            }
            Reply::Journal(journal) => {
                let abandoned = Delivery::Failed {
                    reason: FailReason::Abandoned,
                    attempts: 0,
                };
                journal.end(self.born, delivery.unwrap_or(&abandoned));
            }
            Reply::Span { source, id } => {
                self.close_span(source.as_ref(), *id, records, delivery.is_some());
            }
        }
    }

    fn uncount(&self, records: u32, are_answered: bool) {
        if let Some(counters) = self.counted.get()
            && !self.on_disk.load(Ordering::Acquire)
        {
            let records = u64::from(records);
            if !are_answered {
                Counters::add(&counters.abandoned, records);
            }
            counters.pending.fetch_sub(records, Ordering::Release);
        }
        if !are_answered {
            self.abandoned.store(true, Ordering::Release);
        }
    }

    fn close_span(&self, source: &dyn SpanSettled, id: u64, records: u32, are_answered: bool) {
        if are_answered {
            source.answered(records);
        }
        // AcqRel: whoever closes last sees every earlier `abandoned`.
        let before = self.open.fetch_sub(records, Ordering::AcqRel);
        if before == records && !self.abandoned.load(Ordering::Acquire) {
            source.settled(id);
        }
        self.give_back(before, before - records);
    }

    /// What the records took that have their answers now; `open` of them have none.
    fn give_back(&self, before: u32, open: u32) {
        let is_due = before / self.step != open / self.step;
        if self.each > 0 && open > 0 && is_due {
            let still = (open as usize).saturating_mul(self.each);
            let mut memory = self.memory.lock().expect("no panic while held");
            // Another thread may have been first, with fewer open: a permit never grows.
            memory.shrink_to(still);
        }
    }
}

#[cfg(test)]
mod tests;
