//! Sixteen messages side by side, each in a lane of its own, whatever their lengths.
//!
//! A message is a run of whole blocks, hashed where they lie, and then a run of one or two blocks of its rest and
//! its padding. All lanes go on together for as many blocks as the shortest of their runs has; then whoever is
//! done says its digest, and the next message takes its lane. A lane that has none left goes over another's
//! blocks once more, for nothing: cheaper than to ask for each block who is there.

mod avx2;

pub(super) use self::avx2::Avx2;
use super::Checksum;

/// Two vectors of eight.
const LANES: usize = 16;

type Block = [u8; 64];

/// The four words of the state, of every lane.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct States([[u32; LANES]; 4]);

/// RFC 1321, 3.3.
const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// One checksum for each message, in their order.
pub(super) fn side_by_side(avx2: Avx2, messages: &[&[u8]], checksums: &mut [Checksum]) {
    assert_eq!(messages.len(), checksums.len(), "one place for each");
    let mut waiting = messages.iter().zip(checksums);
    let mut next = || waiting.next().map(|(message, to)| Lane::new(message, to));
    let mut states = States(INITIAL.map(|word| [word; LANES]));
    let mut lanes: [Option<Lane<'_>>; LANES] = std::array::from_fn(|_| next());
    while let Some(shortest) = lanes
        .iter()
        .flatten()
        .map(Lane::run)
        .min_by_key(|r| r.len())
    {
        let runs = lanes
            .each_ref()
            .map(|lane| lane.as_ref().map_or(shortest, Lane::run));
        avx2.compress(&mut states, &runs, shortest.len());
        let blocks = shortest.len();
        for (n, place) in lanes.iter_mut().enumerate() {
            let Some(lane) = place else { continue };
            lane.advance(blocks);
            if lane.run().is_empty() {
                lane.tell(states.0.map(|words| words[n]));
                *place = next();
                for (words, initial) in states.0.iter_mut().zip(INITIAL) {
                    words[n] = initial;
                }
            }
        }
    }
}

/// A message on its way.
struct Lane<'a> {
    whole: &'a [Block],
    last: [Block; 2],
    /// Which of `last` are still to be hashed.
    rest: std::ops::Range<usize>,
    checksum: &'a mut Checksum,
}

impl<'a> Lane<'a> {
    fn new(message: &'a [u8], checksum: &'a mut Checksum) -> Self {
        let (whole, rest) = message.as_chunks();
        let mut last = [[0; 64]; 2];
        let bytes = last.as_flattened_mut();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        // A bit at least, and eight bytes for the length, in bits and modulo 2^64.
        let blocks = if rest.len() < 56 { 1 } else { 2 };
        let bits = (message.len() as u64).wrapping_mul(8);
        bytes[64 * blocks - 8..64 * blocks].copy_from_slice(&bits.to_le_bytes());
        Self {
            whole,
            last,
            rest: 0..blocks,
            checksum,
        }
    }

    /// What is to be hashed next; empty at the end.
    fn run(&self) -> &[Block] {
        if self.whole.is_empty() {
            &self.last[self.rest.clone()]
        } else {
            self.whole
        }
    }

    /// No further than [`Self::run`].
    fn advance(&mut self, blocks: usize) {
        if self.whole.is_empty() {
            self.rest.start += blocks;
        } else {
            self.whole = &self.whole[blocks..];
        }
    }

    fn tell(&mut self, state: [u32; 4]) {
        for (bytes, word) in self.checksum.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_le_bytes();
        }
    }
}
