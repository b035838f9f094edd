//! Between the KCL's MultiLangDaemon and a record processor in any language: what is sealed is opened on the way.
//!
//! ```text
//!  MultiLangDaemon ──stdin──►  here  ──stdin──►  the record processor
//!  (leases, checkpoints)   ◄──stdout──      ◄──stdout──
//! ```
//!
//! The daemon (<https://github.com/awslabs/amazon-kinesis-client>, `amazon-kinesis-client-multilang`) starts a process
//! for each shard and speaks with it in lines of JSON. Both ends stay as they are: every message is handed through, and
//! each record's `data` is replaced by what was sealed in it. A block becomes its records, and checkpoints are of
//! whole blocks ([`translate`]).
//!
//! Promises: a message that is not understood passes as it is; a checkpoint never covers a record that the processor
//! has not; nothing is handed on that could not be verified. Cannot: give a processor records that cannot be opened. These
//! go to a file of dead letters, or stop the shard, once the processor has those before them.

#[cfg(test)]
mod tests;
pub mod translate;

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::interval;

use self::translate::{Answer, Opened, Translator};
use crate::consume::shards::{ListedShard, StoredRecord};
use crate::consume::{Unpacker, Unreadable, UserRecord};

/// What is done with a record that cannot be opened.
pub trait Letters: Send + 'static {
    /// On disk once this returns; an error stops the processor, as every such record does where nothing keeps it.
    fn keep(&mut self, unreadable: &Unreadable) -> io::Result<()>;
}

/// For records that are being opened when the daemon hangs up. A guess: enough for a call to KMS that is answered; in an outage
/// it would be waited for as long as that lasts, by a process that nobody wants any more.
const ONCE_HUNG_UP: Duration = Duration::from_secs(2);

/// How often it is told that a shard stands still.
const ALARM: Duration = Duration::from_secs(60);
/// For a processor whose input has ended, before it is killed. A guess.
const TO_END: Duration = Duration::from_secs(10);

/// Why it ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MultilangError {
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("the record processor's pipe broke: {0}")]
    Processor(io::Error),
    #[error("the daemon's pipe broke: {0}")]
    Daemon(io::Error),
    #[error("signals cannot be listened to: {0}")]
    Signals(io::Error),
    #[error(
        "record {sequence} sub-sequence {sub_sequence} of {shard} cannot be opened: {reason}. What lies before it was handed on. \
         The shard stops here; --dead-letter FILE keeps such records and goes on"
    )]
    Unreadable {
        shard: String,
        sequence: String,
        sub_sequence: u64,
        reason: String,
    },
    #[error("a dead letter cannot be kept: {0}")]
    Letter(io::Error),
    #[error(
        "the daemon sent what is no message of its protocol ({why}): {beginning:?}. Nothing is handed on that was not seen to be encrypted"
    )]
    NoMessage {
        why: &'static str,
        beginning: String,
    },
}

type Shared = Arc<Mutex<Translator>>;
/// The processor's input, until it is closed.
type Input = Arc<tokio::sync::Mutex<Option<ChildStdin>>>;

/// Starts the processor and hands messages through until it ends. Returns its exit code, also where the daemon hung up while
/// records waited for their keys: these it has not then.
pub async fn run<L: Letters>(
    command: Vec<String>,
    unpacker: Unpacker,
    letters: Option<L>,
) -> Result<i32, MultilangError> {
    let mut child = start(&command)?;
    let _signals = hand_on_signals(&child)?;
    let input: Input = Arc::new(tokio::sync::Mutex::new(child.stdin.take()));
    let from_child = child.stdout.take().expect("piped");
    let shared = Shared::default();
    let down = Down {
        shard: ListedShard::named(""),
        unpacker,
        letters,
        shared: Arc::clone(&shared),
        input: Arc::clone(&input),
    };
    let closing = Arc::clone(&input);
    let down = down.run(BufReader::new(tokio::io::stdin()));
    let mut to_daemon = std::pin::pin!(up(from_child, shared, input));
    let ended = tokio::select! {
        ended = down => ended,
        ended = &mut to_daemon => {
            ended?;
            return Ok(code_of(&mut child).await);
        }
    };
    // The processor has heard the end of its input: what it says until it ends is passed on still.
    match ended {
        Ok(()) => {
            to_daemon.await?;
            Ok(code_of(&mut child).await)
        }
        Err(why) => {
            let ends = async {
                *closing.lock().await = None;
                let _ = to_daemon.await;
                code_of(&mut child).await
            };
            // One that does not is killed.
            let _ = tokio::time::timeout(TO_END, ends).await;
            Err(why)
        }
    }
}

/// As it would have them without this process; an interrupt from a terminal it has by itself. Until dropped.
fn hand_on_signals(child: &Child) -> Result<JoinSet<()>, MultilangError> {
    let hear = |kind| signal(kind).map_err(MultilangError::Signals);
    let mut terminate = hear(SignalKind::terminate())?;
    let mut hangup = hear(SignalKind::hangup())?;
    let mut interrupt = hear(SignalKind::interrupt())?;
    let child = child.id().and_then(|id| i32::try_from(id).ok());
    let child = child.and_then(Pid::from_raw);
    let mut hands_on = JoinSet::new();
    hands_on.spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = terminate.recv() => Signal::TERM,
                _ = hangup.recv() => Signal::HUP,
                _ = interrupt.recv() => continue,
            };
            // It may have ended just now.
            let _ = child.map(|child| kill_process(child, signal));
        }
    });
    Ok(hands_on)
}

fn start(command: &[String]) -> Result<Child, MultilangError> {
    let (program, arguments) = command.split_first().expect("one word at least");
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    started.map_err(|source| MultilangError::Start {
        program: program.clone(),
        source,
    })
}

/// 1 for a processor that a signal has ended.
async fn code_of(child: &mut Child) -> i32 {
    let ended = child.wait().await;
    ended.ok().and_then(|ended| ended.code()).unwrap_or(1)
}

/// What becomes of a message of the daemon's.
enum Handed {
    AsItIs,
    Instead(Map<String, Value>),
    /// The last, and why.
    AndNoMore(Map<String, Value>, MultilangError),
}

/// From the daemon to the processor.
struct Down<L> {
    shard: ListedShard,
    unpacker: Unpacker,
    letters: Option<L>,
    shared: Shared,
    input: Input,
}

impl<L: Letters> Down<L> {
    /// Ends when the daemon hangs up; then the processor's input is closed.
    async fn run(mut self, from: impl AsyncBufRead + Unpin) -> Result<(), MultilangError> {
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
        *self.input.lock().await = None;
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

/// The daemon's lines. They are read ahead while one is worked on, or its end would not be seen; it sends no more than
/// answers then, since it waits for the processor.
struct Heard<R> {
    from: R,
    ahead: VecDeque<Vec<u8>>,
    /// As far as it was read.
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Heard<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            ahead: VecDeque::new(),
            line: Vec::new(),
        }
    }

    /// With its end. `None` at the end of the pipe.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read().await,
        }
    }

    /// Returns [`ONCE_HUNG_UP`] after the end of the pipe. Cancel safe.
    async fn hung_up(&mut self) -> io::Result<()> {
        while let Some(line) = self.read().await? {
            self.ahead.push_back(line);
        }
        tokio::time::sleep(ONCE_HUNG_UP).await;
        Ok(())
    }

    /// Cancel safe: what was read of a line stays.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.from.read_until(b'\n', &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        Ok((!line.is_empty()).then_some(line))
    }
}

/// From the processor to the daemon, but for what is answered here. Ends when the processor hangs up.
async fn up(from_child: ChildStdout, shared: Shared, input: Input) -> Result<(), MultilangError> {
    let (mut from, mut to) = (BufReader::new(from_child), tokio::io::stdout());
    let mut line = Vec::new();
    while read_line(&mut from, &mut line)
        .await
        .map_err(MultilangError::Processor)?
    {
        if let Ok(Value::Object(mut message)) = serde_json::from_slice::<Value>(&line) {
            let answer = {
                let mut translator = shared.lock().expect("no panic while held");
                match message.get("action").and_then(Value::as_str) {
                    Some("checkpoint") => translator.checkpoint(&mut message),
                    Some("status") => translator.seen_to(&message),
                    _ => Answer::AsItIs,
                }
            };
            match answer {
                Answer::AsItIs => {}
                Answer::Translated => line = line_of(&message),
                Answer::Here => {
                    // Whether it still listens is its own affair.
                    let _ = tell(&input, &line_of(&message)).await;
                    continue;
                }
                Answer::Kept => continue,
            }
        }
        write(&mut to, &line)
            .await
            .map_err(MultilangError::Daemon)?;
    }
    Ok(())
}

/// With its end. Whether there is one: not at the end of the pipe.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(from.read_until(b'\n', line).await? > 0)
}

fn no_message(why: &'static str, line: &[u8]) -> MultilangError {
    const SHOWN: usize = 80;
    let beginning = &line[..line.len().min(SHOWN)];
    let beginning = String::from_utf8_lossy(beginning).into_owned();
    MultilangError::NoMessage { why, beginning }
}

fn line_of(message: &Map<String, Value>) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("it was JSON");
    line.push(b'\n');
    line
}

/// Nothing, where its input was closed.
async fn tell(input: &Input, line: &[u8]) -> io::Result<()> {
    match &mut *input.lock().await {
        Some(input) => write(input, line).await,
        None => Ok(()),
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), line: &[u8]) -> io::Result<()> {
    to.write_all(line).await?;
    to.flush().await
}

/// Of a record's `data`.
fn from_base64(text: &str) -> Option<Bytes> {
    let decoded = base64_simd::STANDARD.decode_to_vec(text);
    decoded.ok().map(Bytes::from)
}
