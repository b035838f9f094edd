//! The encryption context: what it may hold, and its bytes.
//!
//! Source: `framework/structures.md`, "Encryption context", and `data-format/message-header.md`, "AAD".

use std::collections::BTreeMap;

/// Pairs that are authenticated, and stored in clear beside each ciphertext. `String`s order by their
/// UTF-8 bytes, which is the order of the format.
pub type EncryptionContext = BTreeMap<String, String>;

/// The signature's public key travels under this key.
pub(super) const PUBLIC_KEY: &str = "aws-crypto-public-key";

/// Keys with this beginning belong to the format.
const RESERVED_PREFIX: &str = "aws-crypto-";

/// The length field has two bytes.
const MAX_SERIALIZED: usize = u16::MAX as usize;

/// Why a context can not be used for writing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    #[error(
        "encryption context key \"{key}\" is reserved: keys that begin with \"aws-crypto-\" belong to \
         the AWS Encryption SDK; choose another name"
    )]
    Reserved { key: String },
    #[error(
        "encryption context takes {found} bytes, and {allowed} are allowed{}: use fewer or shorter pairs",
        beside(*allowed)
    )]
    TooLong { found: usize, allowed: usize },
}

fn beside(allowed: usize) -> &'static str {
    match allowed {
        MAX_SERIALIZED => "",
        _ => " beside the pairs that suite and scope add",
    }
}

/// Whether a user may ask for this context, where pairs of `added` bytes are added to it.
pub(super) fn check_context(context: &EncryptionContext, added: usize) -> Result<(), ContextError> {
    if let Some(key) = context.keys().find(|key| key.starts_with(RESERVED_PREFIX)) {
        return Err(ContextError::Reserved { key: key.clone() });
    }
    let found = serialized_len(context);
    let allowed = MAX_SERIALIZED.saturating_sub(added);
    if found > allowed {
        return Err(ContextError::TooLong { found, allowed });
    }
    Ok(())
}

/// Whether a context fits into a message.
pub(crate) fn check_length(context: &EncryptionContext) -> Result<(), ContextError> {
    let found = serialized_len(context);
    if found > MAX_SERIALIZED {
        let allowed = MAX_SERIALIZED;
        return Err(ContextError::TooLong { found, allowed });
    }
    Ok(())
}

/// Bytes that [`serialize_pairs`] writes.
pub(super) fn serialized_len(context: &EncryptionContext) -> usize {
    if context.is_empty() {
        return 0;
    }
    let pairs = context.iter().map(|(k, v)| pair_len(k, v));
    2 + pairs.sum::<usize>()
}

/// Two strings, each with its length.
pub(super) fn pair_len(key: &str, value: &str) -> usize {
    4 + key.len() + value.len()
}

/// Count and pairs, without the header's outer length; nothing for an empty context. This is also the
/// AAD of a raw AES wrapped key, and what required pairs add to the header tag's AAD.
///
/// The context must have been checked, or have been read from a message: its lengths fit.
pub(crate) fn serialize_pairs(context: &EncryptionContext, out: &mut Vec<u8>) {
    if context.is_empty() {
        return;
    }
    out.reserve(serialized_len(context));
    out.extend_from_slice(&length_field(context.len()));
    for (key, value) in context {
        for text in [key, value] {
            out.extend_from_slice(&length_field(text.len()));
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// The header's AAD field: [`serialize_pairs`] with its length in front.
pub(super) fn serialize_field(context: &EncryptionContext, out: &mut Vec<u8>) {
    out.extend_from_slice(&length_field(serialized_len(context)));
    serialize_pairs(context, out);
}

fn length_field(len: usize) -> [u8; 2] {
    u16::try_from(len)
        .expect("a checked context has at most 65535 bytes")
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_written_in_the_order_of_their_utf8_bytes() {
        // In UTF-16 order, the astral character would come first.
        let context = EncryptionContext::from(
            [("\u{1d401}", "2"), ("\u{ffee}", "1")].map(|(k, v)| (k.into(), v.into())),
        );
        let mut bytes = Vec::new();
        serialize_field(&context, &mut bytes);
        assert_eq!(
            bytes,
            b"\0\x13\0\x02\0\x03\xef\xbf\xae\0\x011\0\x04\xf0\x9d\x90\x81\0\x012"
        );
    }

    #[test]
    fn an_empty_context_is_a_zero_length() {
        let mut bytes = Vec::new();
        serialize_field(&EncryptionContext::new(), &mut bytes);
        assert_eq!(bytes, [0, 0]);
    }

    #[test]
    fn reserved_and_oversized_contexts_are_refused() {
        let one = |key: &str, value: String| EncryptionContext::from([(key.to_owned(), value)]);
        assert_eq!(
            check_context(&one("aws-crypto-x", String::new()), 0),
            Err(ContextError::Reserved {
                key: "aws-crypto-x".into()
            })
        );
        for added in [0, 93] {
            let allowed = 65_535 - added;
            let of = |bytes: usize| one("k", "v".repeat(bytes - 7));
            assert_eq!(check_context(&of(allowed), added), Ok(()));
            let found = allowed + 1;
            let error = check_context(&of(found), added).unwrap_err();
            assert_eq!(error, ContextError::TooLong { found, allowed });
            let words = error.to_string();
            assert!(words.contains(&format!("{allowed} are allowed")), "{words}");
        }
    }
}
