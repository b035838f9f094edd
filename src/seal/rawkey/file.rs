//! The wrapping key's file: TOML with `namespace`, `name` and `key` in hexadecimal.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use rustix::fs::OFlags;
use toml_edit::{Document, Item, Key, Value};
use zeroize::Zeroizing;

use super::{RANDOM, WrappingKey, WrappingKeyError};

/// Why a wrapping key file can not be used or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrappingKeyFileError {
    #[error("wrapping key file {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "wrapping key file {} is a directory, a pipe or a device: give a regular file, as kinseal key new makes it",
        path.display()
    )]
    NoFile { path: PathBuf },
    #[error(
        "wrapping key file {} exists and is not overwritten: what it wrapped could never be opened again; choose another path",
        path.display()
    )]
    Exists { path: PathBuf },
    #[error(
        "wrapping key file {} has mode {mode:04o}, so that others than its owner may use it: chmod 600 {}",
        path.display(),
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    /// Without the line itself, which may be the key.
    #[error("wrapping key file {}, line {line}: {reason}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error(
        "wrapping key file {}: {reason}; it takes namespace = \"…\", name = \"…\" and key = \"…\" in hexadecimal",
        path.display()
    )]
    Field { path: PathBuf, reason: String },
    #[error("wrapping key file {}: {source}", path.display())]
    Key {
        path: PathBuf,
        source: WrappingKeyError,
    },
}

/// How long a wrapping key is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeySize {
    Bits128,
    Bits192,
    #[default]
    Bits256,
}

impl KeySize {
    fn bytes(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits192 => 24,
            Self::Bits256 => 32,
        }
    }
}

/// Bytes of a file: two names of 1,024 bytes, with each character escaped, and some comment.
const LARGEST: usize = 16 << 10;

impl WrappingKey {
    /// Makes a random 256-bit key and writes it to a new file with mode 0600.
    pub fn create(path: &Path, namespace: &str, name: &str) -> Result<Self, WrappingKeyFileError> {
        Self::create_sized(path, namespace, name, KeySize::default())
    }

    /// The same with a key of this length.
    pub fn create_sized(
        path: &Path,
        namespace: &str,
        name: &str,
        size: KeySize,
    ) -> Result<Self, WrappingKeyFileError> {
        let mut bytes = Zeroizing::new([0; 32]);
        let bytes = &mut bytes[..size.bytes()];
        rand::fill(bytes).expect(RANDOM);
        let key =
            Self::new(namespace, name, bytes).map_err(|source| WrappingKeyFileError::Key {
                path: path.to_owned(),
                source,
            })?;
        write_new(path, &key.to_toml()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => WrappingKeyFileError::Exists {
                path: path.to_owned(),
            },
            _ => WrappingKeyFileError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        Ok(key)
    }

    pub fn load(path: &Path) -> Result<Self, WrappingKeyFileError> {
        let io = |source| WrappingKeyFileError::Io {
            path: path.to_owned(),
            source,
        };
        let file = open_at_once(path).map_err(io)?;
        // Asked of the open file, so that it can not be exchanged in between.
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(WrappingKeyFileError::NoFile {
                path: path.to_owned(),
            });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(WrappingKeyFileError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        // Reserved at once: a String that grows leaves its old bytes behind. Bounded: a device has no end.
        let mut text = Zeroizing::new(String::with_capacity(2 * LARGEST));
        let read = file.take(LARGEST as u64).read_to_string(&mut text);
        if read.map_err(io)? == LARGEST {
            return Err(WrappingKeyFileError::Field {
                path: path.to_owned(),
                reason: format!("it has {LARGEST} bytes or more, which is no wrapping key"),
            });
        }
        parse(path, &text)
    }

    fn to_toml(&self) -> Zeroizing<String> {
        // Reserved at once: a String that grows leaves its old bytes behind.
        let mut text = Zeroizing::new(String::with_capacity(LARGEST));
        text.push_str("# kinseal wrapping key: who has this file opens every record. Keep a copy in a safe place.\n");
        for (field, value) in [("namespace", &self.namespace), ("name", &self.key_name)] {
            let _ = writeln!(text, "{field} = \"{}\"", escaped(value));
        }
        text.push_str("key = \"");
        for byte in self.key.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("\"\n");
        text
    }
}

/// A pipe without a writer would hold up whoever opens it, for ever. Of a regular file it changes nothing.
fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// The whole file or, after a failure, none: half a key file would look like one.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
        return written;
    }
    match path.parent() {
        Some(directory) if directory != Path::new("") => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Names have no control characters, so these two are all that a TOML string can not hold.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"")
}

fn parse(path: &Path, text: &str) -> Result<WrappingKey, WrappingKeyFileError> {
    let document = Document::parse(text).map_err(|error| WrappingKeyFileError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span()),
        reason: "is not TOML of the form key = \"value\"".to_owned(),
    })?;
    let mut fields = document.into_table();
    // Taken out before anything else is looked at, to be wiped whatever comes.
    let key = fields.remove("key").and_then(into_text);
    let field_error = |reason| WrappingKeyFileError::Field {
        path: path.to_owned(),
        reason,
    };
    let unknown = fields
        .iter()
        .find(|(key, _)| !["namespace", "name"].contains(key));
    if let Some((unknown, _)) = unknown {
        // It may be the key itself, in the wrong place.
        let is_word = unknown.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        return Err(match is_word {
            true => field_error(format!("unknown key \"{unknown}\"")),
            false => WrappingKeyFileError::Syntax {
                path: path.to_owned(),
                line: line_of(text, fields.key(unknown).and_then(Key::span)),
                reason: "has an unknown key; known are namespace, name and key".to_owned(),
            },
        });
    }
    let missing = |name: &str| field_error(format!("{name} is missing, or is not a string"));
    let field = |name: &str| {
        let text = fields.get(name).and_then(Item::as_str);
        text.ok_or_else(|| missing(name))
    };
    let key = key.ok_or_else(|| missing("key"))?;
    let key = from_hex(&key)
        .ok_or_else(|| field_error("key is not an even number of hexadecimal digits".to_owned()))?;
    WrappingKey::new(field("namespace")?, field("name")?, &key).map_err(|source| {
        WrappingKeyFileError::Key {
            path: path.to_owned(),
            source,
        }
    })
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let before = text
        .as_bytes()
        .iter()
        .take(span.map_or(0, |span| span.start));
    1 + before.filter(|byte| **byte == b'\n').count()
}

fn into_text(item: Item) -> Option<Zeroizing<String>> {
    match item {
        Item::Value(Value::String(text)) => Some(Zeroizing::new(text.into_value())),
        _ => None,
    }
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        let byte = digit(*high)? * 16 + digit(*low)?;
        bytes.push(u8::try_from(byte).expect("two hexadecimal digits make a byte"));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f";

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.toml");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        (directory, path)
    }

    fn refusal(text: &str) -> String {
        let (_directory, path) = written(text, 0o600);
        WrappingKey::load(&path).expect_err("refused").to_string()
    }

    #[test]
    fn a_created_key_loads_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.toml");
        let name = r#"a "quoted" \ ключ"#;
        let created = WrappingKey::create(&path, "shop", name).expect("created");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        let loaded = WrappingKey::load(&path).expect("loads");
        assert_eq!(loaded.key, created.key);
        assert_eq!(loaded.key_name, name);
    }

    #[test]
    fn a_created_key_has_the_length_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        for (size, bits) in [
            (KeySize::Bits128, 128),
            (KeySize::Bits192, 192),
            (KeySize::Bits256, 256),
        ] {
            let path = directory.path().join(format!("{bits}.toml"));
            let created = WrappingKey::create_sized(&path, "shop", "orders", size);
            assert_eq!(created.expect("created").bits(), bits);
            assert_eq!(WrappingKey::load(&path).expect("loads").bits(), bits);
        }
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let (_directory, path) = written("precious", 0o600);
        let error = WrappingKey::create(&path, "shop", "orders").expect_err("refused");
        assert!(
            matches!(error, WrappingKeyFileError::Exists { .. }),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_fix() {
        let text = format!("namespace = \"a\"\nname = \"b\"\nkey = \"{HEX}\"\n");
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let (_directory, path) = written(&text, mode);
            let error = WrappingKey::load(&path).expect_err("refused").to_string();
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
        let (_directory, path) = written(&text, 0o400);
        assert!(WrappingKey::load(&path).is_ok());
    }

    #[test]
    fn every_mistake_is_named_and_no_key_is_printed() {
        let fields = "namespace = \"a\"\nname = \"b\"\n";
        for (text, named) in [
            (format!("{fields}key = \"{HEX}"), "line 3"),
            (format!("{fields}key = {HEX}"), "line 3"),
            (format!("{fields}key = \"{HEX}x\""), "hexadecimal"),
            (format!("{fields}key = \"{HEX}zz\""), "hexadecimal"),
            (format!("{fields}key = \"{HEX}00\""), "17 bytes"),
            (format!("{fields}key = 12"), "key is missing"),
            (
                format!("name = \"b\"\nkey = \"{HEX}\""),
                "namespace is missing",
            ),
            (format!("{fields}kez = \"{HEX}\""), "unknown key \"kez\""),
            (format!("{fields}{HEX} = \"key\""), "line 3"),
            (format!("{fields}\"{HEX}\" = \"key\""), "line 3"),
            (
                format!("namespace = \"aws-kms{HEX}\"\nname = \"b\"\nkey = \"{HEX}\""),
                "aws-kms",
            ),
            (
                format!("namespace = \"aws-kms\"\nname = \"b\"\nkey = \"{HEX}\""),
                "aws-kms",
            ),
        ] {
            let error = refusal(&text);
            assert!(error.contains(named), "{error}");
            assert!(!error.contains(&HEX[..8]), "{error}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_no_key() {
        let error = refusal(&"#".repeat(LARGEST));
        assert!(error.contains("which is no wrapping key"), "{error}");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg("-m600")
            .arg(&pipe)
            .status()
            .expect("mkfifo runs");
        assert!(made.success());
        for path in [pipe.as_path(), directory.path(), Path::new("/dev/zero")] {
            let error = WrappingKey::load(path).expect_err("refused");
            let said = error.to_string();
            assert!(
                matches!(error, WrappingKeyFileError::NoFile { .. }),
                "{said}"
            );
            assert!(said.contains(&*path.to_string_lossy()), "{said}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = WrappingKey::load(Path::new("/nowhere/key.toml")).expect_err("refused");
        assert!(error.to_string().contains("/nowhere/key.toml"), "{error}");
    }
}
