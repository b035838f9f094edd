//! Prints what is read, and keeps how far that is.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::Handle;

use super::sink::Sink;
use crate::consume::checkpoint::Checkpoint;
use crate::consume::output::{PrintError, Printed, Printer};
use crate::consume::{ConsumedBatch, Consumer, Progress, Reason, Unreadable, UserRecord};

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
}

/// How it ended.
pub(super) struct Ended {
    /// Where it has an end of its own to tell; not where printing ended before it.
    pub(super) consumer: Option<Consumer>,
    /// It ended at the first record that is encrypted.
    pub(super) keys_are_missing: bool,
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
    /// One complaint about forgotten keys is enough.
    NoKeys,
    Limit,
}

impl<E: Write> Printing<E> {
    pub(super) fn new(
        consumer: Consumer,
        printer: Printer<Sink, E>,
        checkpoint: Option<Checkpoint>,
    ) -> Self {
        Self {
            consumer,
            printer,
            checkpoint,
            unsaved: None,
            told: Instant::now(),
        }
    }

    /// Until reading ends, or nobody takes what is printed. Blocks.
    pub(super) fn run(mut self) -> anyhow::Result<Ended> {
        let ended = self.print_batches();
        let unreadable = self.printer.unreadable();
        let keys_are_missing = matches!(ended, Ok(End::NoKeys));
        let consumer = match ended {
            Ok(End::OfReading) => Some(self.consumer),
            Ok(End::NoKeys | End::Limit) => None,
            // Whoever read our output has enough, `head` for one.
            Err(error) if is_closed(&error) && self.printer.out().may_be_left() => None,
            Err(error) if is_closed(&error) => {
                return Err(error.context("--out: whoever read from the socket is gone"));
            }
            Err(error) => return Err(error),
        };
        Ok(Ended {
            consumer,
            keys_are_missing,
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
                    if self.print(*batch)? {
                        self.printer.flush().context(OUTPUT)?;
                        return Ok(End::NoKeys);
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

    /// Whether keys are missing, and no more is to be printed.
    fn print(&mut self, mut batch: ConsumedBatch) -> anyhow::Result<bool> {
        let keyless = batch.records.iter().position(has_no_keys);
        if let Some(at) = keyless {
            batch.records.truncate(at + 1);
        }
        let printed = self.printer.print(&batch)?;
        if keyless.is_some() {
            return Ok(true);
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
        Ok(false)
    }

    /// What is printed first, and then that it was.
    fn save(&mut self) -> anyhow::Result<()> {
        self.printer.flush().context(OUTPUT)?;
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        if self.unsaved.take().is_some() {
            self.printer.sync().context("--dead-letter")?;
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

fn has_no_keys(record: &Result<UserRecord, Unreadable>) -> bool {
    matches!(record, Err(unreadable) if matches!(unreadable.reason, Reason::NoKeys { .. }))
}
