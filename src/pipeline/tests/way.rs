//! The way of records while nothing goes wrong, or what does is none of their fault.

use super::*;

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
        (counts.accepted, counts.stored, counts.pending),
        (1000, 1000, 0)
    );
    assert_eq!(histograms.line_to_stored.count(), 1000);
    assert!(
        service.calls.lock().unwrap().len() < 10,
        "records travel together"
    );
}

/// How many records at a time.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<u32>>);

impl SpanSettled for Told {
    fn settled(&self, _: u64) {}

    fn answered(&self, records: u32) {
        self.0.lock().unwrap().push(records);
    }
}

/// What a chunk is told costs more than a record does, and on many shards its records lie in as many entries.
#[tokio::test(start_paused = true)]
async fn a_source_is_told_once_of_what_a_call_stored_of_a_chunk_and_a_caller_of_his_record() {
    let service = Service::well_behaved(8);
    let pipeline = start(&service, |_| {});
    let intake = pipeline.intake();
    let chunks: Vec<Arc<Told>> = (0..2).map(|_| Arc::default()).collect();
    for told in &chunks {
        let memory = intake.reserve(80, 8000).await;
        let of_chunk = Arc::<Told>::clone(told);
        let mut rest = Some(Ticket::for_span(80, Instant::now(), memory, of_chunk, 0));
        let mut next = || {
            let (next, others) = rest.take().expect("for each of them").divide(1);
            rest = others;
            next
        };
        let records = (0..80).map(|n| Accepted {
            data: Bytes::from(format!("line {n}")),
            key: key(format!("k{}", n % 40)),
            ticket: next(),
        });
        let records = records.collect();
        let read_took = Duration::ZERO;
        intake.send(Chunk { records, read_took }).await.unwrap();
    }
    let receipt = put(&pipeline, "among them", key("k7")).await;
    assert!(matches!(
        receipt.await,
        Delivery::Stored { attempts: 1, .. }
    ));
    pipeline.close(GRACE).await;
    assert_eq!(
        *service.calls.lock().unwrap(),
        [8],
        "an entry for each shard"
    );
    for told in &chunks {
        assert_eq!(*told.0.lock().unwrap(), [80]);
    }
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
    // And it is told as such: the wait counts from when a record was sealed, not from when its aggregate was closed.
    let waited = pipeline.close(GRACE).await.aggregate_wait.max();
    assert!((98..=105).contains(&waited.as_millis()), "{waited:?}");
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
    assert_eq!((counts.abandoned, counts.pending), (5, 0));
}

/// Once their tasks ended a moment after all was counted: the last report had them as pending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_calls_under_way_hold_is_abandoned_before_it_is_counted() {
    for _ in 0..20 {
        let service = Service::new(1, |_| Plan::Stall);
        let pipeline = start(&service, |parts| {
            parts.aggregation.linger = Duration::ZERO;
            parts.aggregation.enabled = false;
        });
        let receipts = put_many(&pipeline, 2000).await;
        while service.calls.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        let counters = Arc::clone(pipeline.counters());
        pipeline.close(Duration::ZERO).await;
        let counts = counters.snapshot();
        assert_eq!((counts.abandoned, counts.pending), (2000, 0));
        drop(receipts);
    }
}
