//! AWS JSON 1.1: strings as in RFC 8259, section 7; data in base64 with padding, RFC 4648, section 4.

use base64_simd::STANDARD;

use super::Entry;
use crate::record::StreamName;

const RECORDS: &str = r#"{"Records":["#;
const DATA: &str = r#"{"Data":""#;
const EXPLICIT_HASH_KEY: &str = r#"","ExplicitHashKey":""#;
const PARTITION_KEY: &str = r#"","PartitionKey":""#;
const END_OF_ENTRY: &str = r#""}"#;
const BETWEEN_ENTRIES: &str = ",";
const STREAM_NAME: &str = r#"],"StreamName":""#;
const STREAM_ARN: &str = r#"],"StreamARN":""#;
const STREAM_ID: &str = r#"","StreamId":""#;
const END: &str = r#""}"#;

pub(super) fn begin_entry(is_first: bool, out: &mut Vec<u8>) {
    text(if is_first { RECORDS } else { BETWEEN_ENTRIES }, out);
    text(DATA, out);
}

pub(super) fn data(data: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(data, out);
}

pub(super) fn end_entry(entry: &Entry, out: &mut Vec<u8>) {
    if let Some(hash_key) = entry.explicit_hash_key {
        text(EXPLICIT_HASH_KEY, out);
        text(&hash_key.to_string(), out);
    }
    text(PARTITION_KEY, out);
    escaped(entry.partition_key.as_str(), out);
    text(END_OF_ENTRY, out);
}

pub(super) fn end(stream: &StreamName, id: Option<&str>, out: &mut Vec<u8>) {
    let (member, name) = match stream.arn() {
        Some(arn) => (STREAM_ARN, arn),
        None => (STREAM_NAME, stream.name()),
    };
    text(member, out);
    escaped(name, out);
    if let Some(id) = id {
        text(STREAM_ID, out);
        escaped(id, out);
    }
    text(END, out);
}

/// What needs no escapes.
fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// The inside of a JSON string.
fn escaped(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in text.bytes() {
        match Escape::of(byte) {
            Escape::None => out.push(byte),
            Escape::Backslash => out.extend_from_slice(&[b'\\', byte]),
            Escape::Code => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
}

/// What a byte of UTF-8 needs inside a JSON string.
enum Escape {
    None,
    Backslash,
    /// Control characters, by number.
    Code,
}

impl Escape {
    fn of(byte: u8) -> Self {
        match byte {
            b'"' | b'\\' => Self::Backslash,
            0..0x20 => Self::Code,
            _ => Self::None,
        }
    }
}
