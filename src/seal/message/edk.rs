//! A data key as it travels in a message.

use bytes::Bytes;

/// A data key, wrapped, with the name of what wrapped it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EncryptedDataKey {
    /// `aws-kms`, or the namespace of a raw wrapping key.
    pub provider: String,
    /// The KMS key's ARN, or what the raw wrapping key needs.
    pub info: Bytes,
    pub ciphertext: Bytes,
}

impl EncryptedDataKey {
    /// The provider id of a key that KMS wrapped.
    pub const KMS: &str = "aws-kms";

    /// The wrapping key's name, for messages to people: the ARN of a KMS key, `namespace/name` of a raw one. A
    /// stranger may have written it: it is cut where it is longer than any key's name, and holds no control
    /// characters.
    pub fn wrapping_key(&self) -> String {
        if self.provider == Self::KMS {
            return printable(&self.info);
        }
        // A raw AES key's info ends with tag length, IV length and IV.
        let name = self.info.len().saturating_sub(20);
        let provider = printable(self.provider.as_bytes());
        format!("{provider}/{}", printable(&self.info[..name]))
    }
}

/// An ARN of KMS has up to some 120 characters.
const LONGEST_NAME: usize = 256;

fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(4 * LONGEST_NAME)]);
    let mut shown = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == LONGEST_NAME {
            shown.push('…');
            break;
        }
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_name_is_short_and_stays_on_its_line() {
        let edk = |provider: &str, info: Vec<u8>| EncryptedDataKey {
            provider: provider.to_owned(),
            info: info.into(),
            ciphertext: Bytes::new(),
        };
        let long = edk(EncryptedDataKey::KMS, vec![b'a'; 65_535]).wrapping_key();
        assert_eq!(long, format!("{}…", "a".repeat(LONGEST_NAME)));
        let name = edk("shop\n", [&b"\x1b[2Jkey"[..], &[0; 20]].concat());
        assert_eq!(name.wrapping_key(), "shop\\n/\\u{1b}[2Jkey");
    }
}
