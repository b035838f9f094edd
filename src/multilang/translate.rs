//! Positions in a shard, as the KCL knows them and as the processor does. Pure.
//!
//! A block is one record for the KCL, and many for the processor. So every record has, as its sub-sequence number, the KCL's
//! shifted up, and its place in the block: by these two alone. What came with it is not asked, since a restart may
//! deliver it without: numbers are the same each time, in order, and told apart. Where nothing was packed, in aggregates or
//! blocks, that is 0 as it was. (The KCL's own number for what is in no block would have to lie behind those of a block before it
//! in the aggregate, which leaves no room.)
//!
//! A checkpoint behind a block's last record is one of the block; within it, of the last record
//! wholly before it, so that a restart repeats one block at most. Where there is none, it is answered here. An older form,
//! `{"action":"checkpoint","checkpoint":"…"}`, has no sub-sequence number: of a block it says its beginning.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::from_base64;
use crate::consume::{Place, Unreadable, UserRecord};
use crate::shard::ShardId;

/// Of a number within a block: more than records that one may have.
const WITHIN: u32 = 20;
/// Blocks whose places are remembered. Of what a processor asks further back it is not known whether it was a block's last
/// record: its checkpoint is of the record before in its aggregate, or if it is the first, answered here, which repeats more
/// after a restart, and loses nothing.
const REMEMBERED: usize = 100_000;

const SEQUENCE: &str = "sequenceNumber";
const SUB_SEQUENCE: &str = "subSequenceNumber";
const OLD_SEQUENCE: &str = "checkpoint";
const KEY: &str = "partitionKey";
const DATA: &str = "data";

/// A record of the daemon's, and what was in it.
#[derive(Debug, Clone)]
pub struct Opened {
    record: Value,
    /// With their places within it.
    users: Vec<(u64, UserRecord)>,
    /// Of the next; one that cannot be opened has its place too, so that the others keep theirs once it can.
    next: u64,
}

/// How the KCL knows a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    sequence: String,
    sub_sequence: u64,
}

/// A record that the processor may have as several.
#[derive(Debug, Clone)]
struct Block {
    at: Position,
    /// The place of the last that the processor has of it.
    last: u64,
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
    /// Nobody is to have it.
    Kept,
}

/// Of one shard.
#[derive(Debug, Default)]
pub struct Translator {
    /// In the shard's order.
    blocks: VecDeque<Block>,
    /// From here on it is known what is a block; `None`: nothing was delivered.
    known_from: Option<Position>,
    /// Delivered last.
    last: Option<Position>,
    /// The checkpoint that the daemon is to answer, as the processor asked for it.
    asked: Option<Map<String, Value>>,
    /// The daemon has handed over more than was delivered, and the processor is to have no more.
    is_cut: bool,
}

impl Position {
    /// Sequence numbers are decimal, without leading zeros.
    fn order(&self) -> (usize, &str, u64) {
        (self.sequence.len(), &self.sequence, self.sub_sequence)
    }
}

impl Opened {
    pub(super) fn of(record: Value) -> Self {
        Self {
            record,
            users: Vec::new(),
            next: 0,
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
        self.users.push((self.next, user));
        self.next += 1;
    }

    /// One that cannot be opened.
    pub(super) fn misses(&mut self) {
        self.next += 1;
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

    /// Or an aggregate that the KCL has not taken apart.
    fn is_block(&self) -> bool {
        let came_in_one = |(_, user): &(u64, UserRecord)| user.place.in_block.is_some();
        self.next > 1 || self.users.iter().any(came_in_one)
    }

    /// As the processor has them.
    fn into_records(self) -> impl Iterator<Item = Value> {
        let at = self.position();
        let is_block = self.is_block();
        let record = self.record;
        self.users.into_iter().map(move |(place, user)| {
            let mut record = record.clone();
            let base64 = base64_simd::STANDARD.encode_to_string(&user.data);
            record[DATA] = base64.into();
            if is_block {
                record[KEY] = Value::from(&*Arc::clone(&user.partition_key));
            }
            let number = at.sub_sequence << WITHIN | place;
            // Nor is it added where the daemon says none.
            if number != at.sub_sequence {
                record[SUB_SEQUENCE] = number.into();
            }
            record
        })
    }
}

/// Here, as the daemon would.
fn answered(message: &mut Map<String, Value>) -> Answer {
    message.insert("error".to_owned(), Value::Null);
    Answer::Here
}

impl Translator {
    /// The records for the processor.
    pub fn deliver(&mut self, opened: Vec<Opened>) -> Vec<Value> {
        let mut records = Vec::new();
        for record in opened {
            let at = record.position();
            if record.is_block() {
                self.remember(Block {
                    at: at.clone(),
                    last: record.users.last().map_or(0, |(place, _)| *place),
                    before: self.last.clone(),
                });
            }
            self.known_from.get_or_insert_with(|| at.clone());
            self.last = Some(at);
            records.extend(record.into_records());
        }
        records
    }

    fn remember(&mut self, block: Block) {
        self.blocks.push_back(block);
        if self.blocks.len() > REMEMBERED {
            self.blocks.pop_front();
            self.known_from = self.blocks.front().map(|first| first.at.clone());
        }
    }

    /// No more is delivered, and what the daemon has handed over behind it is as if it had not.
    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    /// The processor's word that it has seen to a message.
    pub fn seen_to(&self, message: &Map<String, Value>) -> Answer {
        let of = message.get("responseFor").and_then(Value::as_str);
        match self.is_cut && of == Some("processRecords") {
            true => Answer::Kept,
            false => Answer::AsItIs,
        }
    }

    /// The processor's: in the daemon's numbers, or answered.
    pub fn checkpoint(&mut self, message: &mut Map<String, Value>) -> Answer {
        // Of processors before sub-sequence numbers: they have no other way to say it.
        let key = match message.contains_key(SEQUENCE) {
            true => SEQUENCE,
            false => OLD_SEQUENCE,
        };
        let Some(sequence) = message.get(key).and_then(Value::as_str) else {
            // Of all that was delivered.
            return match (self.is_cut, self.last.clone()) {
                (false, _) => Answer::AsItIs,
                (true, Some(last)) => self.ask(last, key, message),
                (true, None) => answered(message),
            };
        };
        if !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            // None of a record's: the daemon knows what it means.
            return Answer::AsItIs;
        }
        let number = message
            .get(SUB_SEQUENCE)
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let at = Position {
            sequence: sequence.to_owned(),
            sub_sequence: number >> WITHIN,
        };
        let Some(stored) = self.stored_for(at, number & ((1 << WITHIN) - 1)) else {
            return answered(message);
        };
        self.forget_before(&stored);
        if stored.sequence == sequence && stored.sub_sequence == number {
            return Answer::AsItIs;
        }
        self.ask(stored, key, message)
    }

    /// The daemon, for this one instead.
    fn ask(
        &mut self,
        stored: Position,
        key: &'static str,
        message: &mut Map<String, Value>,
    ) -> Answer {
        self.asked = Some(message.clone());
        message.insert(key.to_owned(), stored.sequence.into());
        // Where it cannot be said, the daemon takes it for that of the first, which is behind nothing that the processor has not.
        if key == SEQUENCE {
            message.insert(SUB_SEQUENCE.to_owned(), stored.sub_sequence.into());
        }
        Answer::Translated
    }

    /// The last of the daemon's records that the processor has wholly, if it has all up to that place in that one. `None` where
    /// none is known.
    fn stored_for(&self, at: Position, place: u64) -> Option<Position> {
        if let Some(block) = self.blocks.iter().rev().find(|block| block.at == at) {
            return match place >= block.last {
                true => Some(block.at.clone()),
                false => block.before.clone(),
            };
        }
        let known = self.known_from.as_ref();
        if known.is_some_and(|from| from.order() <= at.order()) {
            // It is no block.
            return Some(at);
        }
        // It may be one, and this not its end.
        let sub_sequence = at.sub_sequence.checked_sub(1)?;
        Some(Position { sub_sequence, ..at })
    }

    /// The daemon's answer, in the numbers of the question.
    pub fn checkpointed(&mut self, message: &mut Map<String, Value>) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        for key in [SEQUENCE, SUB_SEQUENCE, OLD_SEQUENCE] {
            match asked.get(key) {
                Some(as_asked) => drop(message.insert(key.to_owned(), as_asked.clone())),
                None => {
                    // What is always there in the daemon's answers stays.
                    message.entry(key).and_modify(|told| *told = Value::Null);
                }
            }
        }
    }

    /// What lies before a checkpoint is not asked about again; that itself may be.
    fn forget_before(&mut self, stored: &Position) {
        let lies_before = |at: &Position| at.order() < stored.order();
        while self.blocks.front().is_some_and(|b| lies_before(&b.at)) {
            self.blocks.pop_front();
        }
        if self.known_from.as_ref().is_some_and(lies_before) {
            self.known_from = Some(stored.clone());
        }
    }
}
