//! The eleven algorithm suites, as a table.
//!
//! Source: `framework/algorithm-suites.md` of the AWS Encryption SDK specification. All are AES-GCM with a
//! 12-byte IV and a 16-byte tag.

use std::fmt;
use std::str::FromStr;

/// An algorithm suite. Compared by id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Suite {
    id: u16,
    version: Version,
    key_len: usize,
    kdf: Kdf,
    signature: Option<Signature>,
}

/// Of the header. Version 2 commits to its key, version 1 does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// How the message's key comes from the data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kdf {
    /// The data key encrypts as it is.
    Identity,
    HkdfSha256,
    HkdfSha384,
    /// With key commitment; the only one in version 2.
    HkdfSha512,
}

/// ECDSA over header and body, with a public key that travels in the encryption context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    EcdsaP256,
    EcdsaP384,
}

impl Suite {
    /// What is written unless another is asked for: key commitment, no signature.
    pub const COMMITTED: Self = Self::new(0x0478, Version::V2, 32, Kdf::HkdfSha512, None);

    const ALL: [Self; 11] = [
        Self::new(0x0014, Version::V1, 16, Kdf::Identity, None),
        Self::new(0x0046, Version::V1, 24, Kdf::Identity, None),
        Self::new(0x0078, Version::V1, 32, Kdf::Identity, None),
        Self::new(0x0114, Version::V1, 16, Kdf::HkdfSha256, None),
        Self::new(0x0146, Version::V1, 24, Kdf::HkdfSha256, None),
        Self::new(0x0178, Version::V1, 32, Kdf::HkdfSha256, None),
        Self::new(
            0x0214,
            Version::V1,
            16,
            Kdf::HkdfSha256,
            Some(Signature::EcdsaP256),
        ),
        Self::new(
            0x0346,
            Version::V1,
            24,
            Kdf::HkdfSha384,
            Some(Signature::EcdsaP384),
        ),
        Self::new(
            0x0378,
            Version::V1,
            32,
            Kdf::HkdfSha384,
            Some(Signature::EcdsaP384),
        ),
        Self::COMMITTED,
        Self::new(
            0x0578,
            Version::V2,
            32,
            Kdf::HkdfSha512,
            Some(Signature::EcdsaP384),
        ),
    ];

    const fn new(
        id: u16,
        version: Version,
        key_len: usize,
        kdf: Kdf,
        signature: Option<Signature>,
    ) -> Self {
        Self {
            id,
            version,
            key_len,
            kdf,
            signature,
        }
    }

    /// What [`super::Writer`] writes. The others have no key of their own for each message, or keys of 192
    /// bits or P-256 signatures, which no reader asks for.
    pub fn written() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(Self::is_written)
    }

    pub fn is_written(&self) -> bool {
        matches!(self.id, 0x0114 | 0x0178 | 0x0378 | 0x0478 | 0x0578)
    }

    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.id == id)
    }

    pub fn id(&self) -> u16 {
        self.id
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Length of the data key, and of the key derived from it.
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    pub fn signature(&self) -> Option<Signature> {
        self.signature
    }

    /// Whether the message names the one key that opens it.
    pub fn commits(&self) -> bool {
        matches!(self.version, Version::V2)
    }

    /// Whether every message has a key of its own. Without, a data key must never be cached.
    pub fn derives_key(&self) -> bool {
        !matches!(self.kdf, Kdf::Identity)
    }

    pub(super) fn kdf(&self) -> Kdf {
        self.kdf
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self::COMMITTED
    }
}

/// Four hexadecimal digits, as the specification writes the id: `0478`, or `0x0478`.
impl FromStr for Suite {
    type Err = NoSuite;

    fn from_str(text: &str) -> Result<Self, NoSuite> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() != 4 || digits.starts_with('+') {
            return Err(NoSuite);
        }
        let id = u16::from_str_radix(digits, 16).map_err(|_| NoSuite)?;
        Self::from_id(id).ok_or(NoSuite)
    }
}

/// No algorithm suite has this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no algorithm suite of the AWS Encryption SDK has this id")]
pub struct NoSuite;

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Suite({self})")
    }
}

/// The id, as the specification writes it: `0478`.
impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.id)
    }
}

impl Version {
    pub fn message_id_len(self) -> usize {
        match self {
            Self::V1 => 16,
            Self::V2 => 32,
        }
    }
}

/// Which messages a caller accepts and makes: whether they must commit to their key. Without commitment, one
/// message can be made to open to two plaintexts under two keys.
///
/// Source: `framework/commitment-policy.md`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitmentPolicy {
    /// Writes version 1, reads both.
    ForbidEncryptAllowDecrypt,
    /// Writes version 2, reads both.
    #[default]
    RequireEncryptAllowDecrypt,
    /// Version 2 only.
    RequireEncryptRequireDecrypt,
}

impl CommitmentPolicy {
    pub const ALL: [Self; 3] = [
        Self::ForbidEncryptAllowDecrypt,
        Self::RequireEncryptAllowDecrypt,
        Self::RequireEncryptRequireDecrypt,
    ];

    /// As the AWS Encryption SDK's command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ForbidEncryptAllowDecrypt => "forbid-encrypt-allow-decrypt",
            Self::RequireEncryptAllowDecrypt => "require-encrypt-allow-decrypt",
            Self::RequireEncryptRequireDecrypt => "require-encrypt-require-decrypt",
        }
    }

    pub fn may_read(self, suite: Suite) -> bool {
        suite.commits() || self != Self::RequireEncryptRequireDecrypt
    }

    pub fn may_write(self, suite: Suite) -> bool {
        suite.commits() == (self != Self::ForbidEncryptAllowDecrypt)
    }
}

impl fmt::Display for CommitmentPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_read_from_their_ids() {
        assert_eq!("0478".parse(), Ok(Suite::COMMITTED));
        assert_eq!("0x0478".parse(), Ok(Suite::COMMITTED));
        for text in ["", "478", "0479", "+478", "0x478", "04780"] {
            assert_eq!(text.parse::<Suite>(), Err(NoSuite), "{text}");
        }
    }

    #[test]
    fn what_is_written_has_a_key_for_each_message() {
        assert_eq!(Suite::written().count(), 5);
        assert!(Suite::written().all(|suite| suite.derives_key()));
    }

    #[test]
    fn policies_tell_versions_apart() {
        let [forbid, allow, require] = CommitmentPolicy::ALL;
        let (v1, v2) = (Suite::from_id(0x0178).unwrap(), Suite::COMMITTED);
        assert!(forbid.may_write(v1) && !forbid.may_write(v2) && forbid.may_read(v1));
        assert!(!allow.may_write(v1) && allow.may_write(v2) && allow.may_read(v1));
        assert!(!require.may_write(v1) && require.may_write(v2) && !require.may_read(v1));
        assert!(
            CommitmentPolicy::ALL
                .iter()
                .all(|policy| policy.may_read(v2))
        );
    }

    #[test]
    fn ids_are_unique_and_found() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_id(suite.id), Some(suite));
            // The low byte names the key length: 14, 46, 78.
            let expected = match suite.id & 0xff {
                0x14 => 16,
                0x46 => 24,
                _ => 32,
            };
            assert_eq!(suite.key_len, expected, "{suite}");
        }
        assert_eq!(Suite::from_id(0x0479), None);
    }
}
