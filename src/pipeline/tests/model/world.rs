//! What may happen to a pipeline: the service's faults, its shards, its listings, and what is put.

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prelude::*;

use super::*;

/// What happens to one call after the other; when no more is left, all goes well.
#[derive(Debug, Clone)]
pub(super) enum Fault {
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
pub(super) enum Reshard {
    Split(usize),
    /// With the next one in the range.
    Merge(usize),
    /// From now on the service chooses shards, or keys do, whichever it was not.
    Redistribute,
}

/// ListShards fails with this code for so many milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Unlisted {
    pub(super) after: u64,
    pub(super) code: &'static str,
    pub(super) lasts: u64,
}

/// The stream is deleted, and made anew with so many shards some time after that was noticed.
#[derive(Debug, Clone)]
pub(super) struct Anew {
    pub(super) after: u64,
    pub(super) shards: u128,
    pub(super) absent: u64,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) shards: u128,
    /// At first.
    pub(super) distribution: Distribution,
    pub(super) records: usize,
    pub(super) faults: Vec<Fault>,
    /// Each so many milliseconds after the one before.
    pub(super) reshards: Vec<(u64, Reshard)>,
    pub(super) unlisted: Vec<Unlisted>,
    pub(super) anew: Option<Anew>,
    /// Seconds by which the clock jumps, each so many milliseconds after the jump before.
    pub(super) jumps: Vec<(u64, u64)>,
    pub(super) ordered: bool,
    pub(super) aggregated: bool,
    /// Each so manieth record is one for which the service refuses the call it is in.
    pub(super) poison: Option<usize>,
    pub(super) record_ttl: Option<Duration>,
    /// `memory_limit`.
    pub(super) memory: usize,
}

impl World {
    /// As far as it goes where records can not be told apart, and the clock can not be turned.
    pub(super) fn sealed_and_in_real_time(self) -> Self {
        Self {
            unlisted: Vec::new(),
            anew: None,
            jumps: Vec::new(),
            poison: None,
            record_ttl: None,
            memory: 4 << 20,
            ..self
        }
    }

    pub(super) fn is_poison(&self, n: usize) -> bool {
        self.poison.is_some_and(|nth| n % nth == nth - 1)
    }

    pub(super) fn record(&self, n: usize) -> Bytes {
        match self.is_poison(n) {
            true => format!("{POISON} {n}").into(),
            false => format!("record {n}").into(),
        }
    }

    /// Whether some are given up.
    pub(super) fn has_letters(&self) -> bool {
        self.poison.is_some() || self.record_ttl.is_some()
    }
}

const POISON: &str = "poison";

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::Nothing),
        3 => any::<u8>().prop_map(Fault::ThrottledShards),
        3 => (2usize..8).prop_map(Fault::Entries),
        1 => Just(Fault::Call("InternalFailure", 500)),
        1 => Just(Fault::Call("", 504)),
        1 => Just(Fault::Call("ExpiredTokenException", 403)),
        1 => Just(Fault::Call(NOT_FOUND, 400)),
        1 => Just(Fault::Call("ProvisionedThroughputExceededException", 400)),
        1 => Just(Fault::Reset),
        1 => Just(Fault::TimeOutThatStored),
        1 => Just(Fault::TimeOut),
    ]
}

fn reshard() -> impl Strategy<Value = Reshard> {
    prop_oneof![
        3 => any::<usize>().prop_map(Reshard::Split),
        3 => any::<usize>().prop_map(Reshard::Merge),
        2 => Just(Reshard::Redistribute),
    ]
}

/// A stream is not switched to and fro. While its listing fails, the pipeline describes it each ten seconds, and takes
/// what lies on a new shard for at home if keys count: that they did not for a moment before, nobody can know.
fn switched_once(mut reshards: Vec<(u64, Reshard)>) -> Vec<(u64, Reshard)> {
    let mut switched = false;
    reshards.retain(|(_, reshard)| match reshard {
        Reshard::Redistribute => !std::mem::replace(&mut switched, true),
        Reshard::Split(_) | Reshard::Merge(_) => true,
    });
    reshards
}

/// From a moment to much longer than a listing is waited for.
fn unlisted() -> impl Strategy<Value = Unlisted> {
    let code = prop_oneof![
        3 => Just("ServiceUnavailable"),
        1 => Just("AccessDeniedException"),
    ];
    (
        prop_oneof![1 => Just(0), 2 => 0u64..300],
        code,
        prop_oneof![1u64..2_000, 1u64..60_000],
    )
        .prop_map(|(after, code, lasts)| Unlisted { after, code, lasts })
}

fn anew() -> impl Strategy<Value = Anew> {
    let absent = prop_oneof![1u64..2_000, 1u64..60_000];
    (0u64..600, 1u128..12, absent).prop_map(|(after, shards, absent)| Anew {
        after,
        shards,
        absent,
    })
}

pub(super) fn world() -> impl Strategy<Value = World> {
    let poison = prop_oneof![2 => Just(None), 1 => (2usize..60).prop_map(Some)];
    let ttl =
        prop_oneof![2 => Just(None), 1 => (1u64..30).prop_map(|s| Some(Duration::from_secs(s)))];
    // Of some thirty records, or of all.
    let memory = prop_oneof![1 => Just(10 << 10), 1 => Just(4 << 20)];
    (
        (1u128..6, 1usize..300),
        prop_oneof![4 => Just(Distribution::ByKey), 1 => Just(Distribution::Auto)],
        vec(fault(), 0..60),
        vec((0u64..400, reshard()), 0..8).prop_map(switched_once),
        (
            prop_oneof![1 => Just(Vec::new()), 1 => vec(unlisted(), 1..4)],
            prop_oneof![2 => Just(None), 1 => anew().prop_map(Some)],
        ),
        vec((0u64..400, 1u64..10_000), 0..3),
        (any::<bool>(), any::<bool>()),
        (poison, ttl, memory),
    )
        .prop_map(
            |(
                (shards, records),
                distribution,
                faults,
                reshards,
                (unlisted, anew),
                jumps,
                (ordered, aggregated),
                (poison, record_ttl, memory),
            )| World {
                shards,
                distribution,
                records,
                faults,
                reshards,
                unlisted,
                anew,
                jumps,
                ordered,
                aggregated,
                poison,
                record_ttl,
                memory,
            },
        )
}

/// Every shard there ever was. Those of a stream that was deleted have [`OLD`] before their names.
pub(super) type Ranges = HashMap<String, Shard>;

const OLD: &str = "old ";

impl Anew {
    /// In place of the one that was deleted: what lies there has been stored, and may have been read by then.
    fn make(&self, service: &Service, ever: &mut Ranges) {
        for (shard, _) in &mut *service.stored.lock().unwrap() {
            shard.insert_str(0, OLD);
        }
        let old = ever
            .drain()
            .map(|(id, shard)| (format!("{OLD}{id}"), shard));
        *ever = old.collect();
        let map = even(self.shards);
        ever.extend((map.shards().iter()).map(|shard| (shard.id.to_string(), shard.clone())));
        *service.map.lock().unwrap() = map;
    }

    pub(super) async fn happen(&self, service: &Service, ever: &Mutex<Ranges>) {
        tokio::time::sleep(Duration::from_millis(self.after)).await;
        *service.absent.lock().unwrap() = Some(0);
        // Nothing may come any more that would notice it.
        let mut is_noticed = false;
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            is_noticed = service
                .absent
                .lock()
                .unwrap()
                .is_some_and(|heard| heard > 0);
            if is_noticed {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(self.absent)).await;
        if is_noticed {
            self.make(service, &mut ever.lock().unwrap());
        }
        *service.absent.lock().unwrap() = None;
    }
}

impl Reshard {
    /// Shards never come back under a name that was used.
    pub(super) fn apply(&self, service: &Service, ever: &mut Ranges) {
        if let Self::Redistribute = self {
            let mut distribution = service.distribution.lock().unwrap();
            *distribution = match *distribution {
                Distribution::ByKey => Distribution::Auto,
                Distribution::Auto => Distribution::ByKey,
            };
            return;
        }
        let mut map = service.map.lock().unwrap();
        let mut shards = map.shards().to_vec();
        let mut add = |start, end| {
            let present = ever.keys().filter(|id| !id.starts_with(OLD));
            let id = format!("shardId-{:012}", present.count());
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
            Self::Merge(_) | Self::Redistribute => {}
        }
        *map = ShardMap::new(shards).expect("still the whole range");
    }
}

pub(super) fn script(faults: Vec<Fault>) -> impl FnMut(&Batch) -> Plan + Send + 'static {
    let mut faults = faults.into_iter();
    let is_poison = |entry: &AggregatedRecord| {
        entry
            .data()
            .windows(POISON.len())
            .any(|w| w == POISON.as_bytes())
    };
    move |batch| {
        if batch.entries().iter().any(is_poison) {
            return Plan::Refuse("ValidationException", 400);
        }
        match faults.next().unwrap_or(Fault::Nothing) {
            Fault::Nothing => Plan::Entries(Box::new(|_| None)),
            Fault::ThrottledShards(parts) => {
                let part = |e: &AggregatedRecord| e.hash_key().0 >> 125;
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
            Fault::Reset => Plan::Lose,
            Fault::TimeOutThatStored => Plan::StoreAndStall,
            Fault::TimeOut => Plan::Stall,
        }
    }
}
