//! The one authenticated cipher interface, and the two implementations behind it.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes192;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

pub(crate) const IV_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;

pub(crate) type Iv = [u8; IV_LEN];
pub(crate) type Tag = [u8; TAG_LEN];

/// The tag does not match: wrong key, wrong associated data, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tampered;

/// AES-GCM with a 12-byte IV and a 16-byte tag, in place.
pub(crate) trait Aead {
    fn seal(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8]) -> Tag;

    /// On an error, `in_out` holds nothing of the plaintext.
    fn open(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8], tag: &Tag) -> Result<(), Tampered>;
}

/// Whose AES-GCM writes messages. All write the same bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Whichever is faster.
    #[default]
    Auto,
    /// The `aes-gcm` crate: Rust, and no allocation.
    AesGcm,
    /// AWS-LC, through the `aws-lc-rs` crate: assembly. Allocates each key, and wipes it as it is freed.
    AwsLc,
}

impl Backend {
    pub(super) fn is_aws_lc(self) -> bool {
        match self {
            // Measured faster at every size from 50 B to 50 KiB (`benches/seal.rs`).
            Self::Auto | Self::AwsLc => true,
            Self::AesGcm => false,
        }
    }
}

/// The writer's cipher, without a pointer in between.
pub(super) fn aes_256_gcm(key: &[u8; 32]) -> impl Aead + use<> {
    Aes256Gcm::new(key.into())
}

/// By the key's length: 16, 24 or 32 bytes, or `None`.
pub(crate) fn aes_gcm(key: &[u8]) -> Option<Box<dyn Aead>> {
    Some(match key.len() {
        16 => Box::new(Aes128Gcm::new_from_slice(key).ok()?),
        24 => Box::new(AesGcm::<Aes192, U12>::new_from_slice(key).ok()?),
        32 => Box::new(Aes256Gcm::new_from_slice(key).ok()?),
        _ => return None,
    })
}

impl<C: AeadInOut<NonceSize = U12, TagSize = U16>> Aead for C {
    fn seal(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8]) -> Tag {
        self.encrypt_inout_detached(iv.into(), aad, InOutBuf::from(in_out))
            .expect("a frame is shorter than AES-GCM's 64 GiB")
            .into()
    }

    fn open(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8], tag: &Tag) -> Result<(), Tampered> {
        self.decrypt_inout_detached(iv.into(), aad, InOutBuf::from(in_out), tag.into())
            .map_err(|_| Tampered)
    }
}

/// AES-256-GCM of AWS-LC.
pub(super) struct AwsLc(LessSafeKey);

impl AwsLc {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are the length of its key");
        Self(LessSafeKey::new(key))
    }
}

impl Aead for AwsLc {
    fn seal(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8]) -> Tag {
        let nonce = Nonce::assume_unique_for_key(*iv);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), in_out);
        let tag = tag.expect("a frame is shorter than AES-GCM's 64 GiB");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    fn open(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8], tag: &Tag) -> Result<(), Tampered> {
        let nonce = Nonce::assume_unique_for_key(*iv);
        let opened = self
            .0
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, &mut *in_out);
        if opened.is_err() {
            // What it leaves behind is unspecified.
            in_out.zeroize();
            return Err(Tampered);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_backends_give_the_same_bytes(
            key in any::<[u8; 32]>(),
            iv in any::<Iv>(),
            aad in prop::collection::vec(any::<u8>(), 0..600),
            text in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let (rust, assembly) = (aes_256_gcm(&key), AwsLc::new(&key));
            let (mut one, mut other) = (text.clone(), text.clone());
            let tag = rust.seal(&iv, &aad, &mut one);
            prop_assert_eq!(assembly.seal(&iv, &aad, &mut other), tag);
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(assembly.open(&iv, &aad, &mut other, &tag), Ok(()));
            prop_assert_eq!(other, text);
        }

        #[test]
        fn neither_backend_leaves_plaintext_behind_a_wrong_tag(
            text in prop::collection::vec(1u8.., 16..600),
        ) {
            let backends: [&dyn Aead; 2] = [&aes_256_gcm(&[7; 32]), &AwsLc::new(&[7; 32])];
            for backend in backends {
                let mut in_out = text.clone();
                let mut tag = backend.seal(&[0; IV_LEN], b"", &mut in_out);
                tag[0] ^= 1;
                let opened = backend.open(&[0; IV_LEN], b"", &mut in_out, &tag);
                prop_assert_eq!(opened, Err(Tampered));
                prop_assert_ne!(&in_out, &text);
            }
        }
    }
}
