//! Finds the keys of records in a body that comes in pieces, and lets the rest pass.
//!
//! A body is strings and what stands between them. Of most strings, payloads above all, only the end is searched for,
//! as fast as memory is read; kept are the names of members, the keys, and the stream. An object that had `Data` is a
//! record, so that PutRecords and PutRecord are read alike, whatever the order of their members.

use std::borrow::Cow;

use memchr::memchr2;

use crate::aggregate::format::checksum;
use crate::record::HashKey;

/// Reads a body piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    place: Place,
    /// Whether a string that begins is a value; else it is a member's name.
    after_colon: bool,
    member: Member,
    /// The string that is being kept, as it is written, without its quotes.
    text: Vec<u8>,
    record: Record,
    scanned: Scanned,
}

/// What a body holds.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) stream_name: Option<String>,
    pub(crate) stream_arn: Option<String>,
    pub(crate) records: usize,
    /// Of the first [`Scan::MOST_KEYS`] records.
    keys: Vec<Key>,
    /// One after the other, and perhaps that of the object that is being read.
    partition_keys: Vec<u8>,
    /// Where those of `keys` end.
    kept: usize,
}

/// What decides where a record goes.
#[derive(Debug)]
enum Key {
    Explicit(HashKey),
    /// The partition key that begins where the one before it ends, and ends here.
    Hashed {
        end: usize,
    },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    InString {
        kept: bool,
        /// The next byte is what a backslash makes of it.
        escaped: bool,
    },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    Data,
    PartitionKey,
    ExplicitHashKey,
    StreamName,
    StreamArn,
}

/// The object that is being read. Its partition key stands after those of the records so far.
#[derive(Debug, Default)]
struct Record {
    has_data: bool,
    explicit: Option<HashKey>,
}

impl Scan {
    /// Bytes of a string that are kept: 256 characters of a key, each as two `\uXXXX`. What is longer is no key.
    const MOST_KEPT: usize = 256 * 12;
    /// What the service takes in one call.
    pub(crate) const MOST_KEYS: usize = 500;

    pub(crate) fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let read = match self.place {
                Place::Between => self.between(piece),
                Place::InString { kept, escaped } => self.in_string(piece, kept, escaped),
            };
            piece = &piece[read..];
        }
    }

    pub(crate) fn end(self) -> Scanned {
        self.scanned
    }

    /// Up to and with the quote that begins a string. Returns how far it came.
    fn between(&mut self, piece: &[u8]) -> usize {
        for (n, byte) in piece.iter().enumerate() {
            match byte {
                b'"' => {
                    self.place = Place::InString {
                        kept: !(self.after_colon
                            && matches!(self.member, Member::Other | Member::Data)),
                        escaped: false,
                    };
                    return n + 1;
                }
                b':' => self.after_colon = true,
                // What stands before the colon is a value without quotes, or none.
                b',' | b'[' => self.after_colon = false,
                b'{' => {
                    self.after_colon = false;
                    self.record = Record::default();
                }
                b'}' => {
                    let record = std::mem::take(&mut self.record);
                    self.scanned.object_ends(record.has_data, record.explicit);
                }
                _ => {}
            }
        }
        piece.len()
    }

    /// Up to and with the quote that ends the string.
    fn in_string(&mut self, piece: &[u8], kept: bool, escaped: bool) -> usize {
        let from = usize::from(escaped);
        let found = memchr2(b'"', b'\\', &piece[from..]).map(|n| from + n);
        let (end, next) = match found {
            None => (
                piece.len(),
                Place::InString {
                    kept,
                    escaped: false,
                },
            ),
            Some(n) if piece[n] == b'"' => (n, Place::Between),
            Some(n) => (
                n + 1,
                Place::InString {
                    kept,
                    escaped: true,
                },
            ),
        };
        if kept {
            let room = Self::MOST_KEPT.saturating_sub(self.text.len());
            self.text.extend_from_slice(&piece[..end.min(room)]);
        }
        self.place = next;
        if next != Place::Between {
            return end;
        }
        self.string_ends();
        end + 1
    }

    fn string_ends(&mut self) {
        if !self.after_colon {
            self.member = Member::named(&self.text);
            self.text.clear();
            return;
        }
        self.after_colon = false;
        match self.member {
            Member::Other => {}
            Member::Data => self.record.has_data = true,
            Member::PartitionKey => {
                let key = unescaped(&self.text);
                self.scanned.partition_key(&key);
            }
            // What is no number is as good as not given: nothing is checked here.
            Member::ExplicitHashKey => self.record.explicit = text(&self.text).parse().ok(),
            Member::StreamName => self.scanned.stream_name = Some(text(&self.text)),
            Member::StreamArn => self.scanned.stream_arn = Some(text(&self.text)),
        }
        self.text.clear();
    }
}

impl Member {
    fn named(name: &[u8]) -> Self {
        match name {
            b"Data" => Self::Data,
            b"PartitionKey" => Self::PartitionKey,
            b"ExplicitHashKey" => Self::ExplicitHashKey,
            b"StreamName" => Self::StreamName,
            b"StreamARN" => Self::StreamArn,
            _ => Self::Other,
        }
    }
}

impl Scanned {
    /// Where each of the first records belongs.
    pub(crate) fn hash_keys(&self) -> Vec<HashKey> {
        let mut from = 0;
        let partition_keys: Vec<_> = self
            .keys
            .iter()
            .filter_map(|key| match *key {
                Key::Explicit(_) => None,
                Key::Hashed { end } => {
                    Some(&self.partition_keys[std::mem::replace(&mut from, end)..end])
                }
            })
            .collect();
        let mut hashed = checksum::of_each(&partition_keys).into_iter();
        let hash_key = |key: &Key| match *key {
            Key::Explicit(hash_key) => Some(hash_key),
            Key::Hashed { .. } => hashed.next().map(|sum| HashKey(u128::from_be_bytes(sum))),
        };
        self.keys.iter().map_while(hash_key).collect()
    }

    pub(crate) fn partition_key(&mut self, key: &[u8]) {
        self.partition_keys.extend_from_slice(key);
    }

    /// One with data is a record, and its keys are kept.
    pub(crate) fn object_ends(&mut self, has_data: bool, explicit: Option<HashKey>) {
        if has_data {
            self.records += 1;
            if self.keys.len() < Scan::MOST_KEYS {
                self.keys.push(match explicit {
                    Some(hash_key) => Key::Explicit(hash_key),
                    None => {
                        self.kept = self.partition_keys.len();
                        Key::Hashed { end: self.kept }
                    }
                });
            }
        }
        self.partition_keys.truncate(self.kept);
    }
}

/// What a string that is written so says; of what is no JSON, the bytes as they are.
fn unescaped(written: &[u8]) -> Cow<'_, [u8]> {
    if !written.contains(&b'\\') {
        return written.into();
    }
    let quoted = [b"\"", written, b"\""].concat();
    let read = serde_json::from_slice::<String>(&quoted);
    read.map_or_else(|_| written.into(), |text| text.into_bytes().into())
}

fn text(written: &[u8]) -> String {
    String::from_utf8_lossy(&unescaped(written)).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    type Told = (Option<String>, Option<String>, usize, Vec<HashKey>);

    fn scan(body: &[u8], pieces: impl Iterator<Item = usize>) -> Told {
        let (mut scan, mut rest) = (Scan::default(), body);
        for size in pieces {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            scan.feed(piece);
            rest = after;
        }
        scan.feed(rest);
        let scanned = scan.end();
        let hash_keys = scanned.hash_keys();
        (
            scanned.stream_name,
            scanned.stream_arn,
            scanned.records,
            hash_keys,
        )
    }

    #[test]
    fn records_and_keys_are_found_however_the_body_is_cut() {
        let body = br#"{ "StreamName" : "Data", "Other": {"a": [1, "PartitionKey"]},
            "Records":[{"Data":"AA\/AA==","PartitionKey":"\"Data\":\u00e9\ud83d\ude00"},
            {"PartitionKey":"Data","Data": "AA==", "ExplicitHashKey":"7"},{"Data":"","PartitionKey":"k\\"},
            {"Data":null,"PartitionKey":"no record"},{"ExplicitHashKey":null,"PartitionKey":"k","Data":""}],
            "StreamARN":"arn:x"}"#;
        let expected = (
            Some("Data".to_owned()),
            Some("arn:x".to_owned()),
            4,
            vec![
                HashKey::of("\"Data\":é😀".as_bytes()),
                HashKey(7),
                HashKey::of(b"k\\"),
                HashKey::of(b"k"),
            ],
        );
        for size in 1..=body.len() {
            let pieces = std::iter::repeat_n(size, body.len() / size);
            assert_eq!(scan(body, pieces), expected, "pieces of {size}");
        }
    }

    #[test]
    fn one_record_alone_is_read_as_one_of_many() {
        let body = br#"{"Data":"AA==","PartitionKey":"k","StreamName":"s"}"#;
        let told = scan(body, std::iter::empty());
        assert_eq!(
            told,
            (Some("s".to_owned()), None, 1, vec![HashKey::of(b"k")])
        );
    }

    #[test]
    fn of_more_records_than_a_call_takes_all_are_counted_and_no_more_keys_kept() {
        let records = vec![json!({"Data": "", "PartitionKey": "k"}); Scan::MOST_KEYS + 3];
        let body = json!({"Records": records}).to_string();
        let (_, _, records, hash_keys) = scan(body.as_bytes(), std::iter::empty());
        assert_eq!(
            (records, hash_keys.len()),
            (Scan::MOST_KEYS + 3, Scan::MOST_KEYS)
        );
    }

    proptest! {
        #[test]
        fn any_key_is_read_as_a_json_parser_reads_it(
            records in prop::collection::vec(
                (".{0,300}", prop::option::weighted(0.3, any::<u128>()), "[A-Za-z0-9+/]{0,200}"), 0..30),
            pieces in prop::collection::vec(1usize..100, 0..60),
        ) {
            let entries: Vec<_> = records
                .iter()
                .map(|(key, explicit, data)| match explicit {
                    Some(n) => json!({"Data": data, "PartitionKey": key, "ExplicitHashKey": n.to_string()}),
                    None => json!({"Data": data, "PartitionKey": key}),
                })
                .collect();
            let body = json!({"Records": entries, "StreamName": "s"}).to_string();
            let (_, _, found, hash_keys) = scan(body.as_bytes(), pieces.into_iter());
            prop_assert_eq!(found, records.len());
            let expected: Vec<_> = records
                .iter()
                .map(|(key, explicit, _)| explicit.map_or_else(|| HashKey::of(key.as_bytes()), HashKey))
                .collect();
            prop_assert_eq!(hash_keys, expected);
        }

        #[test]
        fn any_bytes_are_let_pass(
            pieces in prop::collection::vec(
                prop::collection::vec(prop::sample::select(br#"{}[]":,\Da"#.to_vec()), 0..9), 0..30),
        ) {
            let mut scan = Scan::default();
            pieces.iter().for_each(|piece| scan.feed(piece));
            let _ = scan.end().hash_keys();
        }
    }
}
