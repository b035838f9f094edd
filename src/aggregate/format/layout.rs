//! Writing an aggregate: its size before a byte of it is written, then its bytes.

use super::checksum::{self, Checksum};
use super::table::Table;
use super::{ENVELOPE, MAGIC};
use crate::near;
use crate::record::{HashKey, PartitionKey};

/// The tables of an aggregate that is being built, and its size so far.
#[derive(Debug, Default, Clone)]
pub struct Layout {
    keys: Table<PartitionKey>,
    hash_keys: Table<HashKey>,
    members: Vec<MemberLayout>,
    protobuf_len: usize,
}

/// Small, since there is one for every record that waits. Places in tables have no more than
/// [`MAX_MEMBERS`](super::MAX_MEMBERS).
#[derive(Debug, Clone, Copy)]
struct MemberLayout {
    data_len: u32,
    /// See [`Layout::kept_at`].
    kept_at: u32,
    key: u32,
    /// [`NO_HASH_KEY`](Self::NO_HASH_KEY): none.
    hash_key: u32,
}

impl MemberLayout {
    const NO_HASH_KEY: u32 = u32::MAX;

    fn new(data_len: usize, key: usize, hash_key: Option<usize>) -> Self {
        let short = |n| u32::try_from(n).expect("tables are short, and records have no gigabytes");
        Self {
            data_len: short(data_len),
            kept_at: 0,
            key: short(key),
            hash_key: hash_key.map_or(Self::NO_HASH_KEY, short),
        }
    }

    fn data_len(self) -> usize {
        self.data_len as usize
    }

    fn key(self) -> usize {
        self.key as usize
    }

    fn hash_key(self) -> Option<usize> {
        (self.hash_key != Self::NO_HASH_KEY).then_some(self.hash_key as usize)
    }

    fn body_len(self) -> usize {
        let hash_key = self.hash_key().map_or(0, |i| 1 + varint_len(i));
        let data = 1 + varint_len(self.data_len()) + self.data_len();
        1 + varint_len(self.key()) + hash_key + data
    }
}

impl Layout {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_room_for(members: usize) -> Self {
        Self {
            members: Vec::with_capacity(members),
            ..Self::default()
        }
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Notes where the last member's data is kept, by whoever keeps it.
    pub fn keep_last_at(&mut self, place: u32) {
        if let Some(last) = self.members.last_mut() {
            last.kept_at = place;
        }
    }

    /// Where each member's data is kept, in the order they were added: what was last noted.
    pub fn kept_at(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.kept_at)
    }

    /// The same, for who moves them.
    pub fn kept_at_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        self.members.iter_mut().map(|member| &mut member.kept_at)
    }

    /// Brings near where the next member will be listed.
    pub fn bring(&self) {
        near::bring_end(&self.members);
    }

    /// Bytes on the wire, envelope included.
    pub fn wire_len(&self) -> usize {
        ENVELOPE + self.protobuf_len
    }

    /// Bytes on the wire if this member were added.
    pub fn wire_len_with(
        &self,
        key: &PartitionKey,
        hash_key: Option<HashKey>,
        data_len: usize,
    ) -> usize {
        let (_, grows_by) = self.place(key, hash_key, data_len);
        self.wire_len() + grows_by
    }

    pub fn add(&mut self, key: &PartitionKey, hash_key: Option<HashKey>, data_len: usize) {
        let (member, grows_by) = self.place(key, hash_key, data_len);
        self.put(key, hash_key, member, grows_by);
    }

    /// Adds a member unless that took more bytes on the wire than `limit`. Whether it did.
    #[must_use]
    pub fn add_within(
        &mut self,
        limit: usize,
        key: &PartitionKey,
        hash_key: Option<HashKey>,
        data_len: usize,
    ) -> bool {
        let (member, grows_by) = self.place(key, hash_key, data_len);
        let fits = self.wire_len() + grows_by <= limit;
        if fits {
            self.put(key, hash_key, member, grows_by);
        }
        fits
    }

    fn put(
        &mut self,
        key: &PartitionKey,
        hash_key: Option<HashKey>,
        member: MemberLayout,
        grows_by: usize,
    ) {
        if member.key() == self.keys.len() {
            self.keys.push(key.clone());
        }
        if let (Some(index), Some(hash_key)) = (member.hash_key(), hash_key)
            && index == self.hash_keys.len()
        {
            self.hash_keys.push(hash_key);
        }
        self.members.push(member);
        self.protobuf_len += grows_by;
    }

    /// Where a member's keys are or would be in the tables, and by how much the protobuf grows.
    fn place(
        &self,
        key: &PartitionKey,
        hash_key: Option<HashKey>,
        data_len: usize,
    ) -> (MemberLayout, usize) {
        let mut grows_by = 0;
        let key_index = self.keys.place_of(key).unwrap_or_else(|| {
            grows_by += 1 + varint_len(key.len()) + key.len();
            self.keys.len()
        });
        let hash_key_index = hash_key.map(|hash_key| {
            self.hash_keys.place_of(&hash_key).unwrap_or_else(|| {
                let digits = decimal_len(hash_key.0);
                grows_by += 1 + varint_len(digits) + digits;
                self.hash_keys.len()
            })
        });
        let member = MemberLayout::new(data_len, key_index, hash_key_index);
        let body = member.body_len();
        (member, grows_by + 1 + varint_len(body) + body)
    }

    /// Writes the aggregate of these members' data, in the order they were added, and says where in it each
    /// member's data lies.
    pub fn encode<'a>(&self, data: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<usize>) {
        self.encode_unsummed(data).sum()
    }

    /// The same but for the checksum: whoever encodes several aggregates can have those together.
    pub fn encode_unsummed<'a>(&self, data: impl Iterator<Item = &'a [u8]>) -> Unsummed {
        let mut bytes = Vec::with_capacity(self.wire_len());
        bytes.extend_from_slice(&MAGIC);
        let mut starts = Vec::with_capacity(self.members.len());
        self.write_protobuf(data, &mut bytes, |start| starts.push(start));
        debug_assert_eq!(bytes.len() + size_of::<Checksum>(), self.wire_len());
        Unsummed { bytes, starts }
    }

    /// Appends the protobuf alone, for bytes that something else authenticates.
    pub fn encode_bare<'a>(&self, data: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        out.reserve(self.protobuf_len);
        self.write_protobuf(data, out, |_| {});
    }

    fn write_protobuf<'a>(
        &self,
        data: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
        mut starts: impl FnMut(usize),
    ) {
        let mut written = 0;
        for key in self.keys.keys() {
            put_bytes(out, 1, key.as_str().as_bytes());
        }
        for hash_key in self.hash_keys.keys() {
            put_bytes(out, 2, hash_key.to_string().as_bytes());
        }
        for (member, data) in self.members.iter().zip(data) {
            assert_eq!(
                member.data_len(),
                data.len(),
                "members come in the order they were added"
            );
            let mut fields = Fields::new();
            fields.tag(3, LENGTH_DELIMITED).varint(member.body_len());
            fields.tag(1, VARINT).varint(member.key());
            if let Some(index) = member.hash_key() {
                fields.tag(2, VARINT).varint(index);
            }
            fields.tag(3, LENGTH_DELIMITED).varint(data.len());
            out.extend_from_slice(fields.as_bytes());
            starts(out.len());
            out.extend_from_slice(data);
            written += 1;
        }
        assert_eq!(written, self.members.len(), "data for every member");
    }
}

/// An aggregate without its checksum, which to readers is none. Room for it is kept.
#[derive(Debug)]
pub struct Unsummed {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Unsummed {
    /// The aggregate, and where in it each member's data lies.
    pub fn sum(self) -> (Vec<u8>, Vec<usize>) {
        let checksum = checksum::of(self.protobuf());
        self.end_with(&checksum)
    }

    /// The same of each, in their order. Their checksums are computed side by side.
    pub fn sum_each(aggregates: Vec<Self>) -> Vec<(Vec<u8>, Vec<usize>)> {
        let protobufs: Vec<_> = aggregates.iter().map(Self::protobuf).collect();
        let checksums = checksum::of_each(&protobufs);
        aggregates
            .into_iter()
            .zip(&checksums)
            .map(|(aggregate, checksum)| aggregate.end_with(checksum))
            .collect()
    }

    fn protobuf(&self) -> &[u8] {
        &self.bytes[MAGIC.len()..]
    }

    fn end_with(mut self, checksum: &Checksum) -> (Vec<u8>, Vec<usize>) {
        self.bytes.extend_from_slice(checksum);
        (self.bytes, self.starts)
    }
}

const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    let mut fields = Fields::new();
    fields.tag(field, LENGTH_DELIMITED).varint(bytes.len());
    out.extend_from_slice(fields.as_bytes());
    out.extend_from_slice(bytes);
}

/// The fields before a member's data, written at once: an aggregate of short lines is made of little else.
struct Fields {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Fields {
    /// Four tags, and four numbers of 64 bits.
    const MOST: usize = 4 + 4 * 10;

    fn new() -> Self {
        Self {
            bytes: [0; Self::MOST],
            len: 0,
        }
    }

    fn tag(&mut self, field: u8, wire_type: u8) -> &mut Self {
        self.push(field << 3 | wire_type)
    }

    fn varint(&mut self, mut n: usize) -> &mut Self {
        while n >= 0x80 {
            self.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.push(n as u8)
    }

    fn push(&mut self, byte: u8) -> &mut Self {
        self.bytes[self.len] = byte;
        self.len += 1;
        self
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn varint_len(n: usize) -> usize {
    // One byte per started group of 7 bits; zero takes one too.
    (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize
}

fn decimal_len(n: u128) -> usize {
    n.checked_ilog10().map_or(1, |log| log as usize + 1)
}
