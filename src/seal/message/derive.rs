//! From a data key to a version 1 message's own key, which is for old readers, on the `hkdf` crate. Version 2's, which the
//! writer lives on, is the crate `hkdf-lanes`.
//!
//! The extract has no salt of the message's own, so it is done once for a data key; what is left for each message is two
//! compressions, where version 2 has ten.
//!
//! Source: `framework/algorithm-suites.md`, "Key derivation". HKDF is RFC 5869.

use hkdf::Hkdf;
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use super::suite::{Kdf, Suite};

/// The message id is part of the info. As long as the suite says.
pub(super) fn uncommitted(suite: Suite, data_key: &[u8], message_id: &[u8]) -> Zeroizing<Vec<u8>> {
    if !suite.derives_key() {
        return Zeroizing::new(data_key.to_owned());
    }
    let mut key = Zeroizing::new(vec![0; suite.key_len()]);
    Extracted::new(suite, data_key).expand(message_id, &mut key);
    key
}

/// A data key after its extract.
pub(super) struct Extracted {
    suite: Suite,
    key: Extract,
}

enum Extract {
    Sha256(Hkdf<Sha256>),
    Sha384(Hkdf<Sha384>),
}

impl Extracted {
    /// Of a suite of version 1 that derives keys.
    pub(super) fn new(suite: Suite, data_key: &[u8]) -> Self {
        // No salt: one hash length of zeros, says RFC 5869, and so does the specification.
        let key = match suite.kdf() {
            Kdf::HkdfSha256 => Extract::Sha256(Hkdf::new(None, data_key)),
            Kdf::HkdfSha384 => Extract::Sha384(Hkdf::new(None, data_key)),
            Kdf::Identity | Kdf::HkdfSha512 => unreachable!("not derived in version 1: {suite}"),
        };
        Self { suite, key }
    }

    /// The key of the message of this id. As long as `key`, which is as long as the suite says.
    pub(super) fn expand(&self, message_id: &[u8], key: &mut [u8]) {
        let id = self.suite.id().to_be_bytes();
        let info: [&[u8]; 2] = [&id, message_id];
        match &self.key {
            Extract::Sha256(hkdf) => hkdf.expand_multi_info(&info, key),
            Extract::Sha384(hkdf) => hkdf.expand_multi_info(&info, key),
        }
        .expect("HKDF gives up to 255 hash lengths, and a key is shorter than one");
    }
}
