//! Null mode: PutRecords bodies are let pass and forgotten, as fast as they arrive.
//!
//! Nothing is checked, decoded or kept of a record but its key: each is answered as stored on the shard that its
//! stream has for that key, under a sequence number that means nothing. Faults of whole calls work here too; those
//! of entries do not.

mod scan;

use bytes::Bytes;

use super::kinesis::{Distribution, Stream};
pub(crate) use scan::{Scan, Scanned};

const BEFORE_ENTRIES: &str = r#"{"FailedRecordCount":0,"Records":["#;
const AFTER_ENTRIES: &str = "]}";
/// 56 digits, as the service's have.
const BEFORE_SHARD: &str = concat!(
    r#"{"SequenceNumber":"#,
    r#""49000000000000000000000000000000000000000000000000000000","#,
    r#""ShardId":""#
);
const AFTER_SHARD: &str = r#""}"#;

/// The answer to PutRecords. Of more records than the service takes, only so many are answered, which no client
/// overlooks.
pub(crate) fn stored_each(scanned: &Scanned, stream: &Stream) -> Bytes {
    let mut answer = String::from(BEFORE_ENTRIES);
    shards(scanned, stream, |n, shard| {
        if n == 0 {
            let entry = 1 + BEFORE_SHARD.len() + shard.len() + AFTER_SHARD.len();
            answer
                .reserve_exact(scanned.records.min(Scan::MOST_KEYS) * entry + AFTER_ENTRIES.len());
        } else {
            answer.push(',');
        }
        push_entry(&mut answer, shard);
    });
    answer.push_str(AFTER_ENTRIES);
    answer.into()
}

/// The answer to PutRecord, which has a record.
pub(crate) fn stored(scanned: &Scanned, stream: &Stream) -> Bytes {
    let mut answer = String::new();
    shards(scanned, stream, |n, shard| {
        if n == 0 {
            push_entry(&mut answer, shard);
        }
    });
    answer.into()
}

fn push_entry(answer: &mut String, shard: &str) {
    answer.push_str(BEFORE_SHARD);
    // An id holds nothing that JSON would escape.
    answer.push_str(shard);
    answer.push_str(AFTER_SHARD);
}

/// Says of each of the first records where it belongs.
fn shards(scanned: &Scanned, stream: &Stream, mut say: impl FnMut(usize, &str)) {
    let auto = stream.settings().distribution == Distribution::Auto;
    let records = scanned.records.min(Scan::MOST_KEYS);
    let table = stream.shards();
    match table.open() {
        // Nothing to choose, and so no key to hash.
        [only] => (0..records).for_each(|n| say(n, only.id())),
        open if auto => {
            (0..records).for_each(|n| say(n, open[stream.next_auto() % open.len()].id()));
        }
        _ => {
            for (n, hash_key) in scanned.hash_keys().into_iter().enumerate() {
                say(n, table.route(hash_key).id());
            }
        }
    }
}
