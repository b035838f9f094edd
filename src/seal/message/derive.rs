//! From a data key to a message's own key.
//!
//! Source: `framework/algorithm-suites.md`, "Key derivation" and "Key commitment". HKDF is RFC 5869.

use hkdf::Hkdf;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::suite::{Kdf, Suite};

pub(super) const COMMITMENT_LEN: usize = 32;

/// What a version 2 message is made with.
pub(super) struct Committed {
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) commitment: [u8; COMMITMENT_LEN],
}

/// Version 2: one extract, salted with the message id, gives the key and the commitment.
pub(super) fn committed(suite: Suite, data_key: &[u8], message_id: &[u8]) -> Committed {
    let hkdf = Hkdf::<Sha512>::new(Some(message_id), data_key);
    let mut derived = Committed {
        key: Zeroizing::new([0; 32]),
        commitment: [0; COMMITMENT_LEN],
    };
    hkdf.expand_multi_info(
        &[&suite.id().to_be_bytes(), b"DERIVEKEY"],
        &mut derived.key[..],
    )
    .expect(SHORT);
    hkdf.expand(b"COMMITKEY", &mut derived.commitment)
        .expect(SHORT);
    derived
}

/// Version 1: the message id is part of the info; the salt is one hash length of zeros, which is also what
/// HKDF takes where there is none. As long as the suite says.
pub(super) fn uncommitted(suite: Suite, data_key: &[u8], message_id: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(vec![0; suite.key_len()]);
    let id = suite.id().to_be_bytes();
    let info: [&[u8]; 2] = [&id, message_id];
    match suite.kdf() {
        Kdf::Identity => {
            key.clear();
            key.extend_from_slice(data_key);
            return key;
        }
        Kdf::HkdfSha256 => Hkdf::<Sha256>::new(None, data_key).expand_multi_info(&info, &mut key),
        Kdf::HkdfSha384 => Hkdf::<Sha384>::new(None, data_key).expand_multi_info(&info, &mut key),
        Kdf::HkdfSha512 => Hkdf::<Sha512>::new(None, data_key).expand_multi_info(&info, &mut key),
    }
    .expect(SHORT);
    key
}

const SHORT: &str = "HKDF gives up to 255 hash lengths, and a key is shorter than one";
