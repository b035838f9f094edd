//! What an agent is told to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;
use crate::pipeline::StreamSettings;
use crate::record::StreamName;
use crate::source::keying::PartitionKeyRule;
use crate::source::shape::Shape;
use crate::source::{stdin, tail, unix};
use crate::{aggregate, aws, batch, deadletter, seal, send, spool};

/// Everything the agent needs to know, all of it valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Checkpoints and dead letters.
    pub state_dir: PathBuf,
    /// Bytes between read and settled.
    pub memory_limit: usize,
    pub aws: aws::Settings,
    pub sources: Vec<Source>,
    /// One per stream that a source names.
    pub streams: Vec<StreamSettings>,
    /// Latencies and counters go to the log this often; `None`: only at exit.
    pub log_interval: Option<Duration>,
    /// How often the checkpoint is saved, if it has moved.
    pub checkpoint_interval: Duration,
    pub dead_letter: deadletter::Settings,
    /// For sources that cannot be read again: their records wait on disk.
    pub spool: Option<spool::Settings>,
    /// Where it can be asked how it is; `None`: nowhere.
    pub admin: Option<admin::Listen>,
    /// Whether a crash may leave a core dump, which holds keys. A process has one answer, so whoever owns it
    /// acts on this: the command line does.
    pub core_dumps: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub kind: SourceKind,
    pub stream: StreamName,
    pub partition_key: PartitionKeyRule,
    pub shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    File(tail::Settings),
    Unix(unix::Settings),
    UnixDatagram(unix::DatagramSettings),
    Stdin(stdin::Settings),
}

impl SourceKind {
    /// Whether what was read is still there after a crash.
    pub fn can_be_read_again(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// As a person names it.
impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(settings) => f.write_str(&settings.include.join(" ")),
            Self::Unix(settings) => settings.path.fmt(f),
            Self::UnixDatagram(settings) => settings.path.fmt(f),
            Self::Stdin(_) => f.write_str("standard input"),
        }
    }
}

impl Settings {
    /// A few seconds of a busy log at a shard's pace.
    pub const MEMORY_LIMIT: usize = 64 << 20;
    pub const LOG_INTERVAL: Duration = Duration::from_secs(60);
    /// A crash costs at most this much reading again.
    pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
    /// Less leaves no room for a source to read while a request is under way. A guess.
    pub const LEAST_MEMORY: usize = 8 << 20;

    /// One source, one stream, and everything else at its default: the agent without a file.
    pub fn for_one(
        stream: StreamName,
        kind: SourceKind,
        encryption: seal::Settings,
        aws: aws::Settings,
        state_dir: PathBuf,
    ) -> Self {
        Self {
            state_dir,
            memory_limit: Self::MEMORY_LIMIT,
            aws,
            sources: vec![Source {
                kind,
                stream: stream.clone(),
                partition_key: PartitionKeyRule::Random,
                shape: Shape::default(),
            }],
            streams: vec![StreamSettings {
                name: stream,
                encryption,
                aggregation: aggregate::Settings::default(),
                batch: batch::Settings::default(),
                delivery: send::Settings::default(),
            }],
            log_interval: Some(Self::LOG_INTERVAL),
            checkpoint_interval: Self::CHECKPOINT_INTERVAL,
            dead_letter: deadletter::Settings::default(),
            spool: None,
            admin: None,
            core_dumps: false,
        }
    }

    pub fn stream(&self, name: &StreamName) -> Option<&StreamSettings> {
        self.streams.iter().find(|stream| stream.name == *name)
    }
}
