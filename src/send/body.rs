//! A PutRecords request's body, a long one written piece by piece.
//!
//! Promises the same JSON as the SDK's serialiser, of any bytes and any keys (the tests of
//! [`kinesis`](super::kinesis) hold them side by side). What is gained: payloads are encoded straight from where they
//! lie, by SIMD, and neither a copy of them nor a body that is not short is ever made in memory as a whole.
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>.

mod cbor;
mod json;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use sha2::{Digest, Sha256};

use crate::aggregate::AggregatedRecord;
use crate::record::{HashKey, PartitionKey, StreamName};

/// How it is written, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// AWS JSON 1.1, data in base64: what the service's model names.
    #[default]
    Json,
    /// The same in CBOR, data as they are: a quarter less to hash, to encrypt and to send. In no model, but it is what
    /// AWS's SDKs for Java send to this service unless told not to.
    Cbor,
}

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
    protocol: Protocol,
    stream: StreamName,
    id: Option<Arc<str>>,
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

/// The request that puts `entries` on `stream`, which is told by its `id` too where it has one.
pub fn put_records(
    protocol: Protocol,
    stream: &StreamName,
    id: Option<Arc<str>>,
    entries: &[AggregatedRecord],
) -> Body {
    let request = Request {
        protocol,
        stream: stream.clone(),
        id,
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
                self.begin_entry(at.entry, entry, out);
            }
            let rest = &entry.data[at.offset..];
            let room = PIECE.saturating_sub(out.len());
            let (now, later) = rest.split_at(rest.len().min(self.fits(room)));
            match self.protocol {
                Protocol::Json => json::data(now, out),
                Protocol::Cbor => out.extend_from_slice(now),
            }
            at.offset += now.len();
            if later.is_empty() {
                match self.protocol {
                    Protocol::Json => json::end_entry(entry, out),
                    Protocol::Cbor => cbor::end_entry(entry, out),
                }
                at.entry += 1;
                at.offset = 0;
            }
            if out.len() >= PIECE || !later.is_empty() {
                return;
            }
        }
        if !std::mem::replace(&mut at.is_ended, true) {
            match self.protocol {
                Protocol::Json => json::end(&self.stream, self.id.as_deref(), out),
                Protocol::Cbor => cbor::end(&self.stream, self.id.as_deref(), out),
            }
        }
    }

    fn begin_entry(&self, index: usize, entry: &Entry, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Json => json::begin_entry(index == 0, out),
            Protocol::Cbor => {
                if index == 0 {
                    cbor::begin(self.entries.len(), self.id.is_some(), out);
                }
                cbor::begin_entry(entry, out);
            }
        }
    }

    /// Bytes of data that take so much room: at least some.
    fn fits(&self, room: usize) -> usize {
        match self.protocol {
            // Without padding, unless nothing follows.
            Protocol::Json => (room / 4 * 3).max(3),
            Protocol::Cbor => room.max(1),
        }
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

    /// What it takes at most, about.
    fn room(&self) -> usize {
        let data = base64_simd::STANDARD.encoded_length(self.data.len());
        data + self.partition_key.len() + AROUND_AN_ENTRY
    }
}
