//! The reference model: whatever the service does, and however its shards change, what was accepted can be read,
//! twice only for the two causes of doubles, and nothing else can.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prelude::*;

use super::blocks::sealing_blocks;
use super::*;
use crate::delivery::SpanSettled;

/// What happens to one call after the other; when no more is left, all goes well.
#[derive(Debug, Clone)]
enum Fault {
    Nothing,
    /// Entries of some of the eight parts of the hash key range are throttled.
    ThrottledShards(u8),
    /// One entry in so many fails.
    Entries(usize),
    Call(&'static str, u16),
    /// Stored, and the connection is reset.
    Reset,
    /// Stored, and no answer comes in time.
    TimeOutThatStored,
    TimeOut,
}

#[derive(Debug, Clone)]
enum Reshard {
    Split(usize),
    /// With the next one in the range.
    Merge(usize),
    /// From now on the service chooses shards, or keys do.
    Distribute(Distribution),
}

#[derive(Debug, Clone)]
struct World {
    shards: u128,
    records: usize,
    faults: Vec<Fault>,
    /// Each so many milliseconds after the one before.
    reshards: Vec<(u64, Reshard)>,
    /// Seconds by which the clock jumps, each so many milliseconds after the jump before.
    jumps: Vec<(u64, u64)>,
    ordered: bool,
    aggregated: bool,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::Nothing),
        3 => any::<u8>().prop_map(Fault::ThrottledShards),
        3 => (2usize..8).prop_map(Fault::Entries),
        1 => Just(Fault::Call("InternalFailure", 500)),
        1 => Just(Fault::Call("", 504)),
        1 => Just(Fault::Call("ExpiredTokenException", 403)),
        1 => Just(Fault::Call("ResourceNotFoundException", 400)),
        1 => Just(Fault::Call("ProvisionedThroughputExceededException", 400)),
        1 => Just(Fault::Reset),
        1 => Just(Fault::TimeOutThatStored),
        1 => Just(Fault::TimeOut),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let reshard = prop_oneof![
        3 => any::<usize>().prop_map(Reshard::Split),
        3 => any::<usize>().prop_map(Reshard::Merge),
        1 => Just(Reshard::Distribute(Distribution::Auto)),
        1 => Just(Reshard::Distribute(Distribution::ByKey)),
    ];
    (
        (1u128..6, 1usize..300),
        vec(fault(), 0..60),
        vec((0u64..400, reshard), 0..8),
        vec((0u64..400, 1u64..10_000), 0..3),
        (any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |((shards, records), faults, reshards, jumps, (ordered, aggregated))| World {
                shards,
                records,
                faults,
                reshards,
                jumps,
                ordered,
                aggregated,
            },
        )
}

/// Every shard there ever was.
type Ranges = HashMap<String, Shard>;

impl Reshard {
    /// Shards never come back under a name that was used.
    fn apply(&self, service: &Service, ever: &mut Ranges) {
        if let Self::Distribute(distribution) = *self {
            *service.distribution.lock().unwrap() = distribution;
            return;
        }
        let mut map = service.map.lock().unwrap();
        let mut shards = map.shards().to_vec();
        let mut add = |start, end| {
            let id = format!("shardId-{:012}", ever.len());
            let shard = Shard {
                id: ShardId::new(&id),
                start,
                end,
            };
            ever.insert(id, shard.clone());
            shard
        };
        match *self {
            Self::Split(at) => {
                let whole = shards.swap_remove(at % shards.len());
                let middle = whole.start.0 + (whole.end.0 - whole.start.0) / 2;
                shards.push(add(whole.start, HashKey(middle)));
                shards.push(add(HashKey(middle + 1), whole.end));
            }
            Self::Merge(at) if shards.len() > 1 => {
                let at = at % (shards.len() - 1);
                let (left, right) = (shards.remove(at), shards.remove(at));
                shards.push(add(left.start, right.end));
            }
            Self::Merge(_) | Self::Distribute(_) => {}
        }
        *map = ShardMap::new(shards).expect("still the whole range");
    }
}

/// A source of one record after the other: which was settled when so many entries had been stored.
#[derive(Debug)]
struct Source {
    service: Arc<Service>,
    settled: Mutex<Vec<(u64, usize)>>,
}

impl SpanSettled for Source {
    fn settled(&self, id: u64) {
        let stored = self.service.stored.lock().unwrap().len();
        self.settled.lock().unwrap().push((id, stored));
    }
}

/// What lies in an entry, by reader. A message that is no aggregate is one record.
struct Readers {
    ever: Ranges,
}

impl Readers {
    fn plain(data: &Bytes) -> Vec<Bytes> {
        let records = deaggregate(data).map(|r| r.into_iter().map(|r| r.data).collect());
        records.unwrap_or_else(|| vec![data.clone()])
    }

    /// The KCL drops an aggregate whole where one member does not belong on the shard it was read from.
    fn kcl(&self, shard: &str, data: &Bytes) -> Vec<Bytes> {
        let range = &self.ever[shard];
        match deaggregate(data) {
            Some(records) if !records.iter().all(|r| range.contains(r.hash_key())) => Vec::new(),
            _ => Self::plain(data),
        }
    }
}

/// Records in requests after which nobody knows what became of them.
type InDoubt = Arc<Mutex<HashSet<Bytes>>>;

fn script(faults: Vec<Fault>, in_doubt: InDoubt) -> impl FnMut(&Batch) -> Plan + Send + 'static {
    let mut faults = faults.into_iter();
    move |batch| {
        let doubt = || {
            let records = batch
                .entries()
                .iter()
                .flat_map(|e| Readers::plain(e.data()));
            in_doubt.lock().unwrap().extend(records);
        };
        match faults.next().unwrap_or(Fault::Nothing) {
            Fault::Nothing => Plan::Entries(Box::new(|_| None)),
            Fault::ThrottledShards(parts) => {
                let part = |e: &crate::aggregate::AggregatedRecord| e.hash_key().0 >> 125;
                let throttled: Vec<bool> = (batch.entries().iter())
                    .map(|entry| parts >> part(entry) & 1 == 1)
                    .collect();
                Plan::Entries(Box::new(move |n| {
                    throttled[n].then_some("ProvisionedThroughputExceededException")
                }))
            }
            Fault::Entries(nth) => Plan::Entries(Box::new(move |n| {
                n.is_multiple_of(nth).then_some("InternalFailure")
            })),
            Fault::Call(code, status) => Plan::Refuse(code, status),
            Fault::Reset => {
                doubt();
                Plan::Lose
            }
            Fault::TimeOutThatStored => {
                doubt();
                Plan::StoreAndStall
            }
            Fault::TimeOut => Plan::Stall,
        }
    }
}

/// Puts all records, a span each, while shards change and the clock jumps; and then holds what can be read
/// against what was put.
async fn hold(world: World, change: impl FnOnce(&mut Parts), opener: Option<Opener>, jumps: bool) {
    let in_doubt = InDoubt::default();
    let service = Service::new(world.shards, script(world.faults, Arc::clone(&in_doubt)));
    let mut ever: Ranges = (service.map.lock().unwrap().shards().iter())
        .map(|shard| (shard.id.to_string(), shard.clone()))
        .collect();
    let budget = MemoryBudget::new(4 << 20);
    let pipeline = start(&service, |p| {
        p.budget = budget.clone();
        p.batch.max_records = 7;
        p.aggregation.max_size = 600;
        p.aggregation.enabled = world.aggregated;
        if world.ordered {
            p.delivery.ordering = send::Ordering::PartitionKey;
        }
        change(p);
    });
    let counters = Arc::clone(pipeline.counters());
    let source = Arc::new(Source {
        service: Arc::clone(&service),
        settled: Mutex::default(),
    });
    let reading = async {
        let intake = pipeline.intake();
        for n in 0..world.records {
            let memory = intake.reserve(1, 20).await;
            let told: Arc<dyn SpanSettled> = Arc::<Source>::clone(&source);
            let record = Accepted {
                data: format!("record {n}").into(),
                key: if n % 3 == 0 {
                    any_key()
                } else {
                    key(format!("k{}", n % 17))
                },
                ticket: Ticket::for_span(1, Instant::now(), memory, told, n as u64),
            };
            let chunk = Chunk {
                records: vec![record],
                read_took: Duration::ZERO,
            };
            intake.send(chunk).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let resharding = async {
        for (after, reshard) in &world.reshards {
            tokio::time::sleep(Duration::from_millis(*after)).await;
            reshard.apply(&service, &mut ever);
        }
    };
    let jumping = async {
        for (after, seconds) in world.jumps.iter().filter(|_| jumps) {
            tokio::time::sleep(Duration::from_millis(*after)).await;
            tokio::time::advance(Duration::from_secs(*seconds)).await;
        }
    };
    tokio::join!(reading, resharding, jumping);
    pipeline.close(GRACE).await;

    let stored = std::mem::take(&mut *service.stored.lock().unwrap());
    let mut lines = HashMap::new();
    for (_, data) in &stored {
        for message in Readers::plain(data) {
            let inside = match &opener {
                Some(opener) => opened(opener, &message).await,
                None => vec![message.clone()],
            };
            lines.insert(message, inside);
        }
    }
    let wanted: HashSet<Bytes> = (0..world.records)
        .map(|n| format!("record {n}").into())
        .collect();
    let readers = Readers { ever };
    // As the KCL reads: after how many entries it has seen each record.
    let mut seen = HashMap::new();
    for (n, (shard, data)) in stored.iter().enumerate() {
        for line in readers.kcl(shard, data).iter().flat_map(|m| &lines[m]) {
            seen.entry(line.clone()).or_insert(n + 1);
        }
    }
    let found: HashSet<Bytes> = seen.keys().cloned().collect();
    assert_eq!(found, wanted, "as the KCL reads");

    let mut times: HashMap<Bytes, u32> = HashMap::new();
    let mut aggregated = HashSet::new();
    for (_, data) in &stored {
        let messages = Readers::plain(data);
        if messages.len() > 1 {
            aggregated.extend(messages.iter().cloned());
        }
        for message in messages {
            *times.entry(message).or_default() += 1;
        }
    }
    let found: HashSet<Bytes> = times.keys().flat_map(|m| &lines[m]).cloned().collect();
    assert_eq!(found, wanted, "as a plain reader reads");
    let lost: usize = lines.values().map(Vec::len).sum();
    assert_eq!(lost, world.records, "no record is in two messages");

    let counts = counters.snapshot();
    let misplaced = counts.entries_misplaced > 0;
    let in_doubt = in_doubt.lock().unwrap();
    for (message, times) in times {
        let may = in_doubt.contains(&message) || (misplaced && aggregated.contains(&message));
        assert!(times == 1 || may, "{message:?} is there {times} times");
    }

    let settled = source.settled.lock().unwrap();
    assert_eq!(settled.len(), world.records);
    for (id, entries) in &*settled {
        let readable_after = seen[format!("record {id}").as_bytes()];
        assert!(
            readable_after <= *entries,
            "{id} settled before it was stored"
        );
    }
    let records = world.records as u64;
    assert_eq!((counts.accepted, counts.stored), (records, records));
    assert_eq!((counts.pending, budget.in_use()), (0, 0));
}

async fn opened(opener: &Opener, message: &Bytes) -> Vec<Bytes> {
    let opened = opener.open(message).await.unwrap();
    let packing = &opened.context[block::CONTEXT_KEY];
    let records = block::unpack(packing, &opened.plaintext).unwrap();
    records.into_iter().map(|record| record.data).collect()
}

fn any_key() -> RecordKey {
    RecordKey::Any
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_is_lost_nothing_invented_under_random_faults(world in world()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(hold(world, |_| {}, None, true));
    }
}

proptest! {
    // On the real clock, since a paused one jumps ahead while the pool's threads work: fewer, and no jumps.
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, max_shrink_iters: 8, ..Default::default() })]

    #[test]
    fn nothing_is_lost_nothing_invented_in_blocks_either(world in world()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (seal, opener) = sealing_blocks(Packing::Kpl);
        let change = |p: &mut Parts| {
            seal(p);
            p.pool = SealPool::new(2).unwrap();
            p.aggregation.max_size = 4000;
            p.delivery.request_timeout = Duration::from_millis(100);
            p.delivery.retry.max = Duration::from_millis(20);
        };
        let _entered = runtime.enter();
        runtime.block_on(hold(world, change, Some(opener), false));
    }
}
