//! Sealing on a pool of its own, in order.
//!
//! A job is a self-contained value: records in, sealed records out, nothing shared but the data key's
//! writer. Jobs wait in a bounded crossbeam channel, and each one is matched by one rayon task that
//! takes exactly one job from it: rayon threads never block, neither on a channel nor on a lock nor on KMS.
//! Each stream awaits its jobs in the order it gave them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::message::{MessageIds, Writer};
use super::{PlaintextAllowed, Route, SealedRecord};
use crate::delivery::Tickets;
use crate::source::{Accepted, Chunk};

/// The pool, and the bound on what waits for it.
#[derive(Debug, Clone)]
pub struct SealPool {
    pool: Arc<rayon::ThreadPool>,
    jobs: (Sender<SealJob>, Receiver<SealJob>),
    slots: Arc<Semaphore>,
    #[cfg(test)]
    immediate: bool,
}

/// A chunk's records as they will lie in the stream.
#[derive(Debug)]
pub struct SealedChunk {
    pub records: Vec<SealedRecord>,
    pub plain_bytes: u64,
    pub sealed_bytes: u64,
    pub read_took: Duration,
    /// From the chunk's being handed over to its being sealed.
    pub seal_took: Duration,
    /// Measured before: read from the spool.
    pub is_replayed: bool,
}

impl SealedChunk {
    /// Records that have waited on disk, and were measured when they got there.
    pub fn replayed(records: Vec<SealedRecord>) -> Self {
        Self {
            records,
            plain_bytes: 0,
            sealed_bytes: 0,
            read_took: Duration::ZERO,
            seal_took: Duration::ZERO,
            is_replayed: true,
        }
    }

    pub fn user_records(&self) -> u64 {
        self.records.iter().map(|r| r.tickets().records()).sum()
    }
}

/// Sealed chunks in the order their plain ones came, each possibly still at work.
#[derive(Debug)]
pub struct InOrder {
    jobs: mpsc::Receiver<oneshot::Receiver<SealedChunk>>,
    /// The oldest, still at work.
    sealing: Option<oneshot::Receiver<SealedChunk>>,
}

impl InOrder {
    pub fn new(jobs: mpsc::Receiver<oneshot::Receiver<SealedChunk>>) -> Self {
        Self {
            jobs,
            sealing: None,
        }
    }

    /// `None`: no more will come. Cancel safe: the chunk that is waited for is kept.
    pub async fn next(&mut self) -> Option<SealedChunk> {
        loop {
            let sealing = match &mut self.sealing {
                Some(sealing) => sealing,
                None => self.sealing.insert(self.jobs.recv().await?),
            };
            let chunk = sealing.await;
            self.sealing = None;
            match chunk {
                Ok(chunk) => return Some(chunk),
                // The pool's thread died with it; its tickets were dropped, so its source has it still.
                Err(_) => {
                    tracing::error!(
                        "a sealing job failed; its records are read again after a restart"
                    );
                }
            }
        }
    }

    /// The next one, if it is ready now.
    pub fn ready(&mut self) -> Option<SealedChunk> {
        self.next().now_or_never().flatten()
    }
}

/// How the records of a job may leave.
#[derive(Debug, Clone)]
pub enum Sealing {
    Encrypted(Arc<Writer>),
    Plain(PlaintextAllowed),
}

/// One job: a self-contained value, runnable on any thread, that answers for itself.
struct SealJob {
    work: Box<dyn FnOnce() + Send>,
    /// Frees the slot when the job is done.
    _slot: OwnedSemaphorePermit,
}

impl fmt::Debug for SealJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealJob")
    }
}

impl SealPool {
    /// Jobs that may wait per thread: enough that no thread idles while the async side is scheduled.
    const QUEUED_PER_THREAD: usize = 4;

    /// `threads` of its own, not rayon's global pool: the latter takes all cores, and is shared.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("seal-{n}"))
            .build()?;
        let queued = threads * Self::QUEUED_PER_THREAD;
        Ok(Self {
            pool: Arc::new(pool),
            jobs: crossbeam_channel::bounded(queued),
            slots: Arc::new(Semaphore::new(queued)),
            #[cfg(test)]
            immediate: false,
        })
    }

    /// Works on the caller's thread and at once: nothing goes on while a paused clock stands still.
    #[cfg(test)]
    pub(crate) fn immediate() -> Self {
        let mut pool = Self::new(1).expect("a thread");
        pool.immediate = true;
        pool
    }

    /// Waits for a slot, then gives the chunk to the pool; the answer comes through the receiver. `received`
    /// is when the stage got it. Cancel safe until the slot is there; then it does not wait any more.
    pub async fn seal(
        &self,
        chunk: Chunk,
        sealing: Sealing,
        received: Instant,
    ) -> oneshot::Receiver<SealedChunk> {
        self.run(move || seal_chunk(chunk, &sealing, received))
            .await
    }

    /// The same for any work that waits for nothing.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let (reply, done) = oneshot::channel();
        #[cfg(test)]
        if self.immediate {
            let _ = reply.send(work());
            return done;
        }
        let job = SealJob {
            work: Box::new(move || {
                // A stream that is gone dropped its tickets knowingly.
                let _ = reply.send(work());
            }),
            _slot: slot.expect("the semaphore is never closed"),
        };
        match self.jobs.0.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => unreachable!("as many places as slots"),
            Err(TrySendError::Disconnected(_)) => unreachable!("both ends are ours"),
        }
        let jobs = Receiver::clone(&self.jobs.1);
        self.pool.spawn(move || {
            if let Ok(job) = jobs.try_recv() {
                (job.work)();
            }
        });
        done
    }
}

/// The work itself, on whichever thread.
pub fn seal_chunk(chunk: Chunk, sealing: &Sealing, received: Instant) -> SealedChunk {
    let plain_bytes: usize = chunk.records.iter().map(|r| r.data.len()).sum();
    let records = match sealing {
        Sealing::Encrypted(writer) => encrypt(chunk.records, writer),
        Sealing::Plain(allowed) => chunk
            .records
            .into_iter()
            .map(|r| SealedRecord::plain(r.data, Route::of(r.key), r.ticket, *allowed))
            .collect(),
    };
    SealedChunk {
        plain_bytes: plain_bytes as u64,
        sealed_bytes: records.iter().map(|r| r.data().len() as u64).sum(),
        read_took: chunk.read_took,
        seal_took: received.elapsed(),
        is_replayed: false,
        records,
    }
}

/// Below what the allocator maps apart and gives back (`cli::heap`): page faults of new memory took a tenth of all
/// that sealing small records costs.
const BUFFER: usize = 120 << 10;
/// Longer than this, a chunk's messages are one buffer, which is given back whole: of very many short records pieces that the
/// allocator keeps would take more memory than there is for them.
const IN_PIECES: usize = 384 << 10;

/// Messages share buffers, sized beforehand, and are slices of them.
fn encrypt(records: Vec<Accepted>, writer: &Writer) -> Vec<SealedRecord> {
    let lengths = records.iter().map(|r| writer.sealed_len(r.data.len()));
    let most = match lengths.sum::<usize>() {
        ..=IN_PIECES => BUFFER,
        all => all,
    };
    let mut ids = MessageIds::for_messages(records.len());
    let mut sealed = Vec::with_capacity(records.len());
    let mut ends = Vec::with_capacity(records.len());
    let mut records = records.into_iter();
    while !records.as_slice().is_empty() {
        let (count, total) = fits(records.as_slice(), most, writer);
        let together = &records.as_slice()[..count];
        let mut out = Vec::with_capacity(total);
        let plaintexts = together.iter().map(|record| &*record.data);
        writer.seal_all(&mut ids, plaintexts, &mut out, &mut ends);
        let out = Bytes::from(out);
        let mut start = 0;
        // The ends first: where they end, no record is taken.
        for (end, record) in ends.drain(..).zip(records.by_ref()) {
            let (data, route) = (out.slice(start..end), Route::of(record.key));
            let tickets = Tickets::one(record.ticket);
            sealed.push(SealedRecord::new(data, route, tickets));
            start = end;
        }
    }
    sealed
}

/// How many of the first records are sealed into one buffer of that length at most, one at least, and how long it is.
fn fits(records: &[Accepted], most: usize, writer: &Writer) -> (usize, usize) {
    let (mut count, mut total) = (0, 0);
    for record in records {
        let len = writer.sealed_len(record.data.len());
        if count > 0 && total + len > most {
            break;
        }
        (count, total) = (count + 1, total + len);
    }
    (count, total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::{MemoryBudget, Ticket};
    use crate::record::RecordKey;
    use crate::seal::EncryptionContext;
    use crate::seal::message::{
        Binding, EncryptedDataKey, Message, ReadLimits, SecretKeyBytes, Settings,
    };

    const KEY: [u8; 32] = [7; 32];

    fn writer() -> Writer {
        let settings = Settings::default();
        let binding = Binding::new(settings.suite, &EncryptionContext::new()).expect("no pairs");
        let edk = EncryptedDataKey {
            provider: EncryptedDataKey::KMS.into(),
            info: "alias/k".into(),
            ciphertext: vec![0; 184].into(),
        };
        let key = SecretKeyBytes::new(KEY.to_vec());
        Writer::new(binding, &key, &[edk], settings).expect("a whole key")
    }

    fn chunk(lengths: &[usize]) -> Chunk {
        let budget = MemoryBudget::new(64 << 20);
        let record = |(number, len): (usize, &usize)| {
            let memory = budget.try_reserve(*len).expect("room");
            let (ticket, _) = Ticket::for_caller(Instant::now(), memory);
            let data = Bytes::from(vec![number as u8; *len]);
            let key = RecordKey::Any;
            Accepted { data, key, ticket }
        };
        Chunk {
            records: lengths.iter().enumerate().map(record).collect(),
            read_took: Duration::ZERO,
        }
    }

    fn opened(record: &SealedRecord) -> Vec<u8> {
        let message = Message::parse(record.data(), &ReadLimits::default()).expect("a message");
        message.open(&KEY, &EncryptionContext::new()).expect("ours")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Around the ends of buffers, and records that fill one alone.
        #[test]
        fn each_record_of_a_chunk_is_sealed_once_and_in_its_order_whatever_buffers_it_takes(
            lengths in prop::collection::vec(prop_oneof![0..400_usize, 100_000..140_000_usize], 0..400),
        ) {
            let sealing = Sealing::Encrypted(Arc::new(writer()));
            let sealed = seal_chunk(chunk(&lengths), &sealing, Instant::now()).records;
            prop_assert_eq!(sealed.len(), lengths.len());
            for (number, (record, len)) in sealed.iter().zip(&lengths).enumerate() {
                prop_assert_eq!(opened(record), vec![number as u8; *len]);
            }
        }
    }
}
