//! What changes of the stream while records are on their way.

use super::*;

/// A late answer was once held against a map that had already been read again because of an earlier one.
#[tokio::test(start_paused = true)]
async fn an_answer_that_the_present_map_explains_brings_no_other_listing() {
    let service = Service::well_behaved(1);
    let pipeline = start(&service, |p| p.aggregation.enabled = false);
    put(&pipeline, "warm up", key("k")).await.await;
    *service.map.lock().unwrap() = renamed(even(2));
    let receipts = put_many(&pipeline, 1000).await;
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*service.listings.lock().unwrap(), 2);
}

/// The same ranges under new names, as after a reshard.
fn renamed(map: ShardMap) -> ShardMap {
    let shards = map.shards().iter().enumerate().map(|(n, shard)| Shard {
        id: ShardId::new(&format!("shardId-{:012}", 100 + n)),
        ..shard.clone()
    });
    ShardMap::new(shards.collect()).unwrap()
}
