//! Null mode: PutRecords bodies are counted and thrown away, as fast as they arrive.
//!
//! Nothing is parsed, checked or kept: a needle that can only stand before a record's data is searched for,
//! and each hit is answered as stored on the first shard under a sequence number that means nothing.
//! Faults of whole calls work here too; those of entries do not.

use bytes::Bytes;
use memchr::memmem::Finder;

/// Quotes inside a JSON string are escaped, so this is a key, and only records have it.
const NEEDLE: &[u8] = b"\"Data\":";
const OVERLAP: usize = NEEDLE.len() - 1;

/// Counts records over the pieces of a body.
#[derive(Debug)]
pub(crate) struct RecordCounter {
    finder: Finder<'static>,
    /// The end of what was seen: a needle may lie across two pieces.
    tail: Vec<u8>,
    records: usize,
}

impl RecordCounter {
    pub(crate) fn new() -> Self {
        Self {
            finder: Finder::new(NEEDLE),
            tail: Vec::with_capacity(2 * OVERLAP),
            records: 0,
        }
    }

    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.records += self.finder.find_iter(piece).count();
        // Too short on either side for a whole needle: what is found here lies across.
        self.tail
            .extend_from_slice(&piece[..piece.len().min(OVERLAP)]);
        self.records += self.finder.find_iter(&self.tail).count();
        if piece.len() >= OVERLAP {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - OVERLAP..]);
        } else {
            let surplus = self.tail.len().saturating_sub(OVERLAP);
            self.tail.drain(..surplus);
        }
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }
}

/// Answers made ahead: a prefix of one long list.
#[derive(Debug)]
pub(crate) struct NullAnswers {
    entries: String,
    entry: String,
}

impl NullAnswers {
    /// What the service takes in one call; of more, only so many are answered, which no client overlooks.
    const MOST: usize = 500;

    pub(crate) fn new() -> Self {
        let sequence = format!("{}{:035}", 49, 0);
        let sequence = format!("{sequence:0<56}");
        let entry =
            format!("{{\"SequenceNumber\":\"{sequence}\",\"ShardId\":\"shardId-000000000000\"}}");
        Self {
            entries: format!("{entry},").repeat(Self::MOST),
            entry,
        }
    }

    pub(crate) fn put_records(&self, records: usize) -> Bytes {
        let length = (records.min(Self::MOST) * (self.entry.len() + 1)).saturating_sub(1);
        let mut answer = String::with_capacity(length + 40);
        answer.push_str("{\"FailedRecordCount\":0,\"Records\":[");
        answer.push_str(&self.entries[..length]);
        answer.push_str("]}");
        answer.into()
    }

    pub(crate) fn put_record(&self) -> Bytes {
        self.entry.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_however_the_body_is_cut() {
        let body = br#"{"StreamName":"Data","Records":[{"Data":"AAAA","PartitionKey":"\"Data\":"},{"PartitionKey":"Data","Data": "AA=="},{"Data":""}]}"#;
        for size in 1..=body.len() {
            let mut counter = RecordCounter::new();
            body.chunks(size).for_each(|piece| counter.feed(piece));
            assert_eq!(counter.records(), 3, "pieces of {size}");
        }
    }

    #[test]
    fn answers_are_whole_json_for_every_count() {
        let answers = NullAnswers::new();
        for n in [0, 1, 2, 499, 500] {
            let answer: serde_json::Value =
                serde_json::from_slice(&answers.put_records(n)).unwrap();
            assert_eq!(answer["Records"].as_array().unwrap().len(), n);
        }
        let answer: serde_json::Value = serde_json::from_slice(&answers.put_record()).unwrap();
        assert_eq!(answer["SequenceNumber"].as_str().unwrap().len(), 56);
    }
}
