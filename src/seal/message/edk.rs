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

    /// The wrapping key's name, for messages: the ARN of a KMS key, `namespace/name` of a raw one.
    pub fn wrapping_key(&self) -> String {
        if self.provider == Self::KMS {
            return String::from_utf8_lossy(&self.info).into_owned();
        }
        // A raw AES key's info ends with tag length, IV length and IV.
        let name = self.info.len().saturating_sub(20);
        let name = String::from_utf8_lossy(&self.info[..name]);
        format!("{}/{name}", self.provider)
    }
}
