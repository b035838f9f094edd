//! ECDSA signatures over header and body.
//!
//! The public key travels in the encryption context, where the data key's wrapping and the header tag
//! authenticate it: base64 of the compressed point. Source: `framework/default-cmm.md` and
//! `data-format/message-footer.md`.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    KeyPair, UnparsedPublicKey,
};

use super::reader::ReadError;
use super::suite::Signature;

pub(super) fn verify(
    algorithm: Signature,
    public_key: &str,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), ReadError> {
    let point = base64_simd::STANDARD
        .decode_to_vec(public_key)
        .map_err(|_| ReadError::Malformed {
            part: "public key",
            reason: "is not base64",
        })?;
    let algorithm = match algorithm {
        Signature::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
        Signature::EcdsaP384 => &ECDSA_P384_SHA384_ASN1,
    };
    UnparsedPublicKey::new(algorithm, point)
        .verify(signed, signature)
        .map_err(|_| ReadError::Signature)
}

/// A P-384 key that signs the messages under one data key, and lives as long as that. AWS-LC wipes it.
pub(super) struct SigningKey(EcdsaKeyPair);

/// Bytes of r, of s, and of the group's order.
const SCALAR: usize = 48;

/// As every AWS Encryption SDK writes it, so that a message's length is known before it is signed: of the
/// DER forms of a signature, 101 to 104 bytes mostly, the one length of 103.
pub(super) const SIGNATURE_LEN: usize = 103;

impl SigningKey {
    pub(super) fn generate() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING);
        Self(key.expect("the system's random generator does not fail"))
    }

    /// As it travels in the encryption context.
    pub(super) fn public_key(&self) -> String {
        // 04, x, y: what is compressed has x, and in its first byte whether y is odd.
        let point = self.0.public_key().as_ref();
        let is_odd = point[2 * SCALAR] & 1;
        let mut compressed = point[..=SCALAR].to_vec();
        compressed[0] = 2 | is_odd;
        base64_simd::STANDARD.encode_to_string(compressed)
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        loop {
            let signature = self.0.sign(&SystemRandom::new(), message);
            let signature = signature.expect("the system's random generator does not fail");
            let (scalars, _) = signature.as_ref().as_chunks();
            let [r, s] = scalars else {
                unreachable!("a fixed signature is two scalars");
            };
            // With s, order - s is a signature too, and one of the two is longer by a byte. Of 128 tries,
            // one has scalars too short for both.
            if let Some(der) = der(r, s).or_else(|| der(r, &negated(s))) {
                return der;
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// `None` where it has another length than [`SIGNATURE_LEN`].
fn der(r: &[u8; SCALAR], s: &[u8; SCALAR]) -> Option<[u8; SIGNATURE_LEN]> {
    let mut der = Vec::with_capacity(SIGNATURE_LEN + 1);
    der.extend_from_slice(&[0x30, SIGNATURE_LEN as u8 - 2]);
    for scalar in [r, s] {
        let zeros = scalar.iter().take_while(|byte| **byte == 0).count();
        let digits = &scalar[zeros..];
        // A first bit would say that it is negative.
        let padding: &[u8] = if digits.first()? & 0x80 == 0 {
            &[]
        } else {
            &[0]
        };
        der.extend_from_slice(&[2, (padding.len() + digits.len()) as u8]);
        der.extend_from_slice(padding);
        der.extend_from_slice(digits);
    }
    der.try_into().ok()
}

/// The group's order less `s`, which is below it.
fn negated(s: &[u8; SCALAR]) -> [u8; SCALAR] {
    let mut difference = [0; SCALAR];
    let mut borrow = false;
    for i in (0..SCALAR).rev() {
        let (less, first) = P384_ORDER[i].overflowing_sub(s[i]);
        let (less, second) = less.overflowing_sub(borrow.into());
        difference[i] = less;
        borrow = first || second;
    }
    difference
}

/// SEC 2, 2.5.1.
const P384_ORDER: [u8; SCALAR] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough for scalars of every length, and for both ways to one of 103 bytes.
    #[test]
    fn every_signature_has_one_length_and_verifies() {
        let key = SigningKey::generate();
        let public_key = key.public_key();
        assert_eq!(public_key.len(), 68);
        for message in 0..1000u32 {
            let message = message.to_be_bytes();
            let signature = key.sign(&message);
            let verified = verify(Signature::EcdsaP384, &public_key, &message, &signature);
            assert_eq!(verified, Ok(()), "{signature:02x?}");
            let verified = verify(Signature::EcdsaP384, &public_key, b"other", &signature);
            assert_eq!(verified, Err(ReadError::Signature));
        }
    }

    #[test]
    fn twice_negated_is_the_same() {
        let s = std::array::from_fn(|i| i as u8);
        assert_ne!(negated(&s), s);
        assert_eq!(negated(&negated(&s)), s);
    }
}
