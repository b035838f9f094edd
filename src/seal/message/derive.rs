//! From a data key to a message's own key.
//!
//! Version 2 has its own HKDF, because the writer lives on it; version 1, which is only read, has the
//! `hkdf` crate's.
//!
//! Source: `framework/algorithm-suites.md`, "Key derivation" and "Key commitment". HKDF is RFC 5869.

mod hkdf;

use std::fmt;

use ::hkdf::Hkdf;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use self::hkdf::{Hashed, Key, OneByOne};
use super::suite::{Kdf, Suite};

pub(super) const COMMITMENT_LEN: usize = 32;

/// Version 2: derives for any number of messages under one data key.
pub(super) struct Deriver {
    hashed: Hashed,
}

/// What a version 2 message is made with.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) commitment: [u8; COMMITMENT_LEN],
}

impl Deriver {
    pub(super) fn new(suite: Suite, data_key: &[u8; 32]) -> Self {
        debug_assert_eq!(suite.kdf(), Kdf::HkdfSha512);
        Self {
            hashed: Hashed::new(suite.id(), data_key),
        }
    }

    /// One extract, salted with the message id, gives the key and the commitment.
    pub(super) fn derive(&self, message_id: &[u8; 32]) -> Committed {
        let mut derived = Committed::default();
        let (mut key, mut commitment) = (Zeroizing::new(Key::default()), Key::default());
        self.hashed
            .derive(&OneByOne, &words(message_id), &mut key, &mut commitment);
        write_bytes(&key, &mut derived.key);
        write_bytes(&commitment, &mut derived.commitment);
        derived
    }
}

impl fmt::Debug for Deriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deriver(…)")
    }
}

fn words(bytes: &[u8; 32]) -> Key<u64> {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|i| u64::from_be_bytes(words[i]))
}

fn write_bytes(words: &Key<u64>, bytes: &mut [u8; 32]) {
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
}

/// Version 1: the message id is part of the info; the salt is one hash length of zeros, which is also what
/// HKDF takes where there is none. As long as the suite says.
pub(super) fn uncommitted(suite: Suite, data_key: &[u8], message_id: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; suite.key_len()]);
    let id = suite.id().to_be_bytes();
    let info: [&[u8]; 2] = [&id, message_id];
    match suite.kdf() {
        Kdf::Identity => {
            key.clear();
            key.extend_from_slice(data_key);
            return key;
        }
        Kdf::HkdfSha256 => Hkdf::<Sha256>::new(None, data_key).expand_multi_info(&info, &mut key),
        Kdf::HkdfSha384 => Hkdf::<Sha384>::new(None, data_key).expand_multi_info(&info, &mut key),
        Kdf::HkdfSha512 => Hkdf::<Sha512>::new(None, data_key).expand_multi_info(&info, &mut key),
    }
    .expect(SHORT);
    key
}

const SHORT: &str = "HKDF gives up to 255 hash lengths, and a key is shorter than one";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn derived_is_what_the_hkdf_crate_derives(
            suite in any_suite(),
            data_key in any::<[u8; 32]>(),
            id in any::<[u8; 32]>(),
        ) {
            let derived = Deriver::new(suite, &data_key).derive(&id);
            let (key, commitment) = oracle(suite, &data_key, &id);
            prop_assert_eq!(*derived.key, key);
            prop_assert_eq!(derived.commitment, commitment);
        }
    }
}
