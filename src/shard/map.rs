//! The shard map: a stream's open shards and their hash key ranges.
//!
//! A map is a value that never changes; a refresh makes a new one. [`ShardMap::predict`] answers as the
//! service routes: by the MD5 of the partition key or the explicit hash key,
//! <https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html#partition-key>.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex};

use futures_util::future::BoxFuture;

use crate::record::{HashKey, PartitionKey, StreamName};

/// `shardId-000000000000`, shared by all that refer to it.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub struct ShardId {
    id: Arc<str>,
    /// Its hash, since it is looked up several times for each entry of a request.
    hash: u64,
}

impl ShardId {
    pub fn new(id: &str) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self {
            id: id.into(),
            hash: HASHER.hash_one(id),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.id
    }

    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

/// Most refer to the same text, which need not be read then.
impl PartialEq for ShardId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.id, &other.id) || (self.hash == other.hash && self.id == other.id)
    }
}

impl Hash for ShardId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A map by shard, which takes the hash that each one has.
pub type ByShard<K, V> = HashMap<K, V, BuildHasherDefault<ItsOwn>>;

/// Of what is hashed, the last number.
#[derive(Debug, Default)]
pub struct ItsOwn(u64);

impl Hasher for ItsOwn {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Whether there is a shard: those without have the hash of nothing.
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// An open shard and its range, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    pub id: ShardId,
    pub start: HashKey,
    pub end: HashKey,
}

impl Shard {
    pub fn contains(&self, hash_key: HashKey) -> bool {
        self.start <= hash_key && hash_key <= self.end
    }
}

/// A stream's open shards at one moment.
#[derive(Debug)]
pub struct ShardMap {
    /// By range.
    shards: Vec<Shard>,
    /// The upper halves of their ends: looked through for each record, and a sixth as long.
    ends: Vec<u64>,
    spread: Mutex<Spread>,
}

/// The same shards. Which keys have been drawn for them is no part of it.
impl PartialEq for ShardMap {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards
    }
}

impl Eq for ShardMap {}

/// Short partition keys that land on each shard, drawn as they are asked for.
#[derive(Debug)]
struct Spread {
    keys: Vec<Vec<PartitionKey>>,
    draws_left: usize,
}

/// A key that lands on a chosen shard: by its own MD5 where one was found, by an explicit hash key else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpreadKey {
    pub partition_key: PartitionKey,
    pub explicit: Option<HashKey>,
    pub shard: ShardId,
}

impl SpreadKey {
    pub fn hash_key(&self) -> HashKey {
        self.explicit
            .unwrap_or_else(|| self.partition_key.hash_key())
    }
}

impl ShardMap {
    /// Length of a spread key: 36^6 of them, so that two hosts seldom choose the same.
    pub const SPREAD_KEY_LEN: usize = 6;
    /// Different keys per shard, so that consumers which parallelise by key are not serialised.
    const SPREAD_KEYS: usize = 8;
    /// Draws in all, after which a shard without a key counts as too small to be hit: some ten times the
    /// largest stream's number of shards, and still only milliseconds.
    const SPREAD_DRAWS: usize = 200_000;

    /// `None` unless the shards cover the whole ring without a gap or an overlap, as a complete listing
    /// does.
    pub fn new(mut shards: Vec<Shard>) -> Option<Self> {
        shards.sort_by_key(|s| s.end);
        let mut next = Some(HashKey::MIN);
        for shard in &shards {
            if next != Some(shard.start) || shard.end < shard.start {
                return None;
            }
            next = shard.end.0.checked_add(1).map(HashKey);
        }
        // Only the last range ends where adding one overflows.
        (next.is_none() && !shards.is_empty()).then(|| Self {
            spread: Mutex::new(Spread {
                keys: vec![Vec::new(); shards.len()],
                draws_left: Self::SPREAD_DRAWS,
            }),
            ends: shards.iter().map(|shard| upper_half(shard.end)).collect(),
            shards,
        })
    }

    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The shard that a record with this hash key will land on.
    pub fn predict(&self, hash_key: HashKey) -> &Shard {
        &self.shards[self.predict_index(hash_key)]
    }

    /// Its place in [`shards`](Self::shards).
    pub fn predict_index(&self, hash_key: HashKey) -> usize {
        let upper = upper_half(hash_key);
        let mut index = self.first_that_ends_at_or_after(upper);
        // Of several that end with the same upper half, which of them the lower half tells.
        while self.ends[index] == upper && self.shards[index].end < hash_key {
            index += 1;
        }
        index
    }

    /// Shards are mostly of one size, so that the place of a key in the key space is its shard's among the shards: thousands
    /// of them take no search.
    fn first_that_ends_at_or_after(&self, upper: u64) -> usize {
        let guess = ((u128::from(upper) * self.ends.len() as u128) >> u64::BITS) as usize;
        let starts_before = guess.checked_sub(1).is_none_or(|n| self.ends[n] < upper);
        if starts_before && upper <= self.ends[guess] {
            return guess;
        }
        self.ends.partition_point(|end| *end < upper)
    }

    /// Whether shards of the same name have the same range.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let ranges: HashMap<_, _> = (self.shards.iter())
            .map(|shard| (&shard.id, (shard.start, shard.end)))
            .collect();
        (other.shards.iter()).all(|shard| {
            let before = ranges.get(&shard.id);
            before.is_none_or(|range| *range == (shard.start, shard.end))
        })
    }

    pub fn find(&self, id: &str) -> Option<&Shard> {
        self.shards.iter().find(|s| s.id.as_str() == id)
    }

    /// A short partition key that lands on the `n`-th shard, counting round and round.
    ///
    /// Keys are drawn at random and kept for whichever shard they fall on, so that all shards together cost
    /// little more than one, and nothing once there are enough. A range so small that no draw hits it takes an
    /// explicit hash key, whose 39 digits cost more on the wire.
    pub fn spread_key(&self, n: usize) -> SpreadKey {
        let index = n % self.shards.len();
        let mut spread = self.spread.lock().expect("no panic while held");
        let Spread { keys, draws_left } = &mut *spread;
        // Until there is one, and then one draw with each call until there are enough.
        while *draws_left > 0 && keys[index].len() < Self::SPREAD_KEYS {
            *draws_left -= 1;
            let key = draw_key();
            let hit = &mut keys[self.predict_index(key.hash_key())];
            if hit.len() < Self::SPREAD_KEYS {
                hit.push(key);
            }
            if !keys[index].is_empty() {
                break;
            }
        }
        let shard = &self.shards[index];
        let turn = (n / self.shards.len()).checked_rem(keys[index].len());
        let (partition_key, explicit) = match turn {
            Some(turn) => (keys[index][turn].clone(), None),
            None => (draw_key(), Some(shard.start)),
        };
        SpreadKey {
            partition_key,
            explicit,
            shard: shard.id.clone(),
        }
    }
}

fn upper_half(hash_key: HashKey) -> u64 {
    (hash_key.0 >> 64) as u64
}

/// A random key for a record that may go anywhere.
pub fn draw_key() -> PartitionKey {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let key =
        [(); ShardMap::SPREAD_KEY_LEN].map(|()| ALPHABET[rand::random_range(0..ALPHABET.len())]);
    PartitionKey::new(str::from_utf8(&key).expect("ASCII")).expect("six characters")
}

/// Asks the service about a stream's shards.
pub trait ListShards: Send + Sync + fmt::Debug {
    fn list_shards<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Shard>, ListShardsError>>;

    /// What can be changed of a stream while it runs, besides its shards.
    fn describe<'a>(
        &'a self,
        stream: &'a StreamName,
    ) -> BoxFuture<'a, Result<Description, ListShardsError>>;
}

/// What DescribeStreamSummary says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    pub distribution: Distribution,
    /// `MaxRecordSizeInKiB`, in bytes; `None` where the answer does not have it.
    pub max_record_bytes: Option<usize>,
}

/// A stream's `RecordDistributionStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// The partition key or explicit hash key.
    ByKey,
    /// The service, whatever the keys say. An aggregate's members would not be where readers expect them.
    Auto,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ListShardsError {
    pub code: String,
    pub message: String,
}

impl ListShardsError {
    /// No permission for ListShards: sending can go on without a map, at a price.
    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "AccessDeniedException" | "AccessDenied")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `n` shards of equal ranges, as CreateStream makes them.
    pub(crate) fn even(n: u128) -> ShardMap {
        let width = u128::MAX / n;
        let shards = (0..n)
            .map(|i| Shard {
                id: ShardId::new(&format!("shardId-{i:012}")),
                start: HashKey(i * width),
                end: HashKey(if i == n - 1 {
                    u128::MAX
                } else {
                    (i + 1) * width - 1
                }),
            })
            .collect();
        ShardMap::new(shards).unwrap()
    }

    #[test]
    fn shards_are_found_by_their_names_whoever_made_them_and_so_is_none() {
        let mut lanes = ByShard::default();
        lanes.insert(None, 0);
        for n in 1..3000 {
            lanes.insert(Some(ShardId::new(&format!("shardId-{n:012}"))), n);
        }
        assert_eq!(lanes.len(), 3000);
        assert_eq!(lanes.get(&None), Some(&0));
        let anew = ShardId::new("shardId-000000000007");
        assert_eq!(lanes.get(&Some(anew)), Some(&7));
        assert_eq!(lanes.get(&Some(ShardId::new("shardId-000000003000"))), None);
    }

    #[test]
    fn a_listing_with_a_gap_or_an_overlap_is_no_map() {
        let shard = |start, end| Shard {
            id: ShardId::new("shardId-000000000000"),
            start: HashKey(start),
            end: HashKey(end),
        };
        assert!(ShardMap::new(vec![shard(0, u128::MAX)]).is_some());
        assert!(ShardMap::new(vec![]).is_none());
        assert!(ShardMap::new(vec![shard(1, u128::MAX)]).is_none());
        assert!(ShardMap::new(vec![shard(0, 9)]).is_none());
        assert!(ShardMap::new(vec![shard(0, 9), shard(11, u128::MAX)]).is_none());
        assert!(ShardMap::new(vec![shard(0, 9), shard(9, u128::MAX)]).is_none());
        assert!(ShardMap::new(vec![shard(10, u128::MAX), shard(0, 9)]).is_some());
    }

    #[test]
    fn spread_key_lands_on_its_shard_also_on_one_of_a_single_hash_key() {
        let map = even(7);
        let mut seen = std::collections::HashSet::new();
        for n in 0..7000 {
            let key = map.spread_key(n);
            assert_eq!(key.explicit, None);
            assert_eq!(key.partition_key.len(), ShardMap::SPREAD_KEY_LEN);
            assert!(map.shards()[n % 7].contains(key.hash_key()));
            assert_eq!(key.shard, map.shards()[n % 7].id);
            seen.insert(key.partition_key);
        }
        assert_eq!(seen.len(), 7 * ShardMap::SPREAD_KEYS);

        let ranges = [(0, 4), (5, 5), (6, u128::MAX)];
        let shards = ranges.map(|(start, end)| Shard {
            id: ShardId::new(&format!("shardId-{start:012}")),
            start: HashKey(start),
            end: HashKey(end),
        });
        let map = ShardMap::new(shards.to_vec()).unwrap();
        let predicted = [0, 4, 5, 6, 1 << 64, u128::MAX].map(|key| map.predict_index(HashKey(key)));
        assert_eq!(predicted, [0, 0, 1, 2, 2, 2]);
        assert_eq!(map.spread_key(1).hash_key(), HashKey(5));
        assert_eq!(map.spread.lock().unwrap().draws_left, 0, "once, not again");
        assert_eq!(map.spread_key(4).hash_key(), HashKey(5));
    }

    proptest! {
        #[test]
        fn prediction_is_the_shard_whose_range_holds_the_key(n in 1u128..300, key in any::<u128>()) {
            let map = even(n);
            prop_assert!(map.predict(HashKey(key)).contains(HashKey(key)));
            for edge in [0, u128::MAX] {
                prop_assert!(map.predict(HashKey(edge)).contains(HashKey(edge)));
            }
        }
    }
}
