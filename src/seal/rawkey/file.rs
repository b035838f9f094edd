//! The wrapping key's file: TOML with `namespace`, `name` and `key` in hexadecimal.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use toml_edit::{Document, Item, Key, Value};
use zeroize::Zeroizing;

use super::{RANDOM, WrappingKey, WrappingKeyError};
use crate::hex::from_hex;
use crate::secretfile::{self, Refused};

/// Why a wrapping key file can not be used or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrappingKeyFileError {
    /// Whoever gives a key itself for its file must not find it in a log.
    #[error(
        "wrapping key file {}: {source}{}",
        redacted(&path.to_string_lossy()),
        way_out(source)
    )]
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

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; kinseal key new makes one, in a directory that is there",
        _ => "",
    }
}

impl WrappingKeyFileError {
    fn refused(path: &Path, why: Refused) -> Self {
        let path = path.to_owned();
        match why {
            Refused::Io(source) => Self::Io { path, source },
            Refused::NoFile => Self::NoFile { path },
            Refused::Exposed { mode } => Self::Exposed { path, mode },
            Refused::TooLong => Self::Field {
                path,
                reason: format!("it has {LARGEST} bytes or more, which is no wrapping key"),
            },
        }
    }
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

/// A field's name that is longer is no slip of the pen, and may be anything.
const LONGEST_WORD: usize = 16;

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
        refuse_keys_for_names(path, namespace, name)?;
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
        let refused = |refused| WrappingKeyFileError::refused(path, refused);
        let bytes = secretfile::read(path, LARGEST).map_err(refused)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
            refused(Refused::Io(source))
        })?;
        parse(path, text)
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
        let is_word = unknown.len() <= LONGEST_WORD
            && unknown.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
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
    let key = from_hex(key.as_bytes())
        .ok_or_else(|| field_error("key is not an even number of hexadecimal digits".to_owned()))?;
    let (namespace, name) = (field("namespace")?, field("name")?);
    refuse_keys_for_names(path, namespace, name)?;
    WrappingKey::new(namespace, name, &key).map_err(|source| WrappingKeyFileError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Names are for all to read, in each message.
fn refuse_keys_for_names(
    path: &Path,
    namespace: &str,
    name: &str,
) -> Result<(), WrappingKeyFileError> {
    for (part, text) in [("namespace", namespace), ("name", name)] {
        if redacted(text) != text {
            return Err(WrappingKeyFileError::Field {
                path: path.to_owned(),
                reason: format!(
                    "its {part} looks like a key, and each message would show it: choose another {part}"
                ),
            });
        }
    }
    Ok(())
}

/// Without what may be a key: as many hexadecimal digits in a row as the shortest has, or more.
pub(crate) fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, digits) = rest.split_at(start);
        let end = digits.find(|c: char| !c.is_ascii_hexdigit());
        let (digits, after) = digits.split_at(end.unwrap_or(digits.len()));
        shown.push_str(before);
        match digits.len() < SHORTEST_KEY {
            true => shown.push_str(digits),
            false => shown.push_str("(not shown: it may be a key)"),
        }
        rest = after;
    }
    shown + rest
}

/// Digits of 128 bits.
const SHORTEST_KEY: usize = 32;

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

#[cfg(test)]
mod tests;
