//! A PutRecords request's body: JSON 1.1 as the service takes it, written once into a buffer of exactly its
//! length.
//!
//! Promises the same JSON as the SDK's serialiser, of any bytes and any keys (the tests of
//! [`kinesis`](super::kinesis) hold them side by side). What is gained: payloads are encoded straight from where they
//! lie, by SIMD, and no copy of them is made before.
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>; strings as in
//! RFC 8259, section 7; base64 with padding, RFC 4648, section 4.

use base64_simd::STANDARD;
use bytes::Bytes;

use crate::aggregate::AggregatedRecord;
use crate::record::StreamName;

const RECORDS: &str = r#"{"Records":["#;
const DATA: &str = r#"{"Data":""#;
const EXPLICIT_HASH_KEY: &str = r#"","ExplicitHashKey":""#;
const PARTITION_KEY: &str = r#"","PartitionKey":""#;
const END_OF_ENTRY: &str = r#""}"#;
const BETWEEN_ENTRIES: &str = ",";
const STREAM_NAME: &str = r#"],"StreamName":""#;
const STREAM_ARN: &str = r#"],"StreamARN":""#;
const END: &str = r#""}"#;

/// The request that puts `entries` on `stream`.
pub fn put_records(stream: &StreamName, entries: &[AggregatedRecord]) -> Bytes {
    let mut length = Length(0);
    write(&mut length, stream, entries);
    let mut body = Vec::with_capacity(length.0);
    write(&mut body, stream, entries);
    debug_assert_eq!(body.len(), length.0);
    body.into()
}

/// Once to measure, once to write: that one is the other's length cannot be forgotten by a change.
fn write(out: &mut impl Sink, stream: &StreamName, entries: &[AggregatedRecord]) {
    out.text(RECORDS);
    for (n, entry) in entries.iter().enumerate() {
        if n > 0 {
            out.text(BETWEEN_ENTRIES);
        }
        out.text(DATA);
        out.base64(entry.data());
        if let Some(hash_key) = entry.explicit_hash_key() {
            out.text(EXPLICIT_HASH_KEY);
            out.text(&hash_key.to_string());
        }
        out.text(PARTITION_KEY);
        out.escaped(entry.partition_key().as_str());
        out.text(END_OF_ENTRY);
    }
    match stream.arn() {
        Some(arn) => {
            out.text(STREAM_ARN);
            out.escaped(arn);
        }
        None => {
            out.text(STREAM_NAME);
            out.escaped(stream.name());
        }
    }
    out.text(END);
}

trait Sink {
    /// What needs no escapes.
    fn text(&mut self, text: &str);
    /// The inside of a JSON string.
    fn escaped(&mut self, text: &str);
    fn base64(&mut self, data: &[u8]);
}

/// How long it would be.
struct Length(usize);

impl Sink for Length {
    fn text(&mut self, text: &str) {
        self.0 += text.len();
    }

    fn escaped(&mut self, text: &str) {
        self.0 += text
            .bytes()
            .map(|byte| Escape::of(byte).len())
            .sum::<usize>();
    }

    fn base64(&mut self, data: &[u8]) {
        self.0 += STANDARD.encoded_length(data.len());
    }
}

impl Sink for Vec<u8> {
    fn text(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    fn escaped(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for byte in text.bytes() {
            match Escape::of(byte) {
                Escape::None => self.push(byte),
                Escape::Backslash => self.extend_from_slice(&[b'\\', byte]),
                Escape::Code => {
                    let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                    self.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                }
            }
        }
    }

    fn base64(&mut self, data: &[u8]) {
        STANDARD.encode_append(data, self);
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

    fn len(&self) -> usize {
        match self {
            Self::None => 1,
            Self::Backslash => 2,
            Self::Code => 6,
        }
    }
}
