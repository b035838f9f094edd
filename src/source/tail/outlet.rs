//! Where a file source's chunks go.

use std::cell::RefCell;
use std::pin::pin;

use tokio::runtime::Handle;

use super::newcomers::Newcomers;
use super::reader::BLOCK;
use crate::delivery::{MemoryBudget, MemoryPermit};
use crate::shutdown::Shutdown;
use crate::source::frame::MAX_LINE;
use crate::source::join::LineRules;
use crate::source::making::{Maker, Making};
use crate::source::{Chunk, Intake};

/// Where a source's chunks go, from a thread that may block.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) runtime: Handle,
    pub(super) intake: Intake,
    pub(super) making: Making,
    pub(super) rules: LineRules,
    /// `max_line_bytes`.
    pub(super) max_line: Option<usize>,
    /// For unfinished lines and open records between turns.
    pub(super) unfinished: MemoryBudget,
    pub(super) shutdown: Shutdown,
    /// Looked for during a wait; set by the tailer that waits.
    pub(super) newcomers: RefCell<Option<Newcomers>>,
}

/// No more chunks are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    PipelineClosed,
}

impl Outlet {
    /// So much is read of a line at most: more could be in no record. The shortest that there may be memory for is longer
    /// than what a read may hold whole.
    pub(super) fn most_of_a_line(&self) -> usize {
        self.intake.largest_record().clamp(2 * BLOCK, MAX_LINE)
    }

    /// Longer lines are not sent.
    pub(super) fn longest_line(&self) -> usize {
        let most = self.most_of_a_line();
        self.max_line.map_or(most, |longest| longest.min(most))
    }

    /// Waits for room, or for the end.
    pub(super) fn reserve(
        &self,
        maker: &Maker,
        records: usize,
        bytes: usize,
    ) -> Result<MemoryPermit, Ended> {
        let bytes = maker.worst_bytes(records, bytes);
        self.wait_for(async {
            tokio::select! {
                biased;
                () = self.shutdown.stopped() => Err(Ended::Stopped),
                permit = self.intake.reserve(records, bytes) => Ok(permit),
            }
        })
    }

    /// A chunk that is not taken before the end is dropped, and its span with it: it is read again.
    pub(super) fn send(&self, chunk: Chunk) -> Result<(), Ended> {
        self.wait_for(async {
            tokio::select! {
                biased;
                sent = self.intake.send(chunk) => sent.map_err(|_| Ended::PipelineClosed),
                () = self.shutdown.stopped() => Err(Ended::Stopped),
            }
        })
    }

    /// Looks for files that come up meanwhile.
    fn wait_for<T>(&self, wanted: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            let mut wanted = pin!(wanted);
            loop {
                let next_look = self.newcomers.borrow().as_ref().map(Newcomers::next_look);
                let is_time = async {
                    match next_look {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    it = &mut wanted => return it,
                    () = is_time => self.look(),
                }
            }
        })
    }

    fn look(&self) {
        if let Some(newcomers) = &mut *self.newcomers.borrow_mut() {
            newcomers.look(self);
        }
    }
}
