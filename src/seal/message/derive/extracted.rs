//! Version 1's key derivation, on the `hkdf` crate. Its extract has no salt of the message's own, so it is
//! done once for a data key; what is left for each message costs a twentieth of version 2's.

use hkdf::Hkdf;
use sha2::{Sha256, Sha384};

use crate::seal::message::suite::{Kdf, Suite};

/// A data key after its extract.
pub(in super::super) struct Extracted {
    suite: Suite,
    key: Extract,
}

enum Extract {
    Sha256(Hkdf<Sha256>),
    Sha384(Hkdf<Sha384>),
}

impl Extracted {
    /// Of a suite of version 1 that derives keys.
    pub(in super::super) fn new(suite: Suite, data_key: &[u8]) -> Self {
        // No salt: one hash length of zeros, says RFC 5869, and so does the specification.
        let key = match suite.kdf() {
            Kdf::HkdfSha256 => Extract::Sha256(Hkdf::new(None, data_key)),
            Kdf::HkdfSha384 => Extract::Sha384(Hkdf::new(None, data_key)),
            Kdf::Identity | Kdf::HkdfSha512 => unreachable!("not derived in version 1: {suite}"),
        };
        Self { suite, key }
    }

    /// The key of the message of this id. As long as `key`, which is as long as the suite says.
    pub(in super::super) fn expand(&self, message_id: &[u8], key: &mut [u8]) {
        let id = self.suite.id().to_be_bytes();
        let info: [&[u8]; 2] = [&id, message_id];
        match &self.key {
            Extract::Sha256(hkdf) => hkdf.expand_multi_info(&info, key),
            Extract::Sha384(hkdf) => hkdf.expand_multi_info(&info, key),
        }
        .expect(super::SHORT);
    }
}
