//! The eleven algorithm suites, as a table.
//!
//! Source: `framework/algorithm-suites.md` of the AWS Encryption SDK specification. All are AES-GCM with a
//! 12-byte IV and a 16-byte tag.

use std::fmt;

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
    /// What [`super::Writer`] writes.
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
    pub(super) fn message_id_len(self) -> usize {
        match self {
            Self::V1 => 16,
            Self::V2 => 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
