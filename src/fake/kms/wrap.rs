//! What lies in a ciphertext blob: 152 bytes more than the plaintext, as with AWS, whose layout is not public.
//!
//! `magic 5 | key id 16 | material id 32 | padding 71 | nonce 12 | ciphertext | tag 16`, AES-256-GCM; all that
//! stands before the ciphertext is authenticated, and with it the encryption context.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use sha2::{Digest, Sha256};

use crate::hex::to_hex;

/// Blobs of AWS begin with "AQIC" in base64, which people know by sight.
const MAGIC: [u8; 5] = [1, 2, 2, 0, 0x78];
const KEY_ID: std::ops::Range<usize> = 5..21;
const NONCE: std::ops::Range<usize> = 124..136;
const HEADER: usize = 136;
const TAG: usize = 16;
/// A wrapped 256-bit key has 184 bytes.
#[cfg(test)]
const OVERHEAD: usize = HEADER + TAG;

pub(crate) struct KeyMaterial {
    cipher: Aes256Gcm,
    key_id: [u8; 16],
    material_id: [u8; 32],
    multi_region: bool,
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyMaterial")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl KeyMaterial {
    pub(crate) fn generate() -> Self {
        let secret: [u8; 32] = rand::random();
        let mut key_id: [u8; 16] = rand::random();
        // A version 4 UUID.
        key_id[6] = key_id[6] & 0x0f | 0x40;
        key_id[8] = key_id[8] & 0x3f | 0x80;
        Self {
            cipher: Aes256Gcm::new(&secret.into()),
            key_id,
            material_id: Sha256::digest(key_id).into(),
            multi_region: false,
        }
    }

    /// For a key and its replicas.
    pub(crate) fn generate_multi_region() -> Self {
        Self {
            multi_region: true,
            ..Self::generate()
        }
    }

    pub(crate) fn is_multi_region(&self) -> bool {
        self.multi_region
    }

    /// 36 characters in either form.
    pub(crate) fn key_id(&self) -> String {
        if self.multi_region {
            format!("mrk-{}", to_hex(&self.key_id))
        } else {
            uuid(self.key_id)
        }
    }

    /// 64 hex digits, as in `KeyMaterialId`.
    pub(crate) fn id(&self) -> String {
        to_hex(&self.material_id)
    }

    pub(crate) fn wrap(&self, plaintext: &[u8], context: &BTreeMap<String, String>) -> Vec<u8> {
        let mut blob = Vec::with_capacity(HEADER + plaintext.len() + TAG);
        blob.extend_from_slice(&MAGIC);
        blob.extend_from_slice(&self.key_id);
        blob.extend_from_slice(&self.material_id);
        blob.extend_from_slice(&random_bytes(NONCE.start - blob.len()));
        let nonce: [u8; 12] = rand::random();
        blob.extend_from_slice(&nonce);
        let payload = Payload {
            msg: plaintext,
            aad: &authenticated(&blob, context),
        };
        let sealed = self.cipher.encrypt(&nonce.into(), payload);
        blob.extend_from_slice(&sealed.expect("AES-GCM refuses only messages of 64 GiB and more"));
        blob
    }

    /// Whether a blob says so.
    pub(crate) fn made(&self, blob: &[u8]) -> bool {
        blob.len() >= HEADER + TAG && blob.starts_with(&MAGIC) && blob[KEY_ID] == self.key_id
    }

    pub(crate) fn unwrap(
        &self,
        blob: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Option<Vec<u8>> {
        let (header, sealed) = blob.split_at_checked(HEADER)?;
        let nonce: [u8; 12] = header[NONCE].try_into().ok()?;
        let payload = Payload {
            msg: sealed,
            aad: &authenticated(header, context),
        };
        self.cipher.decrypt(&nonce.into(), payload).ok()
    }
}

pub(crate) fn random_bytes(n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    rand::fill(&mut bytes[..]);
    bytes
}

/// Lengths before the strings, so that no two contexts give the same bytes; a map is sorted already.
fn authenticated(header: &[u8], context: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = header.to_vec();
    for part in context.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex = to_hex(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_152_bytes_more_than_what_it_holds() {
        assert_eq!(OVERHEAD, 152);
        let key = KeyMaterial::generate();
        for (plain, blob) in [(32, 184), (16, 168), (1, 153), (4096, 4248)] {
            assert_eq!(key.wrap(&vec![7; plain], &BTreeMap::new()).len(), blob);
        }
    }

    #[test]
    fn a_changed_byte_anywhere_does_not_open() {
        let key = KeyMaterial::generate();
        let context = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
        let blob = key.wrap(&[7; 32], &context);
        assert_eq!(key.unwrap(&blob, &context), Some(vec![7; 32]));
        for index in 0..blob.len() {
            let mut tampered = blob.clone();
            tampered[index] ^= 1;
            assert_eq!(key.unwrap(&tampered, &context), None, "byte {index}");
        }
    }

    #[test]
    fn contexts_that_read_alike_are_not_alike() {
        let key = KeyMaterial::generate();
        let context = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let blob = key.wrap(&[7; 32], &context(&[("ab", "c")]));
        for other in [
            &[][..],
            &[("a", "bc")],
            &[("ab", "c"), ("", "")],
            &[("ab", "C")],
        ] {
            assert_eq!(key.unwrap(&blob, &context(other)), None, "{other:?}");
        }
    }
}
