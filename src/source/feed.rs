//! A stream of bytes that cannot be read again, on its way into a pipeline.

use std::sync::Arc;

use super::frame::{Framer, Line, MAX_LINE};
use super::keying::Keyer;
use super::lines::{Read, chunk, worst_records};
use super::{Closed, Intake};
use crate::delivery::{MemoryPermit, SpanSettled};

/// A stream of bytes that cannot be read again, on its way into a pipeline.
///
/// Until a spool stands behind it, what was read and is not yet stored is lost when the process is killed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) framer: Framer,
    intake: Intake,
    keyer: Keyer,
}

/// Nothing to note: there is no place to go on from.
struct Unrepeatable;

impl SpanSettled for Unrepeatable {
    fn settled(&self, _: u64) {}
}

impl Feed {
    pub(super) fn new(intake: Intake, keyer: Keyer) -> Self {
        Self {
            framer: Framer::new(0, MAX_LINE),
            intake,
            keyer,
        }
    }

    /// Room for `more` bytes and what is held already. Cancel safe.
    pub(super) async fn reserve(&self, more: usize) -> MemoryPermit {
        let bytes = self.framer.pending().len() + more;
        self.room(worst_records(bytes), bytes).await
    }

    async fn room(&self, records: usize, bytes: usize) -> MemoryPermit {
        let keys = self.keyer.worst_bytes(records, bytes);
        self.intake.reserve(records, bytes + keys).await
    }

    /// Sends all whole lines. `permit` covers the first chunk; waits for room for others. Not cancel safe.
    pub(super) async fn send_lines(
        &mut self,
        permit: MemoryPermit,
        mut read: Read,
    ) -> Result<(), Closed> {
        let mut permit = Some(permit);
        loop {
            let lines = read.next_lines(&mut self.framer);
            if lines.is_empty() {
                return Ok(());
            }
            let permit = match permit.take() {
                Some(permit) => permit,
                None => {
                    let bytes = lines.iter().map(|line| line.bytes.len()).sum();
                    self.room(lines.len(), bytes).await
                }
            };
            self.send(lines, permit, &mut read).await?;
        }
    }

    /// Sends a last line without its newline, if there is one. Not cancel safe.
    pub(super) async fn finish(&mut self) -> Result<(), Closed> {
        let (last, mut read) = Read::of(|| self.framer.finish());
        let Some(line) = last else {
            return Ok(());
        };
        let permit = self.room(1, line.bytes.len()).await;
        self.send(vec![line], permit, &mut read).await
    }

    async fn send(
        &self,
        lines: Vec<Line>,
        permit: MemoryPermit,
        read: &mut Read,
    ) -> Result<(), Closed> {
        let (keys, lines) = read.keys_in_task(&self.keyer, lines).await;
        let span = (Arc::new(Unrepeatable) as Arc<dyn SpanSettled>, 0);
        let chunk = chunk(lines, keys, &self.intake, permit, span, read);
        self.intake.send(chunk).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::delivery::MemoryBudget;
    use crate::metrics::Counters;
    use crate::record::{PartitionKey, RecordKey};
    use crate::source::Costs;
    use crate::source::keying::{Field, Form, JsonPointer, Keying, PartitionKeyRule};
    use crate::source::lines::MAX_LINES;

    #[tokio::test(start_paused = true)]
    async fn time_spent_waiting_for_room_is_not_time_spent_reading() {
        let (to, mut chunks) = mpsc::channel(1);
        let costs = Costs::new(0, true);
        let budget = MemoryBudget::new(200 * MAX_LINES);
        let intake = Intake::new(to, budget, costs);
        let mut feed = Feed::new(intake, Keying::RANDOM.of("stdin".as_ref()));
        let feeder = tokio::spawn(async move {
            let permit = feed.reserve(0).await;
            let bytes = vec![b'\n'; 3 * MAX_LINES];
            let framer = &mut feed.framer;
            let ((), read) = Read::of(|| framer.fill(bytes.len(), |held| held.extend(bytes)));
            feed.send_lines(permit, read).await
        });
        for _ in 0..3 {
            let chunk = chunks.recv().await.unwrap();
            assert_eq!(chunk.records.len(), MAX_LINES);
            assert_eq!(chunk.read_took, Duration::ZERO);
            // Meanwhile the feeder waits for this chunk's memory.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        feeder.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn keys_are_paid_for_with_what_was_reserved_and_missing_ones_are_counted() {
        let (to, mut chunks) = mpsc::channel(1);
        let costs = Costs::new(0, true);
        let budget = MemoryBudget::new(1 << 20);
        let counters: Arc<Counters> = Arc::default();
        let intake = Intake::new(to, budget.clone(), costs).counting(Arc::clone(&counters));
        let pointer = JsonPointer::new("/id").unwrap();
        let rule = PartitionKeyRule::Field(Field::JsonPointer(pointer), Form::Value);
        let keying = Keying::new(&rule).unwrap();
        let mut feed = Feed::new(intake.clone(), keying.of("stdin".as_ref()));

        let id = "x".repeat(200);
        let text = format!("{{\"id\":\"{id}\"}}\nnone\n").into_bytes();
        let permit = feed.reserve(text.len()).await;
        let reserved = budget.in_use();
        let framer = &mut feed.framer;
        let ((), read) = Read::of(|| framer.fill(text.len(), |held| held.extend(&text)));
        feed.send_lines(permit, read).await.unwrap();
        let chunk = chunks.recv().await.unwrap();
        let (kept, lines) = (budget.in_use(), text.len() - 2);
        assert!(kept < reserved);
        let for_lines_and_key = intake.reserve(2, lines + id.len()).await;
        assert_eq!(budget.in_use(), 2 * kept);

        let keys: Vec<_> = chunk.records.iter().map(|r| r.key.clone()).collect();
        let key = RecordKey::Keyed(PartitionKey::new(&id).unwrap());
        assert_eq!(keys, [key, RecordKey::Any]);
        assert_eq!(counters.snapshot().unkeyed, 1);
        drop((chunk, for_lines_and_key));
        assert_eq!(budget.in_use(), 0);
    }
}
