//! ECDSA signatures of version 1 and 2 messages: verification only.
//!
//! The public key travels in the encryption context, where the data key's wrapping and the header tag
//! authenticate it: base64 of the compressed point. Source: `framework/default-cmm.md` and
//! `data-format/message-footer.md`.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};

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
