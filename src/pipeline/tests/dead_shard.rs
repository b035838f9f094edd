//! One shard of many that takes nothing, and records that have keys, so that its own can go nowhere else.

use super::*;
use crate::delivery::SpanSettled;

const SHARDS: u128 = 64;
const DEAD: u128 = 7;
const CHUNK: usize = 64;

#[derive(Debug)]
struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

/// Records of one length, read as files are: in chunks, whose memory is given back as answers come.
struct Reader {
    intake: Intake,
    budget: MemoryBudget,
    /// What one record takes.
    each: usize,
    dead: Vec<Bytes>,
    read: usize,
}

impl Reader {
    const RECORD: usize = 300;
    const KEY: usize = 8;

    async fn new(pipeline: &Pipeline, budget: &MemoryBudget) -> Self {
        let intake = pipeline.intake();
        let one = intake.reserve(1, Self::RECORD + Self::KEY).await;
        let each = budget.in_use();
        drop(one);
        Self {
            intake,
            budget: budget.clone(),
            each,
            dead: Vec::new(),
            read: 0,
        }
    }

    fn record(n: usize) -> Bytes {
        format!("{n:0width$}", width = Self::RECORD).into()
    }

    /// Reads on until memory is full and stays so.
    async fn until_full(&mut self) {
        const FULL: Duration = Duration::from_secs(600);
        let bytes = CHUNK * (Self::RECORD + Self::KEY);
        while let Ok(memory) = tokio::time::timeout(FULL, self.intake.reserve(CHUNK, bytes)).await {
            let told: Arc<dyn SpanSettled> = Arc::new(Nobody);
            let records = u32::try_from(CHUNK).unwrap();
            let ticket = Ticket::for_span(records, Instant::now(), memory, told, 0);
            let mut rest = Some(ticket.taking_each(self.each));
            let records = (0..CHUNK).map(|_| self.next(&mut rest)).collect();
            let chunk = Chunk {
                records,
                read_took: Duration::ZERO,
            };
            self.intake.send(chunk).await.unwrap();
            assert!(self.budget.in_use() <= self.budget.limit());
        }
    }

    fn next(&mut self, rest: &mut Option<Ticket>) -> Accepted {
        let ticket = match rest {
            Some(ticket) if ticket.records() > 1 => ticket.take_one(),
            _ => rest.take().expect("for as many as there are"),
        };
        let data = Self::record(self.read);
        let key = PartitionKey::new(format!("{:0width$}", self.read, width = Self::KEY)).unwrap();
        if key.hash_key().0 >> 122 == DEAD {
            self.dead.push(data.clone());
        }
        self.read += 1;
        Accepted {
            data,
            key: RecordKey::Keyed(key),
            ticket,
        }
    }
}

/// By hand, 492,188 of 500,000 records were stored with one of 64 shards dead; this is why, and where it ends.
async fn hold(code: &'static str, ordering: send::Ordering) {
    let healed = Arc::new(Mutex::new(false));
    let heals = Arc::clone(&healed);
    let service = Service::new(SHARDS, move |batch| {
        let is_dead = |e: &crate::aggregate::AggregatedRecord| e.hash_key().0 >> 122 == DEAD;
        let dead: Vec<bool> = batch.entries().iter().map(is_dead).collect();
        let healed = *heals.lock().unwrap();
        Plan::Entries(Box::new(move |n| (dead[n] && !healed).then_some(code)))
    });
    let budget = MemoryBudget::new(1 << 20);
    let pipeline = start(&service, |p| {
        p.budget = budget.clone();
        p.delivery.ordering = ordering;
    });
    let mut reader = Reader::new(&pipeline, &budget).await;
    reader.until_full().await;

    // All that waits waits for the dead shard; nothing else waits with it, and nothing else holds memory.
    let counts = pipeline.counters().snapshot();
    let waiting = reader.dead.len();
    assert_eq!(
        (counts.accepted, counts.pending),
        (reader.read as u64, waiting as u64),
        "{code}"
    );
    let seen = service.user_records();
    assert_eq!(seen.len(), reader.read - waiting);
    assert!(!reader.dead.iter().any(|record| seen.contains_key(record)));
    assert_eq!(budget.in_use(), waiting * reader.each);
    // Nor was it stopped before: not one chunk more had room.
    assert!(budget.in_use() + CHUNK * reader.each > budget.limit());
    let share = waiting * usize::try_from(SHARDS).unwrap();
    assert!(
        reader.read > share / 2,
        "{} read, {waiting} for the dead shard",
        reader.read
    );

    // Nothing was lost of it, nor doubled.
    *healed.lock().unwrap() = true;
    let counters = Arc::clone(pipeline.counters());
    let read = reader.read;
    drop(reader);
    pipeline.close(GRACE).await;
    let seen = service.user_records();
    assert_eq!(seen.len(), read);
    assert!(seen.values().all(|times| *times == 1));
    let counts = counters.snapshot();
    assert_eq!((counts.stored, counts.pending), (read as u64, 0));
    assert_eq!(budget.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_throttles_everything_keeps_only_its_own_records_until_they_fill_the_memory() {
    hold(
        "ProvisionedThroughputExceededException",
        send::Ordering::None,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_fails_everything_keeps_only_its_own_records_until_they_fill_the_memory() {
    hold("InternalFailure", send::Ordering::None).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_shard_keeps_only_its_own_records_in_ordered_mode_too() {
    hold(
        "ProvisionedThroughputExceededException",
        send::Ordering::PartitionKey,
    )
    .await;
}
