//! Streams whose shards can not be listed.

use super::routes::{entries, readable, split};
use super::*;

/// They once waited for the listing for ever, though the service took records all the time.
#[tokio::test(start_paused = true)]
async fn where_no_listing_comes_at_the_start_records_go_on_alone_until_one_does() {
    let service = Service::well_behaved(4);
    *service.listing.lock().unwrap() = Err("ServiceUnavailable");
    let pipeline = start(&service, |_| {});
    let began = Instant::now();
    let receipts = put_many(&pipeline, 30).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    assert!((20..22).contains(&began.elapsed().as_secs()));
    assert_eq!(entries(&service), [1; 30]);
    let receipt = put(&pipeline, "no longer held up", key("k")).await;
    assert!(receipt.await.is_stored());
    assert!((20..22).contains(&began.elapsed().as_secs()));

    *service.listing.lock().unwrap() = Ok(());
    tokio::time::sleep(Duration::from_secs(20)).await;
    service.stored.lock().unwrap().clear();
    let receipts = put_many(&pipeline, 30).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    assert!(entries(&service).len() < 10, "aggregated again");
}

/// Without shards there is no order to keep.
#[tokio::test(start_paused = true)]
async fn in_ordered_mode_records_wait_for_the_first_listing_as_long_as_it_takes() {
    let service = Service::well_behaved(4);
    *service.listing.lock().unwrap() = Err("ServiceUnavailable");
    let pipeline = start(&service, |p| {
        p.delivery.ordering = send::Ordering::PartitionKey
    });
    let receipts = put_many(&pipeline, 30).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(service.calls.lock().unwrap().is_empty());
    *service.listing.lock().unwrap() = Ok(());
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
}

/// Records without a key were once taken for stored where the service had put them, though it had put them anywhere.
#[tokio::test(start_paused = true)]
async fn records_without_a_key_are_readable_after_a_reshard_and_a_switch_that_no_listing_tells() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", any()).await.await;
    split(&service);
    *service.distribution.lock().unwrap() = Distribution::Auto;
    *service.listing.lock().unwrap() = Err("InternalFailure");
    let mut receipts = Vec::new();
    for n in 0..300 {
        receipts.push(put(&pipeline, format!("any {n}"), any()).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    let (stored, map) = (service.stored.lock().unwrap(), service.map.lock().unwrap());
    assert_eq!(readable(&stored, &map).len(), 301);
}

/// A process that stood still meanwhile has both at once, the answer first: it once took for at home what lay on a new
/// shard, by a map that did not count any more.
#[tokio::test(start_paused = true)]
async fn a_switch_that_is_learned_of_together_with_an_answer_is_heeded() {
    for _ in 0..16 {
        let service = Service::well_behaved(1);
        let pipeline = start(&service, |_| {});
        put(&pipeline, "warm up", any()).await.await;
        split(&service);
        *service.distribution.lock().unwrap() = Distribution::Auto;
        let mut receipts = put_many(&pipeline, 30).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        *service.script.lock().unwrap() = Box::new(|_| Plan::Stall);
        receipts.push(put(&pipeline, "late", any()).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
        *service.script.lock().unwrap() = Box::new(|_| Plan::Entries(Box::new(|_| None)));
        tokio::time::advance(Duration::from_secs(6_000)).await;
        assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
        let (stored, map) = (service.stored.lock().unwrap(), service.map.lock().unwrap());
        // But for what lay in the shard that was split.
        assert_eq!(readable(&stored[1..], &map).len(), 31);
    }
}

/// Whoever may not list shards any more learns of a reshard from where records are stored.
#[tokio::test(start_paused = true)]
async fn records_are_stored_across_a_reshard_while_no_listing_comes() {
    for ordering in [send::Ordering::None, send::Ordering::PartitionKey] {
        let service = Service::well_behaved(1);
        let pipeline = start(&service, |p| p.delivery.ordering = ordering);
        let before = put_many(&pipeline, 30).await;
        assert!(join_all(before).await.iter().all(Delivery::is_stored));
        split(&service);
        *service.listing.lock().unwrap() = Err("InternalFailure");
        let mut receipts = Vec::new();
        for n in 0..300 {
            receipts.push(put(&pipeline, format!("any {n}"), any()).await);
            receipts.push(put(&pipeline, format!("keyed {n}"), key(format!("{n}"))).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let all = tokio::time::timeout(Duration::from_secs(60), join_all(receipts));
        assert!(all.await.unwrap().iter().all(Delivery::is_stored));
        for (record, times) in service.user_records() {
            // What may go anywhere was right where it was stored; in ordered mode that is not waited to be known.
            let may_wait = ordering == send::Ordering::None;
            let most = if may_wait && record.starts_with(b"any") {
                1
            } else {
                2
            };
            assert!(times <= most, "{record:?}: {times} times");
        }
    }
}

/// With the KPL's time to live they once had their answer after the twenty seconds that a listing is waited for.
#[tokio::test(start_paused = true)]
async fn records_that_may_be_misplaced_have_their_answer_within_their_time_to_live() {
    for ttl in [3, 8].map(Duration::from_secs) {
        let service = Service::well_behaved(1);
        let pipeline = start(&service, |p| p.delivery.record_ttl = Some(ttl));
        put(&pipeline, "warm up", any()).await.await;
        split(&service);
        *service.listing.lock().unwrap() = Err("LimitExceededException");
        let began = Instant::now();
        let receipts = put_many(&pipeline, 30).await;
        join_all(receipts).await;
        let took = began.elapsed();
        assert!(took <= ttl + Duration::from_secs(1), "{ttl:?}: {took:?}");
    }
}

/// Nothing can be made for shards of which it is not known which they are.
#[tokio::test(start_paused = true)]
async fn where_a_stream_is_found_again_and_no_listing_comes_records_go_on_alone() {
    let service = Service::well_behaved(4);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", key("k")).await.await;
    *service.absent.lock().unwrap() = Some(0);
    let receipts = put_many(&pipeline, 300).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    // Single records asked for it, each twenty seconds.
    let calls = service.calls.lock().unwrap().clone();
    assert!((25..=32).contains(&calls.len()), "{calls:?}");
    assert!(calls[2..].iter().all(|entries| *entries == 1), "{calls:?}");
    *service.listing.lock().unwrap() = Err("ServiceUnavailable");
    *service.absent.lock().unwrap() = None;
    let all = tokio::time::timeout(Duration::from_secs(60), join_all(receipts));
    assert!(all.await.unwrap().iter().all(Delivery::is_stored));
    assert_eq!(entries(&service), [1; 301]);
}

/// What waited is not sent one by one for that: a stream has many records of an hour to take.
#[tokio::test(start_paused = true)]
async fn what_waited_for_a_stream_is_aggregated_when_it_is_there() {
    let service = Service::well_behaved(4);
    let pipeline = start(&service, |_| {});
    put(&pipeline, "warm up", key("k")).await.await;
    *service.absent.lock().unwrap() = Some(0);
    let receipts = put_many(&pipeline, 300).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    *service.map.lock().unwrap() = super::even(8);
    *service.absent.lock().unwrap() = None;
    let all = tokio::time::timeout(Duration::from_secs(60), join_all(receipts));
    assert!(all.await.unwrap().iter().all(Delivery::is_stored));
    let (stored, map) = (service.stored.lock().unwrap(), service.map.lock().unwrap());
    assert_eq!(readable(&stored[1..], &map).len(), 300);
    assert!(stored.len() < 40, "{} entries", stored.len());
}

/// It was taken for known once records went on without a description.
#[tokio::test(start_paused = true)]
async fn whether_records_need_keys_is_not_known_before_the_stream_is_described() {
    let service = Service::well_behaved(1);
    *service.is_undescribed.lock().unwrap() = true;
    let pipeline = start(&service, |p| {
        p.delivery.record_ttl = Some(Duration::from_secs(30));
    });
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(pipeline.facts.borrow().is_some(), "they go on by now");
    assert_eq!(pipeline.needs_keys(), None);
    *service.is_undescribed.lock().unwrap() = false;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(pipeline.needs_keys(), Some(true));
}
