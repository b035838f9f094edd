//! A line of a dead letter file, both ways.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::DeadRecord;
use crate::delivery::FailReason;
use crate::record::{PartitionKey, Record, RecordKey, StreamName};

/// A record that was not stored, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// Milliseconds since 1970, UTC.
    pub time_ms: u64,
    pub stream: String,
    /// The reason in one word: the service's code, or ours.
    pub kind: String,
    pub reason: String,
    pub attempts: u32,
    /// User records in it: one, or those of a block.
    pub records: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explicit_hash_key: Option<String>,
    #[serde(borrow)]
    pub data_base64: Cow<'a, str>,
}

impl Line<'static> {
    pub(super) fn of(dead: &DeadRecord, stream: &str) -> Self {
        let route = dead.record.route();
        let partition_key = route.partition_key().map(PartitionKey::to_string);
        let explicit_hash_key = route.explicit().map(|key| key.to_string());
        Self {
            time_ms: now_ms(),
            stream: stream.to_owned(),
            kind: dead.reason.code().to_owned(),
            reason: dead.reason.to_string(),
            attempts: dead.attempts,
            records: dead.record.tickets().records(),
            partition_key,
            explicit_hash_key,
            data_base64: base64_simd::STANDARD
                .encode_to_string(dead.record.data())
                .into(),
        }
    }
}

impl<'a> Line<'a> {
    /// `None` for what is no such line, or only a part of one.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// As it stands in a file, newline and all.
    pub fn to_text(&self) -> String {
        // Room for all of it at once: the text is beside the memory that the record itself holds.
        let mut text = Vec::with_capacity(self.data_base64.len() + 1024);
        serde_json::to_writer(&mut text, self).expect("strings and numbers only");
        text.push(b'\n');
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    /// Bytes of the payload.
    pub fn bytes(&self) -> usize {
        let digits = self.data_base64.trim_end_matches('=').len();
        digits * 3 / 4
    }

    /// What would have been sent, and the stream it was for. `None` where the line has been tampered with.
    pub fn record(&self) -> Option<(StreamName, Record)> {
        let stream = StreamName::new(&self.stream).ok()?;
        let key = match (&self.partition_key, &self.explicit_hash_key) {
            (None, None) => RecordKey::Any,
            (None, Some(_)) => return None,
            (Some(key), None) => RecordKey::Keyed(PartitionKey::new(key).ok()?),
            (Some(key), Some(hash)) => {
                RecordKey::Explicit(PartitionKey::new(key).ok()?, hash.parse().ok()?)
            }
        };
        let digits = self.data_base64.as_bytes();
        let data = base64_simd::STANDARD.decode_to_vec(digits).ok()?.into();
        Some((stream, Record { data, key }))
    }

    /// The same record, given up once more.
    pub fn refused_again(&mut self, reason: &FailReason, attempts: u32) {
        self.kind = reason.code().to_owned();
        self.reason = reason.to_string();
        self.attempts = self.attempts.saturating_add(attempts);
    }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The lines of one file, one in memory at a time.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

/// A line that a crash has cut short, or that somebody has changed. Its number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable(pub u64);

impl Lines {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            reader: BufReader::with_capacity(64 << 10, File::open(path)?),
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line with its number, from 1.
    #[expect(
        clippy::should_implement_trait,
        reason = "it lends, which an Iterator cannot"
    )]
    pub fn next(&mut self) -> Option<io::Result<Result<(u64, Line<'_>), Unreadable>>> {
        match self.next_raw()? {
            Ok((number, text)) => Some(Ok(Line::parse(text)
                .map(|line| (number, line))
                .ok_or(Unreadable(number)))),
            Err(error) => Some(Err(error)),
        }
    }

    /// The same, without its newline and whatever it is.
    pub(super) fn next_raw(&mut self) -> Option<io::Result<(u64, &[u8])>> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line) {
            Ok(0) => None,
            Ok(_) => {
                self.number += 1;
                let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
                Some(Ok((self.number, text)))
            }
            Err(error) => Some(Err(error)),
        }
    }
}
