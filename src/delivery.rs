//! The promise made for each record, and its one answer.
//!
//! An accepted record holds a [`Ticket`]. A ticket is settled exactly once, by value; one that is dropped
//! instead was abandoned, and whoever waits is told so: a source's span then never counts as settled, so a
//! checkpoint cannot pass it.
//!
//! Tickets of one chunk share a group, which holds the chunk's [`MemoryPermit`]. It is given back as the records
//! have their answers: one that waits for its shard for hours does not hold what a thousand others took.

mod budget;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use budget::{MemoryBudget, MemoryPermit};

use crate::metrics::Counters;

/// The one answer a record gets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// Acknowledged by the service. All members of an aggregate share its sequence number.
    Stored {
        shard: Arc<str>,
        sequence: Arc<str>,
        /// Calls made for it, the successful one included.
        attempts: u32,
    },
    /// On disk in the spool, from where it is sent: the answer for those who asked for no more. Never a producer's.
    Spooled,
    /// It will not be stored: the reason, and the calls made before that was known.
    Failed { reason: FailReason, attempts: u32 },
}

impl Delivery {
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }
}

/// Why a record left the path without being stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailReason {
    #[error(
        "record of {bytes} bytes (after encryption, key included) is over the limit of {limit}; \
         split it, or raise the stream's MaxRecordSizeInKiB, and batch.max_record_bytes where that is set"
    )]
    TooLarge { bytes: usize, limit: usize },
    #[error("line of {bytes} bytes is over max_line_bytes, or what memory_limit leaves for one: {limit}; {}", kept(*cut))]
    LineTooLong {
        bytes: u64,
        limit: usize,
        /// Bytes of its end that are kept nowhere.
        cut: u64,
    },
    #[error("the service refuses this record: {code}: {message}")]
    Refused { code: String, message: String },
    #[error("not stored within delivery.record_ttl; last answer: {last}")]
    Expired { last: String },
    #[error("the encryption refuses this record: {0}")]
    Unsealable(String),
    #[error(
        "its copy in the spool could not be synced ({0}) and may not survive a power cut; it is sent all the same"
    )]
    Unsynced(String),
    #[error("the producer was stopped before the record was stored")]
    Abandoned,
}

impl FailReason {
    /// A word for it, by which sums can be made: reasons themselves have lengths and request ids in them.
    pub fn code(&self) -> &str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::LineTooLong { .. } => "LineTooLong",
            Self::Refused { code, .. } => code,
            Self::Expired { .. } => "Expired",
            Self::Unsealable(_) => "Unsealable",
            Self::Unsynced(_) => "Unsynced",
            Self::Abandoned => "Abandoned",
        }
    }
}

fn kept(cut: u64) -> String {
    match cut {
        0 => "it is kept whole".to_owned(),
        cut => format!("its last {cut} bytes are cut off"),
    }
}

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
        matches!(self.group.reply, Reply::Caller { .. })
    }

    /// Whether a caller waits who needs no other answer than [`Delivery::Spooled`].
    pub fn is_answered_when_spooled(&self) -> bool {
        matches!(
            self.group.reply,
            Reply::Caller {
                when_spooled: true,
                ..
            }
        )
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
        if let Some(counters) = self.counted.get()
            && !self.on_disk.load(Ordering::Acquire)
        {
            let records = u64::from(records);
            if delivery.is_none() {
                Counters::add(&counters.abandoned, records);
            }
            counters.pending.fetch_sub(records, Ordering::Release);
        }
        if delivery.is_none() {
            self.abandoned.store(true, Ordering::Release);
        }
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
            Reply::Span { source, id } => {
                if delivery.is_some() {
                    source.answered(records);
                }
                // AcqRel: whoever closes last sees every earlier `abandoned`.
                let before = self.open.fetch_sub(records, Ordering::AcqRel);
                if before == records && !self.abandoned.load(Ordering::Acquire) {
                    source.settled(*id);
                }
                self.give_back(before, before - records);
            }
        }
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

/// The tickets of what travels as one: a record's own, or those of all records in a block. Never empty.
#[derive(Debug)]
pub struct Tickets(SmallVec<[Ticket; 1]>);

impl Tickets {
    pub fn one(ticket: Ticket) -> Self {
        Self(smallvec![ticket])
    }

    /// Neighbours mostly come from one chunk, and become one ticket for both.
    pub fn join(&mut self, ticket: Ticket) {
        let last = self.0.last_mut().expect("never empty");
        if let Err(ticket) = last.absorb(ticket) {
            self.0.push(ticket);
        }
    }

    /// Records they stand for.
    pub fn records(&self) -> u64 {
        self.0.iter().map(|t| u64::from(t.records())).sum()
    }

    /// Whether a caller waits for [`Delivery::Spooled`].
    pub fn wait_for_the_spool(&self) -> bool {
        self.0.iter().any(Ticket::is_answered_when_spooled)
    }

    /// When the first of the records was read.
    pub fn born(&self) -> Instant {
        let born = self.0.iter().map(Ticket::born).min();
        born.expect("never empty")
    }

    /// Why they are not to be stored, if one of them is not.
    pub fn doom(&self) -> Option<&FailReason> {
        self.0.iter().find_map(Ticket::doom)
    }

    pub fn settle(self, delivery: &Delivery) {
        for ticket in self.0 {
            ticket.settle(delivery);
        }
    }

    /// Those whose callers are told of a failure, and the rest, which need a dead letter.
    pub fn part(self) -> (SmallVec<[Ticket; 1]>, Option<Self>) {
        let (callers, rest): (SmallVec<_>, SmallVec<_>) =
            self.0.into_iter().partition(Ticket::has_caller);
        (callers, (!rest.is_empty()).then_some(Self(rest)))
    }
}

impl IntoIterator for Tickets {
    type Item = Ticket;
    type IntoIter = smallvec::IntoIter<[Ticket; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Resolves to the record's one [`Delivery`]. Dropping it does not cancel the record.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Delivery>);

impl Receipt {
    /// Waits for the answer. Cancel safe: the answer stays in the channel until it is taken.
    pub async fn delivery(&mut self) -> Delivery {
        (&mut self.0).await.unwrap_or(Delivery::Failed {
            reason: FailReason::Abandoned,
            attempts: 0,
        })
    }
}

impl Future for Receipt {
    type Output = Delivery;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Delivery> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or(Delivery::Failed {
                reason: FailReason::Abandoned,
                attempts: 0,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_given_back_as_answers_come_and_never_that_of_a_record_without_one() {
        let budget = MemoryBudget::new(1_000_000);
        let memory = budget.reserve(200_000).await;
        let told = Arc::new(Told::default());
        let mut rest = Ticket::for_span(1000, Instant::now(), memory, told, 0).taking_each(300);
        let failed = Delivery::Failed {
            reason: FailReason::Abandoned,
            attempts: 0,
        };
        for open in (1..1000).rev() {
            rest.take_one().settle(&failed);
            let needed = (open * 300).min(200_000);
            let held = budget.in_use();
            assert!(
                held >= needed && held <= (needed + 16 * 300).min(200_000),
                "{open}: {held}"
            );
        }
        rest.settle(&failed);
        assert_eq!(budget.in_use(), 0);
    }

    #[derive(Default)]
    struct Told(Mutex<Vec<u64>>);

    impl SpanSettled for Told {
        fn settled(&self, id: u64) {
            self.0.lock().unwrap().push(id);
        }
    }

    fn stored() -> Delivery {
        Delivery::Stored {
            shard: "shardId-000000000000".into(),
            sequence: "1".into(),
            attempts: 1,
        }
    }

    fn span(budget: &MemoryBudget, records: u32, told: &Arc<Told>) -> Ticket {
        let memory = budget.try_reserve(1000).unwrap();
        let source: Arc<dyn SpanSettled> = Arc::<Told>::clone(told);
        Ticket::for_span(records, Instant::now(), memory, source, 7)
    }

    #[tokio::test]
    async fn span_is_told_once_and_only_after_its_last_record() {
        let (budget, told) = (MemoryBudget::new(10_000), Arc::new(Told::default()));
        let mut rest = span(&budget, 3, &told);
        let (a, b) = (rest.take_one(), rest.take_one());
        a.settle(&stored());
        rest.settle(&stored());
        assert!(told.0.lock().unwrap().is_empty());
        assert!(budget.in_use() > 0);
        b.settle(&stored());
        assert_eq!(*told.0.lock().unwrap(), [7]);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn span_with_an_abandoned_record_is_never_told() {
        let (budget, told) = (MemoryBudget::new(10_000), Arc::new(Told::default()));
        let mut rest = span(&budget, 2, &told);
        drop(rest.take_one());
        rest.settle(&stored());
        assert!(told.0.lock().unwrap().is_empty());
        assert_eq!(budget.in_use(), 0, "memory is free all the same");
    }

    #[tokio::test]
    async fn caller_of_a_dropped_ticket_hears_that_it_was_abandoned() {
        let budget = MemoryBudget::new(10_000);
        let (ticket, receipt) = Ticket::for_caller(Instant::now(), budget.reserve(10).await);
        drop(ticket);
        assert!(matches!(
            receipt.await,
            Delivery::Failed {
                reason: FailReason::Abandoned,
                ..
            }
        ));
    }
}
