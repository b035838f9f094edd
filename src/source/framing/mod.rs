//! How a client of a socket marks where its records end.

pub mod counted;

use bytes::Bytes;

use self::counted::{Counted, Fault, Prefix};
use crate::source::frame::{Framer, Line, MAX_LINE};

/// `framing` of a stream socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// A newline behind each record.
    #[default]
    Newline,
    /// Its length in front, in 4 bytes, the highest first.
    LengthPrefixed,
    /// Its length in front, in decimal digits, and a space: octet counting, as of syslog over TCP.
    OctetCounted,
}

/// Takes bytes as they were read and gives out records, by one framing.
#[derive(Debug)]
pub enum Splitter {
    Lines(Framer),
    Frames(Counted),
}

impl Splitter {
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Newline => Self::Lines(Framer::new(0, MAX_LINE)),
            Framing::LengthPrefixed => Self::Frames(Counted::new(Prefix::BigEndian, MAX_LINE)),
            Framing::OctetCounted => Self::Frames(Counted::new(Prefix::Decimal, MAX_LINE)),
        }
    }

    /// Has `read` append up to `room` bytes to what is held. What it appended counts also if it fails.
    pub fn fill<T>(&mut self, room: usize, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        match self {
            Self::Lines(framer) => framer.fill(room, read),
            Self::Frames(frames) => frames.fill(room, read),
        }
    }

    /// The next record; none when more must be read first, or at a [`fault`](Self::fault).
    pub fn next_record(&mut self) -> Option<Line> {
        match self {
            Self::Lines(framer) => framer.next_line(),
            Self::Frames(frames) => frames.next_record(),
        }
    }

    /// What is left when no more bytes will come and is a record all the same: a line without its newline.
    pub fn finish(&mut self) -> Option<Line> {
        match self {
            Self::Lines(framer) => framer.finish(),
            Self::Frames(_) => None,
        }
    }

    /// Why nothing that follows can be split.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Lines(_) => None,
            Self::Frames(frames) => frames.fault(),
        }
    }

    /// Bytes that, if no more come, are no record: a frame's beginning.
    pub fn unfinished(&self) -> usize {
        match self {
            Self::Lines(_) => 0,
            Self::Frames(frames) => frames.pending().len(),
        }
    }

    /// Bytes held that are not part of a record given out.
    pub fn pending(&self) -> &Bytes {
        match self {
            Self::Lines(framer) => framer.pending(),
            Self::Frames(frames) => frames.pending(),
        }
    }

    /// How many bytes have come.
    pub fn read_offset(&self) -> u64 {
        match self {
            Self::Lines(framer) => framer.read_offset(),
            Self::Frames(frames) => frames.read_offset(),
        }
    }
}
