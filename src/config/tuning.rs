//! `[aggregation]`, `[batch]`, `[delivery]`, `[dead_letter]`: how much, how fast, how long.

use std::time::Duration;

use super::table::Table;
use super::written::Written;
use super::{stream, words};
use crate::aggregate::ContainerKey;
use crate::batch::RecordLimit;
use crate::deadletter::{self, WhenFull};
use crate::send::{Ordering, Protocol};
use crate::{aggregate, batch, retry, send};

#[derive(Clone, Default)]
pub(super) struct Aggregation {
    pub(super) enabled: Written<bool>,
    pub(super) max_size: Written<u64>,
    pub(super) max_count: Written<u64>,
    pub(super) linger: Written<Duration>,
    pub(super) container_key: Written<ContainerKey>,
}

#[derive(Clone, Default)]
pub(super) struct Batch {
    pub(super) max_records: Written<u64>,
    pub(super) max_bytes: Written<u64>,
    pub(super) max_record_bytes: Written<u64>,
}

#[derive(Clone, Default)]
pub(super) struct Delivery {
    pub(super) rate_limit: Written<u64>,
    pub(super) max_in_flight: Written<u64>,
    pub(super) request_timeout: Written<Duration>,
    pub(super) connect_timeout: Written<Duration>,
    pub(super) record_ttl: Written<Option<Duration>>,
    pub(super) ordering: Written<Ordering>,
    pub(super) protocol: Written<Protocol>,
    pub(super) retry_initial: Written<Duration>,
    pub(super) retry_max: Written<Duration>,
}

#[derive(Clone, Default)]
pub(super) struct DeadLetter {
    max_file_size: Written<u64>,
    max_total_size: Written<u64>,
    when_full: Written<WhenFull>,
}

/// What the service takes since October 2025:
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>
const SERVICE_MAX_BYTES: u64 = 10 << 20;

impl Aggregation {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        Self {
            enabled: t.boolean("enabled"),
            // From the KPL's own least on.
            max_size: t.bytes("max_size", 64..=SERVICE_MAX_BYTES),
            max_count: t.integer("max_count", 1..=aggregate::format::MAX_MEMBERS as u64),
            linger: t.duration("linger", Duration::ZERO..=Duration::from_secs(3_600)),
            container_key: t.choice(
                "container_key",
                &[("spread", ContainerKey::Spread), ("kpl", ContainerKey::Kpl)],
            ),
        }
    }

    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            enabled: self.enabled.or(base.enabled.clone()),
            max_size: self.max_size.or(base.max_size.clone()),
            max_count: self.max_count.or(base.max_count.clone()),
            linger: self.linger.or(base.linger.clone()),
            container_key: self.container_key.or(base.container_key.clone()),
        }
    }

    pub(super) fn resolve(self) -> Option<aggregate::Settings> {
        let default = aggregate::Settings::default();
        Some(aggregate::Settings {
            enabled: self.enabled.or_default(default.enabled)?,
            max_size: self.max_size.or_default(default.max_size as u64)? as usize,
            max_count: self.max_count.or_default(default.max_count as u64)? as usize,
            linger: self.linger.or_default(default.linger)?,
            container_key: self.container_key.or_default(default.container_key)?,
        })
    }
}

impl Batch {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        Self {
            max_records: t.integer("max_records", 1..=500),
            max_bytes: t.bytes("max_bytes", 1024..=SERVICE_MAX_BYTES),
            max_record_bytes: t.bytes("max_record_bytes", 1024..=SERVICE_MAX_BYTES),
        }
    }

    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            max_records: self.max_records.or(base.max_records.clone()),
            max_bytes: self.max_bytes.or(base.max_bytes.clone()),
            max_record_bytes: self.max_record_bytes.or(base.max_record_bytes.clone()),
        }
    }

    pub(super) fn resolve(self) -> Option<batch::Settings> {
        let default = batch::Settings::default();
        let given = |bytes| RecordLimit::Given(bytes as usize);
        let max_bytes = self.max_bytes.map(|bytes| Some(bytes as usize));
        Some(batch::Settings {
            max_records: self.max_records.or_default(default.max_records as u64)? as usize,
            max_bytes: max_bytes.or_default(default.max_bytes)?,
            max_record_bytes: (self.max_record_bytes.map(given))
                .or_default(default.max_record_bytes)?,
        })
    }
}

impl Delivery {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        // The KPL's bounds for both time-outs and the least of a time to live; a day is long for any.
        let least = Duration::from_millis(100);
        let retry = t.table("retry", |t| {
            let delays = Duration::from_millis(1)..=Duration::from_secs(3_600);
            (
                t.duration("initial", delays.clone()),
                t.duration("max", delays),
            )
        });
        let (retry_initial, retry_max) = retry.given().unwrap_or_default();
        Self {
            rate_limit: t.integer("rate_limit", 1..=send::Settings::MOST_RATE_LIMIT.into()),
            max_in_flight: t.integer("max_in_flight", 1..=1024),
            request_timeout: t.duration("request_timeout", least..=Duration::from_secs(600)),
            connect_timeout: t.duration("connect_timeout", least..=Duration::from_secs(300)),
            record_ttl: t.duration_or_none("record_ttl", least..=Duration::from_secs(365 * 86_400)),
            ordering: t.choice(
                "ordering",
                &[
                    ("none", Ordering::None),
                    ("partition_key", Ordering::PartitionKey),
                ],
            ),
            protocol: t.choice(
                "protocol",
                &[("json", Protocol::Json), ("cbor", Protocol::Cbor)],
            ),
            retry_initial,
            retry_max,
        }
    }

    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            rate_limit: self.rate_limit.or(base.rate_limit.clone()),
            max_in_flight: self.max_in_flight.or(base.max_in_flight.clone()),
            request_timeout: self.request_timeout.or(base.request_timeout.clone()),
            connect_timeout: self.connect_timeout.or(base.connect_timeout.clone()),
            record_ttl: self.record_ttl.or(base.record_ttl.clone()),
            ordering: self.ordering.or(base.ordering.clone()),
            protocol: self.protocol.or(base.protocol.clone()),
            retry_initial: self.retry_initial.or(base.retry_initial.clone()),
            retry_max: self.retry_max.or(base.retry_max.clone()),
        }
    }

    pub(super) fn resolve(self) -> Option<send::Settings> {
        let default = send::Settings::default();
        Some(send::Settings {
            rate_limit: u32::try_from(self.rate_limit.or_default(default.rate_limit.into())?)
                .ok()?,
            max_in_flight: self
                .max_in_flight
                .or_default(default.max_in_flight as u64)? as usize,
            request_timeout: self.request_timeout.or_default(default.request_timeout)?,
            connect_timeout: self.connect_timeout.or_default(default.connect_timeout)?,
            record_ttl: self.record_ttl.or_default(default.record_ttl)?,
            // For those who are told of each record.
            unsealed_ttl: default.unsealed_ttl,
            fail_if_throttled: default.fail_if_throttled,
            ordering: self.ordering.or_default(default.ordering)?,
            protocol: self.protocol.or_default(default.protocol)?,
            retry: retry::Settings {
                initial: self.retry_initial.or_default(default.retry.initial)?,
                max: self.retry_max.or_default(default.retry.max)?,
            },
        })
    }
}

impl DeadLetter {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        let sizes = 64 << 10..=1 << 40;
        let this = Self {
            max_file_size: t.bytes("max_file_size", sizes.clone()),
            max_total_size: t.bytes("max_total_size", sizes),
            when_full: t.choice(
                "when_full",
                &[
                    ("block", WhenFull::Block),
                    ("drop_oldest", WhenFull::DropOldest),
                ],
            ),
        };
        let default = deadletter::Settings::default();
        stream::at_most(
            t.file(),
            (
                "dead_letter.max_file_size",
                &this.max_file_size,
                default.max_file_size,
            ),
            (
                "dead_letter.max_total_size",
                &this.max_total_size,
                default.max_total_size,
            ),
            words::show_bytes,
        );
        this
    }

    pub(super) fn resolve(self) -> Option<deadletter::Settings> {
        let default = deadletter::Settings::default();
        Some(deadletter::Settings {
            max_file_size: self.max_file_size.or_default(default.max_file_size)?,
            max_total_size: self.max_total_size.or_default(default.max_total_size)?,
            when_full: self.when_full.or_default(default.when_full)?,
        })
    }
}
