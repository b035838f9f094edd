//! What becomes of a line before it is a record: transforms, and an envelope of metadata around it.
//!
//! A [`Shaper`] takes the lines of one file or client and gives the records' bytes. It promises:
//!
//! - one record for each line, in the lines' order; no line is left out;
//! - a line that a transform cannot take (it does not match, is not UTF-8, or would become longer than
//!   [`Shaper::worst_bytes`] says) passes as it was read, and is counted;
//! - in an envelope no byte is lost: what JSON cannot hold is there in base64;
//! - pieces of an oversized line are the dead letter's, and pass.
//!
//! It knows no time: whoever feeds it says when the lines were read.

mod envelope;
mod json;
pub mod transform;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;

pub use self::envelope::{Envelope, Field};
use self::envelope::{Sender, Wrapper};
use self::transform::{Chain, Growth, Transform};
use super::frame::Line;

/// What a `[[source]]` says of its records' bytes. By default they are the line's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// One after the other.
    pub transforms: Vec<Transform>,
    pub envelope: Option<Envelope>,
}

/// A source's [`Shape`], ready to be used.
#[derive(Debug, Clone)]
pub struct Shaping(Option<Arc<Shared>>);

/// What all files or clients of a source have in common.
#[derive(Debug)]
struct Shared {
    chain: Chain,
    envelope: Option<Envelope>,
    host: String,
    /// Lines that passed as they were.
    untaken: AtomicU64,
}

impl Shaping {
    /// Every record is its line.
    pub const NONE: Self = Self(None);

    /// `host` is this host's name, for the envelope.
    pub fn new(shape: &Shape, host: String) -> Self {
        if shape.transforms.is_empty() && shape.envelope.is_none() {
            return Self::NONE;
        }
        Self(Some(Arc::new(Shared {
            chain: Chain::new(shape.transforms.clone()),
            envelope: shape.envelope.clone(),
            host,
            untaken: AtomicU64::new(0),
        })))
    }

    /// For what comes from this file or socket.
    pub fn of(&self, origin: &Path) -> Option<Shaper> {
        let shared = Arc::clone(self.0.as_ref()?);
        let envelope = shared.envelope.as_ref();
        let wrapper = envelope.map(|envelope| Wrapper::new(envelope, &shared.host, origin));
        Some(Shaper { shared, wrapper })
    }
}

/// Gives the records of one file or client their bytes. See the module.
#[derive(Debug, Clone)]
pub struct Shaper {
    shared: Arc<Shared>,
    wrapper: Option<Wrapper>,
}

impl Shaper {
    /// Of a client, as the kernel tells it.
    #[must_use]
    pub fn sent_by(mut self, pid: Option<i32>, uid: u32, gid: u32) -> Self {
        if let (Some(wrapper), Some(envelope)) = (&mut self.wrapper, &self.shared.envelope) {
            wrapper.sent_by(envelope, &Sender { pid, uid, gid });
        }
        self
    }

    /// The bytes of these lines' records, of lines that were read at `now`.
    pub fn shape(&self, lines: Vec<Line>, now: SystemTime) -> Vec<Line> {
        let mut work = Work::new(now);
        let read: usize = lines.iter().map(|line| line.bytes.len()).sum();
        let each = self.wrapper.as_ref().map_or(0, Wrapper::fixed);
        let (mut out, mut ends) = (
            Vec::with_capacity(read + lines.len() * each),
            Vec::with_capacity(lines.len()),
        );
        for line in &lines {
            if !line.oversized {
                self.shape_one(line, &mut work, &mut out);
            }
            ends.push(out.len());
        }
        self.count(work.untaken);
        // The records keep it, and their permit is for what they are.
        out.shrink_to_fit();
        let (mut shaped, mut at) = (Bytes::from(out), 0);
        let records = lines.into_iter().zip(ends).map(|(line, end)| {
            let bytes = shaped.split_to(end - std::mem::replace(&mut at, end));
            if line.oversized {
                line
            } else {
                Line { bytes, ..line }
            }
        });
        records.collect()
    }

    /// The most that `records` lines of `bytes` bytes in all can become.
    pub fn worst_bytes(&self, records: usize, bytes: usize) -> usize {
        let transformed = self.shared.chain.growth();
        let growth = match &self.wrapper {
            None => transformed,
            // What is JSON by now is put in as it is; what is not, as a string.
            Some(wrapper) if self.shared.chain.gives_json() => Growth {
                factor: transformed.factor.max(Wrapper::FACTOR),
                fixed: transformed.fixed + wrapper.fixed(),
            },
            Some(wrapper) => transformed.then(Growth {
                factor: Wrapper::FACTOR,
                fixed: wrapper.fixed(),
            }),
        };
        growth.of(records, bytes)
    }

    fn shape_one(&self, line: &Line, work: &mut Work, out: &mut Vec<u8>) {
        let chain = &self.shared.chain;
        let taken = chain.apply(&line.bytes, work);
        work.untaken += u64::from(!taken);
        let text = if taken && !chain.is_empty() {
            &work.text
        } else {
            &line.bytes[..]
        };
        match &self.wrapper {
            Some(wrapper) => {
                let is_json = taken && chain.gives_json();
                wrapper.wrap(text, is_json, line.at, &work.time, out);
            }
            None => out.extend_from_slice(text),
        }
    }

    /// The log is told the first time, and whenever there are twice as many.
    fn count(&self, untaken: u64) {
        let before = self.shared.untaken.fetch_add(untaken, Ordering::Relaxed);
        let lines = before + untaken;
        if before.checked_ilog2() != lines.checked_ilog2() {
            tracing::warn!(
                lines, transforms = %self.shared.chain,
                "lines are not what this source's data_processing can take; they are sent as they are"
            );
        }
    }
}

/// Buffers for the lines of one chunk.
#[derive(Debug)]
struct Work {
    /// When they were read, in UTC: `2026-11-25T07:43:28.123Z`.
    time: String,
    text: Vec<u8>,
    next: Vec<u8>,
    untaken: u64,
}

impl Work {
    fn new(now: SystemTime) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(now).to_string(),
            text: Vec::new(),
            next: Vec::new(),
            untaken: 0,
        }
    }
}

#[cfg(test)]
mod tests;
