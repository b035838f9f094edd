//! HKDF-SHA512 as version 2 messages of the AWS Encryption SDK's format use it: from a data key and a message's id to
//! the message's own key and the commitment to it, several messages side by side where the processor can.
//!
//! A crate of its own for two reasons: an unoptimised build, such as the tests', has it optimised, since vectors are
//! twenty times slower there than words are; and its `unsafe` is fenced by a crate's border.
//!
//! What keys go in and come out of is wiped when it is dropped: blocks, states, derived keys. Copies that the compiler makes
//! in registers and on the stack are not.
//!
//! Source: `framework/algorithm-suites.md`, "Key derivation" and "Key commitment". HKDF is RFC 5869.

mod hkdf;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_lanes.rs"]
mod lanes;

use std::borrow::Borrow;
use std::fmt;

use zeroize::Zeroizing;

use self::hkdf::{Hashed, Key, OneByOne};
use self::lanes::SideBySide;

pub const COMMITMENT_LEN: usize = 32;

/// How many messages [`Deriver::derive_many`] takes together at most: as many as the widest vector has lanes.
pub const LANES: usize = 8;

/// All lanes, full or not, take as long as one and a half messages one by one with AVX-512 and not quite two
/// with AVX2 (`benches/seal`).
const WORTH_LANES: usize = 2;

/// How the keys of several messages are derived. Every way gives the same bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// As many side by side as the processor can.
    #[default]
    Auto,
    /// Eight side by side. One by one where the processor has no AVX-512.
    Avx512,
    /// Four side by side. One by one where the processor has no AVX2.
    Avx2,
    /// One by one.
    Scalar,
}

impl Lanes {
    /// Whether this processor has what it names.
    pub fn is_available(self) -> bool {
        lanes::has(self)
    }
}

/// What a version 2 message is made with.
#[derive(Default)]
pub struct Committed {
    pub key: Zeroizing<[u8; 32]>,
    pub commitment: [u8; COMMITMENT_LEN],
}

// Not the key.
impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed").finish_non_exhaustive()
    }
}

/// One extract, salted with the message's id, gives the key and the commitment.
pub fn committed(suite_id: u16, data_key: &[u8; 32], message_id: &[u8; 32]) -> Committed {
    let mut derived = Committed::default();
    derive_one(&Hashed::new(suite_id, data_key), message_id, &mut derived);
    derived
}

/// The same, for any number of messages under one data key.
pub struct Deriver {
    hashed: Hashed<OneByOne>,
    side_by_side: Option<SideBySide>,
}

// No key.
impl fmt::Debug for Deriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deriver").finish_non_exhaustive()
    }
}

impl Deriver {
    pub fn new(lanes: Lanes, suite_id: u16, data_key: &[u8; 32]) -> Self {
        Self {
            hashed: Hashed::new(suite_id, data_key),
            side_by_side: SideBySide::new(lanes, suite_id, data_key),
        }
    }

    pub fn derive(&self, message_id: &[u8; 32]) -> Committed {
        let mut derived = Committed::default();
        derive_one(&self.hashed, message_id, &mut derived);
        derived
    }

    /// Side by side where the processor can. `derived` has one place for each id.
    pub fn derive_many(&self, message_ids: &[impl Borrow<[u8; 32]>], derived: &mut [Committed]) {
        assert_eq!(message_ids.len(), derived.len(), "one place for each id");
        let lanes = self.side_by_side.as_ref().map_or(LANES, SideBySide::lanes);
        let mut words = [Key::default(); LANES];
        let groups = message_ids.chunks(lanes).zip(derived.chunks_mut(lanes));
        for (ids, derived) in groups {
            for (words, id) in words.iter_mut().zip(ids) {
                *words = words_of(id.borrow());
            }
            self.derive_group(&words[..ids.len()], derived);
        }
    }

    /// No more than there are lanes.
    fn derive_group(&self, message_ids: &[Key<u64>], derived: &mut [Committed]) {
        match &self.side_by_side {
            Some(lanes) if message_ids.len() >= WORTH_LANES => lanes.derive(message_ids, derived),
            _ => {
                for (id, derived) in message_ids.iter().zip(derived) {
                    derive_words(&self.hashed, id, derived);
                }
            }
        }
    }
}

fn derive_one(hashed: &Hashed<OneByOne>, message_id: &[u8; 32], derived: &mut Committed) {
    derive_words(hashed, &words_of(message_id), derived);
}

/// Filled in place, where the caller wipes it.
fn derive_words(hashed: &Hashed<OneByOne>, message_id: &Key<u64>, derived: &mut Committed) {
    let (mut key, mut commitment) = (Zeroizing::new(Key::default()), Key::default());
    hashed.derive(
        &mut OneByOne::default(),
        message_id,
        &mut key,
        &mut commitment,
    );
    write_bytes(key.iter().copied(), &mut derived.key[..]);
    write_bytes(commitment.iter().copied(), &mut derived.commitment);
}

fn words_of(bytes: &[u8; 32]) -> Key<u64> {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|i| u64::from_be_bytes(words[i]))
}

fn write_bytes(words: impl Iterator<Item = u64>, bytes: &mut [u8]) {
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use ::hkdf::Hkdf;
    use proptest::prelude::*;
    use sha2::Sha512;

    use super::*;

    /// The specification, word by word, on the `hkdf` crate.
    fn oracle(suite_id: u16, data_key: &[u8], message_id: &[u8]) -> ([u8; 32], [u8; 32]) {
        let hkdf = Hkdf::<Sha512>::new(Some(message_id), data_key);
        let (mut key, mut commitment) = ([0; 32], [0; 32]);
        hkdf.expand_multi_info(&[&suite_id.to_be_bytes(), b"DERIVEKEY"], &mut key)
            .unwrap();
        hkdf.expand(b"COMMITKEY", &mut commitment).unwrap();
        (key, commitment)
    }

    fn any_suite() -> impl Strategy<Value = u16> {
        prop::sample::select(vec![0x0478, 0x0578])
    }

    fn available() -> Vec<Lanes> {
        [Lanes::Auto, Lanes::Avx512, Lanes::Avx2]
            .into_iter()
            .filter(|lanes| lanes.is_available())
            .collect()
    }

    proptest! {
        #[test]
        fn derived_is_what_the_hkdf_crate_derives(
            suite in any_suite(),
            data_key in any::<[u8; 32]>(),
            id in any::<[u8; 32]>(),
        ) {
            let derived = committed(suite, &data_key, &id);
            let (key, commitment) = oracle(suite, &data_key, &id);
            prop_assert_eq!(*derived.key, key);
            prop_assert_eq!(derived.commitment, commitment);
        }

        /// Each way that this processor has, against one by one.
        #[test]
        fn messages_side_by_side_derive_what_each_does_alone(
            lanes in prop::sample::select(available()),
            suite in any_suite(),
            data_key in any::<[u8; 32]>(),
            ids in prop::collection::vec(any::<[u8; 32]>(), 0..40),
        ) {
            let deriver = Deriver::new(lanes, suite, &data_key);
            let mut derived: Vec<_> = ids.iter().map(|_| Committed::default()).collect();
            deriver.derive_many(&ids, &mut derived);
            for (id, derived) in ids.iter().zip(derived) {
                let alone = committed(suite, &data_key, id);
                prop_assert_eq!(&derived.key, &alone.key);
                prop_assert_eq!(derived.commitment, alone.commitment);
            }
        }
    }
}
