//! What the service refuses, and what it never answers.

use super::*;

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
    assert_eq!((counts.stored, counts.failed, counts.pending), (400, 1, 0));
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
        assert_eq!(counts.failed + counts.pending, 500);
        pipeline.close(GRACE).await;
        let answers = join_all(receipts).await;
        let stored = answers.iter().filter(|answer| answer.is_stored()).count() as u64;
        assert!(Instant::now() >= healed_at);
        let counts = counters.snapshot();
        assert_eq!((counts.stored, counts.pending), (stored, 0));
        assert_eq!(counts.stored + counts.failed, 500);
        let seen = service.user_records();
        assert_eq!(seen.len() as u64, stored);
        assert!(seen.values().all(|n| *n == 1));
    }
}

/// Many in a row may be at fault all the same: they hold up no other, and as others pass they are given up. In ordered
/// mode they once held their shard for ever, and with all shards held nothing passed.
#[tokio::test(start_paused = true)]
async fn refused_records_in_a_row_are_given_up_as_others_pass() {
    for ordering in [send::Ordering::None, send::Ordering::PartitionKey] {
        let service = Service::new(1, |batch| {
            let bad =
                |entry: &crate::aggregate::AggregatedRecord| entry.data().starts_with(b"poison");
            match batch.entries().iter().any(bad) {
                true => Plan::Refuse("ValidationException", 400),
                false => Plan::Entries(Box::new(|_| None)),
            }
        });
        let pipeline = start(&service, |p| {
            p.aggregation.enabled = false;
            p.delivery.ordering = ordering;
        });
        let (mut bad, mut behind) = (Vec::new(), Vec::new());
        for n in 0..10 {
            let key = key(format!("bad {n}"));
            bad.push(put(&pipeline, format!("poison {n}"), key.clone()).await);
            // Those before are given up at once.
            if n + 1 >= LONE_REFUSALS {
                behind.push(put(&pipeline, format!("good, behind {n}"), key).await);
            }
        }
        for n in 0..20 {
            let receipt = put(&pipeline, format!("good {n}"), key("good")).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(
                receipt
                    .now_or_never()
                    .is_some_and(|answer| answer.is_stored())
            );
        }
        for answer in join_all(bad).await {
            let Delivery::Failed { reason, .. } = answer else {
                panic!("the service stores no poison");
            };
            assert!(matches!(reason, FailReason::Refused { .. }), "{reason}");
        }
        assert!(join_all(behind).await.iter().all(Delivery::is_stored));
    }
}

/// What is let past a record that is hardly at fault is never of its key.
#[tokio::test(start_paused = true)]
async fn records_of_a_key_arrive_in_order_after_a_time_when_every_record_was_refused() {
    for aggregated in [false, true] {
        let healed_at = Instant::now() + Duration::from_secs(600);
        let service = Service::new(2, move |_| match Instant::now() < healed_at {
            true => Plan::Refuse("ValidationException", 400),
            false => Plan::Entries(Box::new(|_| None)),
        });
        let pipeline = start(&service, |p| {
            p.aggregation.enabled = aggregated;
            p.aggregation.max_size = 100;
            p.delivery.ordering = send::Ordering::PartitionKey;
        });
        let mut receipts = Vec::new();
        for n in 0..150 {
            let record = format!("k{} {n:03}", n % 7);
            receipts.push(put(&pipeline, record, key(format!("k{}", n % 7))).await);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        pipeline.close(GRACE).await;
        let answers = join_all(receipts).await;
        let failed = answers.iter().filter(|answer| !answer.is_stored()).count();
        assert!(failed < LONE_REFUSALS as usize, "{failed}");
        let stored = service.stored.lock().unwrap();
        let mut records: Vec<Bytes> = (stored.iter())
            .flat_map(|(_, data)| match deaggregate(data) {
                Some(members) => members.into_iter().map(|member| member.data).collect(),
                None => vec![data.clone()],
            })
            .collect();
        assert_eq!(records.len() + failed, 150);
        records.sort_by_key(|record| record[..2].to_vec());
        assert!(records.is_sorted(), "{records:?}");
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

/// Whoever has to say why it failed says how often it was tried, whatever entries it was in: the count once began anew
/// with each aggregate that was taken apart.
#[tokio::test(start_paused = true)]
async fn attempts_are_counted_on_where_an_aggregate_is_taken_apart_or_made_anew() {
    for ordering in [send::Ordering::None, send::Ordering::PartitionKey] {
        let mut calls = 0;
        let service = Service::new(1, move |batch| {
            calls += 1;
            let is_bad = |entry: &crate::aggregate::AggregatedRecord| {
                entry.data().windows(6).any(|text| text == b"poison")
            };
            match calls {
                1 | 2 => Plan::Refuse("InternalFailure", 500),
                _ if batch.entries().iter().any(is_bad) => Plan::Refuse("ValidationException", 400),
                _ => Plan::Entries(Box::new(|_| None)),
            }
        });
        let pipeline = start(&service, |p| p.delivery.ordering = ordering);
        let good = put(&pipeline, "good", key("k")).await;
        let bad = put(&pipeline, "poison", key("k")).await;
        // Two faults and a refusal in the aggregate, and one more call alone.
        assert!(matches!(good.await, Delivery::Stored { attempts: 4, .. }));
        assert!(matches!(bad.await, Delivery::Failed { attempts: 4, .. }));
        assert_eq!(service.user_records().len(), 1);
    }
}
