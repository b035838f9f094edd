//! Newline framing: bytes as they come in, lines out, without copying them.
//!
//! A [`Framer`] owns what has been read and is not yet a line, and the offsets that go with it. It promises:
//!
//! - every byte put in comes out exactly once, as part of a line or as the newline behind it, whatever the
//!   sizes of the reads were; nothing else is interpreted (a `\r` stays, NUL and invalid UTF-8 pass);
//! - a line given out without its newline ([`Framer::finish`]) is not followed by an empty one when that comes;
//! - every line is a record, also an empty one; an unfinished line is kept until its newline comes;
//! - lines share the memory of the read they came with, and an unfinished line does not pin it;
//! - a line longer than [`Framer::marking`] says is marked `oversized`, and comes whole as far as the next goes;
//! - it holds at most twice [`MAX_LINE`] and one read. A longer line comes out in pieces, each marked
//!   `oversized` and each longer than any record may be, so that none can pass for a record: they go to the
//!   dead letter, whole, instead of being cut.
//!
//! The newline is looked for with `memchr` and each byte is looked at once.

use bytes::{Buf, Bytes};
use memchr::memchr;

/// Longer lines are never records: the service's largest record (10 MiB, `UpdateMaxRecordSize`), rounded up.
pub const MAX_LINE: usize = 10 * 1024 * 1024 + 64 * 1024;

/// What came before a newline, or a piece of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Without the newline.
    pub bytes: Bytes,
    /// The offset of its first byte, in the file or in what one client has sent.
    pub at: u64,
    /// The line, or the line this is a piece of, is longer than the framer's limit.
    pub oversized: bool,
}

/// Splits a stream of bytes at newlines.
#[derive(Debug)]
pub struct Framer {
    /// Read and not yet given out.
    buf: Bytes,
    /// How much of `buf` is known to hold no newline.
    scanned: usize,
    /// Offset of `buf`'s first byte in the stream.
    at: u64,
    /// Offset of the first byte after the last newline given out; behind `at` in the middle of a long line.
    boundary: u64,
    /// Lines given out use the same memory as `buf`.
    shared: bool,
    /// What is before `at` is not a newline: one that comes next ends no line.
    within_line: bool,
    max_line: usize,
    /// Longer lines are marked, and come whole up to `max_line`.
    longest: usize,
}

impl Framer {
    /// Starts at `offset`, which is the beginning of a line.
    pub fn new(offset: u64, max_line: usize) -> Self {
        Self {
            buf: Bytes::new(),
            scanned: 0,
            at: offset,
            boundary: offset,
            shared: false,
            within_line: false,
            max_line,
            longest: max_line,
        }
    }

    /// The offset it starts at is within a line, whose beginning has been given out before.
    #[must_use]
    pub fn within_line(mut self, is_within: bool) -> Self {
        self.within_line = is_within;
        self
    }

    /// Lines longer than `longest` bytes are marked as oversized.
    #[must_use]
    pub fn marking(mut self, longest: usize) -> Self {
        self.longest = longest.min(self.max_line);
        self
    }

    /// Has `read` append up to `room` bytes to what is held. What it appended counts also if it fails.
    pub fn fill<T>(&mut self, room: usize, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = append(&mut self.buf, room, read);
        self.shared = false;
        result
    }

    /// The next line, or piece of an oversized one; none when more must be read first.
    pub fn next_line(&mut self) -> Option<Line> {
        if self.within_line && !self.buf.is_empty() {
            self.within_line = false;
            if self.buf[0] == b'\n' {
                self.pass_newline();
            }
        }
        let newline = memchr(b'\n', &self.buf[self.scanned..]).map(|i| self.scanned + i);
        let len = newline.unwrap_or(self.buf.len());
        self.scanned = len;
        if len > 2 * self.max_line {
            return Some(self.piece());
        }
        if newline.is_none() {
            self.unshare();
            return None;
        }
        let line = self.take(len);
        self.pass_newline();
        Some(line)
    }

    /// What is left when no more bytes will come: a last line without its newline.
    pub fn finish(&mut self) -> Option<Line> {
        let line = (!self.buf.is_empty()).then(|| self.take(self.buf.len()));
        self.within_line |= line.is_some();
        self.boundary = self.at;
        line
    }

    /// Lets go of what is held; whoever feeds it reads it again, from [`at`](Self::at).
    pub fn forget(&mut self) {
        self.buf = Bytes::new();
        self.scanned = 0;
    }

    /// Bytes held that are not part of a line given out.
    pub fn pending(&self) -> &Bytes {
        &self.buf
    }

    /// Offset of the first byte of [`pending`](Self::pending).
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Offset where the next read goes on.
    pub fn read_offset(&self) -> u64 {
        self.at + self.buf.len() as u64
    }

    /// Offset after the last newline given out: a reader that starts here misses nothing of what follows.
    /// In the middle of an oversized line this is the line's beginning.
    pub fn boundary(&self) -> u64 {
        self.boundary
    }

    fn pass_newline(&mut self) {
        self.buf.advance(1);
        self.scanned = 0;
        self.at += 1;
        self.boundary = self.at;
    }

    fn piece(&mut self) -> Line {
        let (scanned, at) = (self.scanned, self.at);
        let bytes = self.buf.split_to(self.max_line);
        self.at += bytes.len() as u64;
        self.scanned = scanned - bytes.len();
        self.shared = true;
        Line {
            bytes,
            at,
            oversized: true,
        }
    }

    fn take(&mut self, len: usize) -> Line {
        let oversized = len > self.longest || self.at != self.boundary;
        let at = self.at;
        let bytes = self.buf.split_to(len);
        self.at += len as u64;
        self.scanned = 0;
        self.shared = true;
        Line {
            bytes,
            at,
            oversized,
        }
    }

    fn unshare(&mut self) {
        if std::mem::take(&mut self.shared) {
            self.buf = Bytes::copy_from_slice(&self.buf);
        }
    }
}

/// Has `read` append up to `room` bytes to `buf`. What it appended counts also if it fails.
pub(super) fn append<T>(buf: &mut Bytes, room: usize, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // Takes the memory over where nobody else has it: a growing line is not copied on every read.
    let mut held = Vec::from(std::mem::take(buf));
    held.reserve(room);
    let result = read(&mut held);
    // A chunk keeps its memory until it is settled; a short read must not keep room for a long one.
    if held.len() < held.capacity() / 2 {
        held.shrink_to_fit();
    }
    *buf = Bytes::from(held);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(framer: &mut Framer, bytes: &[u8]) {
        framer.fill(bytes.len(), |held| held.extend_from_slice(bytes));
    }

    fn lines(framer: &mut Framer) -> Vec<Line> {
        std::iter::from_fn(|| framer.next_line()).collect()
    }

    fn line(bytes: &'static [u8], at: u64) -> Line {
        Line {
            bytes: Bytes::from_static(bytes),
            at,
            oversized: false,
        }
    }

    #[test]
    fn bytes_pass_unchanged_and_an_empty_line_is_a_line() {
        let mut framer = Framer::new(100, 16);
        push(&mut framer, b"a\r\n\n\0\xff\nrest");
        assert_eq!(
            lines(&mut framer),
            [line(b"a\r", 100), line(b"", 103), line(b"\0\xff", 104)]
        );
        assert_eq!(framer.pending(), "rest");
        assert_eq!((framer.boundary(), framer.read_offset()), (107, 111));
    }

    #[test]
    fn unfinished_line_waits_for_its_newline() {
        let mut framer = Framer::new(0, 16);
        push(&mut framer, b"ab");
        assert_eq!(framer.next_line(), None);
        push(&mut framer, b"c\n");
        assert_eq!(framer.next_line(), Some(line(b"abc", 0)));
        assert_eq!(framer.finish(), None);
        push(&mut framer, b"d");
        assert_eq!(framer.finish(), Some(line(b"d", 4)));
        assert_eq!(framer.boundary(), 5);
    }

    #[test]
    fn newline_of_a_line_given_out_before_makes_no_empty_one() {
        let mut framer = Framer::new(0, 16);
        push(&mut framer, b"ab");
        assert_eq!(framer.finish(), Some(line(b"ab", 0)));
        push(&mut framer, b"\n\nc");
        assert_eq!(lines(&mut framer), [line(b"", 3)]);
        assert_eq!(framer.finish(), Some(line(b"c", 4)));
        push(&mut framer, b"d\n");
        assert_eq!(lines(&mut framer), [line(b"d", 5)]);
        let mut anew = Framer::new(2, 16).within_line(true);
        push(&mut anew, b"\n");
        assert_eq!((anew.next_line(), anew.boundary()), (None, 3));
    }

    #[test]
    fn lines_share_the_memory_of_their_read_and_the_rest_does_not_pin_it() {
        let mut framer = Framer::new(0, 64);
        push(&mut framer, b"one\ntwo\nthr");
        let taken = lines(&mut framer);
        let (one, two) = (&taken[0].bytes, &taken[1].bytes);
        assert_eq!(one.as_ptr().wrapping_add(4), two.as_ptr());
        assert_ne!(
            one.as_ptr().wrapping_add(8),
            framer.pending().as_ptr(),
            "the unfinished line has moved out"
        );
    }

    #[test]
    fn short_read_does_not_keep_room_for_a_long_one() {
        let mut framer = Framer::new(0, 64);
        framer.fill(1 << 20, |held| held.extend_from_slice(b"short\n"));
        let kept = Vec::from(std::mem::take(&mut framer.buf)).capacity();
        assert!(kept < 64, "{kept}");
    }

    #[test]
    fn piece_of_an_oversized_line_is_longer_than_a_record_may_be() {
        let mut framer = Framer::new(0, 4);
        push(&mut framer, b"0123456789abc");
        let first = framer.next_line().unwrap();
        assert_eq!((&first.bytes[..], first.oversized), (&b"0123"[..], true));
        assert_eq!(framer.boundary(), 0, "a restart reads the line again");
        let second = framer.next_line().unwrap();
        assert_eq!(&second.bytes[..], b"4567");
        assert_eq!(framer.next_line(), None);
        push(&mut framer, b"\nok\n");
        let last = framer.next_line().unwrap();
        assert_eq!((&last.bytes[..], last.oversized), (&b"89abc"[..], true));
        assert_eq!(framer.next_line(), Some(line(b"ok", 14)));
        assert_eq!(framer.boundary(), 17);
    }

    /// Lines as the definition has them.
    fn model(input: &[u8], max_line: usize) -> Vec<(Vec<u8>, bool)> {
        let mut out = Vec::new();
        for mut line in input.split_inclusive(|b| *b == b'\n') {
            let ended = line.ends_with(b"\n");
            line = line.strip_suffix(b"\n").unwrap_or(line);
            let oversized = line.len() > max_line;
            while line.len() > 2 * max_line {
                out.push((line[..max_line].to_vec(), true));
                line = &line[max_line..];
            }
            if ended {
                out.push((line.to_vec(), oversized));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn any_split_into_reads_gives_the_same_lines(
            input in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), 0u8..4], 0..200),
            reads in prop::collection::vec(1usize..20, 1..40),
            at_once in 1usize..5,
        ) {
            let mut framer = Framer::new(0, 6);
            let mut got = Vec::new();
            let mut rebuilt = Vec::new();
            let (mut rest, mut sizes) = (&input[..], reads.iter().cycle());
            while !rest.is_empty() {
                let (read, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                rest = later;
                push(&mut framer, read);
                // As a source does: some lines now, some after another look.
                loop {
                    let mut taken = 0;
                    while taken < at_once {
                        let (before, at) = (framer.boundary(), framer.at());
                        let Some(line) = framer.next_line() else { break };
                        prop_assert_eq!(&input[line.at as usize..][..line.bytes.len()], &line.bytes);
                        prop_assert!(line.at == at || line.at == at + 1);
                        rebuilt.extend_from_slice(&line.bytes);
                        if framer.boundary() != before {
                            rebuilt.push(b'\n');
                        }
                        prop_assert_eq!(framer.at(), rebuilt.len() as u64);
                        got.push((line.bytes.to_vec(), line.oversized));
                        taken += 1;
                    }
                    if taken < at_once { break }
                }
                prop_assert!(framer.pending().len() <= 12);
            }
            prop_assert_eq!(framer.read_offset(), input.len() as u64);
            let upto = framer.boundary() as usize;
            prop_assert!(upto == 0 || input[upto - 1] == b'\n');
            prop_assert_eq!(&got, &model(&input, 6));
            rebuilt.extend_from_slice(framer.pending());
            prop_assert_eq!(rebuilt, input);
        }
    }
}
