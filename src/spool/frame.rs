//! What lies in a segment: a header, and a frame for each sealed record. Pure.
//!
//! All numbers are little endian.
//!
//! ```text
//! header  "KINSPOOL"  version u16  flags u16  id u64  first u64  crc u32                         32 bytes
//!         flags  1: plaintext  2: the higher half of the id is the spool's, and the same in all of its segments
//! frame   mark u32  crc u32  length u32  │ number u64  born u64 (ms since 1970)  records u32  route  data
//! route   0  │  1  length u16  partition key  │  2  length u16  partition key  hash key u128
//! ```
//!
//! A frame's number is how many user records the spool had taken before it, ever: from the next one's follows what
//! is missing in between. Its checksum (CRC-32, IEEE) is begun with the segment's random id: what a record carries can
//! not pass for a frame, also where damage has to be read over by looking for the next mark.

use bytes::Bytes;

use crate::record::{HashKey, PartitionKey, RecordKey};

/// Of a segment's header.
pub(super) const HEADER_LEN: usize = 32;
const MAGIC: &[u8; 8] = b"KINSPOOL";
const VERSION: u16 = 1;
const PLAIN: u16 = 1;
const OF_A_SPOOL: u16 = 2;

/// Before a frame's body.
pub(super) const FRAME_HEAD: usize = 12;
const MARK: u32 = u32::from_le_bytes([0xb5, b'k', b's', 0xf7]);
/// Number, birth, count, the shortest route.
const LEAST_BODY: usize = 8 + 8 + 4 + 1;
/// More than a record of the largest kind (10 MiB) in base64, with its key. A longer one is damage.
const MOST_BODY: usize = 32 << 20;
pub(super) const MOST_FRAME: usize = FRAME_HEAD + MOST_BODY;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// What it holds is not encrypted.
    pub(super) plain: bool,
    /// Random, or its lower half is.
    pub(super) id: u64,
    /// Whether its higher half is the spool's.
    pub(super) is_of_a_spool: bool,
    /// The number of the first record that was to come.
    pub(super) first: u64,
}

/// Why a file is no segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Cut off, or something else.
    Damaged,
    /// Of a later program.
    Version(u16),
}

impl Header {
    /// Of a new segment.
    pub(super) fn new(plain: bool, spool: u32, first: u64) -> Self {
        Self {
            plain,
            id: u64::from(spool) << 32 | u64::from(rand::random::<u32>()),
            is_of_a_spool: true,
            first,
        }
    }

    /// Which spool it was written for, if it says so: numbers count from that one's beginning.
    pub(super) fn spool(self) -> Option<u32> {
        self.is_of_a_spool.then_some((self.id >> 32) as u32)
    }

    pub(super) fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.plain, PLAIN) | flag(self.is_of_a_spool, OF_A_SPOOL);
        bytes[10..12].copy_from_slice(&flags.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.id.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        let mut rest = Rest(bytes);
        let checked = bytes.get(..28).ok_or(NoHeader::Damaged)?;
        if rest.take(8) != Some(MAGIC) {
            return Err(NoHeader::Damaged);
        }
        let header = (|| {
            let (version, flags) = (rest.u16()?, rest.u16()?);
            let (id, first, crc) = (rest.u64()?, rest.u64()?, rest.u32()?);
            let header = Self {
                plain: flags & PLAIN != 0,
                id,
                is_of_a_spool: flags & OF_A_SPOOL != 0,
                first,
            };
            (crc == crc32fast::hash(checked)).then_some((version, header))
        })();
        match header.ok_or(NoHeader::Damaged)? {
            (VERSION, header) => Ok(header),
            (version, _) => Err(NoHeader::Version(version)),
        }
    }
}

/// The id of a segment whose header has a changed bit, by `after`, what follows the header: its first frame has the id in
/// its checksum.
pub(super) fn id_by_first_frame(header: &[u8], after: &Bytes) -> Option<u64> {
    let id = u64::from_le_bytes(header.get(12..20)?.try_into().ok()?);
    let changed = (0..u64::BITS).map(|bit| id ^ 1 << bit);
    let fits = |id: &u64| matches!(frame_at(after, *id), Found::Frame(..));
    std::iter::once(id).chain(changed).find(fits)
}

/// A sealed record, as it waits on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame<D> {
    /// User records before it.
    pub(super) number: u64,
    /// When it was read, in milliseconds since 1970.
    pub(super) born_ms: u64,
    /// User records in it; at least one.
    pub(super) records: u32,
    pub(super) key: RecordKey,
    pub(super) data: D,
}

impl<D: AsRef<[u8]>> Frame<D> {
    pub(super) fn encode(&self, id: u64, to: &mut Vec<u8>) {
        let begin = to.len();
        to.extend_from_slice(&MARK.to_le_bytes());
        to.extend_from_slice(&[0; 8]);
        to.extend_from_slice(&self.number.to_le_bytes());
        to.extend_from_slice(&self.born_ms.to_le_bytes());
        to.extend_from_slice(&self.records.to_le_bytes());
        match &self.key {
            RecordKey::Any => to.push(0),
            RecordKey::Keyed(key) => put_key(1, key, to),
            RecordKey::Explicit(key, hash_key) => {
                put_key(2, key, to);
                to.extend_from_slice(&hash_key.0.to_le_bytes());
            }
        }
        to.extend_from_slice(self.data.as_ref());
        let body = to.len() - begin - FRAME_HEAD;
        let length = u32::try_from(body).expect("a record is far below 4 GiB");
        to[begin + 8..begin + 12].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(id, &to[begin + 8..]);
        to[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
    }
}

fn put_key(tag: u8, key: &PartitionKey, to: &mut Vec<u8>) {
    to.push(tag);
    let len = u16::try_from(key.len()).expect("a key is at most 256 characters");
    to.extend_from_slice(&len.to_le_bytes());
    to.extend_from_slice(key.as_str().as_bytes());
}

fn checksum(id: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// What lies at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// And how long it is, head included.
    Frame(Frame<Bytes>, usize),
    /// The frame there is so long, or at least so long: read on.
    Short(usize),
    /// No frame.
    Damage,
}

/// Looks for a frame of segment `id` where `bytes` begin.
pub(super) fn frame_at(bytes: &Bytes, id: u64) -> Found {
    let mut head = Rest(bytes);
    let (Some(mark), Some(crc), Some(body)) = (head.u32(), head.u32(), head.u32()) else {
        return Found::Short(FRAME_HEAD);
    };
    let body = body as usize;
    if mark != MARK || !(LEAST_BODY..=MOST_BODY).contains(&body) {
        return Found::Damage;
    }
    let whole = FRAME_HEAD + body;
    let Some(checked) = bytes.get(8..whole) else {
        return Found::Short(whole);
    };
    if checksum(id, checked) != crc {
        return Found::Damage;
    }
    let frame = parse_body(&bytes.slice(FRAME_HEAD..whole));
    frame.map_or(Found::Damage, |frame| Found::Frame(frame, whole))
}

fn parse_body(body: &Bytes) -> Option<Frame<Bytes>> {
    let mut rest = Rest(body);
    let (number, born_ms, records) = (rest.u64()?, rest.u64()?, rest.u32()?);
    let key = match rest.take(1)? {
        [0] => RecordKey::Any,
        [1] => RecordKey::Keyed(rest.key()?),
        [2] => RecordKey::Explicit(rest.key()?, HashKey(rest.u128()?)),
        _ => return None,
    };
    let data = body.slice(body.len() - rest.0.len()..);
    (records > 0).then_some(Frame {
        number,
        born_ms,
        records,
        key,
        data,
    })
}

/// Where the next frame begins that is whole, from `from` on, if there is one.
pub(super) fn next_frame(bytes: &Bytes, from: usize, id: u64) -> Option<usize> {
    let finder = memchr::memmem::Finder::new(&MARK.to_le_bytes()).into_owned();
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| finder.find(rest)) {
        at += found;
        if let Found::Frame(..) = frame_at(&bytes.slice(at..), id) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Bytes that have not been looked at yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn key(&mut self) -> Option<PartitionKey> {
        let len = self.u16()?;
        let text = std::str::from_utf8(self.take(len.into())?).ok()?;
        PartitionKey::new(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = RecordKey> {
        let key = || "\\PC{1,256}".prop_map(|text| PartitionKey::new(text).unwrap());
        prop_oneof![
            Just(RecordKey::Any),
            key().prop_map(RecordKey::Keyed),
            (key(), any::<u128>()).prop_map(|(key, hash)| RecordKey::Explicit(key, HashKey(hash))),
        ]
    }

    fn frames() -> impl Strategy<Value = Frame<Bytes>> {
        let data = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        (any::<u64>(), any::<u64>(), 1u32.., keys(), data).prop_map(
            |(number, born_ms, records, key, data)| Frame {
                number,
                born_ms,
                records,
                key,
                data,
            },
        )
    }

    fn encoded(frame: &Frame<Bytes>, id: u64) -> Bytes {
        let mut bytes = Vec::new();
        frame.encode(id, &mut bytes);
        bytes.into()
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_and_every_shorter_beginning_asks_for_more(
            frame in frames(), id: u64, after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let bytes = encoded(&frame, id);
            let followed: Bytes = [&bytes[..], &after].concat().into();
            prop_assert_eq!(frame_at(&followed, id), Found::Frame(frame, bytes.len()));
            for len in 0..bytes.len() {
                let Found::Short(needed) = frame_at(&bytes.slice(..len), id) else {
                    panic!("{len} of {}", bytes.len());
                };
                prop_assert!(needed > len && needed <= bytes.len());
            }
        }

        #[test]
        fn no_changed_byte_and_no_other_segments_frame_passes(
            frame in frames(), id: u64, other: u64, at: prop::sample::Index, change in 1u8..,
        ) {
            let bytes = encoded(&frame, id);
            prop_assume!(id != other);
            prop_assert_eq!(frame_at(&bytes, other), Found::Damage);
            let mut changed = bytes.to_vec();
            let at = at.index(changed.len());
            changed[at] ^= change;
            // A longer length asks for what is not there.
            let found = frame_at(&changed.into(), id);
            prop_assert!(matches!(found, Found::Damage | Found::Short(_)), "{:?}", found);
        }

        #[test]
        fn after_damage_the_next_whole_frame_is_found(
            junk in prop::collection::vec(any::<u8>(), 0..200), frame in frames(), id: u64,
        ) {
            // A frame of another segment is what an attacker could put into a record.
            let forged = encoded(&frame, id.wrapping_add(1));
            let begin = junk.len() + forged.len();
            let bytes: Bytes = [&junk[..], &forged, &encoded(&frame, id)].concat().into();
            prop_assert_eq!(next_frame(&bytes, 0, id), Some(begin));
            prop_assert_eq!(next_frame(&bytes, begin + 1, id), None);
        }

        #[test]
        fn a_header_comes_back_and_nothing_else_is_one(
            plain: bool, id: u64, is_of_a_spool: bool, first: u64, at: prop::sample::Index, change in 1u8..,
        ) {
            let header = Header { plain, id, is_of_a_spool, first };
            let bytes = header.encode();
            prop_assert_eq!(Header::decode(&bytes), Ok(header));
            let mut changed = bytes;
            changed[at.index(HEADER_LEN)] ^= change;
            prop_assert!(Header::decode(&changed).is_err());
            prop_assert_eq!(Header::decode(&bytes[..at.index(HEADER_LEN)]), Err(NoHeader::Damaged));
        }

        #[test]
        fn the_id_of_a_header_with_a_changed_bit_is_found_by_the_first_frame(
            frame in frames(), spool: u32, first: u64, bit in 0..HEADER_LEN * 8,
        ) {
            let header = Header::new(true, spool, first);
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let after = encoded(&frame, header.id);
            prop_assert_eq!(id_by_first_frame(&bytes, &after), Some(header.id));
            prop_assert_eq!(id_by_first_frame(&bytes, &after.slice(1..)), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, id: u64) {
            let bytes = Bytes::from(bytes);
            let _ = (frame_at(&bytes, id), next_frame(&bytes, 0, id), Header::decode(&bytes));
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = Header {
            plain: false,
            id: 1,
            is_of_a_spool: false,
            first: 2,
        }
        .encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(NoHeader::Version(2)));
    }
}
