//! How a message lies in a record: as it is, or as text.
//!
//! The text is standard base64 with padding and no line breaks: what the AWS Encryption SDK for Java makes
//! with `encryptString` and reads with `decryptString`.

use bytes::Bytes;

use super::header::looks_sealed;

/// The form in which messages are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    #[default]
    Binary,
    /// A third longer.
    Base64,
}

impl Encoding {
    /// Bytes of a message of so many, encoded.
    pub fn encoded_len(self, message: usize) -> usize {
        match self {
            Self::Binary => message,
            Self::Base64 => base64_simd::STANDARD.encoded_length(message),
        }
    }
}

/// The message that a record is, in either form; `None` where it begins like none. Says nothing about the
/// rest. Binary messages are not copied.
pub fn message_in(record: &Bytes) -> Option<Bytes> {
    if looks_sealed(record) {
        return Some(record.clone());
    }
    // 01 80, 02 04 78, 02 05 78.
    let text_begins = [&b"AYA"[..], b"AgR4", b"AgV4"];
    if !text_begins.iter().any(|begin| record.starts_with(begin)) {
        return None;
    }
    // Whoever put it there by hand may have ended it with a newline, and `base64` breaks lines.
    let is_broken = record.iter().any(u8::is_ascii_whitespace);
    let message = match is_broken {
        false => base64_simd::STANDARD.decode_to_vec(record),
        true => {
            let text = record.iter().copied();
            let text: Vec<u8> = text.filter(|b| !b.is_ascii_whitespace()).collect();
            base64_simd::STANDARD.decode_to_vec(text)
        }
    };
    let message = message.ok()?;
    looks_sealed(&message).then(|| message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::message::Suite;

    fn begin(suite: Suite) -> Vec<u8> {
        let [high, low] = suite.id().to_be_bytes();
        match suite.commits() {
            true => vec![2, high, low, 7, 7],
            false => vec![1, 0x80, high, low, 7],
        }
    }

    #[test]
    fn messages_of_all_suites_are_recognised_in_both_forms() {
        for suite in (0..=u16::MAX).filter_map(Suite::from_id) {
            let message = Bytes::from(begin(suite));
            let text = base64_simd::STANDARD.encode_to_string(&message);
            assert_eq!(text.len(), Encoding::Base64.encoded_len(message.len()));
            assert_eq!(message_in(&message), Some(message.clone()), "{suite}");
            let broken = format!("{}\r\n{}\n", &text[..4], &text[4..]);
            assert_eq!(message_in(&text.into()), Some(message.clone()), "{suite}");
            assert_eq!(message_in(&broken.into()), Some(message), "{suite}");
        }
    }

    #[test]
    fn text_that_only_begins_alike_is_none() {
        for text in ["AYA", "AYAh, so", "AgR4AgR4!", "AgR5AAAA", "AYB4AAAA"] {
            assert_eq!(message_in(&Bytes::from(text)), None, "{text}");
        }
    }
}
