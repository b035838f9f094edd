//! A client that is told what became of each of its records (`framing = "kpl"`), to its end.
//!
//! Frames are those of the KPL's native daemon ([`daemon::message`](crate::daemon::message)): any number of records may be
//! under way, and answers come in any order. A client that sends faster than the stream takes is not read; nor is one
//! that has too many answers to come, or does not read them. What has no answer when the connection ends may be stored or
//! not.

mod answers;

use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use self::answers::{Answers, Owed};
use super::complaints::{Complaint, Complaints};
use super::connection::{BLOCK, Ended, Taker, read_on};
use super::peer::Peer;
use super::turns::Turns;
use crate::daemon::message::{LONGEST, PutRecord, Request};
use crate::delivery::{MemoryPermit, Receipt, Ticket};
use crate::record::{PartitionKey, RecordKey, StreamName};
use crate::shutdown::Shutdown;
use crate::source::frame::Line;
use crate::source::framing::counted::{Counted, Prefix};
use crate::source::lines::{MAX_LINES, Read};
use crate::source::making::Maker;
use crate::source::{Accepted, Chunk, Intake};

/// Records of one client without an answer: 160,000 records/s at a latency of 100 ms.
const MOST_UNANSWERED: usize = 16_384;
/// A key's worst, with its structure.
const KEY: usize = 256 * 4 + 16;

/// `ack` of a source: when a record's sender has its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ack {
    /// Once the service has acknowledged the record, or never will.
    #[default]
    Stored,
    /// Once it is in the spool.
    Spooled,
}

/// What a listener needs to answer its clients.
#[derive(Clone)]
pub struct Desk {
    /// The only stream that records may be for.
    pub stream: StreamName,
    /// Asks the stream's pipeline to hurry.
    pub flush: Arc<dyn Fn() + Send + Sync>,
    /// Held while answers are to come; whoever ends the program waits until all are dropped.
    pub answering: mpsc::Sender<()>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// A connection, where its records go, and who answers.
#[derive(Debug)]
pub(super) struct Acknowledged {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    pub(super) intake: Intake,
    pub(super) maker: Maker,
    pub(super) ack: Ack,
    pub(super) desk: Desk,
    pub(super) turns: Turns,
    pub(super) complaints: Complaints,
}

impl Acknowledged {
    /// Reads until the client hangs up or the stop, and then what it had sent. Answers go on from then: they have a task
    /// of their own.
    pub(super) async fn serve(self, shutdown: Shutdown) {
        let (reading, writing) = self.stream.into_split();
        let (owed, answers) = Answers::new(writing, self.complaints.clone(), self.peer);
        tokio::spawn(answers.run(self.desk.answering.clone()));
        let mut reader = Reader {
            frames: Counted::new(Prefix::BigEndian, LONGEST),
            intake: self.intake,
            maker: self.maker,
            ack: self.ack,
            desk: self.desk,
            owed,
            slots: Arc::new(Semaphore::new(MOST_UNANSWERED)),
            peer: self.peer,
            complaints: self.complaints.clone(),
        };
        let ended = read_on(reading.as_ref(), &mut reader, &self.turns, shutdown).await;
        let unfinished = reader.frames.pending().len();
        self.complaints.about_end(self.peer, &ended, unfinished);
    }
}

struct Reader {
    frames: Counted,
    intake: Intake,
    maker: Maker,
    ack: Ack,
    desk: Desk,
    owed: mpsc::UnboundedSender<Owed>,
    /// One for each record that has no answer yet.
    slots: Arc<Semaphore>,
    peer: Peer,
    complaints: Complaints,
}

/// A record that may be one, by its message's id.
struct Asked {
    id: u64,
    line: Line,
    /// As the client gave it; `None`: by the source's rule.
    key: Option<RecordKey>,
    slot: OwnedSemaphorePermit,
}

impl Taker for Reader {
    type Room = MemoryPermit;

    async fn reserve(&self) -> Result<MemoryPermit, Ended> {
        self.room(BLOCK).await
    }

    fn fill<T>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.frames.fill(BLOCK, read)
    }

    /// All whole frames of what was read.
    async fn take(&mut self, room: MemoryPermit, mut read: Read) -> Result<(), Ended> {
        let mut room = Some(room);
        loop {
            let slot = match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => {
                    // While answers are waited for, which may be long, the memory is another's.
                    room = None;
                    self.next_slot().await?
                }
            };
            let mut here = match room.take() {
                Some(room) => room,
                None => self.room(0).await?,
            };
            let (asked, are_all) = self.next_asked(slot);
            self.send(asked, &mut here, &mut read).await?;
            if are_all {
                break;
            }
        }
        match self.frames.fault() {
            Some(fault) => Err(Ended::Malformed(fault)),
            None => Ok(()),
        }
    }

    fn unfinished(&self) -> usize {
        self.frames.pending().len()
    }

    async fn is_due(&self) {
        self.owed.closed().await;
    }

    async fn do_due(&mut self) -> Result<(), Ended> {
        Err(Ended::Unanswerable)
    }
}

impl Reader {
    /// Room for what is held and `more` bytes, as records with keys.
    async fn room(&self, more: usize) -> Result<MemoryPermit, Ended> {
        let bytes = self.frames.pending().len() + more;
        // A record with its frame has 10 bytes at least.
        let records = (bytes / 10).clamp(1, MAX_LINES);
        let made = self.maker.worst_bytes(records, bytes) + records * KEY;
        let reserving = self.intake.reserve(records, made);
        tokio::select! {
            biased;
            () = self.owed.closed() => Err(Ended::Unanswerable),
            room = reserving => Ok(room),
        }
    }

    async fn next_slot(&self) -> Result<OwnedSemaphorePermit, Ended> {
        tokio::select! {
            slot = Arc::clone(&self.slots).acquire_owned() => Ok(slot.expect("never closed")),
            () = self.owed.closed() => Err(Ended::Unanswerable),
        }
    }

    /// The next records, as far as there are slots, and whether no whole frame is left; what else is asked is done at once.
    fn next_asked(&mut self, slot: OwnedSemaphorePermit) -> (Vec<Asked>, bool) {
        let (mut asked, mut slot) = (Vec::new(), Some(slot));
        while asked.len() < MAX_LINES {
            let free = slot
                .take()
                .or_else(|| Arc::clone(&self.slots).try_acquire_owned().ok());
            let Some(free) = free else {
                return (asked, false);
            };
            let Some(frame) = self.frames.next_record() else {
                return (asked, true);
            };
            let at = frame.at;
            match Request::decode(frame.bytes) {
                Ok(Request::PutRecord { id, record }) => match self.check(record, at) {
                    Ok((line, key)) => asked.push(Asked {
                        id,
                        line,
                        key,
                        slot: free,
                    }),
                    Err((code, why)) => self.owe(Owed::refused(id, code, why, free)),
                },
                Ok(Request::Metrics { id, .. }) => self.owe(Owed::NoMetrics { id, slot: free }),
                Ok(Request::Flush { .. }) => (self.desk.flush)(),
                // Credentials, configuration, facts on streams: this program has its own.
                Ok(_) => {}
                // Its frame is known all the same, and so is where the next one begins.
                Err(error) => self
                    .complaints
                    .about(self.peer, &Complaint::Nonsense(&error)),
            }
        }
        (asked, false)
    }

    /// What can be said of a record at once.
    fn check(
        &self,
        record: PutRecord,
        at: u64,
    ) -> Result<(Line, Option<RecordKey>), (&'static str, String)> {
        let stream = &self.desk.stream;
        let named = record.stream_name.trim();
        if ![stream.name(), &stream.to_string()].contains(&named) {
            let why = format!("this socket is for stream {stream}, and not for {named:?}");
            return Err(("ResourceNotFoundException", why));
        }
        let hash_key = record.explicit_hash_key.filter(|key| !key.is_empty());
        let hash_key = hash_key.map(|key| key.trim().parse()).transpose();
        let hash_key = hash_key.map_err(|error| ("InvalidExplicitHashKey", format!("{error}")))?;
        let key = record.partition_key.filter(|key| !key.is_empty());
        let key = key.map(PartitionKey::new).transpose();
        let key = key.map_err(|error| ("InvalidPartitionKey", error.to_string()))?;
        let key = match (key, hash_key) {
            (Some(key), Some(hash_key)) => Some(RecordKey::Explicit(key, hash_key)),
            (Some(key), None) => Some(RecordKey::Keyed(key)),
            (None, None) => None,
            (None, Some(_)) => {
                let why = "an explicit hash key goes with a partition key".to_owned();
                return Err(("InvalidPartitionKey", why));
            }
        };
        let line = Line {
            at,
            bytes: record.data,
            oversized: false,
        };
        Ok((line, key))
    }

    /// Each with a ticket of its own, whose memory is taken off `room`.
    async fn send(
        &self,
        asked: Vec<Asked>,
        room: &mut MemoryPermit,
        read: &mut Read,
    ) -> Result<(), Ended> {
        if asked.is_empty() {
            return Ok(());
        }
        let born = Instant::now();
        let (lines, askers): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .map(|asked| (asked.line, (asked.id, asked.key, asked.slot)))
            .unzip();
        let (keys, lines) = self.maker.make_in_task(lines).await;
        let mut records = Vec::with_capacity(lines.len());
        let mut waiting = Vec::with_capacity(lines.len());
        for ((line, by_rule), (id, given, slot)) in
            lines.into_iter().zip(keys.into_each()).zip(askers)
        {
            let key = given.unwrap_or(by_rule);
            let cost = self.intake.cost(1, line.bytes.len() + key.len());
            let memory = room.split(cost);
            let (ticket, receipt) = self.ticket(born, memory);
            records.push(Accepted {
                data: line.bytes,
                key,
                ticket,
            });
            waiting.push((id, receipt, slot));
        }
        let chunk = Chunk {
            records,
            read_took: read.take(),
        };
        self.intake.send(chunk).await?;
        for (id, receipt, slot) in waiting {
            self.owe(Owed::Record {
                id,
                receipt,
                born,
                slot,
            });
        }
        Ok(())
    }

    fn ticket(&self, born: Instant, memory: MemoryPermit) -> (Ticket, Receipt) {
        match self.ack {
            Ack::Stored => Ticket::for_caller(born, memory),
            Ack::Spooled => Ticket::for_caller_until_spooled(born, memory),
        }
    }

    fn owe(&self, owed: Owed) {
        // Who is gone needs no answer.
        let _ = self.owed.send(owed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::delivery::MemoryBudget;
    use crate::source::Costs;
    use crate::source::keying::Keying;
    use crate::source::making::Making;

    /// A frame of the KPL's: message 1 with a PutRecord of a stream's name and a byte.
    const FRAME: &[u8] = b"\0\0\0\x0a\x08\x01\x1a\x06\x0a\x01s\x22\x01x";

    async fn reader(
        slots: usize,
    ) -> (Reader, mpsc::Receiver<Chunk>, mpsc::UnboundedReceiver<Owed>) {
        let (client, _other) = UnixStream::pair().unwrap();
        let (to, chunks) = mpsc::channel(1);
        let (owed, owes) = mpsc::unbounded_channel();
        let (answering, _) = mpsc::channel(1);
        let reader = Reader {
            frames: Counted::new(Prefix::BigEndian, LONGEST),
            intake: Intake::new(to, MemoryBudget::new(1 << 26), Costs::new(0, true)),
            maker: Making::from(Keying::RANDOM).of(Path::new("socket")),
            ack: Ack::Stored,
            desk: Desk {
                stream: StreamName::new("s").unwrap(),
                flush: Arc::new(|| ()),
                answering,
            },
            owed,
            slots: Arc::new(Semaphore::new(slots)),
            peer: Peer::of(&client).unwrap(),
            complaints: Complaints::of("socket".into()),
        };
        (reader, chunks, owes)
    }

    #[tokio::test]
    async fn whole_frames_are_taken_though_an_answer_frees_a_slot_while_others_are_handed_over() {
        let (mut reader, mut chunks, mut owes) = reader(2).await;
        // The pipeline has enough to do.
        let busy = Chunk {
            records: Vec::new(),
            read_took: Duration::ZERO,
        };
        assert!(reader.intake.try_send(busy).is_ok());
        let answer_to_come = Arc::clone(&reader.slots).try_acquire_owned().unwrap();
        reader
            .frames
            .fill(3 * FRAME.len(), |held| held.extend(FRAME.repeat(3)));
        let room = reader.room(0).await.unwrap();
        let (_, read) = Read::of(|| ());
        let taking = tokio::spawn(async move { reader.take(room, read).await.is_ok() });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(answer_to_come);
        let mut records = 0;
        while let Some(chunk) = chunks.recv().await {
            records += chunk.records.len();
            while owes.try_recv().is_ok() {}
            tokio::task::yield_now().await;
        }
        assert!(taking.await.unwrap());
        assert_eq!(records, 3);
    }
}
