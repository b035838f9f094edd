//! Key bytes that are wiped when dropped and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// A data key in plain: 16, 24 or 32 bytes, as the suite asks.
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
        let key = SecretKeyBytes::new(vec![0xab; 16]);
        assert_eq!(format!("{key:?}"), "SecretKeyBytes(16 bytes)");
    }
}
