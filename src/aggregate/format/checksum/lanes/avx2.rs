//! MD5's compression function on sixteen messages at once, in the 32-bit lanes of AVX2. The one file of the KPL's
//! format with `unsafe` in it.
//!
//! Each of MD5's 64 steps waits for the one before, and one vector's steps leave most of a processor idle. So there
//! are two vectors of eight lanes, whose steps are interleaved: 1.6 times as fast as one vector after the other.
//!
//! There is no twin for AVX-512: with this one the checksum is the smaller part of what an aggregate costs
//! (`benches/aggregate.rs`), and what such a twin gained could not be seen.
//!
//! Why it is sound: there are three reasons for `unsafe`. The instructions must exist, so [`Avx2`], without which
//! there is no way in, can only be had where the processor has said that they do. Vectors are loaded and stored
//! through pointers; each comes from a reference to an array of exactly the vector's length, is used at once, and
//! nothing is asked of its alignment. And an `asm!` without an instruction keeps the steps interleaved: it says
//! that it changes two registers, and leaves them as they are.
//!
//! The scalar twin is the `md-5` crate; the tests of `format/checksum.rs` hold this against it.
//!
//! Source: RFC 1321, 3.4.
#![expect(unsafe_code, reason = "std::arch: see the module's text")]

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256,
    _mm256_castsi128_si256, _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sllv_epi32, _mm256_srlv_epi32,
    _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::{Block, LANES, States};

/// Proof that this processor has the instructions.
#[derive(Clone, Copy)]
pub(in super::super) struct Avx2(());

impl Avx2 {
    pub(in super::super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// The first `blocks` of each run, which has as many at least.
    pub(super) fn compress(self, states: &mut States, runs: &[&[Block]; LANES], blocks: usize) {
        // SAFETY: the function asks for AVX2 and nothing else, and `self` proves it.
        unsafe { compress(states, runs, blocks) }
    }
}

/// The same word of sixteen messages.
#[derive(Clone, Copy)]
struct Word([__m256i; 2]);

#[target_feature(enable = "avx2")]
fn compress(states: &mut States, runs: &[&[Block]; LANES], blocks: usize) {
    let runs = runs.map(|run| &run[..blocks]);
    let mut state = [
        load_state(states, 0),
        load_state(states, 1),
        load_state(states, 2),
        load_state(states, 3),
    ];
    for n in 0..blocks {
        let words = words(&runs, n);
        let [a, b, c, d] = state;
        let [e, f, g, h] = rounds(state, &words);
        state = [add(a, e), add(b, f), add(c, g), add(d, h)];
    }
    for (lanes, word) in states.0.iter_mut().zip(state) {
        let (halves, _) = lanes.as_chunks_mut();
        store(&mut halves[0], word.0[0]);
        store(&mut halves[1], word.0[1]);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_state(states: &States, word: usize) -> Word {
    let (halves, _) = states.0[word].as_chunks();
    Word([load(&halves[0]), load(&halves[1])])
}

/// The sixteen words of block `n` of each message.
#[inline]
#[target_feature(enable = "avx2")]
fn words(runs: &[&[Block]; LANES], n: usize) -> [Word; 16] {
    let zero = _mm256_setzero_si256();
    let mut words = [Word([zero; 2]); 16];
    for half in 0..2 {
        let block = |lane: usize| runs[8 * half + lane][n].as_chunks::<16>().0;
        for quarter in 0..4 {
            // Messages 0 to 3 in the lower halves of the vectors, 4 to 7 in the upper ones: that is how the
            // instructions below see them.
            let row = |lane: usize| load_two(&block(lane)[quarter], &block(lane + 4)[quarter]);
            let columns = transpose([row(0), row(1), row(2), row(3)]);
            for (word, column) in words[4 * quarter..].iter_mut().zip(columns) {
                word.0[half] = column;
            }
        }
    }
    words
}

/// Four rows of four words to four columns, in both halves of the vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Round `$n`: its function, its four rotations, the number of its first word, and how far on the next one is.
///
/// No function: the compiler would leave calls of it in place, and with them the state in memory and the rotations
/// without immediates.
macro_rules! round {
    ($state:ident, $words:ident, $mix:ident, $n:literal, $turns:expr, $first:literal, $next:literal) => {{
        let [mut a, mut b, mut c, mut d] = $state;
        round!(@four $words, $mix, $n, $turns, $first, $next, 0, [a, b, c, d]);
        round!(@four $words, $mix, $n, $turns, $first, $next, 4, [a, b, c, d]);
        round!(@four $words, $mix, $n, $turns, $first, $next, 8, [a, b, c, d]);
        round!(@four $words, $mix, $n, $turns, $first, $next, 12, [a, b, c, d]);
        [a, b, c, d]
    }};
    (@four $words:ident, $mix:ident, $n:literal, $turns:expr, $first:literal, $next:literal, $i:literal,
     [$a:ident, $b:ident, $c:ident, $d:ident]) => {
        round!(@step $words, $mix, $n, $turns[0], $first, $next, $i, $a, $b, $c, $d);
        round!(@step $words, $mix, $n, $turns[1], $first, $next, $i + 1, $d, $a, $b, $c);
        round!(@step $words, $mix, $n, $turns[2], $first, $next, $i + 2, $c, $d, $a, $b);
        round!(@step $words, $mix, $n, $turns[3], $first, $next, $i + 3, $b, $c, $d, $a);
    };
    (@step $words:ident, $mix:ident, $n:literal, $turn:expr, $first:literal, $next:literal, $i:expr,
     $a:ident, $b:ident, $c:ident, $d:ident) => {
        let word = $words[($first + $next * ($i)) % 16];
        let sum = add_constant(add($a, word), CONSTANTS[$n][$i]);
        $a = abreast(add($b, rol($mix(sum, $b, $c, $d), $turn)));
    };
}

/// The state after RFC 1321's four rounds.
#[inline]
#[target_feature(enable = "avx2")]
fn rounds(state: [Word; 4], words: &[Word; 16]) -> [Word; 4] {
    let state = round!(state, words, choose, 0, [7, 12, 17, 22], 0, 1);
    let state = round!(state, words, choose_by_last, 1, [5, 9, 14, 20], 1, 5);
    let state = round!(state, words, parity, 2, [4, 11, 16, 23], 5, 3);
    round!(state, words, unless, 3, [6, 10, 15, 21], 0, 7)
}

// The RFC's F, G, H and I, each added to a sum: `b` comes last from the step before, so the rest is written to be
// ready when it comes.

#[inline]
#[target_feature(enable = "avx2")]
fn choose(sum: Word, b: Word, c: Word, d: Word) -> Word {
    add(sum, xor(d, and(b, xor(c, d))))
}

/// No bit is set in both halves, so that adding them is the same as `or`, and one of them need not wait.
#[inline]
#[target_feature(enable = "avx2")]
fn choose_by_last(sum: Word, b: Word, c: Word, d: Word) -> Word {
    add(add(sum, and_not(c, d)), and(b, d))
}

#[inline]
#[target_feature(enable = "avx2")]
fn parity(sum: Word, b: Word, c: Word, d: Word) -> Word {
    add(sum, xor(b, xor(c, d)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn unless(sum: Word, b: Word, c: Word, d: Word) -> Word {
    add(sum, xor(c, or(b, not(d))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(Word([a, b]): Word, Word([c, d]): Word) -> Word {
    Word([_mm256_add_epi32(a, c), _mm256_add_epi32(b, d)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_constant(a: Word, constant: u32) -> Word {
    let constant = _mm256_set1_epi32(constant.cast_signed());
    add(a, Word([constant; 2]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn and(Word([a, b]): Word, Word([c, d]): Word) -> Word {
    Word([_mm256_and_si256(a, c), _mm256_and_si256(b, d)])
}

/// What is in `a` and not in `b`.
#[inline]
#[target_feature(enable = "avx2")]
fn and_not(Word([a, b]): Word, Word([c, d]): Word) -> Word {
    Word([_mm256_andnot_si256(c, a), _mm256_andnot_si256(d, b)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn or(Word([a, b]): Word, Word([c, d]): Word) -> Word {
    Word([_mm256_or_si256(a, c), _mm256_or_si256(b, d)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(Word([a, b]): Word, Word([c, d]): Word) -> Word {
    Word([_mm256_xor_si256(a, c), _mm256_xor_si256(b, d)])
}

#[inline]
#[target_feature(enable = "avx2")]
fn not(a: Word) -> Word {
    xor(a, Word([_mm256_set1_epi32(-1); 2]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rol(Word([a, b]): Word, n: i32) -> Word {
    Word([rol_one(a, n), rol_one(b, n)])
}

/// The counts cannot be written as immediates here; the compiler makes them such.
#[inline]
#[target_feature(enable = "avx2")]
fn rol_one(a: __m256i, n: i32) -> __m256i {
    let (left, right) = (_mm256_set1_epi32(n), _mm256_set1_epi32(32 - n));
    _mm256_or_si256(_mm256_sllv_epi32(a, left), _mm256_srlv_epi32(a, right))
}

/// The same vectors, of which neither is there before the other. Else the compiler puts one's steps all before the
/// other's, and the processor waits through both.
#[inline]
#[target_feature(enable = "avx2")]
fn abreast(Word([mut a, mut b]): Word) -> Word {
    // SAFETY: no instruction at all, and so no memory, no stack and no flags.
    unsafe {
        asm!("/* {} {} */", inout(ymm_reg) a, inout(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    Word([a, b])
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &[u32; 8]) -> __m256i {
    // SAFETY: the 32 bytes of eight lanes; nothing is asked of their alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(lanes).cast()) }
}

/// The one into the lower half, the other into the upper.
#[inline]
#[target_feature(enable = "avx2")]
fn load_two(lower: &[u8; 16], upper: &[u8; 16]) -> __m256i {
    let (lower, upper): (*const __m128i, *const __m128i) = (
        std::ptr::from_ref(lower).cast(),
        std::ptr::from_ref(upper).cast(),
    );
    // SAFETY: 16 bytes each; nothing is asked of their alignment.
    let (lower, upper) = unsafe { (_mm_loadu_si128(lower), _mm_loadu_si128(upper)) };
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(lower), upper)
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(lanes: &mut [u32; 8], vector: __m256i) {
    // SAFETY: the 32 bytes of eight lanes, and ours alone; nothing is asked of their alignment.
    unsafe { _mm256_storeu_si256(std::ptr::from_mut(lanes).cast(), vector) }
}

/// The whole part of 2^32 times the sine of 1, 2, 3, … as RFC 1321 has it.
const CONSTANTS: [[u32; 16]; 4] = [
    [
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
        0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
        0xa679438e, 0x49b40821,
    ],
    [
        0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681,
        0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8,
        0x676f02d9, 0x8d2a4c8a,
    ],
    [
        0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60,
        0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5,
        0x1fa27cf8, 0xc4ac5665,
    ],
    [
        0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d,
        0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235,
        0x2ad7d2bb, 0xeb86d391,
    ],
];
