//! What changes of the stream while records are on their way.

use super::*;

/// Longer than what is known of a stream may be old.
const LONG: Duration = Duration::from_secs(361);

/// So long the first listing is waited for.
pub(super) const UNLISTED: Duration = super::super::routes::WAIT_FOR_LISTING;

pub(super) fn entries(service: &Service) -> Vec<usize> {
    let stored = service.stored.lock().unwrap();
    (stored.iter())
        .map(|(_, data)| deaggregate(data).map_or(1, |records| records.len()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_brings_nothing_new_closes_nothing_early() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| {
        p.aggregation.linger = Duration::from_secs(3600)
    });
    let early = put(&pipeline, "before", key("k")).await;
    tokio::time::sleep(LONG).await;
    assert!(*service.listings.lock().unwrap() >= 2);
    assert!(entries(&service).is_empty());
    let late = put(&pipeline, "after", key("k")).await;
    assert!(early.await.is_stored() && late.await.is_stored());
    assert_eq!(entries(&service), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_switched_to_auto_is_no_longer_aggregated_and_one_switched_back_is_again() {
    let service = Service::well_behaved(4);
    let explicit = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&explicit);
    *service.script.lock().unwrap() = Box::new(move |batch| {
        let given = |e: &&crate::aggregate::AggregatedRecord| e.explicit_hash_key().is_some();
        *counting.lock().unwrap() += batch.entries().iter().filter(given).count();
        Plan::Entries(Box::new(|_| None))
    });
    let pipeline = start(&service, |_| {});
    let put_both = async || {
        // First, so that an aggregate that it gets into has its keys.
        let key = PartitionKey::new("k").unwrap();
        let given = put(&pipeline, "given", RecordKey::Explicit(key, HashKey(7))).await;
        let mut receipts = put_many(&pipeline, 30).await;
        receipts.push(given);
        assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
        let alone = entries(&service).iter().all(|n| *n == 1);
        service.stored.lock().unwrap().clear();
        (alone, std::mem::take(&mut *explicit.lock().unwrap()))
    };
    assert!(matches!(put_both().await, (false, 1..)));
    *service.distribution.lock().unwrap() = Distribution::Auto;
    tokio::time::sleep(LONG).await;
    assert_eq!(put_both().await, (true, 0));
    *service.distribution.lock().unwrap() = Distribution::ByKey;
    tokio::time::sleep(LONG).await;
    assert!(matches!(put_both().await, (false, 1..)));
}

/// Stored on shards of the service's choice, where readers drop them whole.
#[tokio::test(start_paused = true)]
async fn aggregates_that_a_switched_stream_has_put_anywhere_are_sent_again_one_by_one() {
    let service = Service::well_behaved(4);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", any()).await.await;
    *service.distribution.lock().unwrap() = Distribution::Auto;
    let receipts = put_many(&pipeline, 100).await;
    let answers = join_all(receipts).await;
    assert!(answers.iter().all(Delivery::is_stored));
    let stored = service.stored.lock().unwrap();
    assert_eq!(readable(&stored, &even(4)).len(), 101);
    // Once when the switch was found out by them, and not again and again.
    let copies: usize = entries_of(&stored);
    assert!(copies <= 201, "{copies} copies of 101 records");
}

/// What the KCL reads: no aggregate with a member that belongs elsewhere.
pub(super) fn readable(
    stored: &[(String, Bytes)],
    map: &ShardMap,
) -> std::collections::HashSet<Bytes> {
    let mut readable = std::collections::HashSet::new();
    for (shard, data) in stored {
        let records = deaggregate(data);
        let here = |r: &crate::aggregate::format::UserRecord| {
            map.predict(r.hash_key()).id.as_str() == shard
        };
        match records {
            None => drop(readable.insert(data.clone())),
            Some(records) if records.iter().all(here) => {
                readable.extend(records.into_iter().map(|r| r.data));
            }
            Some(_) => {}
        }
    }
    readable
}

/// Its shards have the names of the old ones, and other ranges: that an aggregate landed on the shard that was predicted
/// tells nothing.
#[tokio::test(start_paused = true)]
async fn what_is_stored_in_a_stream_that_was_made_anew_is_judged_by_its_own_shards() {
    for ordered in [false, true] {
        let service = Service::well_behaved(4);
        let pipeline = start(&service, |p| {
            if ordered {
                p.delivery.ordering = send::Ordering::PartitionKey;
            }
        });
        let put_keyed = async |from: usize| {
            let mut receipts = Vec::new();
            for n in from..from + 300 {
                receipts.push(put(&pipeline, format!("{n}"), key(format!("key {n}"))).await);
            }
            receipts
        };
        put(&pipeline, "warm up", key("k")).await.await;
        let gone = "ResourceNotFoundException";
        *service.script.lock().unwrap() = Box::new(move |_| Plan::Refuse(gone, 400));
        *service.listing.lock().unwrap() = Err(gone);
        let mut receipts = put_keyed(0).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        // It is there, and the next listing is some seconds off yet.
        service.stored.lock().unwrap().clear();
        *service.map.lock().unwrap() = even(8);
        *service.script.lock().unwrap() = Box::new(|_| Plan::Entries(Box::new(|_| None)));
        receipts.extend(put_keyed(300).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        *service.listing.lock().unwrap() = Ok(());
        receipts.extend(put_keyed(600).await);
        assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
        let stored = service.stored.lock().unwrap();
        assert_eq!(readable(&stored, &even(8)).len(), 900, "ordered: {ordered}");
    }
}

fn entries_of(stored: &[(String, Bytes)]) -> usize {
    let inside = |(_, data): &(String, Bytes)| deaggregate(data).map_or(1, |r| r.len());
    stored.iter().map(inside).sum()
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_stream_is_switched_is_made_anew() {
    // An outage keeps aggregates in their batches while the stream is switched.
    let service = Service::new(4, |_| Plan::Refuse("ExpiredTokenException", 400));
    let pipeline = start(&service, |_| {});
    let mut receipts = put_many(&pipeline, 100).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    *service.distribution.lock().unwrap() = Distribution::Auto;
    tokio::time::sleep(LONG).await;
    *service.script.lock().unwrap() = Box::new(|_| Plan::Entries(Box::new(|_| None)));
    receipts.extend(put_many(&pipeline, 1).await);
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    assert_eq!(entries(&service), vec![1; 101]);
}

/// A late answer was once held against a map that had already been read again because of an earlier one.
#[tokio::test(start_paused = true)]
async fn an_answer_that_the_present_map_explains_brings_no_other_listing() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| p.aggregation.enabled = false);
    put(&pipeline, "warm up", key("k")).await.await;
    *service.map.lock().unwrap() = renamed(even(2));
    // Every other entry is stored only when the new map has long been there.
    let late = Instant::now() + Duration::from_secs(10);
    *service.script.lock().unwrap() = Box::new(move |_| {
        let refused = Instant::now() < late;
        Plan::Entries(Box::new(move |n| {
            (refused && n % 2 == 1).then_some("InternalFailure")
        }))
    });
    let receipts = put_many(&pipeline, 1000).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*service.listings.lock().unwrap(), 2);
}

/// The same ranges under new names, as after a reshard.
pub(super) fn renamed(map: ShardMap) -> ShardMap {
    let shards = map.shards().iter().enumerate().map(|(n, shard)| Shard {
        id: ShardId::new(&format!("shardId-{:012}", 100 + n)),
        ..shard.clone()
    });
    ShardMap::new(shards.collect()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_may_be_as_large_as_the_stream_says_from_when_it_says_so() {
    const RECORD: usize = 3 << 20;
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    let put_large = async || put(&pipeline, vec![0; RECORD], any()).await.await;
    let too_large = |limit: usize| Delivery::Failed {
        reason: FailReason::TooLarge {
            bytes: RECORD + ShardMap::SPREAD_KEY_LEN,
            limit,
        },
        attempts: 0,
    };
    assert_eq!(put_large().await, too_large(1 << 20));
    *service.max_record_bytes.lock().unwrap() = 4 << 20;
    tokio::time::sleep(LONG).await;
    assert!(put_large().await.is_stored());
    *service.max_record_bytes.lock().unwrap() = 2 << 20;
    tokio::time::sleep(LONG).await;
    assert_eq!(put_large().await, too_large(2 << 20));
}

#[tokio::test(start_paused = true)]
async fn memory_bounds_what_the_stream_says() {
    let service = Service::well_behaved(1);
    *service.max_record_bytes.lock().unwrap() = 10 << 20;
    let pipeline = start(&service, |p| p.budget = MemoryBudget::new(16 << 20));
    let fits = put(&pipeline, vec![0; (4 << 20) - 10], any()).await;
    let over = put(&pipeline, vec![0; 4 << 20], any()).await;
    assert!(fits.await.is_stored());
    let Delivery::Failed { reason, .. } = over.await else {
        panic!("stored beyond a quarter of the memory");
    };
    assert!(matches!(reason, FailReason::TooLarge { limit, .. } if limit == 4 << 20));
}

/// Batches that were filled under a higher limit wait in an outage, and are sorted out there.
#[tokio::test(start_paused = true)]
async fn a_limit_that_falls_during_an_outage_loses_nothing_that_waits() {
    let service = Service::new(1, |_| Plan::Refuse("ExpiredTokenException", 400));
    *service.max_record_bytes.lock().unwrap() = 4 << 20;
    let pipeline = start(&service, |p| {
        p.delivery.record_ttl = Some(Duration::from_secs(86_400))
    });
    let receipt = put(&pipeline, vec![0; 3 << 20], any()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    *service.max_record_bytes.lock().unwrap() = 1 << 20;
    tokio::time::sleep(2 * LONG).await;
    *service.script.lock().unwrap() = Box::new(|_| Plan::Entries(Box::new(|_| None)));
    assert!(receipt.await.is_stored());
}

/// The one shard becomes two, under new names.
pub(super) fn split(service: &Service) {
    let half = 1 << 127;
    let shard = |n: u128, start, end| Shard {
        id: ShardId::new(&format!("shardId-{n:012}")),
        start: HashKey(start),
        end: HashKey(end),
    };
    let children = vec![shard(1, 0, half - 1), shard(2, half, u128::MAX)];
    *service.map.lock().unwrap() = ShardMap::new(children).unwrap();
}

/// Puts more than a shard takes in ten seconds, and splits it after two.
async fn split_with_a_backlog(service: &Arc<Service>, pipeline: Pipeline) {
    let intake = pipeline.intake();
    let mut receipts = Vec::new();
    for n in 0..5000 {
        let key = n % 10;
        let data = format!("{key}|{n}|{}", "x".repeat(2000));
        let memory = intake.reserve(1, data.len()).await;
        let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
        let record = Accepted {
            data: data.into(),
            key: RecordKey::Keyed(PartitionKey::new(format!("{key}")).unwrap()),
            ticket,
        };
        let chunk = Chunk {
            records: vec![record],
            read_took: Duration::ZERO,
        };
        intake.send(chunk).await.unwrap();
        receipts.push(receipt);
    }
    drop(intake);
    tokio::time::sleep(Duration::from_secs(2)).await;
    split(service);
    pipeline.close(GRACE).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
}

/// Once each record of a backlog went to its old shard's child, found there to be out of place, and went again.
#[tokio::test(start_paused = true)]
async fn a_backlog_that_is_caught_by_a_reshard_goes_to_its_new_shards_and_is_not_doubled() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| p.delivery.rate_limit = 100);
    let counters = Arc::clone(pipeline.counters());
    split_with_a_backlog(&service, pipeline).await;
    let misplaced = counters.snapshot().entries_misplaced;
    assert!(misplaced < 5, "{misplaced} aggregates");
    let doubled = service.user_records().values().filter(|n| **n > 1).count();
    assert!(doubled < 5 * 25, "{doubled} records");
}

#[tokio::test(start_paused = true)]
async fn records_of_one_key_stay_in_order_across_a_reshard_with_a_backlog() {
    for aggregated in [false, true] {
        let mut rng = StdRng::seed_from_u64(3);
        let service = Service::new(1, move |_| {
            let mut rng = StdRng::seed_from_u64(rng.random());
            Plan::Entries(Box::new(move |_| {
                rng.random_bool(0.2).then_some("InternalFailure")
            }))
        });
        let pipeline = start(&service, |p| {
            p.delivery.ordering = send::Ordering::PartitionKey;
            p.aggregation.enabled = aggregated;
            p.delivery.rate_limit = 100;
        });
        split_with_a_backlog(&service, pipeline).await;
        let stored = service.stored.lock().unwrap();
        let records = stored.iter().flat_map(|(_, d)| {
            deaggregate(d).map_or(vec![d.clone()], |r| r.into_iter().map(|r| r.data).collect())
        });
        let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
        for record in records {
            let text = str::from_utf8(&record).unwrap();
            let mut parts = text.split('|');
            let (key, n) = (parts.next().unwrap(), parts.next().unwrap());
            let n = n.parse().unwrap();
            let seen = seen.entry(key.to_owned()).or_default();
            // What an aggregate had stored where it did not belong comes once more, from there on in order.
            let first = seen.iter().position(|before| *before >= n);
            seen.truncate(first.unwrap_or(seen.len()));
            seen.push(n);
        }
        for (key, seen) in seen {
            assert_eq!(seen.len(), 500, "{key}: in order, each is there at the end");
        }
    }
}
