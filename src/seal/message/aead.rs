//! The one authenticated cipher interface, so that another implementation can take its place.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aes::Aes192;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, AesGcm, KeyInit};

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
