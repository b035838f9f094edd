//! Partition keys that stand for something else: a hash of it, or a MAC.
//!
//! Both are 128 bits, as 32 hexadecimal digits: of a trillion different values, the chance that any two share a
//! key is below 2^-48, and two that do only share a shard. Nobody verifies these, so that they are shorter
//! than the functions' 256 bits gives nobody anything. Hexadecimal, because `sha256sum` and `openssl dgst -hmac`
//! write so: what a key stands for can be checked by hand.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::hex::from_hex;
use crate::record::PartitionKey;
use crate::secretfile::{self, Refused};

/// Characters of such a key.
pub(super) const LEN: usize = 32;

/// The first 128 bits of the SHA-256.
///
/// Not the MD5 that Kinesis computes of a key: who writes lines could make different ones share it.
pub(super) fn hashed(bytes: &[u8]) -> PartitionKey {
    key_of(&Sha256::digest(bytes))
}

fn key_of(digest: &[u8]) -> PartitionKey {
    let mut text = [0; LEN];
    let text = base16(&digest[..LEN / 2], &mut text);
    PartitionKey::new(text).expect("32 characters")
}

fn base16<'t>(bytes: &[u8], text: &'t mut [u8; LEN]) -> &'t str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ];
    }
    std::str::from_utf8(text).expect("digits are ASCII")
}

/// HMAC-SHA256 (RFC 2104) under a key from a file. Wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct HmacKey(Hmac<Sha256>);

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey")
    }
}

impl HmacKey {
    /// SHA-256's own length at least (RFC 2104, section 3), and at most its block: more would be hashed first.
    const BYTES: std::ops::RangeInclusive<usize> = 32..=64;
    /// Of a file: the digits of the longest key, and room for blanks around them.
    const LARGEST: usize = 256;

    /// Reads 64 to 128 hexadecimal digits, as `openssl rand -hex 32` writes them. Others than the owner must
    /// have no rights to the file.
    pub fn load(path: &Path) -> Result<Self, HmacKeyError> {
        let text = secretfile::read(path, Self::LARGEST)
            .map_err(|refused| HmacKeyError::refused(path, refused))?;
        let key = from_hex(text.trim_ascii())
            .filter(|key| Self::BYTES.contains(&key.len()))
            .ok_or_else(|| HmacKeyError::NoKey(path.to_owned()))?;
        Ok(Self::new(&key))
    }

    fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The first 128 bits of the MAC.
    pub(super) fn mac(&self, value: &[u8]) -> PartitionKey {
        let mut mac = self.0.clone();
        mac.update(value);
        key_of(&mac.finalize().into_bytes())
    }
}

/// Why a file gives no key. Without what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HmacKeyError {
    #[error("HMAC key file {}: {source}; make one: (umask 077; openssl rand -hex 32 > {})", path.display(), path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "HMAC key file {} is a directory, a pipe or a device: give a regular file; make one: openssl rand -hex 32",
        .0.display()
    )]
    NoFile(PathBuf),
    #[error(
        "HMAC key file {} has mode {mode:04o}, so that others than its owner may use it: chmod 600 {}",
        path.display(),
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "HMAC key file {} has something else than 64 to 128 hexadecimal digits; make one: openssl rand -hex 32",
        .0.display()
    )]
    NoKey(PathBuf),
}

impl HmacKeyError {
    fn refused(path: &Path, why: Refused) -> Self {
        let path = path.to_owned();
        match why {
            Refused::Io(source) => Self::Io { path, source },
            Refused::NoFile => Self::NoFile(path),
            Refused::Exposed { mode } => Self::Exposed { path, mode },
            Refused::TooLong => Self::NoKey(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn load(text: &str, mode: u32) -> Result<HmacKey, HmacKeyError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.hmac");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        HmacKey::load(&path)
    }

    #[test]
    fn a_hash_is_the_beginning_of_what_sha256sum_says() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(hashed(b"abc").as_str(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn a_mac_is_the_beginning_of_what_openssl_says() {
        // RFC 4231, test case 2.
        let mac = HmacKey::new(b"Jefe").mac(b"what do ya want for nothing?");
        assert_eq!(mac.as_str(), "5bdcc146bf60754e6a042426089575c7");
    }

    #[test]
    fn the_key_is_the_bytes_that_the_digits_in_the_file_say() {
        let bytes: Vec<u8> = (0..32).collect();
        let loaded = load(&format!("{HEX}\n"), 0o600).unwrap();
        assert_eq!(loaded.mac(b"x"), HmacKey::new(&bytes).mac(b"x"));
        assert!(load(&HEX.to_uppercase(), 0o400).is_ok());
        assert!(load(&HEX.repeat(2), 0o600).is_ok());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_not_shown() {
        for text in [
            "",
            &HEX[2..],
            &HEX[1..],
            &format!("{HEX}zz"),
            &format!("{HEX}{HEX}00"),
            &format!("{HEX}{}", "\n".repeat(256)),
        ] {
            let error = load(text, 0o600).unwrap_err().to_string();
            assert!(error.contains("64 to 128 hexadecimal digits"), "{error}");
            assert!(!error.contains(&HEX[4..12]), "{error}");
        }
        let shown = format!("{:?}", load(HEX, 0o600).unwrap());
        assert_eq!(shown, "HmacKey");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_fix() {
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let error = load(HEX, mode).unwrap_err().to_string();
            assert!(error.contains("chmod 600 "), "{error}");
        }
    }

    /// A pipe without a writer once held up the start for ever.
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let (_directory, paths) = secretfile::tests::no_files();
        for path in paths {
            let error = HmacKey::load(&path).unwrap_err().to_string();
            assert!(error.contains("give a regular file"), "{error}");
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named_with_how_to_make_it() {
        let error = HmacKey::load(Path::new("/nowhere/key")).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("openssl rand -hex 32 > /nowhere/key"),
            "{error}"
        );
    }
}
