//! The pipeline against a model of the service, in memory and on a paused clock.

mod kpl;
mod model;
mod quota;
mod routes;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::*;
use crate::aggregate::format::deaggregate;
use crate::batch::Batch;
use crate::deadletter;
use crate::delivery::{Delivery, FailReason, Receipt, Ticket};
use crate::record::{HashKey, PartitionKey, RecordKey};
use crate::retry::LONE_REFUSALS;
use crate::seal::block::Packing;
use crate::seal::key::GenerateDataKey;
use crate::seal::open::Opener;
use crate::seal::rawkey::WrappingKey;
use crate::seal::{CacheSettings, Scope, Settings, message};
use crate::send::{CallError, CallOutcome, EntryOutcome};
use crate::shard::map::tests::even;
use crate::shard::{Description, Distribution, ListShardsError, Shard, ShardId, ShardMap};
use crate::source::{Accepted, Chunk};

const GRACE: Duration = Duration::from_secs(3600);

/// What the service does with one call.
enum Plan {
    /// Refuse the entries for which it returns a code, store the rest.
    Entries(Box<dyn FnMut(usize) -> Option<&'static str> + Send>),
    Refuse(&'static str, u16),
    /// Store everything, and lose the answer.
    Lose,
    /// Store everything, and never answer.
    StoreAndStall,
    /// Never answer, store nothing.
    Stall,
}

type Script = Box<dyn FnMut(&Batch) -> Plan + Send>;

struct Service {
    map: Mutex<ShardMap>,
    distribution: Mutex<Distribution>,
    max_record_bytes: Mutex<usize>,
    script: Mutex<Script>,
    /// In the order in which they were stored, per shard.
    stored: Mutex<Vec<(String, Bytes)>>,
    calls: Mutex<Vec<usize>>,
    listing: Mutex<Result<(), &'static str>>,
    listings: Mutex<usize>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

impl Service {
    fn new(shards: u128, script: impl FnMut(&Batch) -> Plan + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            map: Mutex::new(even(shards)),
            distribution: Mutex::new(Distribution::ByKey),
            max_record_bytes: Mutex::new(1 << 20),
            script: Mutex::new(Box::new(script)),
            stored: Mutex::default(),
            calls: Mutex::default(),
            listing: Mutex::new(Ok(())),
            listings: Mutex::default(),
        })
    }

    fn well_behaved(shards: u128) -> Arc<Self> {
        Self::new(shards, |_| Plan::Entries(Box::new(|_| None)))
    }

    fn store(&self, entry: &crate::aggregate::AggregatedRecord) -> EntryOutcome {
        let map = self.map.lock().unwrap();
        let mut stored = self.stored.lock().unwrap();
        let shard = match *self.distribution.lock().unwrap() {
            Distribution::ByKey => map.predict(entry.hash_key()).id.clone(),
            Distribution::Auto => map.shards()[stored.len() % map.shards().len()].id.clone(),
        };
        stored.push((shard.to_string(), entry.data().clone()));
        EntryOutcome::Stored {
            shard: shard.to_shared(),
            sequence: stored.len().to_string().into(),
        }
    }

    /// User records as a plain reader finds them, with how often.
    fn user_records(&self) -> HashMap<Bytes, usize> {
        let mut seen = HashMap::new();
        for (_, data) in &*self.stored.lock().unwrap() {
            let records = deaggregate(data).map(|r| r.into_iter().map(|r| r.data).collect());
            for record in records.unwrap_or_else(|| vec![data.clone()]) {
                *seen.entry(record).or_insert(0) += 1;
            }
        }
        seen
    }
}

impl PutRecords for Service {
    fn put_records<'a>(
        &'a self,
        _: &'a StreamName,
        batch: &'a Batch,
    ) -> BoxFuture<'a, CallOutcome> {
        async move {
            self.calls.lock().unwrap().push(batch.len());
            let plan = (self.script.lock().unwrap())(batch);
            tokio::time::sleep(Duration::from_millis(20)).await;
            match plan {
                Plan::Entries(mut refuse) => CallOutcome::Answered(
                    (batch.entries().iter().enumerate())
                        .map(|(n, entry)| match refuse(n) {
                            Some(code) => EntryOutcome::Refused {
                                code: code.to_owned(),
                                message: String::new(),
                            },
                            None => self.store(entry),
                        })
                        .collect(),
                ),
                Plan::Refuse(code, status) => CallOutcome::Failed(CallError {
                    code: code.to_owned(),
                    message: "as scripted".to_owned(),
                    status: Some(status),
                }),
                Plan::Lose => {
                    for entry in batch.entries() {
                        self.store(entry);
                    }
                    CallOutcome::Failed(CallError {
                        code: "ConnectionLost".to_owned(),
                        message: String::new(),
                        status: None,
                    })
                }
                Plan::StoreAndStall => {
                    for entry in batch.entries() {
                        self.store(entry);
                    }
                    std::future::pending().await
                }
                Plan::Stall => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl ListShards for Service {
    fn list_shards<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Shard>, ListShardsError>> {
        *self.listings.lock().unwrap() += 1;
        let shards = self.map.lock().unwrap().shards().to_vec();
        let listed = self.listing.lock().unwrap().map(|()| shards);
        let listed = listed.map_err(|code| ListShardsError {
            code: code.to_owned(),
            message: "as scripted".to_owned(),
        });
        async move { listed }.boxed()
    }

    fn describe<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Description, ListShardsError>> {
        let description = Description {
            distribution: *self.distribution.lock().unwrap(),
            max_record_bytes: Some(*self.max_record_bytes.lock().unwrap()),
        };
        async move { Ok(description) }.boxed()
    }
}

fn start(service: &Arc<Service>, change: impl FnOnce(&mut Parts)) -> Pipeline {
    let off = Settings {
        scope: Scope::Off,
        context: Default::default(),
        cache: CacheSettings::default(),
        message: message::Settings::default(),
    };
    let mut parts = Parts {
        stream: StreamName::new("s").unwrap(),
        aggregation: Default::default(),
        batch: Default::default(),
        delivery: Default::default(),
        sealer: Sealer::Plain(off.plaintext_allowed().unwrap()),
        pool: SealPool::immediate(),
        budget: MemoryBudget::new(64 << 20),
        put_records: Arc::<Service>::clone(service),
        shards: Arc::<Service>::clone(service),
        dead_letters: None,
        spool: None,
        counters: Arc::default(),
    };
    // The quota has its own tests; here it would only slow the clock.
    parts.delivery.rate_limit = 10_000;
    change(&mut parts);
    Pipeline::start(parts)
}

async fn put(pipeline: &Pipeline, data: impl Into<Bytes>, key: RecordKey) -> Receipt {
    let data = data.into();
    let intake = pipeline.intake();
    let memory = intake.reserve(1, data.len()).await;
    let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
    let chunk = Chunk {
        records: vec![Accepted { data, key, ticket }],
        read_took: Duration::ZERO,
    };
    intake.send(chunk).await.unwrap();
    receipt
}

fn any() -> RecordKey {
    RecordKey::Any
}

fn key(key: impl AsRef<str>) -> RecordKey {
    RecordKey::Keyed(PartitionKey::new(key).unwrap())
}

async fn put_many(pipeline: &Pipeline, n: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for i in 0..n {
        let key = if i % 3 == 0 {
            any()
        } else {
            key(format!("k{}", i % 17))
        };
        receipts.push(put(pipeline, format!("record {i}"), key).await);
    }
    receipts
}

#[tokio::test(start_paused = true)]
async fn every_record_is_stored_once_and_told_where() {
    let service = Service::well_behaved(4);
    let pipeline = start(&service, |_| {});
    let receipts = put_many(&pipeline, 1000).await;
    let counters = Arc::clone(pipeline.counters());
    let histograms = pipeline.close(GRACE).await;
    for delivery in join_all(receipts).await {
        assert!(
            matches!(delivery, Delivery::Stored { attempts: 1, .. }),
            "{delivery:?}"
        );
    }
    let seen = service.user_records();
    assert_eq!(seen.len(), 1000);
    assert!(seen.values().all(|n| *n == 1));
    let counts = counters.snapshot();
    assert_eq!(
        (counts.accepted, counts.stored, counts.pending()),
        (1000, 1000, 0)
    );
    assert_eq!(histograms.line_to_stored.count(), 1000);
    assert!(
        service.calls.lock().unwrap().len() < 10,
        "records travel together"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lone_record_waits_its_linger_and_no_longer() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    let warm_up = put(&pipeline, "first", any()).await;
    warm_up.await;
    let began = Instant::now();
    let receipt = put(&pipeline, "second", any()).await;
    receipt.await;
    let took = began.elapsed();
    // Linger 100 ms, call 20 ms, and the timer's granularity.
    assert!((120..=125).contains(&took.as_millis()), "{took:?}");
}

/// What is let through late, here by the shard's tokens, once made a call for each entry.
#[tokio::test(start_paused = true)]
async fn late_entries_travel_together() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| {
        p.delivery.rate_limit = 100;
        p.aggregation.enabled = false;
    });
    let receipts = put_many(&pipeline, 3000).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let calls = service.calls.lock().unwrap().len();
    // 2,000 of them wait for tokens, one by one, for two seconds: some 20 to 40 ms each call.
    assert!(calls < 120, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn flush_does_not_linger() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| {
        p.aggregation.linger = Duration::from_secs(3600)
    });
    let receipts = put_many(&pipeline, 10).await;
    let began = Instant::now();
    pipeline.flush().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
}

/// The dead letter writer answers a record aside, without a word to the owner: flush once waited for ever.
#[tokio::test(start_paused = true)]
async fn flush_sees_that_a_dead_letter_was_written() {
    struct Nobody;
    impl crate::delivery::SpanSettled for Nobody {
        fn settled(&self, _: u64) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| {
        let (settings, counters) = (deadletter::Settings::default(), Arc::clone(&p.counters));
        p.dead_letters = Some(DeadLetters::open(dir.path(), &p.stream, settings, counters).0);
    });
    let intake = pipeline.intake();
    let memory = intake.reserve(1, 2 << 20).await;
    let ticket = Ticket::for_span(1, Instant::now(), memory, Arc::new(Nobody), 0);
    let record = Accepted {
        data: vec![0; 2 << 20].into(),
        key: any(),
        ticket,
    };
    let chunk = Chunk {
        records: vec![record],
        read_took: Duration::ZERO,
    };
    intake.send(chunk).await.unwrap();
    pipeline.flush().await;
    assert_eq!(pipeline.counters().snapshot().dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn only_refused_entries_are_sent_again() {
    let mut rng = StdRng::seed_from_u64(3);
    let service = Service::new(4, move |_| {
        let mut rng = StdRng::seed_from_u64(rng.random());
        Plan::Entries(Box::new(move |_| {
            rng.random_bool(0.3)
                .then_some("ProvisionedThroughputExceededException")
        }))
    });
    let pipeline = start(&service, |p| p.aggregation.enabled = false);
    let receipts = put_many(&pipeline, 2000).await;
    let counters = Arc::clone(pipeline.counters());
    pipeline.close(GRACE).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let seen = service.user_records();
    assert_eq!(seen.len(), 2000);
    assert!(seen.values().all(|n| *n == 1), "nothing is doubled");
    let counts = counters.snapshot();
    assert!(counts.entries_throttled > 500);
    assert_eq!(counts.entries_retried, counts.entries_throttled);
    assert_eq!(counts.calls_unknown, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_sent_again_and_counted_as_unknown() {
    let mut first = true;
    let service = Service::new(1, move |_| match std::mem::take(&mut first) {
        true => Plan::Lose,
        false => Plan::Entries(Box::new(|_| None)),
    });
    let pipeline = start(&service, |_| {});
    let receipts = put_many(&pipeline, 10).await;
    let counters = Arc::clone(pipeline.counters());
    pipeline.close(GRACE).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    assert!(service.user_records().values().all(|n| *n == 2));
    assert_eq!(counters.snapshot().calls_unknown, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_time_out() {
    let mut first = true;
    let service = Service::new(1, move |_| match std::mem::take(&mut first) {
        true => Plan::Stall,
        false => Plan::Entries(Box::new(|_| None)),
    });
    let pipeline = start(&service, |_| {});
    let began = Instant::now();
    let receipt = put(&pipeline, "x", any()).await;
    assert!(receipt.await.is_stored());
    assert!((6..7).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_and_probed_by_one_call_at_a_time() {
    let healed_at = Instant::now() + Duration::from_secs(3600);
    let service = Service::new(1, move |_| match Instant::now() < healed_at {
        true => Plan::Refuse("ExpiredTokenException", 400),
        false => Plan::Entries(Box::new(|_| None)),
    });
    let pipeline = start(&service, |_| {});
    let receipts = put_many(&pipeline, 50).await;
    let answers = join_all(receipts).await;
    assert!(answers.iter().all(Delivery::is_stored));
    assert!(Instant::now() >= healed_at);
    let calls = service.calls.lock().unwrap().len();
    assert!((360..3000).contains(&calls), "{calls} probes in an hour");
    assert!(service.user_records().values().all(|n| *n == 1));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_service_refuses_is_found_and_takes_no_other_with_it() {
    let poison = |batch: &Batch| {
        batch
            .entries()
            .iter()
            .any(|e| e.data().windows(6).any(|w| w == b"poison"))
    };
    let service = Service::new(2, move |batch| match poison(batch) {
        true => Plan::Refuse("ValidationException", 400),
        false => Plan::Entries(Box::new(|_| None)),
    });
    let pipeline = start(&service, |_| {});
    let mut receipts = put_many(&pipeline, 200).await;
    let bad = put(&pipeline, "poison", key("k1")).await;
    receipts.extend(put_many(&pipeline, 200).await);
    let counters = Arc::clone(pipeline.counters());
    pipeline.close(GRACE).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    assert!(matches!(
        bad.await,
        Delivery::Failed {
            reason: FailReason::Refused { .. },
            ..
        }
    ));
    let counts = counters.snapshot();
    assert_eq!(
        (counts.stored, counts.failed, counts.pending()),
        (400, 1, 0)
    );
}

/// Isolation once gave up every record, one by one, where the service refused them all.
#[tokio::test(start_paused = true)]
async fn when_every_record_is_refused_it_is_an_outage_and_not_the_records() {
    for ordering in [send::Ordering::None, send::Ordering::PartitionKey] {
        let healed_at = Instant::now() + Duration::from_secs(3600);
        let service = Service::new(3, move |_| match Instant::now() < healed_at {
            true => Plan::Refuse("ValidationException", 400),
            false => Plan::Entries(Box::new(|_| None)),
        });
        let pipeline = start(&service, |p| {
            p.delivery.ordering = ordering;
            p.aggregation.max_size = 300;
        });
        let receipts = put_many(&pipeline, 500).await;
        let counters = Arc::clone(pipeline.counters());
        tokio::time::sleep(Duration::from_secs(3000)).await;
        let counts = counters.snapshot();
        assert!(counts.failed < u64::from(LONE_REFUSALS), "{counts:?}");
        assert_eq!(counts.failed + counts.pending(), 500);
        pipeline.close(GRACE).await;
        let answers = join_all(receipts).await;
        let stored = answers.iter().filter(|answer| answer.is_stored()).count() as u64;
        assert!(Instant::now() >= healed_at);
        let counts = counters.snapshot();
        assert_eq!((counts.stored, counts.pending()), (stored, 0));
        assert_eq!(counts.stored + counts.failed, 500);
        let seen = service.user_records();
        assert_eq!(seen.len() as u64, stored);
        assert!(seen.values().all(|n| *n == 1));
    }
}

/// Many in a row may be at fault all the same: they hold up no other, and as others pass they are given up.
#[tokio::test(start_paused = true)]
async fn refused_records_in_a_row_are_given_up_as_others_pass() {
    let service = Service::new(1, |batch| {
        let bad = |entry: &crate::aggregate::AggregatedRecord| entry.data().starts_with(b"poison");
        match batch.entries().iter().any(bad) {
            true => Plan::Refuse("ValidationException", 400),
            false => Plan::Entries(Box::new(|_| None)),
        }
    });
    let pipeline = start(&service, |p| p.aggregation.enabled = false);
    let mut bad = Vec::new();
    for n in 0..10 {
        bad.push(put(&pipeline, format!("poison {n}"), any()).await);
    }
    for n in 0..20 {
        let receipt = put(&pipeline, format!("good {n}"), any()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(receipt.await.is_stored());
    }
    for answer in join_all(bad).await {
        let Delivery::Failed { reason, .. } = answer else {
            panic!("the service stores no poison");
        };
        assert!(matches!(reason, FailReason::Refused { .. }), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_over_the_limit_is_told_so_and_a_just_fitting_one_is_stored() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    let fits = put(&pipeline, vec![0; (1 << 20) - 1], key("k")).await;
    let over = put(&pipeline, vec![0; 1 << 20], key("k")).await;
    assert!(fits.await.is_stored());
    assert_eq!(
        over.await,
        Delivery::Failed {
            reason: FailReason::TooLarge {
                bytes: (1 << 20) + 1,
                limit: 1 << 20
            },
            attempts: 0
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_past_its_time_to_live_is_given_up_with_the_last_answer() {
    let service = Service::new(1, |_| {
        Plan::Entries(Box::new(|_| Some("ProvisionedThroughputExceededException")))
    });
    let pipeline = start(&service, |p| {
        p.delivery.record_ttl = Some(Duration::from_secs(30))
    });
    let began = Instant::now();
    let receipt = put(&pipeline, "x", any()).await;
    let Delivery::Failed {
        reason: FailReason::Expired { last },
        attempts,
    } = receipt.await
    else {
        panic!("stored by a service that stores nothing");
    };
    assert!(last.contains("ProvisionedThroughputExceededException"));
    assert!(attempts > 3);
    assert!((30..45).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn ordered_records_of_one_key_arrive_in_order_whatever_fails() {
    let mut rng = StdRng::seed_from_u64(5);
    let service = Service::new(3, move |_| {
        if rng.random_bool(0.2) {
            return Plan::Refuse("InternalFailure", 500);
        }
        let mut rng = StdRng::seed_from_u64(rng.random());
        Plan::Entries(Box::new(move |_| {
            rng.random_bool(0.4).then_some("InternalFailure")
        }))
    });
    let pipeline = start(&service, |p| {
        p.delivery.ordering = send::Ordering::PartitionKey;
        p.aggregation.max_size = 200;
    });
    for n in 0..600 {
        put(
            &pipeline,
            format!("{}|{n}", n % 5),
            key(format!("{}", n % 5)),
        )
        .await;
    }
    pipeline.close(GRACE).await;
    let mut last = HashMap::new();
    let stored = service.stored.lock().unwrap();
    let records = stored.iter().flat_map(|(_, d)| {
        deaggregate(d).map_or(vec![d.clone()], |r| r.into_iter().map(|r| r.data).collect())
    });
    let mut count = 0;
    for record in records {
        let text = str::from_utf8(&record).unwrap();
        let (key, n) = text.split_once('|').unwrap();
        let n: u64 = n.parse().unwrap();
        let before = last.insert(key.to_owned(), n);
        assert!(before.is_none_or(|b| b < n), "{key}: {before:?} before {n}");
        count += 1;
    }
    assert_eq!(count, 600);
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_on_a_shard_where_a_member_does_not_belong_is_sent_again_apart() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", any()).await.await;
    // The one shard splits into two with new names; the pipeline does not know.
    let halves = [
        ("shardId-000000000001", 0, (1 << 127) - 1),
        ("shardId-000000000002", 1 << 127, u128::MAX),
    ];
    let halves = halves.map(|(id, start, end)| Shard {
        id: ShardId::new(id),
        start: HashKey(start),
        end: HashKey(end),
    });
    let map = ShardMap::new(halves.to_vec()).unwrap();
    *service.map.lock().unwrap() = ShardMap::new(halves.to_vec()).unwrap();
    let keys: Vec<String> = (0..20).map(|n| format!("key {n}")).collect();
    let mut receipts = Vec::new();
    for k in &keys {
        receipts.push(put(&pipeline, k.clone(), key(k)).await);
    }
    let counters = Arc::clone(pipeline.counters());
    let answers = join_all(receipts).await;
    assert!(answers.iter().all(Delivery::is_stored));
    assert_eq!(counters.snapshot().entries_misplaced, 1);
    // As the KCL reads: an aggregate with a stray member is dropped whole.
    let mut seen = std::collections::HashSet::new();
    for (shard, data) in &*service.stored.lock().unwrap() {
        let Some(records) = deaggregate(data) else {
            continue;
        };
        if records
            .iter()
            .all(|r| map.predict(r.hash_key()).id.as_str() == shard)
        {
            seen.extend(records.into_iter().map(|r| r.partition_key));
        }
    }
    assert_eq!(seen.len(), keys.len());
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_after_the_grace_period_is_abandoned_and_says_so() {
    let service = Service::new(1, |_| Plan::Refuse("AccessDeniedException", 400));
    let pipeline = start(&service, |_| {});
    let receipts = put_many(&pipeline, 5).await;
    let counters = Arc::clone(pipeline.counters());
    pipeline.close(Duration::from_secs(5)).await;
    for answer in join_all(receipts).await {
        assert!(matches!(
            answer,
            Delivery::Failed {
                reason: FailReason::Abandoned,
                ..
            }
        ));
    }
    let counts = counters.snapshot();
    assert_eq!((counts.abandoned, counts.pending()), (5, 0));
}

/// A wrapping key, the pipeline change that seals blocks under it, and what opens them again.
fn sealing_blocks(packing: Packing) -> (impl FnOnce(&mut Parts), Opener) {
    let key = Arc::new(WrappingKey::new("test", "key", &[7; 32]).unwrap());
    let generate: Arc<dyn GenerateDataKey> = Arc::<WrappingKey>::clone(&key);
    let settings = block::Settings {
        max_size: 2000,
        packing,
        ..Default::default()
    };
    let pair = (
        block::CONTEXT_KEY.to_owned(),
        packing.context_value().to_owned(),
    );
    let keyring = Keyring::new(
        generate,
        [pair].into(),
        CacheSettings::default(),
        message::Settings {
            frame_length: settings.frame_length(),
            ..Default::default()
        },
    );
    let opener = Opener::new(vec![key], Default::default(), Default::default()).unwrap();
    (
        move |p: &mut Parts| p.sealer = Sealer::Blocks(keyring, settings),
        opener,
    )
}

/// What lies in the stream, opened, by block.
async fn blocks(
    service: &Service,
    opener: &Opener,
) -> Vec<Vec<crate::aggregate::format::UserRecord>> {
    let stored: Vec<Bytes> = service
        .stored
        .lock()
        .unwrap()
        .iter()
        .map(|(_, d)| d.clone())
        .collect();
    let mut blocks = Vec::new();
    for data in stored {
        let messages = deaggregate(&data).map(|r| r.into_iter().map(|r| r.data).collect());
        for message in messages.unwrap_or_else(|| vec![data]) {
            let opened = opener.open(&message).await.unwrap();
            let packing = &opened.context[block::CONTEXT_KEY];
            blocks.push(block::unpack(packing, &opened.plaintext).unwrap());
        }
    }
    blocks
}

/// On the real clock: a paused one jumps ahead while the pool's threads work.
#[tokio::test]
async fn blocks_hold_every_record_once_each_block_on_one_shard() {
    for packing in [Packing::Kpl, Packing::KplZstd { level: 1 }] {
        let mut rng = StdRng::seed_from_u64(9);
        let service = Service::new(4, move |_| {
            let mut rng = StdRng::seed_from_u64(rng.random());
            Plan::Entries(Box::new(move |_| {
                rng.random_bool(0.3).then_some("InternalFailure")
            }))
        });
        let (change, opener) = sealing_blocks(packing);
        let budget = MemoryBudget::new(8 << 20);
        let pipeline = start(&service, |p| {
            p.budget = budget.clone();
            change(p);
        });
        let receipts = put_many(&pipeline, 1000).await;
        let counters = Arc::clone(pipeline.counters());
        let histograms = pipeline.close(GRACE).await;
        assert!(join_all(receipts).await.iter().all(Delivery::is_stored));

        let map = even(4);
        let blocks = blocks(&service, &opener).await;
        assert!(
            blocks.len() < 60,
            "{} blocks for 1,000 records",
            blocks.len()
        );
        let mut seen = std::collections::HashSet::new();
        for block in &blocks {
            let shards: std::collections::HashSet<_> = block
                .iter()
                .map(|r| map.predict(r.hash_key()).id.clone())
                .collect();
            assert_eq!(shards.len(), 1);
            for record in block {
                assert!(seen.insert(record.data.clone()), "doubled");
            }
        }
        assert_eq!(seen.len(), 1000);
        let counts = counters.snapshot();
        assert_eq!(
            (counts.stored, counts.pending(), budget.in_use()),
            (1000, 0, 0)
        );
        assert_eq!(histograms.line_to_stored.count(), 1000);
        assert_eq!(histograms.seal.count(), 1000);
    }
}

/// On the real clock: a paused one jumps ahead while the pool's threads work.
#[tokio::test]
async fn a_lone_record_in_block_scope_waits_one_linger_not_two() {
    const LINGER: Duration = Duration::from_millis(500);
    let service = Service::well_behaved(1);
    let (change, _) = sealing_blocks(Packing::Kpl);
    let pipeline = start(&service, |p| {
        change(p);
        p.aggregation.linger = LINGER;
    });
    put(&pipeline, "first", any()).await.await;
    let began = Instant::now();
    put(&pipeline, "second", any()).await.await;
    let took = began.elapsed();
    assert!((LINGER..2 * LINGER).contains(&took), "{took:?}");
}

/// On the real clock: a paused one jumps ahead while the pool's threads work.
#[tokio::test]
async fn flush_does_not_wait_for_a_block_to_fill() {
    let service = Service::well_behaved(2);
    let (change, _) = sealing_blocks(Packing::Kpl);
    let pipeline = start(&service, |p| {
        change(p);
        p.aggregation.linger = Duration::from_secs(3600);
    });
    let receipts = put_many(&pipeline, 10).await;
    let began = Instant::now();
    pipeline.flush().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
}
