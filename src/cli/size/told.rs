//! Lengths that need no key: of messages, of what fits, of what KMS would answer.

use crate::aggregate::format::{ENVELOPE, Layout};
use crate::record::{HashKey, PartitionKey};
use crate::seal::message::{EncryptionContext, Settings, Suite};

/// How long messages are.
#[derive(Debug)]
pub(super) struct Sizes {
    pub(super) settings: Settings,
    pub(super) context: EncryptionContext,
    pub(super) keys_len: usize,
}

impl Sizes {
    pub(super) fn sealed(&self, plaintext: usize) -> usize {
        self.settings
            .sealed_len(&self.context, self.keys_len, plaintext)
    }

    /// The longest plaintext whose message has at most `limit` bytes; `None` where not even none fits.
    pub(super) fn longest(&self, limit: usize) -> Option<usize> {
        let too_long = |plaintext: usize| self.sealed(plaintext) > limit;
        if too_long(0) {
            return None;
        }
        let (mut fits, mut exceeds) = (0, limit + 1);
        while exceeds - fits > 1 {
            let middle = fits + (exceeds - fits) / 2;
            match too_long(middle) {
                true => exceeds = middle,
                false => fits = middle,
            }
        }
        Some(fits)
    }
}

/// A partition key, the shortest that the service takes.
pub(super) const KEY: &str = "0";

/// What a lone record may have, where its block may have `block` bytes.
pub(super) fn longest_in_block(block: usize) -> Option<usize> {
    let key = PartitionKey::new(KEY).expect("a key of one character");
    let packed = |length| Layout::new().wire_len_with(&key, Some(HashKey::MAX), length) - ENVELOPE;
    // What packing adds is some dozens of bytes.
    (block.saturating_sub(100)..=block)
        .rev()
        .find(|length| packed(*length) <= block)
}

/// Ciphertext of a data key under a symmetric KMS key. Not documented; what the service answers, and its
/// blobs have had these lengths for years.
pub(super) fn kms_blob_len(suite: Suite) -> usize {
    match suite.key_len() {
        16 => 168,
        24 => 176,
        _ => 184,
    }
}

/// Messages name the key by its ARN, whatever name it was asked for by; ids all have 36 characters, those of
/// several regions too.
pub(super) fn key_arn_len(key: &str) -> Option<usize> {
    let (place, _) = key.rsplit_once(':').filter(|_| key.starts_with("arn:"))?;
    Some(place.len() + ":key/".len() + 36)
}

/// What an id or an alias stands for, in every letter but the account's and the id's, which all have as many.
pub(super) fn some_key_arn(region: &str) -> String {
    // https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
    let partitions = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("eusc-", "aws-eusc"),
    ];
    let found = partitions
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix));
    let partition = found.map_or("aws", |(_, partition)| partition);
    format!("arn:{partition}:kms:{region}:123456789012:key/00000000-0000-0000-0000-000000000000")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::message::Encoding;

    fn sizes(encoding: Encoding) -> Sizes {
        Sizes {
            settings: Settings {
                encoding,
                ..Settings::default()
            },
            context: EncryptionContext::from([("app".to_owned(), "shop".to_owned())]),
            keys_len: 272,
        }
    }

    #[test]
    fn the_longest_that_fits_is_the_last_that_fits() {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let sizes = sizes(encoding);
            for limit in [700, 4096, 9000, (1 << 20) - 1] {
                let longest = sizes.longest(limit).expect("it fits");
                assert!(sizes.sealed(longest) <= limit);
                assert!(sizes.sealed(longest + 1) > limit, "{limit}");
            }
            assert_eq!(sizes.longest(100), None);
        }
    }

    #[test]
    fn a_lone_record_fills_its_block() {
        let key = PartitionKey::new(KEY).expect("a key of one character");
        let packed =
            |length| Layout::new().wire_len_with(&key, Some(HashKey::MAX), length) - ENVELOPE;
        for block in [200, 20_000, 1 << 20] {
            let longest = longest_in_block(block).expect("it fits");
            assert!(packed(longest) <= block && packed(longest + 1) > block);
        }
    }

    #[test]
    fn an_alias_in_an_arn_is_as_long_as_its_key() {
        let id = "0123abcd-0123-0123-0123-0123456789ab";
        let key = format!("arn:aws:kms:eu-west-1:111122223333:key/{id}");
        assert_eq!(key_arn_len(&key), Some(key.len()));
        assert_eq!(some_key_arn("eu-west-1").len(), key.len());
        assert!(some_key_arn("cn-north-1").starts_with("arn:aws-cn:kms:cn-north-1:"));
        let alias = "arn:aws:kms:eu-west-1:111122223333:alias/a/b";
        assert_eq!(key_arn_len(alias), Some(key.len()));
        assert_eq!(key_arn_len("alias/shop"), None);
    }
}
