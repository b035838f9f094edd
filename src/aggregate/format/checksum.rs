//! The MD5 that ends an aggregate: of one, or of many side by side.
//!
//! MD5 of one message is a chain in which each step waits for the one before, and most of what encoding an
//! aggregate costs. Nothing makes the chain faster, but other messages can be hashed meanwhile. So whoever has
//! several aggregates to finish should ask for all of them together.

#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(not(target_arch = "x86_64"))]
#[path = "checksum/no_lanes.rs"]
mod lanes;

use md5::{Digest, Md5};

use self::lanes::{Avx2, side_by_side};

/// MD5, RFC 1321.
pub type Checksum = [u8; 16];

/// All lanes, full or not, take as long as one and a half messages one by one.
const WORTH_LANES: usize = 2;

pub fn of(message: &[u8]) -> Checksum {
    Md5::digest(message).into()
}

/// One for each message, in their order: side by side where the processor has AVX2.
pub fn of_each(messages: &[&[u8]]) -> Vec<Checksum> {
    match Avx2::detect() {
        // Not optimised, a vector instruction is a call, and lanes are far slower than the crate, which is.
        Some(avx2) if messages.len() >= WORTH_LANES && !cfg!(debug_assertions) => {
            let mut checksums = vec![[0; 16]; messages.len()];
            side_by_side(avx2, messages, &mut checksums);
            checksums
        }
        _ => messages.iter().map(|message| of(message)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Around the ends of blocks, and around where the length no longer fits into the last.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![
            prop::sample::select(vec![0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 121, 127, 128]),
            (0usize..40, 0usize..3).prop_map(|(blocks, off)| (64 * blocks + off).saturating_sub(1)),
            0usize..3000,
        ]
    }

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let message = length().prop_flat_map(|n| prop::collection::vec(any::<u8>(), n));
        prop::collection::vec(message, 0..40)
    }

    proptest! {
        /// Each way that this processor has, against the `md-5` crate.
        #[test]
        fn messages_side_by_side_have_the_checksum_of_each_alone(messages in messages()) {
            let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
            let alone: Vec<Checksum> = messages.iter().map(|m| Md5::digest(m).into()).collect();
            prop_assert_eq!(of_each(&messages), &alone[..]);
            if let Some(avx2) = Avx2::detect() {
                let mut checksums = vec![[0; 16]; messages.len()];
                side_by_side(avx2, &messages, &mut checksums);
                prop_assert_eq!(checksums, alone);
            }
        }
    }

    #[test]
    fn checksums_are_the_standards() {
        // RFC 1321, A.5.
        let suite: [(&[u8], &str); 3] = [
            (b"", "d41d8cd98f00b204e9800998ecf8427e"),
            (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (
                b"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ];
        let checksums = of_each(&suite.map(|(message, _)| message));
        for (checksum, (_, hex)) in checksums.iter().zip(suite) {
            assert_eq!(format!("{:032x}", u128::from_be_bytes(*checksum)), hex);
        }
    }
}
