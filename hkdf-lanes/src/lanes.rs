//! Several messages side by side, on processors with AVX-512 or AVX2. In all other places there is no
//! [`SideBySide`] to be had, and messages are derived one by one.

mod schedule;
mod vectors;

use zeroize::Zeroizing;

use self::vectors::{Avx2, Avx512};
use crate::hkdf::{Hashed, Key, Sha512, Word};
use crate::{Committed, Lanes, write_bytes};

/// What a vector holds: a word of each of several messages.
pub(crate) trait Wide: Word {
    const LANES: usize;

    fn lanes(&self) -> &[u64];

    fn lanes_mut(&mut self) -> &mut [u64];
}

pub(crate) enum SideBySide {
    Avx512(Group<Avx512>),
    Avx2(Group<Avx2>),
}

impl SideBySide {
    pub(crate) fn new(lanes: Lanes, suite_id: u16, data_key: &[u8; 32]) -> Option<Self> {
        let avx512 = || {
            let group = Group::new(Avx512::detect()?, suite_id, data_key);
            Some(Self::Avx512(group))
        };
        let avx2 = || {
            let group = Group::new(Avx2::detect()?, suite_id, data_key);
            Some(Self::Avx2(group))
        };
        match lanes {
            Lanes::Auto => avx512().or_else(avx2),
            Lanes::Avx512 => avx512(),
            Lanes::Avx2 => avx2(),
            Lanes::Scalar => None,
        }
    }

    /// How many messages go side by side.
    pub(crate) fn lanes(&self) -> usize {
        match self {
            Self::Avx512(group) => group.lanes(),
            Self::Avx2(group) => group.lanes(),
        }
    }

    /// Up to [`Self::lanes`] messages, at the cost of all of them.
    pub(crate) fn derive(&self, message_ids: &[Key<u64>], derived: &mut [Committed]) {
        match self {
            Self::Avx512(group) => group.derive(message_ids, derived),
            Self::Avx2(group) => group.derive(message_ids, derived),
        }
    }
}

pub(crate) fn has(lanes: Lanes) -> bool {
    match lanes {
        Lanes::Auto | Lanes::Scalar => true,
        Lanes::Avx512 => Avx512::detect().is_some(),
        Lanes::Avx2 => Avx2::detect().is_some(),
    }
}

pub(crate) struct Group<S: Sha512> {
    sha: S,
    hashed: Hashed<S>,
}

impl<S: Sha512<Word: Wide> + Copy> Group<S> {
    fn new(sha: S, suite_id: u16, data_key: &[u8; 32]) -> Self {
        Self {
            sha,
            hashed: Hashed::new(suite_id, data_key),
        }
    }

    fn lanes(&self) -> usize {
        S::Word::LANES
    }

    fn derive(&self, message_ids: &[Key<u64>], derived: &mut [Committed]) {
        assert!(message_ids.len() <= self.lanes(), "a lane for each message");
        let mut ids = Key::<S::Word>::default();
        for (lane, id) in message_ids.iter().enumerate() {
            for (wide, word) in ids.iter_mut().zip(*id) {
                wide.lanes_mut()[lane] = word;
            }
        }
        let (mut key, mut commitment) = (Zeroizing::new(Key::default()), Key::default());
        self.hashed
            .derive(&mut { self.sha }, &ids, &mut key, &mut commitment);
        for (lane, derived) in derived.iter_mut().enumerate() {
            let of_lane = |wide: &S::Word| wide.lanes()[lane];
            write_bytes(key.iter().map(of_lane), &mut derived.key[..]);
            write_bytes(commitment.iter().map(of_lane), &mut derived.commitment);
        }
    }
}
