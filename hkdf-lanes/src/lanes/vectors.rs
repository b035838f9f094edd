//! SHA-512 of several messages side by side, in the 64-bit lanes of vectors: eight with AVX-512, four with
//! AVX2. The one file of the crate with `unsafe` in it.
//!
//! SHA-512 of one message is a chain in which each round waits for the one before; only other messages
//! keep a processor busy meanwhile. AVX-512 has a rotation and a function of any three bits as single
//! instructions, and registers enough for state and schedule of eight messages. AVX2 has none of these, and
//! is still twice as fast as one message after the other. Measured in `benches/seal`.
//!
//! The two differ in nine operations on a vector, which each of the modules below names; the algorithm on
//! top of them is the same text, in `sha512!`.
//!
//! Why it is sound: there are two reasons for `unsafe`. The instructions must exist, so [`Avx512`] and
//! [`Avx2`], without which there is no way in, can only be had where the processor has said that they do.
//! And vectors are loaded and stored through pointers; each comes from a reference to a `Packed` of the
//! module, which is exactly one vector, and is used at once.
//!
//! Nothing depends on secret data: no branch and no index. What a compression holds in vectors meanwhile, and what of them
//! the compiler puts on the stack, is not wiped: it is overwritten by the next.
//!
//! The scalar twin is `OneByOne` in `hkdf.rs`; the tests hold each of the two against it.
//!
//! Source: FIPS 180-4, 4.1.3 and 6.4.2.
#![expect(unsafe_code, reason = "std::arch: see the module's text")]

pub(super) use avx2::Avx2;
pub(super) use avx512::Avx512;

/// SHA-512 on the vector type, the number of its lanes, and the operations of the module that it stands in.
macro_rules! sha512 {
    ($feature:tt, $Proof:ident, $Vector:ident, $lanes:literal, $bytes:literal) => {
        use zeroize::DefaultIsZeroes;

        use crate::hkdf::{Block, Sha512, State, Word};
        use crate::lanes::Wide;
        use crate::lanes::schedule::{ROUNDS, Schedule, schedule};

        /// The same 64 bits of several messages: one vector.
        #[derive(Clone, Copy, Default)]
        #[repr(C, align($bytes))]
        pub(crate) struct Packed([u64; $lanes]);

        const _: () = assert!(size_of::<Packed>() == size_of::<$Vector>());
        const _: () = assert!(align_of::<Packed>() == align_of::<$Vector>());

        /// Proof that this processor has the instructions.
        #[derive(Clone, Copy)]
        pub(crate) struct $Proof(());

        impl $Proof {
            pub(crate) fn detect() -> Option<Self> {
                is_x86_feature_detected!($feature).then_some(Self(()))
            }
        }

        impl Sha512 for $Proof {
            type Word = Packed;
            type Fixed = Schedule;

            fn fix(block: &Block<u64>) -> Schedule {
                schedule(block)
            }

            fn compress(&mut self, state: &mut State<Packed>, block: &Block<Packed>) {
                // SAFETY: the function asks for the module's feature and nothing else, and `self` proves it.
                unsafe { compress(state, block) }
            }

            fn compress_fixed(&mut self, state: &mut State<Packed>, block: &Schedule) {
                // SAFETY: the function asks for the module's feature and nothing else, and `self` proves it.
                unsafe { compress_scheduled(state, block) }
            }
        }

        impl Word for Packed {
            fn splat(word: u64) -> Self {
                Self([word; $lanes])
            }

            fn xor(self, pad: u64) -> Self {
                Self(self.0.map(|word| word ^ pad))
            }
        }

        impl Wide for Packed {
            const LANES: usize = $lanes;

            fn lanes(&self) -> &[u64] {
                &self.0
            }

            fn lanes_mut(&mut self) -> &mut [u64] {
                &mut self.0
            }
        }

        impl DefaultIsZeroes for Packed {}

        /// Of a block that is each message's own.
        #[target_feature(enable = $feature)]
        fn compress(state: &mut State<Packed>, block: &Block<Packed>) {
            let mut schedule = [broadcast(0); 16];
            for (word, lanes) in schedule.iter_mut().zip(block) {
                *word = load(lanes);
            }
            let mut working = load_state(state);
            let (rounds, last) = ROUNDS.split_at(64);
            for constants in rounds.as_chunks::<16>().0 {
                let word = |i: usize| add(schedule[i], broadcast(constants[i]));
                sixteen_rounds(&mut working, word);
                extend(&mut schedule);
            }
            for constants in last.as_chunks::<16>().0 {
                let word = |i: usize| add(schedule[i], broadcast(constants[i]));
                sixteen_rounds(&mut working, word);
            }
            add_to_state(state, working);
        }

        /// Of a block that all messages share.
        #[target_feature(enable = $feature)]
        fn compress_scheduled(state: &mut State<Packed>, schedule: &Schedule) {
            let mut working = load_state(state);
            for words in schedule.as_chunks::<16>().0 {
                sixteen_rounds(&mut working, |i| broadcast(words[i]));
            }
            add_to_state(state, working);
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn sixteen_rounds(state: &mut [$Vector; 8], word: impl Fn(usize) -> $Vector) {
            *state = eight_rounds(*state, |i| word(i));
            *state = eight_rounds(*state, |i| word(8 + i));
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn eight_rounds(state: [$Vector; 8], word: impl Fn(usize) -> $Vector) -> [$Vector; 8] {
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
            (d, h) = round([a, b, c, d, e, f, g, h], word(0));
            (c, g) = round([h, a, b, c, d, e, f, g], word(1));
            (b, f) = round([g, h, a, b, c, d, e, f], word(2));
            (a, e) = round([f, g, h, a, b, c, d, e], word(3));
            (h, d) = round([e, f, g, h, a, b, c, d], word(4));
            (g, c) = round([d, e, f, g, h, a, b, c], word(5));
            (f, b) = round([c, d, e, f, g, h, a, b], word(6));
            (e, a) = round([b, c, d, e, f, g, h, a], word(7));
            [a, b, c, d, e, f, g, h]
        }

        /// What becomes of `d` and of `h`: the state's others only move on.
        #[inline]
        #[target_feature(enable = $feature)]
        fn round(state: [$Vector; 8], word: $Vector) -> ($Vector, $Vector) {
            let [a, b, c, d, e, f, g, h] = state;
            let turned = xor(ror::<14>(e), ror::<18>(e), ror::<41>(e));
            let first = add(add(add(h, word), choose(e, f, g)), turned);
            let turned = xor(ror::<28>(a), ror::<34>(a), ror::<39>(a));
            (add(d, first), add(first, add(majority(a, b, c), turned)))
        }

        /// The next sixteen words of the message schedule, in place of the last. No loop, so that all of them
        /// stay in registers.
        #[inline]
        #[target_feature(enable = $feature)]
        fn extend(w: &mut [$Vector; 16]) {
            four_words(w, 0);
            four_words(w, 4);
            four_words(w, 8);
            four_words(w, 12);
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn four_words(w: &mut [$Vector; 16], i: usize) {
            next_word(w, i);
            next_word(w, i + 1);
            next_word(w, i + 2);
            next_word(w, i + 3);
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn next_word(w: &mut [$Vector; 16], i: usize) {
            let (near, far) = (w[(i + 1) % 16], w[(i + 14) % 16]);
            let near = xor(ror::<1>(near), ror::<8>(near), shr::<7>(near));
            let far = xor(ror::<19>(far), ror::<61>(far), shr::<6>(far));
            w[i] = add(add(w[i], w[(i + 9) % 16]), add(near, far));
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn load_state(state: &State<Packed>) -> [$Vector; 8] {
            let mut loaded = [broadcast(0); 8];
            for (word, lanes) in loaded.iter_mut().zip(state) {
                *word = load(lanes);
            }
            loaded
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn add_to_state(state: &mut State<Packed>, working: [$Vector; 8]) {
            for (lanes, word) in state.iter_mut().zip(working) {
                store(lanes, add(load(lanes), word));
            }
        }
    };
}

mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_load_si512, _mm512_ror_epi64, _mm512_set1_epi64,
        _mm512_srli_epi64, _mm512_store_si512, _mm512_ternarylogic_epi64,
    };

    sha512!("avx512f", Avx512, __m512i, 8, 64);

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(lanes: &Packed) -> __m512i {
        // SAFETY: the 64 bytes of one `Packed`, aligned to 64 by its type.
        unsafe { _mm512_load_si512(std::ptr::from_ref(lanes).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(lanes: &mut Packed, vector: __m512i) {
        // SAFETY: the 64 bytes of one `Packed`, aligned to 64 by its type, and ours alone.
        unsafe { _mm512_store_si512(std::ptr::from_mut(lanes).cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn broadcast(word: u64) -> __m512i {
        _mm512_set1_epi64(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi64(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn ror<const N: i32>(a: __m512i) -> __m512i {
        _mm512_ror_epi64::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn shr<const N: u32>(a: __m512i) -> __m512i {
        _mm512_srli_epi64::<N>(a)
    }

    // Truth tables over three bits, the first operand's bit the highest of the index.

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        _mm512_ternarylogic_epi64::<0b1001_0110>(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn choose(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        _mm512_ternarylogic_epi64::<0b1100_1010>(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn majority(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        _mm512_ternarylogic_epi64::<0b1110_1000>(a, b, c)
    }
}

mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_load_si256, _mm256_or_si256,
        _mm256_set1_epi64x, _mm256_sllv_epi64, _mm256_srli_epi64, _mm256_store_si256,
        _mm256_xor_si256,
    };

    sha512!("avx2", Avx2, __m256i, 4, 32);

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(lanes: &Packed) -> __m256i {
        // SAFETY: the 32 bytes of one `Packed`, aligned to 32 by its type.
        unsafe { _mm256_load_si256(std::ptr::from_ref(lanes).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(lanes: &mut Packed, vector: __m256i) {
        // SAFETY: the 32 bytes of one `Packed`, aligned to 32 by its type, and ours alone.
        unsafe { _mm256_store_si256(std::ptr::from_mut(lanes).cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn broadcast(word: u64) -> __m256i {
        _mm256_set1_epi64x(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi64(a, b)
    }

    /// The count to the left cannot be written as an immediate here; the compiler makes it one.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn ror<const N: i32>(a: __m256i) -> __m256i {
        let left = _mm256_sllv_epi64(a, _mm256_set1_epi64x(64 - i64::from(N)));
        _mm256_or_si256(_mm256_srli_epi64::<N>(a), left)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn shr<const N: i32>(a: __m256i) -> __m256i {
        _mm256_srli_epi64::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn xor(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        _mm256_xor_si256(_mm256_xor_si256(a, b), c)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn choose(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        _mm256_xor_si256(c, _mm256_and_si256(a, _mm256_xor_si256(b, c)))
    }

    /// Written so that one round's `a ^ b` is the next one's `b ^ c`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn majority(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        let (ab, bc) = (_mm256_xor_si256(a, b), _mm256_xor_si256(b, c));
        _mm256_xor_si256(b, _mm256_and_si256(ab, bc))
    }
}
