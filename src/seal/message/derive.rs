//! From a data key to a message's own key.
//!
//! Version 2 has its own HKDF, because the writer lives on it; version 1, which is for old readers, has the
//! `hkdf` crate's.
//!
//! Source: `framework/algorithm-suites.md`, "Key derivation" and "Key commitment". HKDF is RFC 5869.

mod extracted;
mod hkdf;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(not(target_arch = "x86_64"))]
#[path = "derive/no_lanes.rs"]
mod lanes;

use zeroize::Zeroizing;

pub(super) use self::extracted::Extracted;
use self::hkdf::{Hashed, Key, OneByOne};
use self::lanes::SideBySide;
use super::ids::MessageId;
use super::suite::Suite;

pub(super) const COMMITMENT_LEN: usize = 32;

/// How many messages [`Deriver::derive_many`] takes together: as many as the widest vector has lanes.
pub(super) const LANES: usize = 8;

/// All lanes, full or not, take as long as one and a half messages one by one with AVX-512 and not quite two
/// with AVX2 (`benches/seal.rs`).
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

/// A version 2 message's id: one that is drawn to be written with, or one that was read.
pub(super) trait Id {
    fn bytes(&self) -> &[u8; 32];
}

impl Id for MessageId {
    fn bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

impl Id for &[u8; 32] {
    fn bytes(&self) -> &[u8; 32] {
        self
    }
}

/// What a version 2 message is made with.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) commitment: [u8; COMMITMENT_LEN],
}

/// Version 2: one extract, salted with the message id, gives the key and the commitment.
pub(super) fn committed(suite: Suite, data_key: &[u8; 32], message_id: &[u8; 32]) -> Committed {
    let mut derived = Committed::default();
    derive_one(&Hashed::new(suite.id(), data_key), message_id, &mut derived);
    derived
}

/// The same, for any number of messages under one data key.
pub(super) struct Deriver {
    hashed: Hashed<OneByOne>,
    side_by_side: Option<SideBySide>,
}

impl Deriver {
    pub(super) fn new(lanes: Lanes, suite: Suite, data_key: &[u8; 32]) -> Self {
        Self {
            hashed: Hashed::new(suite.id(), data_key),
            side_by_side: SideBySide::new(lanes, suite, data_key),
        }
    }

    pub(super) fn derive(&self, message_id: &MessageId) -> Committed {
        let mut derived = Committed::default();
        derive_one(&self.hashed, message_id.as_bytes(), &mut derived);
        derived
    }

    /// Side by side where the processor can. `derived` has one place for each id.
    pub(super) fn derive_many(&self, message_ids: &[impl Id], derived: &mut [Committed]) {
        assert_eq!(message_ids.len(), derived.len(), "one place for each id");
        let lanes = self.side_by_side.as_ref().map_or(LANES, SideBySide::lanes);
        let groups = message_ids.chunks(lanes).zip(derived.chunks_mut(lanes));
        for (ids, derived) in groups {
            match &self.side_by_side {
                Some(lanes) if ids.len() >= WORTH_LANES => lanes.derive(ids, derived),
                _ => {
                    for (id, derived) in ids.iter().zip(derived) {
                        derive_one(&self.hashed, id.bytes(), derived);
                    }
                }
            }
        }
    }
}

/// Filled in place: what is returned by value may leave copies on the stack.
fn derive_one(hashed: &Hashed<OneByOne>, message_id: &[u8; 32], derived: &mut Committed) {
    let (mut key, mut commitment) = (Zeroizing::new(Key::default()), Key::default());
    hashed.derive(
        &mut OneByOne::default(),
        &words(message_id),
        &mut key,
        &mut commitment,
    );
    write_bytes(key.iter().copied(), &mut derived.key[..]);
    write_bytes(commitment.iter().copied(), &mut derived.commitment);
}

fn words(bytes: &[u8; 32]) -> Key<u64> {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|i| u64::from_be_bytes(words[i]))
}

fn write_bytes(words: impl Iterator<Item = u64>, bytes: &mut [u8]) {
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
}

/// Version 1: the message id is part of the info. As long as the suite says.
pub(super) fn uncommitted(suite: Suite, data_key: &[u8], message_id: &[u8]) -> Zeroizing<Vec<u8>> {
    if !suite.derives_key() {
        return Zeroizing::new(data_key.to_owned());
    }
    let mut key = Zeroizing::new(vec![0; suite.key_len()]);
    Extracted::new(suite, data_key).expand(message_id, &mut key);
    key
}

const SHORT: &str = "HKDF gives up to 255 hash lengths, and a key is shorter than one";

#[cfg(test)]
mod tests {
    use ::hkdf::Hkdf;
    use proptest::prelude::*;
    use sha2::Sha512;

    use super::*;

    /// The specification, word by word, on the `hkdf` crate.
    fn oracle(suite: Suite, data_key: &[u8], message_id: &[u8]) -> ([u8; 32], [u8; 32]) {
        let hkdf = Hkdf::<Sha512>::new(Some(message_id), data_key);
        let (mut key, mut commitment) = ([0; 32], [0; 32]);
        hkdf.expand_multi_info(&[&suite.id().to_be_bytes(), b"DERIVEKEY"], &mut key)
            .expect(SHORT);
        hkdf.expand(b"COMMITKEY", &mut commitment).expect(SHORT);
        (key, commitment)
    }

    fn any_suite() -> impl Strategy<Value = Suite> {
        prop::sample::select(vec![0x0478, 0x0578])
            .prop_map(|id| Suite::from_id(id).expect("a suite"))
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
            let drawn: Vec<_> = ids.iter().copied().map(MessageId::fixed).collect();
            deriver.derive_many(&drawn, &mut derived);
            for (id, derived) in ids.iter().zip(derived) {
                let alone = committed(suite, &data_key, id);
                prop_assert_eq!(&derived.key, &alone.key);
                prop_assert_eq!(derived.commitment, alone.commitment);
            }
        }
    }
}
