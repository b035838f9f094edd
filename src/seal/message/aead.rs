//! The one authenticated cipher interface, and the two implementations behind it.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes192;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit};
use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
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

    /// To a place as long as the ciphertext. On an error, it holds nothing of the plaintext.
    fn open_to(
        &self,
        iv: &Iv,
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Tampered> {
        plaintext.copy_from_slice(ciphertext);
        self.open(iv, aad, plaintext, tag)
    }
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
            // Measured faster at every size from 200 B to 50 KiB, both ways (`benches/seal/main.rs`).
            Self::Auto | Self::AwsLc => true,
            Self::AesGcm => false,
        }
    }
}

/// AES-GCM under one key. By value: a message has a key of its own, and boxing it would be an allocation for
/// each.
pub(crate) enum Cipher {
    Aes128(Aes128Gcm),
    Aes192(AesGcm<Aes192, U12>),
    Aes256(Aes256Gcm),
    AwsLc(AwsLc),
}

impl Cipher {
    /// By the key's length: 16, 24 or 32 bytes, or `None`.
    pub(crate) fn new(backend: Backend, key: &[u8]) -> Option<Self> {
        if backend.is_aws_lc() {
            return AwsLc::of_length(key).map(Self::AwsLc);
        }
        Some(match key.len() {
            16 => Self::Aes128(Aes128Gcm::new_from_slice(key).ok()?),
            24 => Self::Aes192(AesGcm::new_from_slice(key).ok()?),
            32 => Self::Aes256(Aes256Gcm::new_from_slice(key).ok()?),
            _ => return None,
        })
    }
}

impl Aead for Cipher {
    fn seal(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8]) -> Tag {
        match self {
            Self::Aes128(cipher) => cipher.seal(iv, aad, in_out),
            Self::Aes192(cipher) => cipher.seal(iv, aad, in_out),
            Self::Aes256(cipher) => cipher.seal(iv, aad, in_out),
            Self::AwsLc(cipher) => cipher.seal(iv, aad, in_out),
        }
    }

    fn open(&self, iv: &Iv, aad: &[u8], in_out: &mut [u8], tag: &Tag) -> Result<(), Tampered> {
        match self {
            Self::Aes128(cipher) => cipher.open(iv, aad, in_out, tag),
            Self::Aes192(cipher) => cipher.open(iv, aad, in_out, tag),
            Self::Aes256(cipher) => cipher.open(iv, aad, in_out, tag),
            Self::AwsLc(cipher) => cipher.open(iv, aad, in_out, tag),
        }
    }

    fn open_to(
        &self,
        iv: &Iv,
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Tampered> {
        match self {
            Self::Aes128(cipher) => cipher.open_to(iv, aad, ciphertext, tag, plaintext),
            Self::Aes192(cipher) => cipher.open_to(iv, aad, ciphertext, tag, plaintext),
            Self::Aes256(cipher) => cipher.open_to(iv, aad, ciphertext, tag, plaintext),
            Self::AwsLc(cipher) => cipher.open_to(iv, aad, ciphertext, tag, plaintext),
        }
    }
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

/// AES-GCM of AWS-LC.
pub(crate) struct AwsLc(LessSafeKey);

impl AwsLc {
    fn of_length(key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        let key = UnboundKey::new(algorithm, key).expect("the algorithm of the key's length");
        Some(Self(LessSafeKey::new(key)))
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

    fn open_to(
        &self,
        iv: &Iv,
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Tampered> {
        let nonce = Nonce::assume_unique_for_key(*iv);
        let opened = self
            .0
            .open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext);
        if opened.is_err() {
            // What it leaves behind is unspecified.
            plaintext.zeroize();
        }
        opened.map_err(|_| Tampered)
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

    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        prop::sample::select(vec![16, 24, 32])
            .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
    }

    fn both(key: &[u8]) -> [Cipher; 2] {
        [Backend::AesGcm, Backend::AwsLc]
            .map(|backend| Cipher::new(backend, key).expect("a key's length"))
    }

    #[test]
    fn a_key_of_another_length_makes_no_cipher() {
        for backend in [Backend::Auto, Backend::AesGcm, Backend::AwsLc] {
            for len in [0, 15, 17, 31, 33] {
                assert!(Cipher::new(backend, &vec![7; len]).is_none(), "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn both_backends_give_the_same_bytes(
            key in any_key(),
            iv in any::<Iv>(),
            aad in prop::collection::vec(any::<u8>(), 0..600),
            text in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let [rust, assembly] = both(&key);
            let (mut one, mut other) = (text.clone(), text.clone());
            let tag = rust.seal(&iv, &aad, &mut one);
            prop_assert_eq!(assembly.seal(&iv, &aad, &mut other), tag);
            prop_assert_eq!(&one, &other);
            for backend in [&rust, &assembly] {
                let mut opened = vec![0; text.len()];
                prop_assert_eq!(backend.open_to(&iv, &aad, &one, &tag, &mut opened), Ok(()));
                prop_assert_eq!(&opened, &text);
            }
            prop_assert_eq!(assembly.open(&iv, &aad, &mut other, &tag), Ok(()));
            prop_assert_eq!(&other, &text);
            prop_assert_eq!(rust.open(&iv, &aad, &mut one, &tag), Ok(()));
            prop_assert_eq!(&one, &text);
        }

        #[test]
        fn neither_backend_leaves_plaintext_behind_a_wrong_tag(
            key in any_key(),
            text in prop::collection::vec(1u8.., 16..600),
        ) {
            for backend in both(&key) {
                let mut in_out = text.clone();
                let mut tag = backend.seal(&[0; IV_LEN], b"", &mut in_out);
                tag[0] ^= 1;
                let opened = backend.open(&[0; IV_LEN], b"", &mut in_out, &tag);
                prop_assert_eq!(opened, Err(Tampered));
                prop_assert_ne!(&in_out, &text);
                let mut elsewhere = vec![0; text.len()];
                let opened = backend.open_to(&[0; IV_LEN], b"", &in_out, &tag, &mut elsewhere);
                prop_assert_eq!(opened, Err(Tampered));
                prop_assert_ne!(&elsewhere, &text);
            }
        }
    }
}
