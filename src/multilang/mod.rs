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

mod down;
mod heard;
#[cfg(test)]
mod tests;
pub mod translate;

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::task::JoinSet;

use self::down::Down;
use self::translate::{Answer, Translator};
use crate::consume::shards::ListedShard;
use crate::consume::{Unpacker, Unreadable};

/// What is done with a record that cannot be opened.
pub trait Letters: Send + 'static {
    /// On disk once this returns; an error stops the processor, as every such record does where nothing keeps it.
    fn keep(&mut self, unreadable: &Unreadable) -> io::Result<()>;
}

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
    let signals = Signals::hear()?;
    let mut child = start(&command)?;
    let _handing_on = signals.hand_on_to(&child);
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
                let _ = to_daemon.await;
                code_of(&mut child).await
            };
            // One that does not is killed.
            let _ = tokio::time::timeout(TO_END, ends).await;
            Err(why)
        }
    }
}

/// What the processor would have without this process; an interrupt from a terminal it has by itself. Heard before it is
/// started: one that came between would end this process and not the other.
struct Signals {
    terminate: unix::Signal,
    hangup: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    fn hear() -> Result<Self, MultilangError> {
        let hear = |kind| unix::signal(kind).map_err(MultilangError::Signals);
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            hangup: hear(SignalKind::hangup())?,
            interrupt: hear(SignalKind::interrupt())?,
        })
    }

    /// Until dropped.
    fn hand_on_to(mut self, child: &Child) -> JoinSet<()> {
        let child = child.id().and_then(|id| i32::try_from(id).ok());
        let child = child.and_then(Pid::from_raw);
        let mut hands_on = JoinSet::new();
        hands_on.spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = self.terminate.recv() => Signal::TERM,
                    _ = self.hangup.recv() => Signal::HUP,
                    _ = self.interrupt.recv() => continue,
                };
                // It may have ended just now.
                let _ = child.map(|child| kill_process(child, signal));
            }
        });
        hands_on
    }
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
