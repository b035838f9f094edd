//! The members of the JSON body in CBOR (RFC 8949), lengths known before, and data as byte strings.

use super::Entry;
use crate::record::StreamName;

/// Major types, RFC 8949 section 3.1, where they stand in a head.
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;

/// Before the first of so many entries.
pub(super) fn begin(entries: usize, has_id: bool, out: &mut Vec<u8>) {
    head(MAP, 2 + usize::from(has_id), out);
    text("Records", out);
    head(ARRAY, entries, out);
}

/// Its data come right behind, as they are.
pub(super) fn begin_entry(entry: &Entry, out: &mut Vec<u8>) {
    head(MAP, 2 + usize::from(entry.explicit_hash_key.is_some()), out);
    text("Data", out);
    head(BYTES, entry.data.len(), out);
}

pub(super) fn end_entry(entry: &Entry, out: &mut Vec<u8>) {
    if let Some(hash_key) = entry.explicit_hash_key {
        text("ExplicitHashKey", out);
        text(&hash_key.to_string(), out);
    }
    text("PartitionKey", out);
    text(entry.partition_key.as_str(), out);
}

pub(super) fn end(stream: &StreamName, id: Option<&str>, out: &mut Vec<u8>) {
    let (member, name) = match stream.arn() {
        Some(arn) => ("StreamARN", arn),
        None => ("StreamName", stream.name()),
    };
    text(member, out);
    text(name, out);
    if let Some(id) = id {
        text("StreamId", out);
        text(id, out);
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    head(TEXT, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// An item's type and its length, as short as it goes (section 4.2.1).
fn head(major: u8, length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("no request holds 4 GiB");
    let bytes = length.to_be_bytes();
    match length {
        0..=23 => out.push(major | bytes[3]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[3]]),
        0x100..=0xffff => out.extend_from_slice(&[major | 25, bytes[2], bytes[3]]),
        _ => {
            out.push(major | 26);
            out.extend_from_slice(&bytes);
        }
    }
}
