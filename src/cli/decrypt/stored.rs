//! The JSON that `aws kinesis get-records` prints → user records, one a line.
//!
//! Records are messages, messages in base64, aggregates of them, or blocks; `consume` takes them apart the
//! same way. Several answers may follow one another, as from a loop.
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>.

use std::io::Write;
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::bail;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::facts::Facts;
use super::super::form::{self, Output};
use super::{Reader, Tally};
use crate::consume::shards::{ListedShard, StoredRecord};
use crate::consume::{Plaintext, Reason, Unpacker, Unreadable, UserRecord};
use crate::seal::message::{Message, ReadLimits, message_in};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    records: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Record(Record),
    /// It must not stop the others.
    Odd(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    data: String,
    sequence_number: Option<String>,
    partition_key: Option<String>,
}

/// Counts user records; those of a record that is not opened count as one.
pub(super) async fn open(
    pages: &[u8],
    reader: Reader,
    allow_plaintext: bool,
    out: &mut Output,
) -> anyhow::Result<Tally> {
    let plaintext = match allow_plaintext {
        true => Plaintext::Allowed,
        false => Plaintext::Refused,
    };
    let threads = available_parallelism().map_or(1, usize::from);
    let unpacker =
        Unpacker::opening(Arc::new(reader.opener), plaintext, threads)?.without_waiting();
    // An answer does not say of which shard it is.
    let shard = ListedShard::named("get-records");
    let mut tally = Tally::of("records");
    let mut number = 0;
    for answer in serde_json::Deserializer::from_slice(pages).into_iter::<Answer>() {
        for entry in answer.map_err(unlike_json)?.records {
            number += 1;
            let stored = match stored(entry) {
                Ok(stored) => stored,
                Err(odd) => {
                    (tally.all, tally.refused) = (tally.all + 1, tally.refused + 1);
                    // Behind what was read before it, where both go to one terminal.
                    let flushed = out.flush();
                    form::say(format_args!("record {number}: {odd}"));
                    if !form::unless_closed(flushed)? {
                        return Ok(tally);
                    }
                    continue;
                }
            };
            for user in unpacker.unpack(&shard, vec![stored]).await {
                tally.all += 1;
                if reader.verbose {
                    say_facts(number, &user);
                }
                let written = match user {
                    Ok(user) => out
                        .write_all(&user.data)
                        .and_then(|()| out.write_all(b"\n")),
                    Err(unreadable) => {
                        tally.refused += 1;
                        let flushed = out.flush();
                        complain(number, &unreadable);
                        flushed
                    }
                };
                if !form::unless_closed(written)? {
                    return Ok(tally);
                }
            }
        }
    }
    form::unless_closed(out.flush())?;
    if number == 0 && pages.trim_ascii().is_empty() {
        bail!("the input is empty: it should be what aws kinesis get-records prints");
    }
    Ok(tally)
}

/// Without serde's words, which may repeat the input.
fn unlike_json(error: serde_json::Error) -> anyhow::Error {
    let (line, column) = (error.line(), error.column());
    anyhow::anyhow!(
        "not what aws kinesis get-records prints (at line {line}, column {column}): \
         it takes {{\"Records\": [{{\"Data\": \"base64\", …}}]}}, as with --output json"
    )
}

/// Or what is odd about it, without repeating it.
fn stored(entry: Entry) -> Result<StoredRecord, &'static str> {
    let Entry::Record(record) = entry else {
        return Err("not what the AWS CLI prints: a record has its Data as text in base64");
    };
    let data = base64_simd::STANDARD.decode_to_vec(record.data);
    let data = data.map_err(|_| "its Data is not base64")?;
    Ok(StoredRecord {
        sequence: record.sequence_number.unwrap_or_default().into(),
        partition_key: record.partition_key.unwrap_or_default(),
        data: data.into(),
        arrived: None,
    })
}

fn complain(number: u64, unreadable: &Unreadable) {
    let place = &unreadable.place;
    let sequence = match &*place.sequence {
        "" => String::new(),
        sequence => format!(", sequence number {sequence}"),
    };
    let member = match place.sub_sequence {
        0 => String::new(),
        member => format!(", member {member}"),
    };
    let reason = match &*unreadable.reason {
        Reason::Plaintext => {
            "not encrypted, and refused; --allow-plaintext lets such records pass".to_owned()
        }
        Reason::DamagedAggregate => {
            "begins like an aggregate, but its checksum or its inside is wrong".to_owned()
        }
        reason => reason.to_string(),
    };
    form::say(format_args!("record {number}{sequence}{member}: {reason}"));
}

/// Once for each message, also where it is a block of many records.
fn say_facts(number: u64, user: &Result<UserRecord, Unreadable>) {
    let (data, in_block, verified): (&Bytes, _, _) = match user {
        Ok(UserRecord {
            sealed: Some(sealed),
            place,
            ..
        }) => (&sealed.message, place.in_block, true),
        Ok(UserRecord { sealed: None, .. }) => return,
        Err(unreadable) => (&unreadable.data, None, false),
    };
    if in_block.is_some_and(|member| member > 0) {
        return;
    }
    let Some(message) = message_in(data) else {
        return;
    };
    let limits = ReadLimits {
        max_encrypted_data_keys: usize::from(u16::MAX),
        ..ReadLimits::default()
    };
    if let Ok(message) = Message::parse(&message, &limits) {
        Facts::of(Some(number), &message, verified).say();
    }
}
