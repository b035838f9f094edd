//! HKDF-SHA512 as version 2 messages use it: ten compressions for each message, and none more.
//!
//! It is what a small record costs: of the time to seal 200 bytes, AES takes the smaller part. General
//! HKDF hashes bytes of any length and sets up each HMAC anew. Here all lengths are known, so everything
//! that is hashed is one block, and both expansions start from the states of their common key: four
//! compressions for the extract, two for those states, four for the expansions.
//!
//! Written once for one message and for several side by side: what a [`Sha512`] compresses are words, of
//! one message or of each of its messages.
//!
//! Sources: RFC 5869 (HKDF), RFC 2104 (HMAC), FIPS 180-4 (SHA-512 and its padding).

use sha2::block_api::compress512;
use zeroize::{Zeroize, Zeroizing};

/// 64 bits of a message, or the same 64 bits of each of several messages.
pub(crate) trait Word: Copy + Default + Zeroize {
    fn splat(word: u64) -> Self;

    fn xor(self, pad: u64) -> Self;
}

/// The compression function of SHA-512.
pub(crate) trait Sha512 {
    type Word: Word;
    /// A block that many messages share, made ready once.
    type Fixed: Zeroize;

    fn fix(block: &Block<u64>) -> Self::Fixed;

    fn compress(&mut self, state: &mut State<Self::Word>, block: &Block<Self::Word>);

    fn compress_fixed(&mut self, state: &mut State<Self::Word>, block: &Self::Fixed);
}

pub(crate) type State<W> = [W; 8];
pub(crate) type Block<W> = [W; 16];

/// 32 bytes, big-endian.
pub(crate) type Key<W> = [W; 4];

/// What is hashed for every message under one data key.
pub(crate) struct Hashed<S: Sha512> {
    data_key: Zeroizing<S::Fixed>,
    derive_key: S::Fixed,
    commit_key: S::Fixed,
}

impl<S: Sha512> Hashed<S> {
    pub(crate) fn new(suite_id: u16, data_key: &[u8; 32]) -> Self {
        // Each info is followed by the number of the output block: one is enough.
        let mut derive_key = *b"\0\0DERIVEKEY\x01";
        derive_key[..2].copy_from_slice(&suite_id.to_be_bytes());
        Self {
            data_key: Zeroizing::new(S::fix(&last_block(data_key))),
            derive_key: S::fix(&last_block(&derive_key)),
            commit_key: S::fix(&last_block(b"COMMITKEY\x01")),
        }
    }

    /// Key and commitment of the message of this id, or of the messages of these.
    pub(crate) fn derive(
        &self,
        sha: &mut S,
        message_id: &Key<S::Word>,
        key: &mut Key<S::Word>,
        commitment: &mut Key<S::Word>,
    ) {
        let mut mac = Zeroizing::new(State::default());
        Hmac::new(sha, message_id).sign(sha, &self.data_key, &mut mac);
        let expand = Hmac::new(sha, &*mac);
        expand.sign(sha, &self.derive_key, &mut mac);
        key.copy_from_slice(&mac[..4]);
        expand.sign(sha, &self.commit_key, &mut mac);
        commitment.copy_from_slice(&mac[..4]);
    }
}

/// HMAC under one key: the states after the block that the key fills.
struct Hmac<W: Word> {
    inner: Zeroizing<State<W>>,
    outer: Zeroizing<State<W>>,
}

impl<W: Word> Hmac<W> {
    /// A key no longer than a block.
    fn new(sha: &mut impl Sha512<Word = W>, key: &[W]) -> Self {
        let mut hmac = Self {
            inner: Zeroizing::new(INITIAL.map(W::splat)),
            outer: Zeroizing::new(INITIAL.map(W::splat)),
        };
        let mut block = Zeroizing::new(Block::default());
        for (pad, state) in [
            (0x3636_3636_3636_3636, &mut hmac.inner),
            (0x5c5c_5c5c_5c5c_5c5c, &mut hmac.outer),
        ] {
            block.fill(W::splat(pad));
            for (padded, word) in block.iter_mut().zip(key) {
                *padded = word.xor(pad);
            }
            sha.compress(state, &block);
        }
        hmac
    }

    /// Of a message that is one block with its padding.
    fn sign<S: Sha512<Word = W>>(&self, sha: &mut S, message: &S::Fixed, mac: &mut State<W>) {
        *mac = *self.inner;
        sha.compress_fixed(mac, message);

        let mut block = Zeroizing::new(Block::default());
        let (digest, padding) = block.split_at_mut(8);
        digest.copy_from_slice(mac);
        padding[0] = W::splat(1 << 63);
        padding[7] = W::splat(bits_with_key(64));
        *mac = *self.outer;
        sha.compress(mac, &block);
    }
}

/// A message's end after the block of an HMAC's key: one bit, zeros, and the length.
fn last_block(message: &[u8]) -> Zeroizing<Block<u64>> {
    let mut bytes = Zeroizing::new([0; 128]);
    bytes[..message.len()].copy_from_slice(message);
    bytes[message.len()] = 0x80;
    bytes[120..].copy_from_slice(&bits_with_key(message.len()).to_be_bytes());
    let mut block = Zeroizing::new(Block::default());
    for (word, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    block
}

fn bits_with_key(len: usize) -> u64 {
    (128 + len as u64) * 8
}

/// One message at a time, with what the `sha2` crate finds in this processor.
#[derive(Default)]
pub(crate) struct OneByOne {
    /// The block as bytes; here, so that it is wiped once for a message, which takes a store for each byte.
    bytes: Zeroizing<Bytes>,
}

type Bytes = [[u8; 8]; 16];

impl Sha512 for OneByOne {
    type Word = u64;
    type Fixed = Bytes;

    fn fix(block: &Block<u64>) -> Bytes {
        block.map(u64::to_be_bytes)
    }

    fn compress(&mut self, state: &mut State<u64>, block: &Block<u64>) {
        for (bytes, word) in self.bytes.iter_mut().zip(block) {
            *bytes = word.to_be_bytes();
        }
        compress_bytes(state, &self.bytes);
    }

    fn compress_fixed(&mut self, state: &mut State<u64>, block: &Bytes) {
        compress_bytes(state, block);
    }
}

fn compress_bytes(state: &mut State<u64>, block: &Bytes) {
    compress512(state, block.as_flattened().as_chunks().0);
}

impl Word for u64 {
    fn splat(word: u64) -> Self {
        word
    }

    fn xor(self, pad: u64) -> Self {
        self ^ pad
    }
}

/// FIPS 180-4, 5.3.5.
const INITIAL: State<u64> = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts all.
    #[derive(Default)]
    struct Counting(u32, OneByOne);

    impl Sha512 for Counting {
        type Word = u64;
        type Fixed = Bytes;

        fn fix(block: &Block<u64>) -> Bytes {
            OneByOne::fix(block)
        }

        fn compress(&mut self, state: &mut State<u64>, block: &Block<u64>) {
            self.0 += 1;
            self.1.compress(state, block);
        }

        fn compress_fixed(&mut self, state: &mut State<u64>, block: &Bytes) {
            self.0 += 1;
            self.1.compress_fixed(state, block);
        }
    }

    #[test]
    fn a_message_costs_ten_compressions() {
        let mut sha = Counting::default();
        let (mut key, mut commitment) = (Key::default(), Key::default());
        Hashed::new(0x0478, &[1; 32]).derive(&mut sha, &[2; 4], &mut key, &mut commitment);
        assert_eq!(sha.0, 10);
    }
}
