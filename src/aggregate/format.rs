//! The KPL's record format, both ways.
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord (protobuf) | MD5 of the protobuf (16)
//! AggregatedRecord { 1: repeated string partition_key_table, 2: repeated string explicit_hash_key_table,
//!                    3: repeated Record { 1: partition_key_index, 2: explicit_hash_key_index?, 3: data } }
//! ```
//!
//! Source: <https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md>. Writing is
//! our own, so that an aggregate's size is known by arithmetic before a byte of it is written; reading is
//! prost's, on bytes that anyone may have put there. The two are tested against each other and against
//! bytes from the KPL.
//!
//! Key tables are in the order of first use. An index table that is not ordered gives records the wrong
//! keys, which has happened to others.

pub mod checksum;
mod layout;
mod table;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use self::checksum::Checksum;
pub use self::layout::{Layout, Unsummed};
use crate::record::HashKey;

pub const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// What an aggregate costs beyond its protobuf.
pub const ENVELOPE: usize = MAGIC.len() + size_of::<Checksum>();

/// User records of one container at most: readers refuse more, because each claims far more memory than the
/// few bytes that it may have, and writers do not make more. The service's largest record, 10 MiB, filled with
/// lines of 80 bytes.
pub const MAX_MEMBERS: usize = 1 << 17;

/// One user record of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Shared by all records of the key: copies would let a small aggregate of one long key claim much memory.
    pub partition_key: Arc<str>,
    pub explicit_hash_key: Option<HashKey>,
    pub data: Bytes,
}

impl UserRecord {
    pub fn hash_key(&self) -> HashKey {
        self.explicit_hash_key
            .unwrap_or_else(|| HashKey::of(self.partition_key.as_bytes()))
    }
}

/// The user records of a Kinesis record, or `None` where it is no aggregate.
///
/// As the KCL does it: bytes without the magic, with a wrong checksum, or whose protobuf does not parse are
/// not an aggregate but one plain record. So nothing is refused here.
pub fn deaggregate(data: &Bytes) -> Option<Vec<UserRecord>> {
    deaggregate_each(std::slice::from_ref(data)).pop().flatten()
}

/// The same of each of several, whose checksums are computed side by side.
pub fn deaggregate_each(data: &[Bytes]) -> Vec<Option<Vec<UserRecord>>> {
    let claims: Vec<_> = data.iter().map(claimed).collect();
    let protobufs: Vec<&[u8]> = (claims.iter().flatten())
        .map(|(protobuf, _)| &protobuf[..])
        .collect();
    let mut checksums = checksum::of_each(&protobufs).into_iter();
    let each = claims.into_iter().map(|claim| {
        let (protobuf, told) = claim?;
        let checksum = checksums.next().expect("one for each claim");
        (checksum[..] == told[..]).then(|| records_of(protobuf))?
    });
    each.collect()
}

/// What begins as an aggregate does: its protobuf, and its checksum as it stands there.
fn claimed(data: &Bytes) -> Option<(Bytes, Bytes)> {
    let protobuf_end = data.len().checked_sub(size_of::<Checksum>())?;
    if protobuf_end < MAGIC.len() || data[..MAGIC.len()] != MAGIC {
        return None;
    }
    let protobuf = data.slice(MAGIC.len()..protobuf_end);
    Some((protobuf, data.slice(protobuf_end..)))
}

/// The user records of a bare protobuf; `None` where it is none, or holds none.
pub fn records_of(protobuf: Bytes) -> Option<Vec<UserRecord>> {
    if !claims_little(&protobuf) {
        return None;
    }
    let wire::AggregatedRecord {
        partition_key_table,
        explicit_hash_key_table,
        records,
    } = wire::AggregatedRecord::decode(protobuf).ok()?;
    if records.is_empty() {
        // Bytes that hold no user record would otherwise vanish without a word.
        return None;
    }
    let keys: Vec<Arc<str>> = partition_key_table.into_iter().map(Arc::from).collect();
    records
        .into_iter()
        .map(|record| {
            let key = usize::try_from(record.partition_key_index).ok()?;
            let explicit_hash_key = match record.explicit_hash_key_index {
                None => None,
                Some(index) => {
                    let text = explicit_hash_key_table.get(usize::try_from(index).ok()?)?;
                    Some(text.parse().ok()?)
                }
            };
            Some(UserRecord {
                partition_key: Arc::clone(keys.get(key)?),
                explicit_hash_key,
                data: record.data,
            })
        })
        .collect()
}

/// Whether no table of the protobuf has more than [`MAX_MEMBERS`] entries. Counts fields without making
/// anything of them; what does not parse, prost refuses.
fn claims_little(mut protobuf: &[u8]) -> bool {
    let mut counts = [0; 4];
    while !protobuf.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut protobuf) else {
            return true;
        };
        if let Some(count) = counts.get_mut(tag as usize) {
            *count += 1;
            if *count > MAX_MEMBERS {
                return false;
            }
        }
        if skip_field(wire_type, tag, &mut protobuf, DecodeContext::default()).is_err() {
            return true;
        }
    }
    true
}

mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AggregatedRecord {
        #[prost(string, repeated, tag = "1")]
        pub(super) partition_key_table: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub(super) explicit_hash_key_table: Vec<String>,
        #[prost(message, repeated, tag = "3")]
        pub(super) records: Vec<Record>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Record {
        #[prost(uint64, required, tag = "1")]
        pub(super) partition_key_index: u64,
        #[prost(uint64, optional, tag = "2")]
        pub(super) explicit_hash_key_index: Option<u64>,
        #[prost(bytes = "bytes", required, tag = "3")]
        pub(super) data: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PartitionKey;
    use proptest::prelude::*;

    type Member = (&'static str, Option<HashKey>, &'static str);

    fn aggregate(members: &[Member]) -> Vec<u8> {
        let mut layout = Layout::new();
        for (key, hash_key, data) in members {
            layout.add(&PartitionKey::new(key).unwrap(), *hash_key, data.len());
        }
        layout.encode(members.iter().map(|m| m.2.as_bytes())).0
    }

    fn unhex(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect()
    }

    /// Built with the KPL's own protobuf classes.
    const KPL_THREE_KEYS: &str = "f3899ac20a05616c7068610a04626574611a0708001a036f6e651a0708011a0374776f\
        1a0908001a0574687265654204f8374a68aebb42c22939c86930a7";
    const KPL_HASH_KEYS: &str = "f3899ac20a026b310a026b32122731373031343131383334363034363932333137333136\
        383733303337313538383431303537323812273137303134313138333436303436393233313733313638373330333731\
        3538383431303537323\
        91a07080010001a01781a07080010011a01791a0508011a017aaecb67a9747f73d719c95b49df690975";

    #[test]
    fn bytes_are_the_kpls() {
        let members = [
            ("alpha", None, "one"),
            ("beta", None, "two"),
            ("alpha", None, "three"),
        ];
        assert_eq!(aggregate(&members), unhex(KPL_THREE_KEYS));

        let half = HashKey(1 << 127);
        let members = [
            ("k1", Some(half), "x"),
            ("k1", Some(HashKey(half.0 + 1)), "y"),
            ("k2", None, "z"),
        ];
        assert_eq!(aggregate(&members), unhex(KPL_HASH_KEYS));
    }

    #[test]
    fn the_kpls_bytes_come_apart() {
        let records = deaggregate(&unhex(KPL_HASH_KEYS).into()).unwrap();
        let seen: Vec<_> = records
            .iter()
            .map(|r| (&*r.partition_key, r.explicit_hash_key, &r.data[..]))
            .collect();
        let half = 1 << 127;
        assert_eq!(
            seen,
            [
                ("k1", Some(HashKey(half)), &b"x"[..]),
                ("k1", Some(HashKey(half + 1)), b"y"),
                ("k2", None, b"z"),
            ]
        );
    }

    #[test]
    fn what_is_damaged_is_a_plain_record() {
        let whole = unhex(KPL_THREE_KEYS);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(deaggregate(&damaged.into()), None, "byte {at}");
            assert_eq!(deaggregate(&Bytes::copy_from_slice(&whole[..at])), None);
        }
    }

    #[test]
    fn an_index_outside_the_tables_is_not_followed() {
        let protobuf = unhex("0a016b1a05080 71a0178".replace(' ', "").as_str());
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&protobuf);
        bytes.extend_from_slice(&checksum::of(&protobuf));
        assert_eq!(deaggregate(&bytes.into()), None);
    }

    prop_compose! {
        fn member()(
            key in "[a-c]{1,3}|.{1,40}",
            hash_key in proptest::option::weighted(0.3, any::<u128>()),
            data in proptest::collection::vec(any::<u8>(), 0..300),
        ) -> (String, Option<u128>, Vec<u8>) {
            (key, hash_key, data)
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_size_is_known_before(
            members in proptest::collection::vec(member(), 1..60)
        ) {
            let mut layout = Layout::new();
            for (key, hash_key, data) in &members {
                let key = PartitionKey::new(key).unwrap();
                let hash_key = hash_key.map(HashKey);
                let told = layout.wire_len_with(&key, hash_key, data.len());
                layout.add(&key, hash_key, data.len());
                prop_assert_eq!(layout.wire_len(), told);
            }
            let (bytes, starts) = layout.encode(members.iter().map(|m| &m.2[..]));
            prop_assert_eq!(bytes.len(), layout.wire_len());
            let records = deaggregate(&bytes.clone().into()).unwrap();
            prop_assert_eq!(records.len(), members.len());
            for ((record, (key, hash_key, data)), start) in records.iter().zip(&members).zip(starts) {
                prop_assert_eq!(&*record.partition_key, &**key);
                prop_assert_eq!(record.explicit_hash_key, hash_key.map(HashKey));
                prop_assert_eq!(&record.data[..], &data[..]);
                prop_assert_eq!(&bytes[start..start + data.len()], &data[..]);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            body in proptest::collection::vec(any::<u8>(), 0..200), checked in any::<bool>()
        ) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&body);
            if checked {
                bytes.extend_from_slice(&checksum::of(&body));
            }
            let _ = deaggregate(&bytes.into());
        }
    }
}
