//! A PutRecords request's body: JSON 1.1 as the service takes it, a long one written piece by piece.
//!
//! Promises the same JSON as the SDK's serialiser, of any bytes and any keys (the tests of
//! [`kinesis`](super::kinesis) hold them side by side). What is gained: payloads are encoded straight from where they
//! lie, by SIMD, and neither a copy of them nor the body is ever made in memory as a whole.
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>; strings as in
//! RFC 8259, section 7; base64 with padding, RFC 4648, section 4.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64_simd::STANDARD;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sha2::{Digest, Sha256};

use crate::aggregate::AggregatedRecord;
use crate::record::{HashKey, PartitionKey, StreamName};

const RECORDS: &str = r#"{"Records":["#;
const DATA: &str = r#"{"Data":""#;
const EXPLICIT_HASH_KEY: &str = r#"","ExplicitHashKey":""#;
const PARTITION_KEY: &str = r#"","PartitionKey":""#;
const END_OF_ENTRY: &str = r#""}"#;
const BETWEEN_ENTRIES: &str = ",";
const STREAM_NAME: &str = r#"],"StreamName":""#;
const STREAM_ARN: &str = r#"],"StreamARN":""#;
const END: &str = r#""}"#;

/// Bytes of a piece, about: in the second level's cache with what is made of it, and few enough that an allocator keeps
/// it at hand (glibc maps 128 KiB and more apart, and each page of that costs as much as to encode it ten times).
const PIECE: usize = 64 << 10;
/// Beyond that for what is written whole: an entry's keys, and the stream.
const WRITTEN_WHOLE: usize = 4 << 10;
/// What an entry takes beside its data and its keys, about.
const AROUND_AN_ENTRY: usize = 96;

/// The body of a request.
#[derive(Debug, Clone)]
pub enum Body {
    /// Short enough to be held.
    Whole(Bytes),
    /// Written while it is sent.
    Long(Long),
}

/// A body that is written twice, piece by piece: once for its length and its hash, which are to be known before the first
/// byte is sent, and once to be sent. It is never in memory as a whole, which would cost more than to encode it again.
#[derive(Debug, Clone)]
pub struct Long {
    /// SHA-256.
    hash: [u8; 32],
    left: u64,
    request: Arc<Request>,
    at: Place,
}

#[derive(Debug)]
struct Request {
    stream: StreamName,
    entries: Vec<Entry>,
}

/// What is written of an entry; its data are shared.
#[derive(Debug)]
struct Entry {
    data: Bytes,
    explicit_hash_key: Option<HashKey>,
    partition_key: PartitionKey,
}

/// How far a body is written.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    entry: usize,
    /// Bytes of its data.
    offset: usize,
    is_ended: bool,
}

/// The request that puts `entries` on `stream`.
pub fn put_records(stream: &StreamName, entries: &[AggregatedRecord]) -> Body {
    let request = Request {
        stream: stream.clone(),
        entries: entries.iter().map(Entry::of).collect(),
    };
    let room = request.entries.iter().map(Entry::room).sum::<usize>();
    let mut piece = Vec::with_capacity(room.min(PIECE) + WRITTEN_WHOLE);
    let mut at = Place::default();
    request.write(&mut at, &mut piece);
    if at.is_ended {
        piece.shrink_to_fit();
        return Body::Whole(piece.into());
    }
    let (mut hash, mut len) = (Sha256::new(), 0);
    while !piece.is_empty() {
        hash.update(&piece);
        len += piece.len() as u64;
        piece.clear();
        request.write(&mut at, &mut piece);
    }
    Body::Long(Long {
        hash: hash.finalize().into(),
        left: len,
        request: Arc::new(request),
        at: Place::default(),
    })
}

impl Body {
    /// In bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Long(long) => long.left,
        }
    }
}

impl Long {
    /// SHA-256 of the whole body.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

impl http_body::Body for Long {
    type Data = Bytes;
    type Error = Infallible;

    /// Never pending: a piece is made when it is asked for, in some tens of microseconds.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut piece = Vec::with_capacity(PIECE + WRITTEN_WHOLE);
        let long = &mut *self;
        long.request.write(&mut long.at, &mut piece);
        long.left -= piece.len() as u64;
        let frame = (!piece.is_empty()).then(|| Ok(Frame::data(piece.into())));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.at.is_ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Request {
    /// Appends what comes next, up to a piece; nothing at the end.
    fn write(&self, at: &mut Place, out: &mut Vec<u8>) {
        while let Some(entry) = self.entries.get(at.entry) {
            if at.offset == 0 {
                text(
                    out,
                    if at.entry == 0 {
                        RECORDS
                    } else {
                        BETWEEN_ENTRIES
                    },
                );
                text(out, DATA);
            }
            let rest = &entry.data[at.offset..];
            // Without padding, unless nothing follows.
            let room = PIECE.saturating_sub(out.len()) / 4 * 3;
            let (now, later) = rest.split_at(rest.len().min(room.max(3)));
            STANDARD.encode_append(now, out);
            at.offset += now.len();
            if later.is_empty() {
                entry.write_keys(out);
                at.entry += 1;
                at.offset = 0;
            }
            if out.len() >= PIECE || !later.is_empty() {
                return;
            }
        }
        if !std::mem::replace(&mut at.is_ended, true) {
            self.write_end(out);
        }
    }

    fn write_end(&self, out: &mut Vec<u8>) {
        match self.stream.arn() {
            Some(arn) => {
                text(out, STREAM_ARN);
                escaped(out, arn);
            }
            None => {
                text(out, STREAM_NAME);
                escaped(out, self.stream.name());
            }
        }
        text(out, END);
    }
}

impl Entry {
    fn of(entry: &AggregatedRecord) -> Self {
        Self {
            data: entry.data().clone(),
            explicit_hash_key: entry.explicit_hash_key(),
            partition_key: entry.partition_key().clone(),
        }
    }

    /// What it takes, about.
    fn room(&self) -> usize {
        let data = STANDARD.encoded_length(self.data.len());
        data + self.partition_key.len() + AROUND_AN_ENTRY
    }

    fn write_keys(&self, out: &mut Vec<u8>) {
        if let Some(hash_key) = self.explicit_hash_key {
            text(out, EXPLICIT_HASH_KEY);
            text(out, &hash_key.to_string());
        }
        text(out, PARTITION_KEY);
        escaped(out, self.partition_key.as_str());
        text(out, END_OF_ENTRY);
    }
}

/// What needs no escapes.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// The inside of a JSON string.
fn escaped(out: &mut Vec<u8>, text: &str) {
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
