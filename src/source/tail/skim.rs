//! A line that has no newline yet and is not kept in memory: it can be read again.

use std::io;

use bytes::Bytes;

use super::content::Content;
use super::identity::TAIL;

/// How far a line has been looked through, and what it began with.
#[derive(Debug)]
pub(super) struct Skimmed {
    /// To see that it is still the same line.
    first: Bytes,
    /// No newline before this offset.
    to: u64,
}

impl Skimmed {
    /// `pending` has no newline and ends at offset `to`.
    pub(super) fn new(pending: &Bytes, to: u64) -> Self {
        let first = &pending[..pending.len().min(TAIL)];
        Self {
            first: Bytes::copy_from_slice(first),
            to,
        }
    }

    pub(super) fn first(&self) -> &Bytes {
        &self.first
    }

    pub(super) fn to(&self) -> u64 {
        self.to
    }

    /// Looks through the next `room` bytes; returns them. If the line ends there, `to` is its newline now.
    pub(super) fn look(&mut self, file: &Content, room: usize) -> io::Result<(Vec<u8>, bool)> {
        let bytes = file.read_upto(self.to, room)?;
        let newline = memchr::memchr(b'\n', &bytes);
        self.to += newline.unwrap_or(bytes.len()) as u64;
        Ok((bytes, newline.is_some()))
    }
}
