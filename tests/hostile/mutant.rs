//! Mutations that keep most of a message whole, so that what is spoilt is reached.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Makes mutants of a corpus, the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Mutants<'a> {
    random: StdRng,
    corpus: &'a [Vec<u8>],
}

/// What lengths, counts and sequence numbers are when they lie.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    u64::MAX,
];

impl<'a> Mutants<'a> {
    pub(crate) fn new(seed: u64, corpus: &'a [Vec<u8>]) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { random, corpus }
    }

    /// One to four changes to one of the corpus.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.any().to_vec();
        for _ in 0..self.random.random_range(1..=4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.place(bytes.len());
        match self.random.random_range(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = self.random.random(),
            2..=4 => self.lie(bytes, at),
            5 => bytes.truncate(at),
            6 => drop(bytes.drain(self.range(bytes.len()))),
            7 => {
                let part = bytes[self.range(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = self.any();
                let part = &other[self.range(other.len())];
                let end = self.random.random_range(at..=bytes.len());
                bytes.splice(at..end, part.iter().copied());
            }
        }
    }

    /// A number of one, two, four or eight bytes, or a varint, over what stands there.
    fn lie(&mut self, bytes: &mut [u8], at: usize) {
        let number = NUMBERS[self.random.random_range(0..NUMBERS.len())].to_be_bytes();
        let len = 1 << self.random.random_range(0..4);
        let there = bytes[at..].iter_mut();
        for (byte, lie) in there.zip(&number[8 - len..]) {
            *byte = *lie;
        }
    }

    /// Half of the time near the front, where headers are.
    fn place(&mut self, len: usize) -> usize {
        let end = match self.random.random_bool(0.5) {
            true => len.min(120),
            false => len,
        };
        self.random.random_range(0..=end)
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.place(len);
        start..self.random.random_range(start..=len)
    }

    fn any(&mut self) -> &'a [u8] {
        &self.corpus[self.random.random_range(0..self.corpus.len())]
    }
}
