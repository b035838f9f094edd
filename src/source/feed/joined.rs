//! The record of several lines that a feed holds open.
//!
//! It is complete when the next begins, when no bytes have come for its `timeout`, when there is no room to hold it, or
//! at the end. What the open records of all clients of a source hold is bounded beside the memory budget, as that of
//! files is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Closed, Feed};
use crate::delivery::{MemoryBudget, MemoryPermit};
use crate::source::frame::Line;
use crate::source::framing::Splitter;
use crate::source::join::{Join, Joiner, LineRules, Multiline};
use crate::source::lines::{MAX_LINES, Read};

/// `[source.multiline]` of a source that cannot be read again. Its clients share the memory for what is open.
#[derive(Debug, Clone)]
pub(in crate::source) struct Joining {
    rules: LineRules,
    timeout: Duration,
    unfinished: MemoryBudget,
    name: Arc<str>,
}

/// Of one client.
#[derive(Debug)]
pub(super) struct Joined {
    joining: Joining,
    joiner: Joiner,
    /// For what the joiner holds between reads.
    kept: Option<MemoryPermit>,
    /// When what is held has waited for long enough.
    due: Option<Instant>,
    /// Records cut so far.
    cuts: u64,
}

impl Joining {
    /// `unfinished` bytes may be held between reads. `name` is the source's, for the log.
    pub(in crate::source) fn new(
        multiline: &Arc<Multiline>,
        unfinished: usize,
        name: &str,
    ) -> Self {
        Self {
            rules: LineRules {
                join: Join::Lines(Arc::clone(multiline)),
                ..LineRules::default()
            },
            timeout: multiline.timeout,
            unfinished: MemoryBudget::new(unfinished),
            name: name.into(),
        }
    }

    pub(super) fn begin(&self) -> Joined {
        let joiner = Joiner::new(&self.rules, 0);
        Joined {
            joining: self.clone(),
            joiner: joiner.expect("there is a rule to join by"),
            kept: None,
            due: None,
            cuts: 0,
        }
    }
}

impl Joined {
    /// The records that the next lines complete, and whether there may be more.
    pub(super) fn next_records(
        &mut self,
        framer: &mut Splitter,
        read: &mut Read,
    ) -> (Vec<Line>, bool) {
        let lines = read.up_to_max(|| framer.next_record());
        let (mut records, is_full) = (Vec::new(), lines.len() == MAX_LINES);
        for line in lines {
            self.joiner.take(line, &mut records);
        }
        (records, is_full)
    }

    pub(super) fn take(&mut self, line: Line, out: &mut Vec<Line>) {
        self.joiner.take(line, out);
    }

    /// What is open is complete. None where nothing is.
    pub(super) fn flush(&mut self, out: &mut Vec<Line>) {
        self.joiner.flush(out);
        (self.kept, self.due) = (None, None);
    }

    /// How many records are open, and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.joiner.held_records(), self.joiner.held_bytes())
    }

    /// Until more is read. What there is no room for goes to `out`.
    fn keep(&mut self, out: &mut Vec<Line>) {
        (self.kept, self.due) = (None, None);
        let (records, bytes) = self.held();
        if records > 0 {
            self.joiner.detach();
            self.kept = self.joining.unfinished.try_reserve(bytes.max(1));
            match self.kept {
                Some(_) => self.due = Some(Instant::now() + self.joining.timeout),
                None => self.joiner.cut(out),
            }
        }
        self.tell_of_cuts();
    }

    /// The first time, and whenever there are twice as many.
    fn tell_of_cuts(&mut self) {
        let before = self.cuts;
        self.cuts += self.joiner.take_oddities().cuts;
        if before.checked_ilog2() != self.cuts.checked_ilog2() {
            tracing::warn!(
                path = %self.joining.name, records = self.cuts,
                "a client's records of several lines were longer than may be joined, or than there is memory to hold \
                 them; they are sent in parts"
            );
        }
    }
}

impl Feed {
    /// Before anything is read: several lines become one record.
    #[must_use]
    pub(in crate::source) fn joining(mut self, joining: Option<&Joining>) -> Self {
        self.joined = joining.map(Joining::begin);
        self
    }

    /// Resolves when a record that is open has waited for long enough; never while there is none. Cancel safe.
    pub(in crate::source) async fn open_is_due(&self) {
        match self.joined.as_ref().and_then(|joined| joined.due) {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Sends the record that is open, if there is one. Not cancel safe.
    pub(in crate::source) async fn send_open(&mut self) -> Result<(), Closed> {
        self.send_held(Joined::flush).await
    }

    /// After a read.
    pub(super) async fn keep_open(&mut self) -> Result<(), Closed> {
        self.send_held(Joined::keep).await
    }

    async fn send_held(
        &mut self,
        how: impl FnOnce(&mut Joined, &mut Vec<Line>),
    ) -> Result<(), Closed> {
        let Some(joined) = &mut self.joined else {
            return Ok(());
        };
        let mut records = Vec::new();
        let ((), mut read) = Read::of(|| how(joined, &mut records));
        if !records.is_empty() {
            self.send(records, None, &mut read).await?;
        }
        Ok(())
    }
}
