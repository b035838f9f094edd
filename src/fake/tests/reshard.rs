//! Split, merge, scale: lineage, and where records go before and after.

use aws_sdk_kinesis::types::{ScalingType, Shard, ShardFilter, ShardFilterType};

use super::*;

const SHARD_0: &str = "shardId-000000000000";

async fn shards(client: &aws_sdk_kinesis::Client) -> Vec<Shard> {
    client
        .list_shards()
        .stream_name("s")
        .send()
        .await
        .unwrap()
        .shards
        .unwrap()
}

async fn open_ranges(client: &aws_sdk_kinesis::Client) -> Vec<(u128, u128)> {
    let latest = ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build()
        .unwrap();
    let listed = client
        .list_shards()
        .stream_name("s")
        .shard_filter(latest)
        .send()
        .await
        .unwrap();
    let range = |shard: Shard| {
        let range = shard.hash_key_range.unwrap();
        (
            range.starting_hash_key.parse().unwrap(),
            range.ending_hash_key.parse().unwrap(),
        )
    };
    let mut ranges: Vec<(u128, u128)> = listed.shards.unwrap().into_iter().map(range).collect();
    ranges.sort_unstable();
    ranges
}

fn cover_the_ring(ranges: &[(u128, u128)]) -> bool {
    ranges[0].0 == 0
        && ranges[ranges.len() - 1].1 == u128::MAX
        && ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0)
}

#[tokio::test]
async fn after_a_split_the_children_take_over_and_the_parent_ends() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    put(
        &client,
        vec![entry_at(0, "before"), entry_at(u128::MAX, "before")],
    )
    .await
    .unwrap();
    client
        .split_shard()
        .stream_name("s")
        .shard_to_split(SHARD_0)
        .new_starting_hash_key("1000")
        .send()
        .await
        .unwrap();
    let listed = shards(&client).await;
    let parent_end = listed[0]
        .sequence_number_range
        .as_ref()
        .unwrap()
        .ending_sequence_number
        .clone()
        .unwrap();
    for child in &listed[1..] {
        assert_eq!(child.parent_shard_id.as_deref(), Some(SHARD_0));
        assert_eq!(child.adjacent_parent_shard_id, None);
        let range = child.sequence_number_range.as_ref().unwrap();
        assert!(
            range.starting_sequence_number > parent_end,
            "a child's numbers follow its parent's"
        );
        assert_eq!(range.ending_sequence_number, None);
    }
    assert_eq!(open_ranges(&client).await, [(0, 999), (1000, u128::MAX)]);

    let answer = put(
        &client,
        vec![entry_at(999, "after"), entry_at(1000, "after")],
    )
    .await
    .unwrap();
    let went: Vec<_> = answer
        .records
        .iter()
        .map(|record| record.shard_id.clone().unwrap())
        .collect();
    assert_eq!(went, ["shardId-000000000001", "shardId-000000000002"]);

    let iterator = iterator_from_start(&client, SHARD_0).await;
    let got = client
        .get_records()
        .shard_iterator(iterator)
        .limit(1)
        .send()
        .await
        .unwrap();
    assert_eq!((got.records.len(), got.child_shards.is_none()), (1, true));
    let got = client
        .get_records()
        .set_shard_iterator(got.next_shard_iterator)
        .send()
        .await
        .unwrap();
    assert_eq!(got.records.len(), 1);
    assert_eq!(got.next_shard_iterator, None, "a closed shard ends");
    let children = got.child_shards.unwrap();
    assert_eq!(children.len(), 2);
    assert!(
        children
            .iter()
            .all(|child| child.parent_shards == [SHARD_0])
    );

    let again = client
        .split_shard()
        .stream_name("s")
        .shard_to_split(SHARD_0)
        .new_starting_hash_key("5");
    assert_eq!(
        refused(&again.send().await.unwrap_err()).code,
        "ResourceInUseException"
    );
    assert_eq!(fake.records("s").unwrap().len(), 4);
}

#[tokio::test]
async fn a_closed_shard_that_never_held_a_record_ends_too() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    fake.split("s", "shardId-000000000000").unwrap();
    let iterator = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id("shardId-000000000000")
        .shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let page = client
        .get_records()
        .set_shard_iterator(iterator.shard_iterator)
        .send()
        .await
        .unwrap();
    assert_eq!(page.next_shard_iterator, None);
    assert_eq!(page.child_shards().len(), 2);
}

#[tokio::test]
async fn a_merge_has_two_parents_and_needs_neighbours() {
    let (_fake, client) = with_stream(Fake::builder(), 4).await;
    let merge = |shard: &str, other: &str| {
        client
            .merge_shards()
            .stream_name("s")
            .shard_to_merge(shard)
            .adjacent_shard_to_merge(other)
            .send()
    };
    let apart = merge(SHARD_0, "shardId-000000000002").await;
    assert_eq!(
        refused(&apart.unwrap_err()).code,
        "InvalidArgumentException"
    );
    merge("shardId-000000000002", "shardId-000000000001")
        .await
        .unwrap();
    let listed = shards(&client).await;
    let child = listed.last().unwrap();
    assert_eq!(
        child.parent_shard_id.as_deref(),
        Some("shardId-000000000002")
    );
    assert_eq!(
        child.adjacent_parent_shard_id.as_deref(),
        Some("shardId-000000000001")
    );
    let ranges = open_ranges(&client).await;
    assert_eq!(ranges.len(), 3);
    assert!(cover_the_ring(&ranges));
}

#[tokio::test]
async fn shard_counts_change_between_half_and_double() {
    let (fake, client) = with_stream(Fake::builder(), 4).await;
    let update = |target| {
        client
            .update_shard_count()
            .stream_name("s")
            .scaling_type(ScalingType::UniformScaling)
            .target_shard_count(target)
            .send()
    };
    for target in [6, 8, 5, 3, 2] {
        let answer = update(target).await.unwrap();
        assert_eq!(answer.target_shard_count, Some(target));
        let ranges = open_ranges(&client).await;
        assert_eq!(ranges.len(), usize::try_from(target).unwrap());
        assert!(cover_the_ring(&ranges));
        let sizes: Vec<u128> = ranges.iter().map(|(first, last)| last - first).collect();
        assert!(
            sizes.iter().max().unwrap() - sizes.iter().min().unwrap() < 10,
            "equal sizes"
        );
    }
    for target in [5, 0] {
        assert!(update(target).await.is_err(), "{target}");
    }
    // Nobody is without a parent but the first four, and every parent exists and is closed.
    let listed = shards(&client).await;
    for shard in &listed[4..] {
        for parent in [&shard.parent_shard_id, &shard.adjacent_parent_shard_id]
            .into_iter()
            .flatten()
        {
            let parent = listed
                .iter()
                .find(|other| other.shard_id == *parent)
                .unwrap();
            assert!(
                parent
                    .sequence_number_range
                    .as_ref()
                    .unwrap()
                    .ending_sequence_number
                    .is_some()
            );
        }
        assert!(shard.parent_shard_id.is_some());
    }
    fake.create_on_demand_stream("auto").unwrap();
    let by_hand = client
        .split_shard()
        .stream_name("auto")
        .shard_to_split(SHARD_0)
        .new_starting_hash_key("5");
    assert_eq!(
        refused(&by_hand.send().await.unwrap_err()).code,
        "ValidationException"
    );
    fake.split("auto", SHARD_0).unwrap();
}

#[tokio::test]
async fn a_split_key_lies_inside_its_shard() {
    let (fake, client) = with_stream(Fake::builder(), 2).await;
    let split = |at: u128| {
        let call = client
            .split_shard()
            .stream_name("s")
            .shard_to_split("shardId-000000000001");
        call.new_starting_hash_key(at.to_string()).send()
    };
    let first = 1_u128 << 127;
    for outside in [0, first - 1, first] {
        assert_eq!(
            refused(&split(outside).await.unwrap_err()).code,
            "InvalidArgumentException"
        );
    }
    split(u128::MAX).await.unwrap();
    assert!(
        fake.split("s", "shardId-000000000003").is_err(),
        "one hash key cannot be divided"
    );
}
