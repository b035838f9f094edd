//! Positions in a shard, as the KCL knows them and as the processor does. Pure.
//!
//! A block is one record for the KCL, and many for the processor. Where a Kinesis record holds blocks, its records' sub-sequence
//! numbers are the KCL's, shifted up, and the number within the block: the same each time, in order, and told
//! apart from one another. A checkpoint behind a block's last record is one of the block; within it, of the last record
//! wholly before it, so that a restart repeats one block at most. Where there is none, it is answered here.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::from_base64;
use crate::consume::{Place, Unreadable, UserRecord};
use crate::shard::ShardId;

/// Of a number within a block: more than records that one may have.
const WITHIN: u32 = 20;
/// Blocks whose places are remembered. A processor that looks back further is answered as if nothing were stored of them,
/// which repeats more after a restart, and loses nothing.
const REMEMBERED: usize = 100_000;

const SEQUENCE: &str = "sequenceNumber";
const SUB_SEQUENCE: &str = "subSequenceNumber";
const KEY: &str = "partitionKey";
const DATA: &str = "data";

/// A record of the daemon's, and what was in it.
#[derive(Debug, Clone)]
pub struct Opened {
    record: Value,
    users: Vec<UserRecord>,
}

/// How the KCL knows a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    sequence: String,
    sub_sequence: u64,
}

/// A record that the processor has as several.
#[derive(Debug, Clone)]
struct Expanded {
    at: Position,
    records: u64,
    /// The record before it, if there was one.
    before: Option<Position>,
}

/// What to do with a checkpoint of the processor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Hand it on.
    AsItIs,
    /// Hand it on as it is now.
    Translated,
    /// It is the answer now, for the processor.
    Here,
}

/// Of one shard.
#[derive(Debug, Default)]
pub struct Translator {
    expanded: VecDeque<Expanded>,
    /// Delivered last.
    last: Option<Position>,
    /// The checkpoint that the daemon is to answer, in the processor's numbers.
    asked: Option<(Value, Value)>,
}

impl Opened {
    pub(super) fn of(record: Value) -> Self {
        Self {
            record,
            users: Vec::new(),
        }
    }

    /// `None` where it is none, or no base64.
    pub(super) fn data(&self) -> Option<Bytes> {
        from_base64(self.record.get(DATA)?.as_str()?)
    }

    pub(super) fn partition_key(&self) -> &str {
        self.record
            .get(KEY)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(super) fn holds(&mut self, user: UserRecord) {
        self.users.push(user);
    }

    /// With the place at which the KCL has it.
    pub(super) fn placed(&self, unreadable: Unreadable, shard: &ShardId) -> Unreadable {
        let at = self.position();
        Unreadable {
            place: Place {
                shard: shard.clone(),
                sequence: at.sequence.into(),
                sub_sequence: at.sub_sequence,
                in_block: unreadable.place.in_block,
            },
            ..unreadable
        }
    }

    fn position(&self) -> Position {
        let sequence = self.record.get(SEQUENCE).and_then(Value::as_str);
        let sub_sequence = self.record.get(SUB_SEQUENCE).and_then(Value::as_u64);
        Position {
            sequence: sequence.unwrap_or_default().to_owned(),
            sub_sequence: sub_sequence.unwrap_or(0),
        }
    }

    fn is_expanded(&self) -> bool {
        let came_in_one = |user: &UserRecord| user.place.in_block.is_some();
        self.users.len() > 1 || self.users.iter().any(came_in_one)
    }

    /// As the processor has them; `shifted`: in numbers that leave room for those within a block.
    fn into_records(self, shifted: bool) -> impl Iterator<Item = Value> {
        let at = self.position();
        let record = self.record;
        (0..).zip(self.users).map(move |(number, user): (u64, _)| {
            let mut record = record.clone();
            let base64 = base64_simd::STANDARD.encode_to_string(&user.data);
            record[DATA] = base64.into();
            if shifted {
                record[KEY] = Value::from(&*Arc::clone(&user.partition_key));
                record[SUB_SEQUENCE] = (at.sub_sequence << WITHIN | number).into();
            }
            record
        })
    }
}

impl Translator {
    /// The records for the processor.
    pub fn deliver(&mut self, opened: Vec<Opened>) -> Vec<Value> {
        let mut records = Vec::new();
        let same_sequence = |a: &Opened, b: &Opened| a.position().sequence == b.position().sequence;
        let groups: Vec<usize> = opened.chunk_by(same_sequence).map(<[_]>::len).collect();
        let mut opened = opened.into_iter();
        for len in groups {
            let group: Vec<Opened> = opened.by_ref().take(len).collect();
            // All of a Kinesis record in the same numbers, or they would be out of order.
            let shifted = group.iter().any(Opened::is_expanded);
            for record in group {
                let at = record.position();
                if shifted {
                    self.remember(Expanded {
                        at: at.clone(),
                        records: record.users.len() as u64,
                        before: self.last.clone(),
                    });
                }
                self.last = Some(at);
                records.extend(record.into_records(shifted));
            }
        }
        records
    }

    fn remember(&mut self, expanded: Expanded) {
        if self.expanded.len() == REMEMBERED {
            self.expanded.pop_front();
        }
        self.expanded.push_back(expanded);
    }

    /// The processor's: in the daemon's numbers, or answered.
    pub fn checkpoint(&mut self, message: &mut Map<String, Value>) -> Answer {
        let Some(sequence) = message.get(SEQUENCE).and_then(Value::as_str) else {
            // Of all that was delivered.
            return Answer::AsItIs;
        };
        let of_sequence = |expanded: &&Expanded| expanded.at.sequence == sequence;
        let Some(first) = self.expanded.iter().find(of_sequence) else {
            return Answer::AsItIs;
        };
        let number = message
            .get(SUB_SEQUENCE)
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let (sub_sequence, within) = (number >> WITHIN, number & ((1 << WITHIN) - 1));
        let mut all = self.expanded.iter().filter(of_sequence);
        let stored = match all.find(|expanded| expanded.at.sub_sequence == sub_sequence) {
            Some(expanded) if within + 1 >= expanded.records => Some(expanded.at.clone()),
            Some(expanded) => expanded.before.clone(),
            // It was never delivered so.
            None => first.before.clone(),
        };
        let asked = |name: &str| message.get(name).cloned().unwrap_or(Value::Null);
        let asked = (asked(SEQUENCE), asked(SUB_SEQUENCE));
        let Some(stored) = stored else {
            message.insert("error".to_owned(), Value::Null);
            return Answer::Here;
        };
        self.asked = Some(asked);
        self.forget_before(&stored);
        message.insert(SEQUENCE.to_owned(), stored.sequence.into());
        message.insert(SUB_SEQUENCE.to_owned(), stored.sub_sequence.into());
        Answer::Translated
    }

    /// The daemon's answer, in the numbers of the question.
    pub fn checkpointed(&mut self, message: &mut Map<String, Value>) {
        if let Some((sequence, sub_sequence)) = self.asked.take() {
            message.insert(SEQUENCE.to_owned(), sequence);
            message.insert(SUB_SEQUENCE.to_owned(), sub_sequence);
        }
    }

    /// What lies before a checkpoint is not asked about again; that itself may be.
    fn forget_before(&mut self, stored: &Position) {
        if let Some(place) = self.expanded.iter().position(|e| e.at == *stored) {
            self.expanded.drain(..place);
        }
    }
}
