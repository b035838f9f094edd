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
use crate::consume::{ConsumedBatch, Consumer, Progress, Reason, Unreadable, UserRecord};
use crate::seal::open::OpenError;

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
    told: Instant,
    stopping: Stopping,
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
    ) -> Self {
        Self {
            consumer,
            printer,
            checkpoint,
            unsaved: None,
            told: Instant::now(),
            stopping,
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
                        self.printer.flush().context(OUTPUT)?;
                        return Ok(End::AtRecord(why));
                    }
                }
            }
            if self
                .unsaved
                .is_some_and(|since| since.elapsed() >= SAVE_EVERY)
            {
                self.save()?;
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Next> {
        if let Some(batch) = self.consumer.try_next() {
            return Ok(Next::Batch(Box::new(batch)));
        }
        // Nothing may lie in the buffer while we wait.
        self.printer.flush().context(OUTPUT)?;
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
        if let Some((at, _)) = stop {
            batch.records.truncate(at + 1_usize);
        }
        let printed = self.printer.print(&batch)?;
        self.tell_what_is_passed_over();
        // Where a limit came before it, that is why.
        if let (Some((_, why)), Printed::All) = (stop, &printed) {
            return Ok(Some(why));
        }
        self.tell_lag(&batch);
        let progress = match printed {
            Printed::All => Some(batch.progress),
            Printed::UpTo(sequence) => sequence.map(Progress::UpTo),
        };
        if let (Some(checkpoint), Some(progress)) = (&mut self.checkpoint, progress) {
            checkpoint.places.insert(batch.shard, progress);
            self.unsaved.get_or_insert_with(Instant::now);
        }
        Ok(None)
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
        self.printer.flush().context(OUTPUT)?;
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        if self.unsaved.take().is_some() {
            self.printer.sync().context("--dead-letter")?;
            self.printer.out_mut().begin().context(OUTPUT)?;
            checkpoint.written = self.printer.out().synced_len().context(OUTPUT)?;
            checkpoint.save()?;
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

const OUTPUT: &str = "output";

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
        match &unreadable.reason {
            Reason::NoKeys { .. } => Some("what follows is likely to be encrypted too"),
            Reason::Open(error) if self == Self::WhereKeysAreRefused => match &**error {
                OpenError::Key(error) if error.is_configuration() => Some(
                    "it and what follows is read once the key may be used; --dead-letter FILE keeps such records, and goes on",
                ),
                _ => None,
            },
            _ => None,
        }
    }
}
