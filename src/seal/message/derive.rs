//! From a data key to a version 1 message's own key, which is for old readers, on the `hkdf` crate. Version 2's, which the
//! writer lives on, is the crate `hkdf-lanes`.
//!
//! Source: `framework/algorithm-suites.md`, "Key derivation". HKDF is RFC 5869.

mod extracted;

use zeroize::Zeroizing;

pub(super) use self::extracted::Extracted;
use super::suite::Suite;

/// The message id is part of the info. As long as the suite says.
pub(super) fn uncommitted(suite: Suite, data_key: &[u8], message_id: &[u8]) -> Zeroizing<Vec<u8>> {
    if !suite.derives_key() {
        return Zeroizing::new(data_key.to_owned());
    }
    let mut key = Zeroizing::new(vec![0; suite.key_len()]);
    Extracted::new(suite, data_key).expand(message_id, &mut key);
    key
}

const SHORT: &str = "HKDF gives up to 255 hash lengths, and a key is shorter than one";
