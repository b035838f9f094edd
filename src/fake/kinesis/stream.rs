//! A stream: its name, its settings, its table of shards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};

use super::Distribution;
use super::consumers::Consumers;
use super::table::ShardTable;
use crate::fake::protocol::{ApiError, timestamp};

/// An on-demand stream starts with 4 shards (developer guide, "Choose the right mode").
pub(crate) const ON_DEMAND_SHARDS: usize = 4;
/// MaxRecordSizeInKiB, from the model.
const RECORD_KIB: std::ops::RangeInclusive<u32> = 1024..=10_240;
const RETENTION_HOURS: u64 = 24;

#[derive(Debug)]
pub(crate) struct Stream {
    name: String,
    arn: String,
    pub(crate) created: u64,
    settings: Mutex<Settings>,
    shards: RwLock<ShardTable>,
    /// Where the next record goes under AUTO.
    next_auto: AtomicUsize,
    consumers: Mutex<Consumers>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) on_demand: bool,
    pub(crate) max_record_kib: u32,
    pub(crate) distribution: Distribution,
}

impl Settings {
    pub(crate) fn max_record_bytes(&self) -> usize {
        self.max_record_kib as usize * 1024
    }
}

/// What CreateStream is asked for.
#[derive(Debug)]
pub(crate) struct StreamSpec {
    pub(crate) name: String,
    pub(crate) shards: usize,
    pub(crate) settings: Settings,
}

impl StreamSpec {
    pub(crate) fn provisioned(name: &str, shards: usize) -> Self {
        Self {
            name: name.to_owned(),
            shards,
            settings: Settings {
                on_demand: false,
                max_record_kib: *RECORD_KIB.start(),
                distribution: Distribution::UserPartitionKey,
            },
        }
    }

    pub(crate) fn on_demand(name: &str) -> Self {
        let mut spec = Self::provisioned(name, ON_DEMAND_SHARDS);
        spec.settings.on_demand = true;
        spec
    }
}

impl Stream {
    pub(crate) fn new(
        name: &str,
        arn: String,
        settings: Settings,
        shards: ShardTable,
        created: u64,
    ) -> Self {
        Self {
            name: name.to_owned(),
            arn,
            created,
            settings: Mutex::new(settings),
            shards: RwLock::new(shards),
            next_auto: AtomicUsize::new(0),
            consumers: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn consumers(&self) -> MutexGuard<'_, Consumers> {
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for a whole PutRecords call, so that a reshard falls before or after it.
    pub(crate) fn shards(&self) -> RwLockReadGuard<'_, ShardTable> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shards_mut(&self) -> RwLockWriteGuard<'_, ShardTable> {
        self.shards.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Round robin, for AUTO.
    pub(crate) fn next_auto(&self) -> usize {
        self.next_auto.fetch_add(1, Ordering::Relaxed)
    }

    /// Since when records are kept, were retention applied.
    pub(crate) fn horizon(&self, now_millis: u64) -> u64 {
        self.created
            .max(now_millis.saturating_sub(RETENTION_HOURS * 3_600_000))
    }

    /// What DescribeStream, DescribeStreamSummary and ListStreams have in common.
    pub(crate) fn describe_common(&self) -> Value {
        let settings = *self.settings();
        let mode = if settings.on_demand {
            "ON_DEMAND"
        } else {
            "PROVISIONED"
        };
        json!({
            "StreamName": self.name,
            "StreamARN": self.arn,
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": { "StreamMode": mode },
            "StreamCreationTimestamp": timestamp(self.created),
            "RetentionPeriodHours": RETENTION_HOURS,
            "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
            "EncryptionType": "NONE",
        })
    }
}

pub(crate) fn set_max_record_size(stream: &Stream, kib: u32) -> Result<(), ApiError> {
    check_record_kib(kib)?;
    stream.settings().max_record_kib = kib;
    Ok(())
}

pub(crate) fn check_record_kib(kib: u32) -> Result<(), ApiError> {
    if RECORD_KIB.contains(&kib) {
        return Ok(());
    }
    Err(ApiError::validation(
        "maxRecordSizeInKiB",
        "Member must have value from 1024 to 10240",
    ))
}

pub(crate) fn check_distribution(
    distribution: Distribution,
    on_demand: bool,
) -> Result<(), ApiError> {
    if distribution == Distribution::Auto && !on_demand {
        return Err(ApiError::invalid_argument(
            "RecordDistributionStrategy AUTO needs a stream in on-demand mode.",
        ));
    }
    Ok(())
}
