//! SHA-512 of eight messages side by side, in the 64-bit lanes of AVX-512. The one file of the message
//! format with `unsafe` in it.
//!
//! SHA-512 of one message is a chain in which each round waits for the one before; only other messages
//! keep a processor busy meanwhile. AVX-512 has a rotation and a function of any three bits as single
//! instructions, and registers enough for state and schedule of eight messages. Measured in
//! `benches/seal.rs`.
//!
//! Why it is sound: there are two reasons for `unsafe`. The instructions must exist, so [`Avx512`], without
//! which there is no way in, can only be had where the processor has said that they do. And vectors are
//! loaded and stored through pointers; each comes from a reference to a [`Lanes`], which is exactly one
//! vector, and is used at once. Nothing depends on secret data: no branch and no index.
//!
//! The scalar twin is `OneByOne` in `derive/hkdf.rs`; the tests hold one against the other.
//!
//! Source: FIPS 180-4, 4.1.3, 4.2.3 and 6.4.2.
#![expect(unsafe_code, reason = "std::arch: see the module's text")]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_load_si512, _mm512_ror_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_srli_epi64, _mm512_store_si512, _mm512_ternarylogic_epi64,
};

use zeroize::DefaultIsZeroes;

use crate::seal::message::derive::LANES;
use crate::seal::message::derive::hkdf::{Block, Sha512, State, Word};

/// The same 64 bits of eight messages: one vector.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Lanes(pub(super) [u64; LANES]);

const _: () = assert!(size_of::<Lanes>() == size_of::<__m512i>());

/// Proof that this processor has AVX-512.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

impl Sha512 for Avx512 {
    type Word = Lanes;
    type Fixed = Schedule;

    fn fix(block: &Block<u64>) -> Schedule {
        schedule(block)
    }

    fn compress(&mut self, state: &mut State<Lanes>, block: &Block<Lanes>) {
        // SAFETY: the function asks for avx512f and nothing else, and `self` proves it.
        unsafe { compress(state, block) }
    }

    fn compress_fixed(&mut self, state: &mut State<Lanes>, block: &Schedule) {
        // SAFETY: the function asks for avx512f and nothing else, and `self` proves it.
        unsafe { compress_scheduled(state, block) }
    }
}

/// A block's message schedule with the rounds' constants added: a third of the work, and the same for all
/// messages.
pub(super) type Schedule = [u64; 80];

impl Word for Lanes {
    fn splat(word: u64) -> Self {
        Self([word; LANES])
    }

    fn xor(self, pad: u64) -> Self {
        Self(self.0.map(|word| word ^ pad))
    }
}

impl DefaultIsZeroes for Lanes {}

/// Of a block that is each message's own.
#[target_feature(enable = "avx512f")]
fn compress(state: &mut State<Lanes>, block: &Block<Lanes>) {
    let mut schedule = [_mm512_setzero_si512(); 16];
    for (word, lanes) in schedule.iter_mut().zip(block) {
        *word = load(lanes);
    }
    let mut working = load_state(state);
    let (rounds, last) = ROUNDS.split_at(64);
    for constants in rounds.as_chunks().0 {
        let word = |i: usize| _mm512_add_epi64(schedule[i], broadcast(constants, i));
        sixteen_rounds(&mut working, word);
        extend(&mut schedule);
    }
    for constants in last.as_chunks().0 {
        let word = |i: usize| _mm512_add_epi64(schedule[i], broadcast(constants, i));
        sixteen_rounds(&mut working, word);
    }
    add_to_state(state, working);
}

/// Of a block that all messages share.
#[target_feature(enable = "avx512f")]
fn compress_scheduled(state: &mut State<Lanes>, schedule: &Schedule) {
    let mut working = load_state(state);
    for words in schedule.as_chunks().0 {
        sixteen_rounds(&mut working, |i| broadcast(words, i));
    }
    add_to_state(state, working);
}

/// Unrolled, so that the schedule's indices and the turning of the state are known to the compiler and
/// everything stays in registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen_rounds(state: &mut [__m512i; 8], word: impl Fn(usize) -> __m512i) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $i:expr) => {
            let start = _mm512_add_epi64($h, word($i));
            let chosen = _mm512_ternarylogic_epi64::<CHOOSE>($e, $f, $g);
            let turned = turn::<14, 18, 41>($e);
            let first = _mm512_add_epi64(_mm512_add_epi64(start, chosen), turned);
            $d = _mm512_add_epi64($d, first);
            let most = _mm512_ternarylogic_epi64::<MAJORITY>($a, $b, $c);
            let turned = turn::<28, 34, 39>($a);
            $h = _mm512_add_epi64(first, _mm512_add_epi64(most, turned));
        };
    }
    macro_rules! eight_rounds {
        ($i:expr) => {
            round!(a b c d e f g h, $i);
            round!(h a b c d e f g, $i + 1);
            round!(g h a b c d e f, $i + 2);
            round!(f g h a b c d e, $i + 3);
            round!(e f g h a b c d, $i + 4);
            round!(d e f g h a b c, $i + 5);
            round!(c d e f g h a b, $i + 6);
            round!(b c d e f g h a, $i + 7);
        };
    }
    eight_rounds!(0);
    eight_rounds!(8);
    *state = [a, b, c, d, e, f, g, h];
}

/// The next sixteen words of the message schedule, in place of the last.
#[inline]
#[target_feature(enable = "avx512f")]
fn extend(w: &mut [__m512i; 16]) {
    macro_rules! word {
        ($($i:expr)+) => {$(
            let near = shift::<1, 8, 7>(w[($i + 1) % 16]);
            let far = shift::<19, 61, 6>(w[($i + 14) % 16]);
            let sum = _mm512_add_epi64(w[$i], w[($i + 9) % 16]);
            w[$i] = _mm512_add_epi64(sum, _mm512_add_epi64(near, far));
        )+};
    }
    word!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
}

/// Three rotations, xored.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn<const A: i32, const B: i32, const C: i32>(x: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<XOR>(
        _mm512_ror_epi64::<A>(x),
        _mm512_ror_epi64::<B>(x),
        _mm512_ror_epi64::<C>(x),
    )
}

/// Two rotations and a shift, xored.
#[inline]
#[target_feature(enable = "avx512f")]
fn shift<const A: i32, const B: i32, const C: u32>(x: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<XOR>(
        _mm512_ror_epi64::<A>(x),
        _mm512_ror_epi64::<B>(x),
        _mm512_srli_epi64::<C>(x),
    )
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(words: &[u64; 16], i: usize) -> __m512i {
    _mm512_set1_epi64(words[i].cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_state(state: &State<Lanes>) -> [__m512i; 8] {
    let mut loaded = [_mm512_setzero_si512(); 8];
    for (word, lanes) in loaded.iter_mut().zip(state) {
        *word = load(lanes);
    }
    loaded
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_to_state(state: &mut State<Lanes>, working: [__m512i; 8]) {
    for (lanes, word) in state.iter_mut().zip(working) {
        store(lanes, _mm512_add_epi64(load(lanes), word));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &Lanes) -> __m512i {
    // SAFETY: the 64 bytes of one `Lanes`, aligned to 64 by its type.
    unsafe { _mm512_load_si512(std::ptr::from_ref(lanes).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lanes: &mut Lanes, vector: __m512i) {
    // SAFETY: the 64 bytes of one `Lanes`, aligned to 64 by its type, and ours alone.
    unsafe { _mm512_store_si512(std::ptr::from_mut(lanes).cast(), vector) }
}

/// FIPS 180-4, 6.4.2, step 1.
fn schedule(block: &Block<u64>) -> Schedule {
    let mut w = [0; 80];
    w[..16].copy_from_slice(block);
    for t in 16..80 {
        let near = w[t - 15].rotate_right(1) ^ w[t - 15].rotate_right(8) ^ (w[t - 15] >> 7);
        let far = w[t - 2].rotate_right(19) ^ w[t - 2].rotate_right(61) ^ (w[t - 2] >> 6);
        w[t] = w[t - 16]
            .wrapping_add(near)
            .wrapping_add(w[t - 7])
            .wrapping_add(far);
    }
    for (word, constant) in w.iter_mut().zip(ROUNDS) {
        *word = word.wrapping_add(constant);
    }
    w
}

// Truth tables over three bits, the first operand's bit the highest of the index.
const XOR: i32 = 0b1001_0110;
const CHOOSE: i32 = 0b1100_1010;
const MAJORITY: i32 = 0b1110_1000;

/// FIPS 180-4, 4.2.3: the first bits of the cube roots of the first eighty primes.
const ROUNDS: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];
