//! Eight messages side by side, on processors with AVX-512. In all other places there is no
//! [`SideBySide`] to be had, and messages are derived one by one.

mod avx512;

use zeroize::Zeroizing;

use self::avx512::{Avx512, Lanes};
use super::hkdf::{Hashed, Key};
use super::{Committed, LANES, words, write_bytes};
use crate::seal::message::ids::MessageId;
use crate::seal::message::suite::Suite;

pub(super) struct SideBySide {
    sha: Avx512,
    hashed: Hashed<Avx512>,
}

impl SideBySide {
    pub(super) fn new(suite: Suite, data_key: &[u8; 32]) -> Option<Self> {
        Some(Self {
            sha: Avx512::detect()?,
            hashed: Hashed::new(suite.id(), data_key),
        })
    }

    /// Up to eight messages, at the cost of eight.
    pub(super) fn derive(&self, message_ids: &[MessageId], derived: &mut [Committed]) {
        assert!(message_ids.len() <= LANES, "a lane for each message");
        let mut ids = Key::<Lanes>::default();
        for (lane, id) in message_ids.iter().enumerate() {
            for (lanes, word) in ids.iter_mut().zip(words(id.as_bytes())) {
                lanes.0[lane] = word;
            }
        }
        let (mut key, mut commitment) = (Zeroizing::new(Key::default()), Key::default());
        self.hashed
            .derive(&mut { self.sha }, &ids, &mut key, &mut commitment);
        for (lane, derived) in derived.iter_mut().enumerate() {
            write_bytes(key.iter().map(|lanes| lanes.0[lane]), &mut derived.key[..]);
            let commitment = commitment.iter().map(|lanes| lanes.0[lane]);
            write_bytes(commitment, &mut derived.commitment);
        }
    }
}
