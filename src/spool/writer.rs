//! Onto disk: what was sealed, in groups, before it goes anywhere else.

mod appender;
mod passing;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::appender::{Appended, Appender};
use self::passing::Passing;
use super::clock::Clock;
use super::frame::Frame;
use super::shelf::{Parked, Shelf};
use super::{Mode, Spool, Sync, restore};
use crate::delivery::{Delivery, FailReason, MemoryBudget, Ticket};
use crate::metrics::{Counters, Histograms, Trouble};
use crate::recurring::{Recurring, Unsaid};
use crate::seal::SealedRecord;
use crate::seal::offload::{InOrder, SealedChunk};

/// Takes sealed chunks, and answers for them once they are on disk, or passes them on.
#[derive(Debug)]
pub struct Writer {
    shelf: Arc<Shelf>,
    /// `None` while it is at work on another thread.
    appender: Option<Appender>,
    sync: Sync,
    /// Where memory comes first.
    passing: Option<Passing>,
    counters: Arc<Counters>,
    histograms: Arc<Mutex<Histograms>>,
    /// Answers that wait for the next sync, and when that is due.
    unsynced: Vec<Ticket>,
    sync_at: Option<Instant>,
    /// When to look next whether the files have their names still.
    look_at: Instant,
    blocked: Recurring,
    unrestored: Recurring,
}

/// What is on disk now.
struct Held {
    frames: usize,
    /// The number of the first record in them, and the number behind the last one.
    first: u64,
    end: u64,
    /// Bytes of the segment.
    len: u64,
}

enum Event {
    Chunk(Option<SealedChunk>),
    SyncDue,
    LookDue,
}

/// For ever without a time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Writer {
    /// Between tries while the disk refuses.
    const PAUSE: Duration = Duration::from_secs(2);
    /// Bytes that are written and synced as one, but for a single larger record. What comes meanwhile is the next group.
    const GROUP: usize = 4 << 20;
    /// What a record that waits for its answer keeps of its memory: its ticket, and its place among those that wait.
    const PARKED: usize = 300;

    /// `budget` is that of the sources, and `sealed` the way past the disk. Its own stages are measured in
    /// `histograms`.
    pub fn new(
        spool: &Spool,
        budget: MemoryBudget,
        sealed: mpsc::Sender<oneshot::Receiver<SealedChunk>>,
        counters: Arc<Counters>,
        histograms: Arc<Mutex<Histograms>>,
    ) -> Self {
        let passing = match spool.settings.mode {
            Mode::DiskFirst => None,
            Mode::MemoryFirst => Some(Passing { budget, sealed }),
        };
        Self {
            shelf: spool.shelf(),
            appender: Some(Appender::new(spool)),
            sync: spool.settings.sync,
            passing,
            counters,
            histograms,
            unsynced: Vec::new(),
            sync_at: None,
            look_at: Instant::now(),
            blocked: Recurring::default(),
            unrestored: Recurring::default(),
        }
    }

    /// Ends when the chunks end: then all is on disk and synced, or was passed on.
    ///
    /// Not cancel safe: what it has in hand then is abandoned, or on disk.
    pub async fn run(mut self, mut chunks: InOrder) {
        loop {
            match self.next(&mut chunks).await {
                Event::SyncDue => self.sync().await,
                Event::LookDue => self.look().await,
                Event::Chunk(None) => break,
                Event::Chunk(Some(chunk)) => {
                    let mut together = VecDeque::from([chunk]);
                    let bytes = |all: &VecDeque<SealedChunk>| -> u64 {
                        all.iter().map(|chunk| chunk.sealed_bytes).sum()
                    };
                    while bytes(&together) < Self::GROUP as u64
                        && let Some(chunk) = chunks.ready()
                    {
                        together.push_back(chunk);
                    }
                    self.take(together).await;
                }
            }
        }
        while self.sync_at.is_some() {
            self.sync().await;
        }
        self.shelf.writer_ended();
    }

    async fn next(&mut self, chunks: &mut InOrder) -> Event {
        let (look_at, waits) = (self.look_at, self.shelf.holds_some());
        tokio::select! {
            biased;
            () = until(self.sync_at) => Event::SyncDue,
            () = tokio::time::sleep_until(look_at), if waits => Event::LookDue,
            chunk = chunks.next() => Event::Chunk(chunk),
        }
    }

    /// Passes on what may be, and appends the rest.
    async fn take(&mut self, mut chunks: VecDeque<SealedChunk>) {
        while let Some(chunk) = chunks.pop_front() {
            if let Err(chunk) = Passing::pass(self.passing.as_ref(), &self.shelf, chunk) {
                chunks.push_front(chunk);
                break;
            }
        }
        let mut records = Vec::new();
        for chunk in chunks {
            self.measure(&chunk);
            records.extend(chunk.records);
        }
        let mut rest = records.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(record) =
                rest.next_if(|next| group.is_empty() || bytes + next.data().len() <= Self::GROUP)
            {
                bytes += record.data().len();
                group.push(record);
            }
            self.append(group).await;
        }
    }

    /// What the owner measures of chunks that come to it straight.
    fn measure(&self, chunk: &SealedChunk) {
        Counters::add(&self.counters.plain_bytes, chunk.plain_bytes);
        Counters::add(&self.counters.sealed_bytes, chunk.sealed_bytes);
        let mut histograms = self.histograms.lock().expect("no panic while held");
        // Of a block, the chunks were measured that it is made of.
        if !chunk.read_took.is_zero() {
            histograms.read.record(chunk.read_took, 1);
        }
        histograms
            .seal
            .record(chunk.seal_took, chunk.user_records());
    }

    /// Waits until the disk has them. Not cancel safe.
    async fn append(&mut self, records: Vec<SealedRecord>) {
        let mut records = records.into_iter();
        while !records.as_slice().is_empty() {
            let began = Instant::now();
            let frames = self.frames(records.as_slice());
            let held = self.until_it_holds(frames.into()).await;
            let count = self.publish(records.by_ref().take(held.frames), &held);
            let mut histograms = self.histograms.lock().expect("no panic while held");
            histograms.spool.record(began.elapsed(), count);
        }
    }

    /// These are on disk: whoever waits for no more has its answer. Returns how many user records they are.
    fn publish(&mut self, records: impl Iterator<Item = SealedRecord>, held: &Held) -> u64 {
        let mut number = held.first;
        let (mut parked, mut spooled) = (Parked::new(), Vec::new());
        for record in records {
            let tickets = record.into_tickets();
            let at = number;
            number += tickets.records();
            for ticket in tickets {
                if !ticket.has_caller() {
                    spooled.push(ticket);
                } else if !ticket.is_answered_when_spooled() {
                    ticket.park(Self::PARKED);
                    match parked.last_mut() {
                        Some((last, waiters)) if *last == at => waiters.push(ticket),
                        _ => parked.push((at, smallvec![ticket])),
                    }
                } else if self.syncs_later() {
                    ticket.park(Self::PARKED);
                    self.unsynced.push(ticket);
                } else {
                    spooled.push(ticket);
                }
            }
        }
        self.shelf.published(held.end, held.len, parked);
        // What nobody waits for, and answers that may be given now. Their memory is free.
        for ticket in spooled {
            ticket.settle(&Delivery::Spooled);
        }
        held.end - held.first
    }

    fn syncs_later(&self) -> bool {
        matches!(self.sync, Sync::Interval(_))
    }

    /// As they are to be on disk.
    fn frames(&self, records: &[SealedRecord]) -> Vec<Frame<Bytes>> {
        let clock = Clock::now();
        let mut number = self.next_number();
        let frames = records.iter().map(|record| {
            let count = u32::try_from(record.tickets().records()).expect("fewer than bytes");
            let frame = Frame {
                number,
                born_ms: clock.ms(record.tickets().born()),
                records: count,
                key: record.route().key(),
                data: record.data().clone(),
            };
            number += u64::from(count);
            frame
        });
        frames.collect()
    }

    fn next_number(&self) -> u64 {
        let appender = self.appender.as_ref().expect("nothing is under way");
        appender.next_number()
    }

    /// Waits until it holds at least the first of them.
    async fn until_it_holds(&mut self, frames: Arc<[Frame<Bytes>]>) -> Held {
        let first = self.next_number();
        loop {
            if Instant::now() >= self.look_at {
                self.look().await;
            }
            let group = Arc::clone(&frames);
            let why = match self.aside(move |appender| appender.append(&group)).await {
                Ok(Appended::Written { frames, end, len }) => {
                    self.counters.troubles.end(Trouble::SpoolBlocked);
                    if let Some(down_for) = self.blocked.end(Instant::now()) {
                        tracing::warn!(
                            path = %self.shelf.dir().display(), ?down_for, "the spool takes records again"
                        );
                    }
                    if let Sync::Interval(interval) = self.sync {
                        self.sync_at
                            .get_or_insert_with(|| Instant::now() + interval);
                    }
                    return Held {
                        frames,
                        first,
                        end,
                        len,
                    };
                }
                Ok(Appended::Full { bytes }) => format!(
                    "{bytes} bytes wait there, and spool.max_bytes allows no more; sources wait until the stream \
                     has taken some"
                ),
                Err(error) => {
                    format!("{error}: free space on its disk, or let this user write there")
                }
            };
            self.say_blocked(&why);
            tokio::select! {
                biased;
                // What was promised of those before them holds meanwhile.
                () = until(self.sync_at) => self.sync().await,
                () = self.shelf.freed.notified() => {}
                // A disk may heal without a word.
                () = tokio::time::sleep(Self::PAUSE) => {}
            }
        }
    }

    /// Nothing is lost of what somebody removes, but with the process.
    async fn look(&mut self) {
        self.look_at = Instant::now() + restore::EVERY;
        match self.aside(Appender::restore).await {
            Ok(()) => {
                self.unrestored.end(Instant::now());
            }
            Err(error) => {
                if let Some(Unsaid(others)) = self.unrestored.goes_on(Instant::now()) {
                    tracing::error!(
                        path = %self.shelf.dir().display(), %error, others_unsaid = others,
                        "somebody removed files of the spool, and they cannot be written again: what waits in them is sent by \
                         this process or by none. Free space on its disk, and let this user write there"
                    );
                }
            }
        }
    }

    /// Those who wait for it have their answer then.
    async fn sync(&mut self) {
        self.sync_at = None;
        let answer = match self.aside(Appender::sync).await {
            Ok(()) => Delivery::Spooled,
            Err(error) => {
                let why = format!("{error}: what was written last may not survive a power cut");
                self.say_blocked(&why);
                let reason = FailReason::Unsynced(error.to_string());
                Delivery::Failed {
                    reason,
                    attempts: 0,
                }
            }
        };
        for ticket in self.unsynced.drain(..) {
            ticket.settle(&answer);
        }
    }

    fn say_blocked(&mut self, why: &str) {
        self.counters.troubles.begin(Trouble::SpoolBlocked);
        if let Some(Unsaid(others)) = self.blocked.goes_on(Instant::now()) {
            tracing::error!(
                path = %self.shelf.dir().display(), others_unsaid = others, "the spool takes nothing: {why}"
            );
        }
    }

    /// On a thread that may block.
    async fn aside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Appender) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut appender = self.appender.take().expect("nothing is under way");
        let working = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut appender);
            (appender, outcome)
        });
        let (appender, outcome) = working.await.expect("writing does not panic");
        self.appender = Some(appender);
        outcome
    }
}
