//! Which shard a record will land on, and how much each shard may be given.

pub mod kinesis;
pub mod limiter;
pub mod map;

pub use map::{
    ByShard, Description, Distribution, ListShards, ListShardsError, Shard, ShardId, ShardMap,
};
