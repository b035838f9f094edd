//! Frames that begin with their length.
//!
//! A [`Counted`] promises:
//!
//! - every byte put in comes out exactly once, as part of a record or as the length in front of it, whatever the
//!   sizes of the reads were; nothing of a record is interpreted, and one of no bytes is a record too;
//! - it believes no length: what is announced is held only as far as it has come, and what is longer than any
//!   record may be is not waited for;
//! - the first count that is wrong is the end, since nobody knows where the next frame would begin. What came
//!   before it has been given out.

use bytes::{Buf, Bytes};

use crate::source::frame::{Line, append};

/// What a length looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// 4 bytes, the highest first.
    BigEndian,
    /// `MSG-LEN SP`: decimal digits, the first no zero, and a space. <https://www.rfc-editor.org/rfc/rfc6587#section-3.4.1>
    Decimal,
}

/// Why a stream of frames cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a frame of {announced} bytes or more is announced; the longest may have {longest}")]
    TooLong { announced: u64, longest: usize },
    #[error(
        "byte {:?} stands where a frame's length in decimal digits and a space belong",
        char::from(*.0)
    )]
    NoCount(u8),
    #[error("a frame's length begins with the digit 0")]
    LeadingZero,
}

/// Splits a stream of bytes into frames.
#[derive(Debug)]
pub struct Counted {
    prefix: Prefix,
    /// Read and not yet given out. Begins with a length.
    buf: Bytes,
    /// Offset of `buf`'s first byte in the stream.
    at: u64,
    /// Records given out use the same memory as `buf`.
    shared: bool,
    longest: usize,
    fault: Option<Fault>,
}

/// Where a frame's record lies.
struct Header {
    len: usize,
    record: usize,
}

impl Counted {
    pub fn new(prefix: Prefix, longest: usize) -> Self {
        Self {
            prefix,
            buf: Bytes::new(),
            at: 0,
            shared: false,
            longest,
            fault: None,
        }
    }

    /// Has `read` append up to `room` bytes to what is held. What it appended counts also if it fails.
    pub fn fill<T>(&mut self, room: usize, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = append(&mut self.buf, room, read);
        self.shared = false;
        result
    }

    /// The next record; none when more must be read first, or at a fault.
    pub fn next_record(&mut self) -> Option<Line> {
        if self.fault.is_some() {
            return None;
        }
        let header = match self.prefix {
            Prefix::BigEndian => self.big_endian(),
            Prefix::Decimal => self.decimal(),
        };
        match header {
            Ok(Some(Header { len, record })) if self.buf.len() - len >= record => {
                self.buf.advance(len);
                let bytes = self.buf.split_to(record);
                let at = self.at + len as u64;
                self.at = at + record as u64;
                self.shared = true;
                Some(Line {
                    bytes,
                    at,
                    oversized: false,
                })
            }
            Ok(_) => {
                if std::mem::take(&mut self.shared) {
                    self.buf = Bytes::copy_from_slice(&self.buf);
                }
                None
            }
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }

    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Bytes held that are not part of a record given out: a frame that is not yet whole, with its length.
    pub fn pending(&self) -> &Bytes {
        &self.buf
    }

    /// How many bytes have come.
    pub fn read_offset(&self) -> u64 {
        self.at + self.buf.len() as u64
    }

    fn big_endian(&self) -> Result<Option<Header>, Fault> {
        let Some(length) = self.buf.first_chunk() else {
            return Ok(None);
        };
        let announced = u64::from(u32::from_be_bytes(*length));
        let record = self.checked(announced)?;
        Ok(Some(Header {
            len: length.len(),
            record,
        }))
    }

    /// Judged byte by byte, so that the sizes of the reads do not decide which fault it is.
    fn decimal(&self) -> Result<Option<Header>, Fault> {
        let mut record = 0;
        for (i, byte) in self.buf.iter().enumerate() {
            match byte {
                b'0' if i == 0 => return Err(Fault::LeadingZero),
                b'0'..=b'9' => {
                    record = self.checked(record as u64 * 10 + u64::from(byte - b'0'))?
                }
                b' ' if i > 0 => return Ok(Some(Header { len: i + 1, record })),
                _ => return Err(Fault::NoCount(*byte)),
            }
        }
        Ok(None)
    }

    fn checked(&self, announced: u64) -> Result<usize, Fault> {
        let longest = self.longest;
        match usize::try_from(announced) {
            Ok(length) if length <= longest => Ok(length),
            _ => Err(Fault::TooLong { announced, longest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: usize = 300;
    const PREFIXES: [Prefix; 2] = [Prefix::BigEndian, Prefix::Decimal];

    fn push(frames: &mut Counted, bytes: &[u8]) {
        frames.fill(bytes.len(), |held| held.extend_from_slice(bytes));
    }

    fn records(frames: &mut Counted) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| frames.next_record())
            .map(|record| record.bytes.to_vec())
            .collect()
    }

    fn framed(prefix: Prefix, record: &[u8]) -> Vec<u8> {
        let mut frame = match prefix {
            Prefix::BigEndian => (record.len() as u32).to_be_bytes().to_vec(),
            Prefix::Decimal => format!("{} ", record.len()).into_bytes(),
        };
        frame.extend_from_slice(record);
        frame
    }

    fn fault_of(prefix: Prefix, bytes: &[u8]) -> Option<Fault> {
        let mut frames = Counted::new(prefix, LONGEST);
        push(&mut frames, bytes);
        assert_eq!(records(&mut frames), [b"ok"; 1]);
        frames.fault()
    }

    #[test]
    fn records_pass_unchanged_and_one_of_no_bytes_is_a_record() {
        let mut frames = Counted::new(Prefix::BigEndian, LONGEST);
        push(&mut frames, b"\0\0\0\x03a\n\0\0\0\0\0\0\0\0\x09half");
        assert_eq!(records(&mut frames), [&b"a\n\0"[..], b""]);
        assert_eq!(&frames.pending()[..], b"\0\0\0\x09half");
        let mut frames = Counted::new(Prefix::Decimal, LONGEST);
        push(&mut frames, b"3 a\n 10 0123456789");
        assert_eq!(records(&mut frames), [&b"a\n "[..], b"0123456789"]);
        assert_eq!((frames.pending().len(), frames.fault()), (0, None));
    }

    #[test]
    fn a_wrong_count_is_the_end_and_what_came_before_it_is_kept() {
        for (bytes, fault) in [
            ("2 ok0 ", Fault::LeadingZero),
            ("2 ok05 12345", Fault::LeadingZero),
            ("2 ok 2 ok", Fault::NoCount(b' ')),
            ("2 ok\n2 ok", Fault::NoCount(b'\n')),
            ("2 ok-2 ok", Fault::NoCount(b'-')),
            ("2 ok2x", Fault::NoCount(b'x')),
        ] {
            assert_eq!(fault_of(Prefix::Decimal, bytes.as_bytes()), Some(fault));
        }
        let too_long = |announced| Fault::TooLong {
            announced,
            longest: LONGEST,
        };
        let decimal = b"2 ok99999999999999999999 x";
        assert_eq!(fault_of(Prefix::Decimal, decimal), Some(too_long(999)));
        let binary = b"\0\0\0\x02ok\xff\xff\xff\xffx";
        assert_eq!(
            fault_of(Prefix::BigEndian, binary),
            Some(too_long(u64::from(u32::MAX)))
        );
    }

    #[test]
    fn records_of_each_length_up_to_the_longest_pass_and_none_beyond() {
        for prefix in PREFIXES {
            // A count in digits does not begin with 0.
            let least = usize::from(matches!(prefix, Prefix::Decimal));
            for len in least..=LONGEST + 8 {
                let record: Vec<u8> = (0..len).map(|n| n as u8).collect();
                let mut frames = Counted::new(prefix, LONGEST);
                push(&mut frames, &framed(prefix, &record));
                if len <= LONGEST {
                    assert_eq!(records(&mut frames), [record]);
                    assert_eq!((frames.pending().len(), frames.fault()), (0, None));
                } else {
                    assert_eq!(frames.next_record(), None);
                    assert!(
                        matches!(frames.fault(), Some(Fault::TooLong { .. })),
                        "{len}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_announced_frame_takes_no_memory_ahead_of_its_bytes() {
        for (prefix, announced) in [
            (Prefix::BigEndian, &b"\0\xa0\0\0"[..]),
            (Prefix::Decimal, b"10485760 "),
        ] {
            let mut frames = Counted::new(prefix, 10 << 20);
            push(&mut frames, announced);
            assert_eq!((frames.next_record(), frames.fault()), (None, None));
            push(&mut frames, b"some");
            assert_eq!(frames.next_record(), None);
            let held = Vec::from(std::mem::take(&mut frames.buf));
            assert!(held.capacity() < 64, "{}", held.capacity());
        }
    }

    #[test]
    fn records_share_the_memory_of_their_read_and_the_rest_does_not_pin_it() {
        let mut frames = Counted::new(Prefix::Decimal, LONGEST);
        push(&mut frames, b"3 one3 two9 thr");
        let [one, two] = [(); 2].map(|()| frames.next_record().unwrap().bytes);
        assert_eq!(frames.next_record(), None);
        assert_eq!(one.as_ptr().wrapping_add(5), two.as_ptr());
        assert_ne!(one.as_ptr().wrapping_add(8), frames.pending().as_ptr());
    }

    fn any_reads() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(1usize..20, 1..40)
    }

    /// All records, in reads of these sizes, over and over.
    fn split(frames: &mut Counted, mut rest: &[u8], reads: &[usize]) -> Vec<Vec<u8>> {
        let (mut got, mut sizes) = (Vec::new(), reads.iter().cycle());
        while !rest.is_empty() {
            let (read, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = later;
            push(frames, read);
            got.extend(records(frames));
        }
        got
    }

    proptest! {
        #[test]
        fn any_split_into_reads_gives_the_same_records_and_no_byte_is_lost(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..LONGEST), 0..20),
            cut in any::<prop::sample::Index>(),
            reads in any_reads(),
        ) {
            for prefix in PREFIXES {
                let whole: Vec<_> = sent.iter().flat_map(|record| framed(prefix, record)).collect();
                let input = &whole[..cut.index(whole.len() + 1)];
                let mut frames = Counted::new(prefix, LONGEST);
                let got = split(&mut frames, input, &reads);
                prop_assert_eq!(frames.fault(), None);
                prop_assert_eq!(frames.read_offset(), input.len() as u64);
                prop_assert_eq!(&got[..], &sent[..got.len()]);
                let mut rebuilt: Vec<_> = got.iter().flat_map(|record| framed(prefix, record)).collect();
                rebuilt.extend_from_slice(frames.pending());
                prop_assert_eq!(rebuilt, input);
            }
        }

        #[test]
        fn any_split_of_any_bytes_comes_to_the_same_records_and_the_same_fault(
            input in prop::collection::vec(prop_oneof![Just(b' '), b'0'..b'4', 0u8..3, any::<u8>()], 0..60),
            reads in any_reads(),
        ) {
            for prefix in PREFIXES {
                let [mut at_once, mut in_parts] = [(); 2].map(|()| Counted::new(prefix, LONGEST));
                push(&mut at_once, &input);
                let expected = records(&mut at_once);
                prop_assert_eq!(split(&mut in_parts, &input, &reads), expected);
                prop_assert_eq!(in_parts.fault(), at_once.fault());
                prop_assert_eq!(in_parts.pending(), at_once.pending());
            }
        }
    }
}
