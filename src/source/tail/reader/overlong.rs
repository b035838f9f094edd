//! A line that is longer than there may be memory for: its beginning goes to the dead letter, the rest is passed over.

use bytes::Bytes;

use super::{Outlet, Place, Reader, TurnError, framer};
use crate::delivery::FailReason;
use crate::source::frame::Line;
use crate::source::lines::Read;
use crate::source::tail::identity::Tail;

impl Reader {
    /// The line at the framer's place, which holds nothing of it, has `len` bytes; `ended` if a newline is behind it.
    pub(super) fn send_overlong(
        &mut self,
        outlet: &Outlet,
        len: u64,
        ended: bool,
    ) -> Result<(), TurnError> {
        let (open, open_bytes) = self.open();
        let most = outlet.most_of_a_line();
        let permit = outlet.reserve(&self.maker, 1 + open, most + open_bytes)?;
        let file = self.file.as_ref().expect("open in a turn");
        let at = self.framer.at();
        let (bytes, mut read) = Read::of(|| file.read_upto(at, most));
        let bytes = Bytes::from(bytes?);
        let end = at + len + u64::from(ended);
        let tail = Tail::read(file, end)?;

        let line = Line {
            at,
            bytes,
            oversized: true,
        };
        let reason = FailReason::LineTooLong {
            bytes: len,
            limit: outlet.longest_line(),
            cut: len - line.bytes.len() as u64,
        };
        let mut before = Vec::new();
        let mut is_skipped = false;
        if let Some(joined) = &mut self.joined {
            is_skipped = joined.joiner.skips(ended);
            joined.joiner.flush(&mut before);
            joined.kept = None;
        }
        let is_in_header =
            (self.joined.as_ref()).is_some_and(|joined| joined.joiner.is_in_header());
        self.framer = framer(end, outlet).within_line(!ended);
        (self.skimmed, self.kept) = (None, None);
        self.tail = tail;
        let start = self.sent;
        if !is_in_header {
            self.place = Place {
                offset: end,
                tail: self.tail.hash(),
            };
        }
        if is_skipped {
            self.send_nothing();
            return Ok(());
        }
        self.ledger.cut();
        let mut permit = permit;
        if !before.is_empty() {
            let bytes = before.iter().map(|line| line.bytes.len()).sum::<usize>();
            let made = self.maker.worst_bytes(before.len(), bytes);
            let theirs = permit.split(outlet.intake.cost(before.len(), made));
            self.send_span(before, start, None, outlet, theirs, &mut read)?;
        }
        let place = self.place;
        self.send_span(vec![line], place, Some(reason), outlet, permit, &mut read)?;
        Ok(())
    }
}
