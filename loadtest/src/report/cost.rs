//! Shards and dollars, from what a run measured and what the prices file says.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::Run;
use crate::scenario::Cache;

/// US dollars.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    pub(super) as_of: String,
    shard_hour: f64,
    million_put_units: f64,
    ten_thousand_kms_requests: f64,
    vcpu_hour: f64,
    pub(super) workload: Workload,
}

/// What is sent, by all hosts together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    pub(super) lines_per_second: u64,
    pub(super) hosts: u64,
}

/// Of a month.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) shards: f64,
    pub(super) vcpus: f64,
    pub(super) stream: f64,
    pub(super) kms: f64,
    pub(super) cpu: f64,
}

/// A shard's quota: 1 MiB and 1,000 records a second (Kinesis Data Streams quotas).
const SHARD_BYTES: f64 = 1_048_576.0;
const SHARD_RECORDS: f64 = 1000.0;
/// A PUT payload unit (Kinesis Data Streams pricing).
pub(crate) const PUT_UNIT: f64 = 25_000.0;
const HOURS: f64 = 730.0;
/// The cache's default `max_age`.
const KEYS_PER_HOUR: f64 = 12.0;

/// A second.
const MOST_LINES: u64 = 1_000_000_000_000;

impl Prices {
    pub(crate) fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let own = include_str!("../../prices.toml").to_owned();
        let text = path.map_or(Ok(own), std::fs::read_to_string);
        let shown = path.map_or("prices.toml".into(), |path| path.display().to_string());
        let text = text.with_context(|| format!("cannot read {shown}"))?;
        let prices: Self = toml_edit::de::from_str(&text).with_context(|| shown.clone())?;
        ensure!(
            prices.workload.lines_per_second > 0 && prices.workload.hosts > 0,
            "{shown}: workload: lines_per_second and hosts have to be more than 0"
        );
        let each = [
            ("shard_hour", prices.shard_hour),
            ("million_put_units", prices.million_put_units),
            (
                "ten_thousand_kms_requests",
                prices.ten_thousand_kms_requests,
            ),
            ("vcpu_hour", prices.vcpu_hour),
        ];
        for (name, price) in each {
            ensure!(
                (0.0..=1e6).contains(&price),
                "{shown}: {name}: found {price}; allowed: a price from 0 to a million"
            );
        }
        ensure!(
            prices.workload.lines_per_second <= MOST_LINES,
            "{shown}: workload.lines_per_second: allowed: {MOST_LINES} at most"
        );
        Ok(prices)
    }

    pub(crate) fn as_of(&self) -> &str {
        &self.as_of
    }

    pub(crate) fn of_put_units(&self, units: u64) -> f64 {
        units as f64 / 1e6 * self.million_put_units
    }

    /// As if entries were as full as in the run.
    pub(super) fn of(&self, run: &Run) -> Cost {
        let lines = self.workload.lines_per_second as f64;
        let (bytes, entries) = (run.bytes_per_line() * lines, run.entries_per_line() * lines);
        let shards = (bytes / SHARD_BYTES).max(entries / SHARD_RECORDS).ceil();
        let vcpus = lines / run.lines_per_cpu_second();
        let units = entries * (bytes / entries / PUT_UNIT).ceil();
        let seconds = HOURS * 3600.0;
        let keys_a_second = match run.case.cache {
            Cache::Default => self.workload.hosts as f64 * KEYS_PER_HOUR / 3600.0,
            Cache::Messages(_) => run.outcome.agent.counts.data_keys as f64 / run.lines() * lines,
        };
        let keys = match run.outcome.agent.counts.data_keys {
            0 => 0.0,
            _ => keys_a_second * seconds,
        };
        Cost {
            shards,
            vcpus,
            stream: shards * HOURS * self.shard_hour
                + units * seconds / 1e6 * self.million_put_units,
            kms: keys / 1e4 * self.ten_thousand_kms_requests,
            cpu: vcpus * HOURS * self.vcpu_hour,
        }
    }
}

impl Cost {
    pub(super) fn dollars(&self) -> f64 {
        self.stream + self.kms + self.cpu
    }
}
