//! Prints what is read, and keeps how far that is.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Handle;

use super::sink::Sink;
use crate::consume::checkpoint::Checkpoint;
use crate::consume::output::{PrintError, Printed, Printer};
use crate::consume::{ConsumedBatch, Consumer, Place, Progress, Reason, Unreadable, UserRecord};
use crate::shard::ShardId;

/// The checkpoint is saved this often, if it has moved.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Who reads behind is told this often how far.
const TELL_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Printing<E: Write> {
    consumer: Consumer,
    printer: Printer<Sink, E>,
    checkpoint: Option<Checkpoint>,
    /// What the checkpoint does not say yet, since when.
    unsaved: Option<Instant>,
    /// Whether it says something: until then nothing says where reading began.
    is_begun: bool,
    told: Instant,
    stopping: Stopping,
    /// Its name in messages.
    output: String,
    /// Records that could not be read, for whoever does not wait for the end.
    refused: Arc<AtomicU64>,
}

/// How it ended.
pub(super) struct Ended<E: Write> {
    /// Where it has an end of its own to tell; not where printing ended before it.
    pub(super) consumer: Option<Consumer>,
    pub(super) printer: Printer<Sink, E>,
    /// Why it ended at a record.
    pub(super) stopped: Option<&'static str>,
    pub(super) unreadable: u64,
}

enum Next {
    Batch(Box<ConsumedBatch>),
    /// None within the time.
    Nothing,
    End,
}

/// Why no more is printed.
enum End {
    OfReading,
    /// One complaint about keys is enough.
    AtRecord(&'static str),
    Limit,
}

impl<E: Write> Printing<E> {
    pub(super) fn new(
        consumer: Consumer,
        printer: Printer<Sink, E>,
        checkpoint: Option<Checkpoint>,
        stopping: Stopping,
        output: String,
    ) -> Self {
        let is_begun = checkpoint
            .as_ref()
            .is_none_or(|known| !known.places.is_empty());
        Self {
            consumer,
            printer,
            checkpoint,
            unsaved: None,
            is_begun,
            told: Instant::now(),
            stopping,
            output,
            refused: Arc::default(),
        }
    }

    /// Tells there how many records could not be read so far.
    pub(super) fn counting(self, refused: Arc<AtomicU64>) -> Self {
        Self { refused, ..self }
    }

    /// Until reading ends, or nobody takes what is printed. Blocks.
    pub(super) fn run(mut self) -> anyhow::Result<Ended<E>> {
        let ended = self.print_batches();
        let unreadable = self.printer.unreadable();
        let stopped = match ended {
            Ok(End::AtRecord(why)) => Some(why),
            _ => None,
        };
        let consumer = match ended {
            Ok(End::OfReading) => Some(self.consumer),
            Ok(End::AtRecord(_) | End::Limit) => None,
            // Whoever read our output has enough, `head` for one.
            Err(error) if is_closed(&error) && self.printer.out().may_be_left() => None,
            Err(error) if is_closed(&error) => {
                return Err(error.context("--out: whoever read from it is gone"));
            }
            Err(error) => return Err(error),
        };
        Ok(Ended {
            consumer,
            printer: self.printer,
            stopped,
            unreadable,
        })
    }

    fn print_batches(&mut self) -> anyhow::Result<End> {
        loop {
            if self.printer.is_full() {
                self.save()?;
                return Ok(End::Limit);
            }
            match self.next()? {
                Next::Nothing => {}
                Next::End => {
                    self.save()?;
                    return Ok(End::OfReading);
                }
                Next::Batch(batch) => {
                    if let Some(why) = self.print(*batch)? {
                        self.flush()?;
                        return Ok(End::AtRecord(why));
                    }
                }
            }
            let is_due = |since: Instant| !self.is_begun || since.elapsed() >= SAVE_EVERY;
            if self.unsaved.is_some_and(is_due) {
                self.save()?;
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Next> {
        if let Some(batch) = self.consumer.try_next() {
            return Ok(Next::Batch(Box::new(batch)));
        }
        // Nothing may lie in the buffer while we wait.
        self.flush()?;
        let waiting = tokio::time::timeout(SAVE_EVERY, async { self.consumer.next().await });
        Ok(match Handle::current().block_on(waiting) {
            Ok(Some(batch)) => Next::Batch(Box::new(batch)),
            Ok(None) => Next::End,
            Err(_) => Next::Nothing,
        })
    }

    /// Why no more is to be printed, if that is so.
    fn print(&mut self, mut batch: ConsumedBatch) -> anyhow::Result<Option<&'static str>> {
        let stopping = match self.printer.keeps() {
            true => Stopping::WithoutKeys,
            false => self.stopping,
        };
        let reasons = batch.records.iter().map(|record| stopping.at(record));
        let stop = (0..).zip(reasons).find_map(|(at, why)| Some((at, why?)));
        let Some((at, why)) = stop else {
            self.print_whole(&batch)?;
            return Ok(None);
        };
        batch.records.truncate(at + 1_usize);
        let last = Arc::clone(&place_of(&batch.records[at]).sequence);
        let is_before = |record: &Result<_, _>| place_of(record).sequence != last;
        let begin = batch
            .records
            .iter()
            .take_while(|record| is_before(record))
            .count();
        let of_the_last = batch.records.split_off(begin);
        if let Some(record) = batch.records.last() {
            batch.progress = Progress::UpTo(Arc::clone(&place_of(record).sequence));
            // Where a limit comes first, that is why no more is printed.
            if !self.print_whole(&batch)? {
                return Ok(None);
            }
        }
        self.save()?;
        // Others of its aggregate are printed again, once it can be opened.
        batch.records = of_the_last;
        let printed = self.printer.print(&batch)?;
        self.refused
            .store(self.printer.unreadable(), Ordering::Relaxed);
        match printed {
            Printed::All => Ok(Some(why)),
            Printed::UpTo(sequence) => {
                self.note(batch.shard, sequence.map(Progress::UpTo));
                Ok(None)
            }
        }
    }

    /// And notes it. Whether that was all of it: a limit may come first.
    fn print_whole(&mut self, batch: &ConsumedBatch) -> anyhow::Result<bool> {
        let printed = self.printer.print(batch)?;
        self.tell_what_is_passed_over();
        self.tell_lag(batch);
        let (is_all, progress) = match printed {
            Printed::All => (true, Some(batch.progress.clone())),
            Printed::UpTo(sequence) => (false, sequence.map(Progress::UpTo)),
        };
        self.note(batch.shard.clone(), progress);
        Ok(is_all)
    }

    fn note(&mut self, shard: ShardId, progress: Option<Progress>) {
        if let (Some(checkpoint), Some(progress)) = (&mut self.checkpoint, progress) {
            checkpoint.places.insert(shard, progress);
            self.unsaved.get_or_insert_with(Instant::now);
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let flushed = self.printer.flush();
        flushed.with_context(|| self.output.clone())
    }

    /// Once, and so that the exit code knows it whatever comes.
    fn tell_what_is_passed_over(&mut self) {
        let unreadable = self.printer.unreadable();
        let before = self.refused.swap(unreadable, Ordering::Relaxed);
        if before == 0 && unreadable > 0 && self.checkpoint.is_some() && !self.printer.keeps() {
            tracing::warn!(
                "records that cannot be opened are passed over, and the checkpoint moves on; --dead-letter FILE keeps them"
            );
        }
    }

    /// What is printed first, and then that it was.
    fn save(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        if self.unsaved.take().is_some() {
            let output = || self.output.clone();
            self.printer.sync().context("--dead-letter")?;
            self.printer.out_mut().begin().with_context(output)?;
            checkpoint.written = self.printer.out().synced_len().with_context(output)?;
            checkpoint.save()?;
            self.is_begun = true;
        }
        Ok(())
    }

    fn tell_lag(&mut self, batch: &ConsumedBatch) {
        if !batch.behind.is_zero() && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let millis_behind_latest = batch.behind.as_millis() as u64;
            tracing::info!(shard = %batch.shard, millis_behind_latest, "read, and not to the tip yet");
        }
    }
}

fn place_of(record: &Result<UserRecord, Unreadable>) -> &Place {
    match record {
        Ok(record) => &record.place,
        Err(unreadable) => &unreadable.place,
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let io = match error.downcast_ref::<PrintError>() {
        Some(PrintError::Output(error)) => Some(error),
        _ => error.downcast_ref::<io::Error>(),
    };
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// At which records reading stops, with the checkpoint before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopping {
    /// That are encrypted, where no key is given.
    WithoutKeys,
    /// Also whose key may not be used: somebody has to put that right, and it is nothing of the record's.
    WhereKeysAreRefused,
}

impl Stopping {
    /// Why at this one, if so.
    fn at(self, record: &Result<UserRecord, Unreadable>) -> Option<&'static str> {
        let Err(unreadable) = record else { return None };
        match &*unreadable.reason {
            Reason::NoKeys { .. } => Some("what follows is likely to be encrypted too"),
            reason if self == Self::WhereKeysAreRefused && reason.refuses_the_key() => Some(
                "it and what follows is read once the key may be used; --dead-letter FILE keeps such records, and goes on",
            ),
            _ => None,
        }
    }
}
