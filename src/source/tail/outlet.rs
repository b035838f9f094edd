//! Where a file source's chunks go.

use tokio::runtime::Handle;

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
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.shutdown.stopped() => Err(Ended::Stopped),
                permit = self.intake.reserve(records, bytes) => Ok(permit),
            }
        })
    }

    /// A chunk that is not taken before the end is dropped, and its span with it: it is read again.
    pub(super) fn send(&self, chunk: Chunk) -> Result<(), Ended> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                sent = self.intake.send(chunk) => sent.map_err(|_| Ended::PipelineClosed),
                () = self.shutdown.stopped() => Err(Ended::Stopped),
            }
        })
    }
}
