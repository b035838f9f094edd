//! Key bytes that are wiped when dropped and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// The 32 bytes of a data key for [`super::Writer`].
#[derive(Clone)]
pub struct PlaintextKey(Zeroizing<[u8; 32]>);

impl PlaintextKey {
    pub const LEN: usize = 32;

    /// `None` where there are not exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        // Filled in place: an array passed by value would leave copies on the stack.
        let mut key = Zeroizing::new([0; Self::LEN]);
        if bytes.len() != Self::LEN {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for PlaintextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlaintextKey(…)")
    }
}

/// An unwrapped data key: 16, 24 or 32 bytes, as the suite asks.
#[derive(Clone)]
pub struct SecretKeyBytes(Zeroizing<Vec<u8>>);

impl SecretKeyBytes {
    /// Takes the bytes over, so that the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretKeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKeyBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_printed() {
        let key = PlaintextKey::from_slice(&[0xab; 32]).expect("32 bytes");
        assert_eq!(format!("{key:?}"), "PlaintextKey(…)");
        let key = SecretKeyBytes::new(vec![0xab; 16]);
        assert_eq!(format!("{key:?}"), "SecretKeyBytes(16 bytes)");
    }

    #[test]
    fn a_data_key_has_32_bytes() {
        assert!(PlaintextKey::from_slice(&[0; 31]).is_none());
        assert!(PlaintextKey::from_slice(&[0; 33]).is_none());
    }
}
