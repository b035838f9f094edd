//! kinseal: a producer agent for Amazon Kinesis Data Streams.
pub mod delivery;
pub mod record;

pub mod aggregate;
pub mod batch;
pub mod checkpoint;
pub mod deadletter;
pub mod retry;
pub mod seal;
pub mod send;
pub mod shard;
pub mod source;

pub mod agent;
pub mod consume;
pub mod pipeline;
pub mod producer;

pub mod aws;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod shutdown;

#[cfg(feature = "fake")]
pub mod fake;
