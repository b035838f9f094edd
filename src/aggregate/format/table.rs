//! A table of keys, each of which stands in it once, in the order of first use.

use std::collections::HashMap;
use std::hash::Hash;

use smallvec::SmallVec;

/// Finds the place of a key again in a time that does not grow with the table.
///
/// Most aggregates have one key or few, which are looked through; the map is made when there are more. Keys may be
/// of others' choosing (fields of log lines), so its hash is the standard library's, keyed at random.
#[derive(Debug, Clone)]
pub(super) struct Table<K> {
    /// One mostly, which needs no memory of its own.
    keys: SmallVec<[K; 1]>,
    /// `None` while there are few.
    #[expect(
        clippy::box_collection,
        reason = "a table that waits for each of thousands of shards is to be small"
    )]
    places: Option<Box<HashMap<K, usize>>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            keys: SmallVec::new(),
            places: None,
        }
    }
}

impl<K: Clone + Eq + Hash> Table<K> {
    /// So many are looked at one by one. A guess: hashing a key costs as much as comparing some of them.
    const FEW: usize = 8;

    pub(super) fn keys(&self) -> &[K] {
        &self.keys
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn place_of(&self, key: &K) -> Option<usize> {
        if self.keys.len() <= Self::FEW {
            // From the back: neighbours in a source tend to share a key.
            return self.keys.iter().rposition(|k| k == key);
        }
        match self.keys.last() {
            Some(last) if last == key => Some(self.keys.len() - 1),
            _ => self.places.as_ref()?.get(key).copied(),
        }
    }

    /// Adds a key that has no place yet.
    pub(super) fn push(&mut self, key: K) {
        if self.keys.len() == Self::FEW {
            self.places = Some(Box::new(self.keys.iter().cloned().zip(0..).collect()));
        }
        if let Some(places) = &mut self.places {
            places.insert(key.clone(), self.keys.len());
        }
        self.keys.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_is_found_where_it_was_put_and_others_are_not(
            keys in proptest::collection::hash_set(any::<u16>(), 0..60),
            others in proptest::collection::vec(any::<u16>(), 0..60),
        ) {
            let mut table = Table::default();
            for (n, key) in keys.iter().enumerate() {
                prop_assert_eq!(table.place_of(key), None);
                table.push(*key);
                prop_assert_eq!(table.place_of(key), Some(n));
            }
            for key in keys.iter().chain(&others) {
                prop_assert_eq!(table.place_of(key), table.keys().iter().position(|k| k == key));
            }
        }
    }
}
