//! The KPL's own tests, by their names, and the law here that proves the same. Where a law is another, it says how.
//!
//! | KPL | tests here | where the law is another |
//! |---|---|---|
//! | `KinesisRecord`: SingleRecord | `a_lone_record_goes_as_it_is` | |
//! | Same-, Different-, MixedPartitionKey and -EHK | `what_goes_in_comes_out_and_size_is_known_before`, `bytes_are_the_kpls` | nothing is taken out of a container again, so there is no `remove_last` |
//! | AccurateSize, EstimatedSize | `what_goes_in_comes_out_and_size_is_known_before` | sizes are kept exact with each member: nothing is estimated |
//! | Empty, Clearing | `flushing_nothing_closes_nothing` | a container is made with its first member and moved out when it closes |
//! | Deadlines | `deadline_of_an_aggregate_is_its_earliest_members` | |
//! | AddAndEstimateThroughput | | `benches/aggregate.rs` |
//! | `UserRecord`: HashKeyFromPartitionKey | `hash_key_is_the_md5_as_a_big_endian_number` | |
//! | ExplicitHashKey | `under_the_kpls_keys_entries_are_the_kpls_own` | |
//! | PutRecordResultFail, PutRecordResultSuccess | `every_record_is_stored_once_and_told_where`, `a_record_past_its_time_to_live_is_given_up_with_the_last_answer`, `delays_count_from_the_attempt_before_and_durations_are_the_calls`, `a_journal_is_told_of_each_attempt` | |
//! | `Reducer`: CountLimit | `a_container_closes_at_its_count_in_the_order_in_which_its_members_came` | |
//! | SizeLimit | `every_record_comes_out_once_within_size_on_its_shard`, `a_container_closes_for_its_size_only_where_the_next_does_not_fit_and_keeps_the_order` | |
//! | Deadline | `deadline_of_an_aggregate_is_its_earliest_members` | members keep their order: the most urgent does not come first |
//! | ResetTimeout | `a_full_container_takes_its_deadline_with_it` | |
//! | GiantRecord | `a_record_over_the_size_goes_alone_and_takes_nobody_with_it` | |
//! | NonEmpty | `flushing_nothing_closes_nothing` | |
//! | Concurrency | `what_many_threads_put_at_once_is_stored_once_and_told` | one owner, no locks |
//! | `Aggregator`: Basic | `records_for_one_shard_share_a_container_and_no_other_shards_are_among_them` | |
//! | ShardMapDown | `without_a_map_each_record_goes_alone_at_once`, `before_the_first_map_records_wait_and_are_aggregated_then` | a map that is still coming is waited for; only one that is denied is done without |
//! | AggregationDisabled | `with_aggregation_off_each_record_goes_alone_at_once_to_its_predicted_shard`, `late_entries_travel_together` | the limit of a shard holds for them too |
//! | Concurrency | `what_many_threads_put_at_once_is_stored_once_and_told` | |
//! | `Limiter`: Ordering | `a_shard_without_tokens_gives_its_entries_in_the_order_they_came`, `what_comes_back_goes_before_what_waits` | first come, first served, and not by deadline |
//! | Expiration | `what_expires_while_it_waits_for_tokens_is_given_up_unsent`, `what_is_over_when_it_comes_is_given_up_unsent` | |
//! | `TokenBucket`: Basic, Multiple | `rate_settles_at_the_share_of_the_quota_whichever_binds` | |
//! | `Retrier`: Success | `every_record_is_stored_once_and_told_where` | |
//! | RequestFailure | `a_call_that_fails_is_tried_again_whole`, `verdicts_are_those_of_the_table` | codes have classes: not all are tried again |
//! | Partial | `each_entry_of_an_answer_goes_its_own_way` | |
//! | FailIfThrottled | `what_is_throttled_fails_at_once_where_it_is_asked_for` | |
//! | WrongShard | `an_aggregate_on_a_shard_where_a_member_does_not_belong_is_sent_again_apart` | all members again, since the KCL drops them all |
//! | InvalidateForFirstUserRecordOnly | `evidence_brings_a_listing_one_a_second_and_no_description` | |
//! | WrongShardButCorrectHashrange | `an_aggregate_on_another_shard_that_is_right_for_all_its_members_is_stored` | |
//! | WrongShardAndWrongHashrange | `an_aggregate_on_a_shard_where_a_member_does_not_belong_is_sent_again_apart` | |
//! | `ShardMap`: Basic | `prediction_is_the_shard_whose_range_holds_the_key` | |
//! | ClosedShards | `closed_shards_are_not_listed_so_that_their_children_make_the_map` | |
//! | PaginatedResults, RetryWithFailureInTheMiddle | `pages_are_joined_and_an_error_on_a_later_one_fails_the_listing` | |
//! | RetryAfterInitialFailure | `a_listing_that_fails_at_the_start_is_tried_until_it_succeeds_at_growing_intervals` | |
//! | Backoff | `delay_is_a_draw_below_a_bound_that_doubles_up_to_the_cap` | drawn at random |
//! | Invalidate | `evidence_brings_a_listing_one_a_second_and_no_description`, `while_a_listing_fails_the_old_map_serves_and_it_is_tried_until_it_succeeds` | the old map serves meanwhile |
//! | InvalidateWithShard | `an_answer_that_the_present_map_explains_brings_no_other_listing` | |
//! | ClosedParentShardsAreRemovedAfterSomeTime | `an_aggregate_on_a_shard_where_a_member_does_not_belong_is_sent_again_apart` | ranges of closed shards are not kept: an aggregate on one of them that was not predicted is sent again |
//! | ListShards_WithStreamId, ListShards_WithoutStreamId | `a_stream_is_listed_by_its_id_too_once_it_is_told` | |
//! | `PutRecordsRequest`: SizePrediction | `record_limit_counts_the_partition_key`, `limits_hold_whatever_is_pushed` | |
//! | `IpcManager`: DataIntegrity | `records_of_each_length_up_to_the_longest_pass_and_none_beyond`, `any_split_into_reads_gives_the_same_records_and_no_byte_is_lost` | |
//! | `PipelineAuto`, `PutRecordsContext` | `a_stream_switched_to_auto_is_no_longer_aggregated_and_one_switched_back_is_again`, `under_the_kpls_keys_every_entry_says_its_hash_key_but_under_auto_none_does` | |
//! | `StrategyPipelineIntegration` | `what_waits_when_the_stream_is_switched_is_made_anew`, `aggregates_that_a_switched_stream_has_put_anywhere_are_sent_again_one_by_one` | nothing is frozen: what waits is made anew |

use std::path::Path;

use super::*;
use crate::aggregate::Trigger;
use crate::delivery::{RecordSettled, SettledRecord, Tried};

/// All of this crate's tests whose name is a law, in any module.
fn tests_of(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            tests_of(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let mut is_test = false;
            for line in text.lines().map(str::trim_start) {
                let name = (line.trim_start_matches("async ").strip_prefix("fn "))
                    .and_then(|rest| rest.split_once('('));
                match name {
                    Some((name, _)) if std::mem::take(&mut is_test) => found.push(name.to_owned()),
                    _ => {
                        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test")
                    }
                }
            }
        }
    }
}

#[test]
fn every_test_of_the_kpl_has_the_tests_here_that_the_table_names() {
    let mut tests = Vec::new();
    tests_of(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut tests,
    );
    let rows = include_str!("kpl.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .skip(1);
    let mut named = 0;
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, names, otherwise, _] = cells[..] else {
            panic!("a row has three cells: {row}");
        };
        assert!(!names.is_empty() || !otherwise.is_empty(), "{row}");
        for name in names.split(", ").filter(|name| !name.is_empty()) {
            let name = name.trim_matches('`');
            assert!(tests.iter().any(|test| test == name), "no test {name}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

#[tokio::test(start_paused = true)]
async fn before_the_first_map_records_wait_and_are_aggregated_then() {
    let service = Service::well_behaved(2);
    *service.listing.lock().unwrap() = Err("ServiceUnavailable");
    let pipeline = start(&service, |_| {});
    let receipts = put_many(&pipeline, 20).await;
    // The next look comes soon enough, and not yet is it gone without.
    tokio::time::sleep(routes::UNLISTED / 4).await;
    assert!(service.calls.lock().unwrap().is_empty());
    *service.listing.lock().unwrap() = Ok(());
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let stored = service.stored.lock().unwrap();
    assert!(stored.len() < 6, "{} Kinesis records", stored.len());
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_tokens_gives_its_entries_in_the_order_they_came() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| {
        p.aggregation.enabled = false;
        p.delivery.rate_limit = 1;
        p.delivery.max_in_flight = 1;
    });
    let mut receipts = Vec::new();
    for n in 0..40 {
        receipts.push(put(&pipeline, format!("{n}"), key("k")).await);
    }
    let began = Instant::now();
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "tokens were short"
    );
    let stored = service.stored.lock().unwrap();
    let order: Vec<usize> = (stored.iter())
        .map(|(_, data)| str::from_utf8(data).unwrap().parse().unwrap())
        .collect();
    assert_eq!(order, (0..40).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_expires_while_it_waits_for_tokens_is_given_up_unsent() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| {
        p.aggregation.enabled = false;
        // 10 KiB a second.
        p.delivery.rate_limit = 1;
        p.delivery.record_ttl = Some(Duration::from_secs(5));
    });
    let mut receipts = Vec::new();
    for _ in 0..20 {
        receipts.push(put(&pipeline, vec![0; 10 << 10], any()).await);
    }
    let answers = join_all(receipts).await;
    let (stored, expired): (Vec<_>, Vec<_>) = answers.into_iter().partition(Delivery::is_stored);
    assert!((4..=8).contains(&stored.len()), "{} stored", stored.len());
    for answer in expired {
        let Delivery::Failed { reason, attempts } = answer else {
            unreachable!("not stored");
        };
        assert!(matches!(reason, FailReason::Expired { .. }), "{reason}");
        assert_eq!(attempts, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_when_it_comes_is_given_up_unsent() {
    for aggregated in [false, true] {
        let service = Service::well_behaved(1);
        let pipeline = start(&service, |p| {
            p.aggregation.enabled = aggregated;
            p.delivery.record_ttl = Some(Duration::from_secs(5));
        });
        put(&pipeline, "warm up", any()).await.await;
        let intake = pipeline.intake();
        let memory = intake.reserve(1, 1).await;
        let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
        tokio::time::advance(Duration::from_secs(6)).await;
        let record = Accepted {
            data: "late".into(),
            key: any(),
            ticket,
        };
        let chunk = Chunk {
            records: vec![record],
            read_took: Duration::ZERO,
        };
        intake.send(chunk).await.unwrap();
        let answer = receipt.await;
        let Delivery::Failed { reason, attempts } = answer else {
            panic!("{answer:?}");
        };
        assert!(matches!(reason, FailReason::Expired { .. }), "{reason}");
        assert_eq!((attempts, service.stored.lock().unwrap().len()), (0, 1));
    }
}

/// Stored, throttled and failed in one answer.
#[tokio::test(start_paused = true)]
async fn each_entry_of_an_answer_goes_its_own_way() {
    let mut calls = 0;
    let service = Service::new(1, move |_| {
        calls += 1;
        let is_first = calls == 1;
        Plan::Entries(Box::new(move |n| match n % 3 {
            1 if is_first => Some("ProvisionedThroughputExceededException"),
            2 if is_first => Some("InternalFailure"),
            _ => None,
        }))
    });
    let pipeline = start(&service, |p| p.aggregation.enabled = false);
    let receipts = put_many(&pipeline, 30).await;
    let counters = Arc::clone(pipeline.counters());
    for (n, answer) in join_all(receipts).await.into_iter().enumerate() {
        let Delivery::Stored { attempts, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(attempts, if n % 3 == 0 { 1 } else { 2 }, "{n}");
    }
    assert_eq!(service.calls.lock().unwrap()[0], 30);
    assert!(service.user_records().values().all(|n| *n == 1));
    let counts = counters.snapshot();
    assert_eq!((counts.entries_throttled, counts.entries_retried), (10, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_threads_put_at_once_is_stored_once_and_told() {
    let service = Service::well_behaved(4);
    let pipeline = Arc::new(start(&service, |p| p.aggregation.max_size = 1000));
    let putting = (0..8).map(|thread| {
        let pipeline = Arc::clone(&pipeline);
        tokio::spawn(async move {
            let mut receipts = Vec::new();
            for n in 0..500 {
                let key = key(format!("k{}", n % 17));
                receipts.push(put(&pipeline, format!("{thread} {n}"), key).await);
            }
            join_all(receipts).await
        })
    });
    for told in join_all(putting).await {
        assert!(told.unwrap().iter().all(Delivery::is_stored));
    }
    let seen = service.user_records();
    assert_eq!(seen.len(), 8 * 500);
    assert!(seen.values().all(|n| *n == 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_tried_again_whole() {
    let mut calls = 0;
    let service = Service::new(1, move |_| {
        calls += 1;
        match calls {
            1 => Plan::Refuse("InternalFailure", 500),
            _ => Plan::Entries(Box::new(|_| None)),
        }
    });
    let pipeline = start(&service, |p| p.aggregation.enabled = false);
    let receipts = put_many(&pipeline, 20).await;
    for answer in join_all(receipts).await {
        assert!(
            matches!(answer, Delivery::Stored { attempts: 2, .. }),
            "{answer:?}"
        );
    }
    assert!(service.user_records().values().all(|n| *n == 1));
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_on_another_shard_that_is_right_for_all_its_members_is_stored() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", any()).await.await;
    *service.map.lock().unwrap() = routes::renamed(even(1));
    let receipts = put_many(&pipeline, 20).await;
    let counters = Arc::clone(pipeline.counters());
    for answer in join_all(receipts).await {
        let Delivery::Stored { shard, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(&*shard, "shardId-000000000100");
    }
    assert!(service.user_records().values().all(|n| *n == 1));
    assert_eq!(counters.snapshot().entries_misplaced, 0);
}

/// Why containers and calls were made, with how many in each.
#[derive(Debug, Default)]
struct Triggers(Mutex<Vec<(&'static str, Trigger, usize)>>);

impl Observer for Triggers {
    fn answered(&self, _: &Batch, _: &CallOutcome, _: &[Waited], _: Instant, _: Instant) {}

    fn gathered(&self, trigger: Trigger, records: usize) {
        self.0.lock().unwrap().push(("gathered", trigger, records));
    }

    fn collected(&self, trigger: Trigger, entries: usize) {
        self.0.lock().unwrap().push(("collected", trigger, entries));
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_why_each_container_and_each_call_was_made_just_then() {
    let service = Service::well_behaved(1);
    let triggers: Arc<Triggers> = Arc::default();
    let observer: Arc<dyn Observer> = Arc::<Triggers>::clone(&triggers);
    let pipeline = start(&service, |parts| {
        parts.observer = Some(observer);
        parts.aggregation.max_count = 3;
        parts.batch.max_records = 2;
    });
    // Four containers are full, and make two full calls but for their last one.
    let receipts = put_many(&pipeline, 14).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let receipts = put_many(&pipeline, 1).await;
    pipeline.flush().await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let told = std::mem::take(&mut *triggers.0.lock().unwrap());
    let of = |stage, trigger| -> Vec<usize> {
        let of = told.iter().filter(|(s, t, _)| (*s, *t) == (stage, trigger));
        of.map(|(_, _, inputs)| *inputs).collect()
    };
    assert_eq!(of("gathered", Trigger::Count), [3; 4], "{told:?}");
    assert_eq!(of("gathered", Trigger::Time), [2], "{told:?}");
    assert_eq!(of("gathered", Trigger::Asked), [1], "{told:?}");
    assert_eq!(of("collected", Trigger::Asked), [1], "{told:?}");
    let entries: usize = told
        .iter()
        .filter(|(s, ..)| *s == "collected")
        .map(|(.., n)| n)
        .sum();
    assert_eq!(entries, 6, "{told:?}");
}

/// Told of every attempt.
#[derive(Debug, Default)]
struct Journals(Mutex<Vec<(u64, Delivery, Vec<Tried>)>>);

impl RecordSettled for Journals {
    fn settled(&self, settled: SettledRecord<'_>) {
        let told = (settled.id, settled.delivery.clone(), settled.tried.to_vec());
        self.0.lock().unwrap().push(told);
    }
}

impl Observer for Journals {
    fn answered(&self, _: &Batch, _: &CallOutcome, _: &[Waited], _: Instant, _: Instant) {}
}

/// What became of records with these keys, by their numbers.
async fn journals(
    service: &Arc<Service>,
    records: u64,
    change: impl FnOnce(&mut Parts),
) -> Vec<(u64, Delivery, Vec<Tried>)> {
    let journals: Arc<Journals> = Arc::default();
    let observer: Arc<dyn Observer> = Arc::<Journals>::clone(&journals);
    let pipeline = start(service, |parts| {
        parts.observer = Some(observer);
        change(parts);
    });
    let intake = pipeline.intake();
    let to: Arc<dyn RecordSettled> = Arc::<Journals>::clone(&journals);
    for id in 0..records {
        let memory = intake.reserve(1, 1).await;
        let ticket = Ticket::for_journal(Instant::now(), memory, Arc::clone(&to), id, 1);
        let record = Accepted {
            data: "x".into(),
            key: key(format!("{id}")),
            ticket,
        };
        let chunk = Chunk {
            records: vec![record],
            read_took: Duration::ZERO,
        };
        intake.send(chunk).await.unwrap();
    }
    drop(intake);
    // Closing is not what sends them: they linger for 100 ms.
    tokio::time::sleep(Duration::from_millis(80)).await;
    pipeline.close(GRACE).await;
    let mut told = std::mem::take(&mut *journals.0.lock().unwrap());
    told.sort_by_key(|(id, ..)| *id);
    let ids: Vec<u64> = told.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, (0..records).collect::<Vec<_>>(), "one answer each");
    told
}

#[tokio::test(start_paused = true)]
async fn a_journal_is_told_of_each_attempt() {
    let mut calls = 0;
    let service = Service::new(1, move |_| {
        calls += 1;
        match calls {
            1 => Plan::Refuse("InternalFailure", 500),
            2 => Plan::Entries(Box::new(|_| Some("ProvisionedThroughputExceededException"))),
            _ => Plan::Entries(Box::new(|_| None)),
        }
    });
    for (_, delivery, tried) in journals(&service, 20, |_| {}).await {
        assert!(delivery.is_stored());
        let codes = tried
            .iter()
            .map(|t| t.error.as_ref().map(|e| e.code.as_str()));
        let codes: Vec<_> = codes.collect();
        let throttled = "ProvisionedThroughputExceededException";
        assert_eq!(codes, [Some("InternalFailure"), Some(throttled), None]);
        assert!(tried.windows(2).all(|two| two[0].ended <= two[1].started));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_throttled_fails_at_once_where_it_is_asked_for() {
    let throttled = "ProvisionedThroughputExceededException";
    let whole = Service::new(1, move |_| Plan::Refuse(throttled, 400));
    let single = Service::new(1, move |_| {
        Plan::Entries(Box::new(move |n| (n == 1).then_some(throttled)))
    });
    for (service, failed) in [(whole, vec![0, 1, 2]), (single, vec![1])] {
        let told = journals(&service, 3, |parts| {
            parts.aggregation.enabled = false;
            parts.delivery.fail_if_throttled = true;
        });
        for (id, delivery, tried) in told.await {
            assert_eq!(!delivery.is_stored(), failed.contains(&id), "{id}");
            assert_eq!(tried.len(), 1);
        }
        assert_eq!(service.calls.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_is_told_that_its_record_was_stored_where_it_does_not_belong() {
    let service = Service::well_behaved(1);
    // Its pipeline knows one shard; there are two by the time that it sends.
    let told = {
        let later = Arc::clone(&service);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            *later.map.lock().unwrap() = routes::renamed(even(2));
        });
        journals(&service, 40, |_| {}).await
    };
    let wrong = |tried: &Tried| {
        tried
            .error
            .as_ref()
            .is_some_and(|e| e.code == "Wrong Shard")
    };
    for (_, delivery, tried) in &told {
        assert!(delivery.is_stored());
        assert!(tried.last().is_some_and(|last| last.error.is_none()));
    }
    assert!(told.iter().any(|(.., tried)| tried.iter().any(wrong)));
}

#[tokio::test(start_paused = true)]
async fn of_a_record_that_is_tried_for_long_the_first_attempt_and_the_last_ones_are_told() {
    let service = Service::new(1, |_| Plan::Refuse("InternalFailure", 500));
    let told = journals(&service, 1, |parts| {
        parts.delivery.record_ttl = Some(Duration::from_secs(3600));
    });
    let (_, delivery, tried) = &told.await[0];
    assert!(matches!(delivery, Delivery::Failed { .. }));
    assert_eq!(tried.len(), 8);
    assert!(tried[1].started - tried[0].ended > Duration::from_secs(60));
}

/// Nobody waits for it, and others go on putting records.
#[tokio::test(start_paused = true)]
async fn a_flush_that_nobody_waits_for_ends_though_records_go_on_coming() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", any()).await.await;
    (pipeline.flusher())();
    let mut receipts = Vec::new();
    // Each millisecond one, for two seconds.
    for n in 0..2000 {
        receipts.push(put(&pipeline, format!("{n}"), key("k")).await);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let entries = service.stored.lock().unwrap().len();
    // 200 ms of them went alone, about; then they linger for 100 ms.
    assert!(entries < 400, "{entries} Kinesis records");
}

/// One call hangs at a time, and all others wait for it in batches.
#[tokio::test(start_paused = true)]
async fn what_waits_behind_calls_that_hang_is_given_up_in_its_time() {
    let service = Service::new(1, |_| Plan::Stall);
    let pipeline = start(&service, |p| {
        p.aggregation.enabled = false;
        p.batch.max_records = 50;
        p.delivery.max_in_flight = 1;
        p.delivery.record_ttl = Some(Duration::from_secs(5));
        p.delivery.request_timeout = Duration::from_secs(6);
    });
    let began = Instant::now();
    let receipts = put_many(&pipeline, 2000).await;
    for answer in join_all(receipts).await {
        let Delivery::Failed { reason, .. } = answer else {
            panic!("{answer:?}");
        };
        assert!(matches!(reason, FailReason::Expired { .. }), "{reason}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}
