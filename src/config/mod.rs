//! The configuration: a file as written → [`Settings`], checked.

use std::path::PathBuf;
use std::time::Duration;

use crate::record::StreamName;
use crate::{aggregate, aws, batch, seal, send};

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
    pub streams: Vec<Stream>,
    /// Latencies and counters go to the log this often; `None`: only at exit.
    pub log_interval: Option<Duration>,
}

/// How records reach one stream: the top-level tables with the stream's own `[[stream]]` laid over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub name: StreamName,
    pub encryption: seal::Settings,
    pub aggregation: aggregate::Settings,
    pub batch: batch::Limits,
    pub delivery: send::Settings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub kind: SourceKind,
    pub stream: StreamName,
    pub partition_key: PartitionKeyRule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    File(crate::source::tail::Settings),
    Unix(crate::source::unix::Settings),
    Stdin,
}

/// How a record gets its partition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionKeyRule {
    /// Any shard, chosen per aggregate.
    Random,
    /// The same for every record of the source.
    Constant(crate::record::PartitionKey),
}
