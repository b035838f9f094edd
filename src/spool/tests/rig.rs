//! A spool with its tasks, sources before it and an owner behind it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::disk::TestDisk;
use crate::checkpoint::Lock;
use crate::delivery::{Delivery, MemoryBudget, Receipt, SpanSettled, Ticket};
use crate::metrics::Counters;
use crate::record::{HashKey, PartitionKey, RecordKey, StreamName};
use crate::seal::offload::{InOrder, SealedChunk};
use crate::seal::{Route, SealedRecord};
use crate::source::Costs;
use crate::spool::{
    Disk, Keeper, Mode, Reader, RealDisk, Settings, Spool, SpoolError, Sync, Writer,
};

/// What a record's sender wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Nothing,
    Stored,
    Spooled,
}

pub(super) struct Rig {
    pub(super) disk: TestDisk,
    pub(super) counters: Arc<Counters>,
    /// Bytes of each record's data beside its number.
    pub(super) large: usize,
    to_writer: Option<mpsc::Sender<oneshot::Receiver<SealedChunk>>>,
    from_reader: InOrder,
    sources: MemoryBudget,
    tasks: Vec<JoinHandle<()>>,
    keeper: Keeper,
    found: u64,
    answers: BTreeMap<u64, (Receipt, Option<Delivery>)>,
    /// What the owner has, by number.
    pub(super) held: BTreeMap<u64, SealedRecord>,
    /// Of its lock.
    _dir: Option<TempDir>,
}

fn lock_of(dir: &Path) -> Arc<Lock> {
    Arc::new(Lock::take(dir).unwrap())
}

pub(super) fn settings() -> Settings {
    Settings {
        path: "/spool".into(),
        max_bytes: 64 << 20,
        sync: Sync::Always,
        mode: Mode::DiskFirst,
    }
}

struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

impl Rig {
    const SOURCES: usize = 16 << 20;
    /// Tests hold all that they receive.
    const READER: usize = 1 << 30;

    pub(super) fn new(settings: Settings) -> Self {
        Self::on(TestDisk::default(), settings)
    }

    pub(super) fn open(
        disk: &TestDisk,
        settings: &Settings,
        plain: bool,
    ) -> Result<Spool, SpoolError> {
        let stream = StreamName::new("s").unwrap();
        Spool::open_on(
            Arc::new(disk.clone()),
            settings,
            &stream,
            plain,
            lock_of(&tempfile::tempdir().unwrap().path().join("spool")),
            Arc::default(),
        )
    }

    pub(super) fn on(disk: TestDisk, settings: Settings) -> Self {
        let on = Arc::new(disk.clone());
        // Its files are nowhere, and the right to them is in a directory that is.
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_of(dir.path());
        Self {
            _dir: Some(dir),
            ..Self::with(disk, on, lock, settings)
        }
    }

    /// On the machine's own disk.
    pub(super) fn really(settings: Settings) -> Self {
        let lock = lock_of(&settings.path);
        Self::with(TestDisk::default(), Arc::new(RealDisk), lock, settings)
    }

    fn with(disk: TestDisk, on: Arc<dyn Disk>, lock: Arc<Lock>, settings: Settings) -> Self {
        let counters: Arc<Counters> = Arc::default();
        let stream = StreamName::new("s").unwrap();
        let spool =
            Spool::open_on(on, &settings, &stream, true, lock, Arc::clone(&counters)).unwrap();
        let found = counters.snapshot().accepted;
        let (to_writer, chunks) = mpsc::channel(1000);
        let (sealed, from_reader) = mpsc::channel(4);
        let sources = MemoryBudget::new(Self::SOURCES);
        let writer = Writer::new(
            &spool,
            sources.clone(),
            sealed.clone(),
            Arc::clone(&counters),
            Arc::new(Mutex::default()),
        );
        let budget = MemoryBudget::new(Self::READER);
        let costs = Costs::new(0, true);
        let reader = Reader::new(&spool, budget, costs, Arc::clone(&counters), sealed);
        let keeper = spool.keeper();
        let tasks = vec![
            tokio::spawn(writer.run(InOrder::new(chunks))),
            tokio::spawn(reader.run()),
            tokio::spawn(keeper.clone().run()),
        ];
        Self {
            disk,
            counters,
            large: 20,
            to_writer: Some(to_writer),
            from_reader: InOrder::new(from_reader),
            sources,
            tasks,
            keeper,
            found,
            answers: BTreeMap::new(),
            held: BTreeMap::new(),
            _dir: None,
        }
    }

    /// Records that an earlier run has left.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// In the ids of its segments.
    pub(super) fn id(&self) -> u32 {
        self.keeper.shelf.spool
    }

    pub(super) fn memory_in_use(&self) -> usize {
        self.sources.in_use()
    }

    /// A chunk of the records of these numbers.
    pub(super) async fn append(&mut self, numbers: Range<u64>, ask: Ask) {
        let chunk = self.chunk(numbers, ask);
        self.hand_in(chunk).await;
        tokio::task::yield_now().await;
    }

    pub(super) async fn append_at_once(&mut self, chunks: impl Iterator<Item = Range<u64>>) {
        for numbers in chunks {
            let chunk = self.chunk(numbers, Ask::Nothing);
            self.hand_in(chunk).await;
        }
    }

    async fn hand_in(&self, chunk: SealedChunk) {
        let (tx, rx) = oneshot::channel();
        tx.send(chunk).unwrap();
        self.to_writer.as_ref().unwrap().send(rx).await.unwrap();
    }

    fn chunk(&mut self, numbers: Range<u64>, ask: Ask) -> SealedChunk {
        let born = Instant::now();
        let large = self.large;
        Counters::add(&self.counters.accepted, numbers.end - numbers.start);
        let records = numbers.map(|number| {
            let memory = self
                .sources
                .try_reserve(large)
                .expect("tests stay within it");
            let ticket = match ask {
                Ask::Nothing => Ticket::for_span(1, born, memory, Arc::new(Nobody), 0),
                Ask::Stored | Ask::Spooled => {
                    let (ticket, receipt) = match ask {
                        Ask::Stored => Ticket::for_caller(born, memory),
                        _ => Ticket::for_caller_until_spooled(born, memory),
                    };
                    self.answers.insert(number, (receipt, None));
                    ticket
                }
            };
            ticket.count(1, &self.counters);
            let mut data = number.to_le_bytes().to_vec();
            data.resize(8 + large, number as u8);
            SealedRecord::for_test(data.into(), Route::of(key(number)), ticket)
        });
        let records: Vec<_> = records.collect();
        SealedChunk {
            plain_bytes: 0,
            sealed_bytes: records.iter().map(|r| r.data().len() as u64).sum(),
            read_took: Duration::ZERO,
            seal_took: Duration::ZERO,
            is_replayed: false,
            records,
        }
    }

    /// The numbers of the next so many records that come to the owner, who holds them.
    pub(super) async fn receive(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(600), self.from_reader.next());
            let chunk = next
                .await
                .expect("it comes within ten minutes")
                .expect("open");
            self.hold(chunk, &mut numbers);
        }
        assert_eq!(numbers.len(), count, "{numbers:?}");
        numbers
    }

    /// What has come by now.
    pub(super) fn receive_ready(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(chunk) = self.from_reader.ready() {
            self.hold(chunk, &mut numbers);
        }
        numbers
    }

    fn hold(&mut self, chunk: SealedChunk, numbers: &mut Vec<u64>) {
        for record in chunk.records {
            let number = u64::from_le_bytes(record.data()[..8].try_into().unwrap());
            assert!(record.data()[8..].iter().all(|byte| *byte == number as u8));
            numbers.push(number);
            self.held.insert(number, record);
        }
    }

    pub(super) fn check_keys_and_births(&self, later: Duration) {
        let now = Instant::now();
        for (number, record) in &self.held {
            assert_eq!(*record.route(), Route::of(key(*number)), "{number}");
            let age = now.saturating_duration_since(record.tickets().born());
            assert!(
                age < later + Duration::from_secs(1),
                "{number} is {age:?} old"
            );
        }
    }

    /// Answers for what the owner holds and is so.
    pub(super) async fn settle(&mut self, is_so: impl Fn(u64) -> bool) {
        let stored = Delivery::Stored {
            shard: "shardId-000000000000".into(),
            sequence: "1".into(),
            attempts: 1,
        };
        let numbers: Vec<u64> = self.held.keys().copied().filter(|n| is_so(*n)).collect();
        for number in numbers {
            let tickets = self.held.remove(&number).unwrap().into_tickets();
            Counters::add(&self.counters.stored, tickets.records());
            tickets.settle(&stored);
        }
        // The keeper's turn.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// What the record's sender has heard.
    pub(super) fn answer(&mut self, number: u64) -> Option<Delivery> {
        let (receipt, answer) = self.answers.get_mut(&number)?;
        if answer.is_none() {
            *answer = receipt.now_or_never();
        }
        answer.clone()
    }

    /// The time is up, whatever the writer has in hand.
    pub(super) async fn stop_writing(&mut self) {
        self.tasks[0].abort();
        let shelf = Arc::clone(&self.keeper.shelf);
        let ended = tokio::spawn(async move { shelf.writer_ended() });
        let aborted = std::mem::replace(&mut self.tasks[0], ended).await;
        assert!(aborted.is_err_and(|error| error.is_cancelled()));
    }

    /// Stops as the agent does. Returns what is on disk, and how many records are left there.
    pub(super) async fn end(mut self) -> (TestDisk, u64) {
        self.to_writer = None;
        // Nobody takes what the reader hands over, and it must not wait for that.
        drop(self.from_reader);
        // The writer, then the reader.
        for task in self.tasks.drain(..2) {
            task.await.unwrap();
        }
        let keeper = self.tasks.pop().unwrap();
        keeper.abort();
        let _ = keeper.await;
        let finishing = self.keeper.clone();
        let finished = tokio::task::spawn_blocking(move || finishing.finish()).await;
        assert!(finished.unwrap().is_ok() || self.disk.refuses_writes());
        let counts = self.counters.snapshot();
        assert_eq!(counts.pending, counts.spooled, "{counts:?}");
        assert!(counts.balance(), "{counts:?}");
        (self.disk.clone(), counts.spooled)
    }

    /// Stops at once, whatever is under way.
    pub(super) async fn crash(self) -> TestDisk {
        // What its threads still write is written by nobody.
        let disk = self.disk.after_a_kill();
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _ = task.await;
        }
        disk
    }
}

fn key(number: u64) -> RecordKey {
    let key = || PartitionKey::new(format!("key {number}")).unwrap();
    match number % 3 {
        0 => RecordKey::Any,
        1 => RecordKey::Keyed(key()),
        _ => RecordKey::Explicit(key(), HashKey(u128::from(number) << 64)),
    }
}
