//! From the daemon to the processor: records are opened on the way, and one that cannot be stops the shard.

use std::io;
use std::sync::MutexGuard;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::AsyncBufRead;
use tokio::time::interval;

use super::heard::Heard;
use super::translate::{Opened, Translator};
use super::{Input, Letters, MultilangError, Shared, from_base64, line_of, tell};
use crate::consume::shards::{ListedShard, StoredRecord};
use crate::consume::{Unpacker, Unreadable, UserRecord};

/// How often it is told that a shard stands still.
const ALARM: Duration = Duration::from_secs(60);

/// What becomes of a message of the daemon's.
enum Handed {
    AsItIs,
    Instead(Map<String, Value>),
    /// The last, and why.
    AndNoMore(Map<String, Value>, MultilangError),
}

/// From the daemon to the processor.
pub(super) struct Down<L> {
    pub(super) shard: ListedShard,
    pub(super) unpacker: Unpacker,
    pub(super) letters: Option<L>,
    pub(super) shared: Shared,
    pub(super) input: Input,
}

impl<L: Letters> Down<L> {
    /// Ends when the daemon hangs up; then the processor's input is closed, and so it is where this ends early.
    pub(super) async fn run(
        mut self,
        from: impl AsyncBufRead + Unpin,
    ) -> Result<(), MultilangError> {
        let ended = self.hand_on(from).await;
        *self.input.lock().await = None;
        ended
    }

    async fn hand_on(&mut self, from: impl AsyncBufRead + Unpin) -> Result<(), MultilangError> {
        let mut daemon = Heard::new(from);
        while let Some(mut line) = daemon.next().await.map_err(MultilangError::Daemon)? {
            let message = match serde_json::from_slice::<Value>(&line) {
                _ if line.trim_ascii().is_empty() => None,
                Ok(Value::Object(message)) => tokio::select! {
                    biased;
                    message = self.message(message) => match message? {
                        Handed::AsItIs => None,
                        Handed::Instead(message) => Some(message),
                        Handed::AndNoMore(message, why) => {
                            self.stop_here(&message, &why, &mut daemon).await;
                            return Err(why);
                        }
                    },
                    hung_up = daemon.hung_up() => {
                        hung_up.map_err(MultilangError::Daemon)?;
                        tracing::warn!(
                            "the daemon has hung up: records that were being opened are not handed on, nor what it said behind them"
                        );
                        break;
                    }
                },
                _ => return Err(no_message("no JSON object", &line)),
            };
            if let Some(message) = message {
                line = line_of(&message);
            }
            match tell(&self.input, &line).await {
                // It has ended, and how it has is told by its exit code.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                written => written.map_err(MultilangError::Processor)?,
            }
        }
        Ok(())
    }

    /// Where a record cannot be opened: the processor has those before it, and that it has seen to them is not passed on, since the
    /// daemon would go on behind that one. So its shard stops, and no other: a process that ended would take the daemon with it.
    /// Until that hangs up.
    async fn stop_here<R: AsyncBufRead + Unpin>(
        &mut self,
        message: &Map<String, Value>,
        why: &MultilangError,
        daemon: &mut Heard<R>,
    ) {
        self.translator().cut();
        let records = message.get("records").and_then(Value::as_array);
        let mut line = match records.is_none_or(Vec::is_empty) {
            true => Vec::new(),
            false => line_of(message),
        };
        let mut alarm = interval(ALARM);
        loop {
            if tell(&self.input, &line).await.is_err() {
                return;
            }
            line = tokio::select! {
                _ = alarm.tick() => {
                    tracing::error!("{why}");
                    Vec::new()
                }
                heard = daemon.next() => match heard {
                    Ok(Some(heard)) => self.heard_at_the_end(heard),
                    Ok(None) | Err(_) => return,
                },
            };
        }
    }

    /// What is handed on of it: answers to checkpoints, and that its time is over. More records there are none.
    fn heard_at_the_end(&self, line: Vec<u8>) -> Vec<u8> {
        let Ok(Value::Object(mut message)) = serde_json::from_slice(&line) else {
            return line;
        };
        match message.get("action").and_then(Value::as_str) {
            Some("checkpoint") => {
                self.translator().checkpointed(&mut message);
                line_of(&message)
            }
            Some("processRecords") => Vec::new(),
            _ => line,
        }
    }

    fn translator(&self) -> MutexGuard<'_, Translator> {
        self.shared.lock().expect("no panic while held")
    }

    async fn message(&mut self, mut message: Map<String, Value>) -> Result<Handed, MultilangError> {
        match message.get("action").and_then(Value::as_str) {
            Some("initialize") => {
                let shard = message.get("shardId").and_then(Value::as_str);
                self.shard = ListedShard::named(shard.unwrap_or_default());
                *self.translator() = Translator::default();
                Ok(Handed::AsItIs)
            }
            Some("processRecords") => {
                let Some(Value::Array(records)) = message.remove("records") else {
                    let line = line_of(&message);
                    return Err(no_message("processRecords without records", &line));
                };
                for record in &records {
                    let data = record.get("data").and_then(Value::as_str);
                    if data.and_then(from_base64).is_none() {
                        let record = record.to_string();
                        let why = "a record without data in base64";
                        return Err(no_message(why, record.as_bytes()));
                    }
                }
                let (opened, why) = self.open(records).await?;
                let records = self.translator().deliver(opened);
                message.insert("records".to_owned(), Value::Array(records));
                Ok(match why {
                    None => Handed::Instead(message),
                    Some(why) => Handed::AndNoMore(message, why),
                })
            }
            Some("checkpoint") => {
                self.translator().checkpointed(&mut message);
                Ok(Handed::Instead(message))
            }
            _ => Ok(Handed::AsItIs),
        }
    }

    /// Each record with what was in it, up to the first that ends this process.
    async fn open(
        &mut self,
        records: Vec<Value>,
    ) -> Result<(Vec<Opened>, Option<MultilangError>), MultilangError> {
        let mut opened: Vec<Opened> = records.into_iter().map(Opened::of).collect();
        let page = (0..).zip(&opened).map(|(number, record): (usize, _)| {
            let data = record.data().unwrap_or_default();
            StoredRecord {
                // By which it is known again.
                sequence: number.to_string().into(),
                partition_key: record.partition_key().to_owned(),
                data,
                arrived: None,
            }
        });
        for user in self.unpack(page.collect()).await {
            match user {
                Ok(user) => {
                    let number: usize = user.place.sequence.parse().expect("a number of ours");
                    opened[number].holds(user);
                }
                Err(unreadable) => {
                    let number: usize = unreadable.place.sequence.parse().expect("likewise");
                    opened[number].misses();
                    let unreadable = opened[number].placed(unreadable, &self.shard.id);
                    if let Some(why) = self.keep(&unreadable)? {
                        opened.truncate(number);
                        return Ok((opened, Some(why)));
                    }
                }
            }
        }
        Ok((opened, None))
    }

    /// While the key may not be used they wait, as where KMS is out of reach: that is somebody's to put right, and nothing of a record's.
    async fn unpack(&mut self, page: Vec<StoredRecord>) -> Vec<Result<UserRecord, Unreadable>> {
        loop {
            let unpacked = self.unpacker.unpack(&self.shard, page.clone()).await;
            let first = unpacked.iter().find_map(|user| user.as_ref().err());
            let refused = first.filter(|unreadable| unreadable.reason.refuses_the_key());
            match refused {
                Some(refused) if self.letters.is_none() => {
                    tracing::error!("records of {} wait: {}", self.shard.id, refused.reason);
                    tokio::time::sleep(ALARM).await;
                }
                _ => return unpacked,
            }
        }
    }

    /// Why the shard stops, where nothing keeps it.
    fn keep(&mut self, unreadable: &Unreadable) -> Result<Option<MultilangError>, MultilangError> {
        match &mut self.letters {
            Some(letters) => {
                let kept = letters.keep(unreadable);
                kept.map_err(MultilangError::Letter).map(|()| None)
            }
            None => Ok(Some(MultilangError::Unreadable {
                shard: unreadable.place.shard.to_string(),
                sequence: unreadable.place.sequence.to_string(),
                sub_sequence: unreadable.place.sub_sequence,
                reason: unreadable.reason.to_string(),
            })),
        }
    }
}

fn no_message(why: &'static str, line: &[u8]) -> MultilangError {
    const SHOWN: usize = 80;
    let beginning = &line[..line.len().min(SHOWN)];
    let beginning = String::from_utf8_lossy(beginning).into_owned();
    MultilangError::NoMessage { why, beginning }
}
