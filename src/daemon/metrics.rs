//! The KPL's metrics: by name, error code, stream and shard, each prefix of these a metric of its own.
//!
//! Names, levels, units and dimensions are the KPL's, so that dashboards and alarms on them go on working. A value that
//! is put counts for all prefixes. Of each metric there are the last minute's whole seconds, and its sum since it was
//! first put. Put once for many equal values: nothing here is on the path of a single record.

mod exposition;
mod observe;
mod stat;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

pub use self::observe::StreamMetrics;
use self::stat::Series;
pub use self::stat::Stat;
use super::configuration::{AdditionalDimension, Granularity, Level};
use super::message::{Dimension, Metric, MetricsRequest, MetricsResponse};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    UserRecordsReceived,
    UserRecordsPending,
    UserRecordsPut,
    UserRecordsDataPut,
    KinesisRecordsPut,
    KinesisRecordsDataPut,
    ErrorsByCode,
    AllErrors,
    RetriesPerRecord,
    UserRecordExpired,
    BufferingTime,
    RequestTime,
    UserRecordsPerKinesisRecord,
    KinesisRecordsPerPutRecordsRequest,
    UserRecordsPerPutRecordsRequest,
}

/// As CloudWatch has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Count,
    Bytes,
    Milliseconds,
}

impl Name {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserRecordsReceived => "UserRecordsReceived",
            Self::UserRecordsPending => "UserRecordsPending",
            Self::UserRecordsPut => "UserRecordsPut",
            Self::UserRecordsDataPut => "UserRecordsDataPut",
            Self::KinesisRecordsPut => "KinesisRecordsPut",
            Self::KinesisRecordsDataPut => "KinesisRecordsDataPut",
            Self::ErrorsByCode => "ErrorsByCode",
            Self::AllErrors => "AllErrors",
            Self::RetriesPerRecord => "RetriesPerRecord",
            Self::UserRecordExpired => "UserRecordExpired",
            Self::BufferingTime => "BufferingTime",
            Self::RequestTime => "RequestTime",
            Self::UserRecordsPerKinesisRecord => "UserRecordsPerKinesisRecord",
            Self::KinesisRecordsPerPutRecordsRequest => "KinesisRecordsPerPutRecordsRequest",
            Self::UserRecordsPerPutRecordsRequest => "UserRecordsPerPutRecordsRequest",
        }
    }

    pub fn level(self) -> Level {
        match self {
            Self::UserRecordsPut
            | Self::KinesisRecordsPut
            | Self::ErrorsByCode
            | Self::AllErrors
            | Self::UserRecordExpired
            | Self::BufferingTime => Level::Summary,
            _ => Level::Detailed,
        }
    }

    pub fn unit(self) -> Unit {
        match self {
            Self::UserRecordsDataPut | Self::KinesisRecordsDataPut => Unit::Bytes,
            Self::BufferingTime | Self::RequestTime => Unit::Milliseconds,
            _ => Unit::Count,
        }
    }
}

/// What a value is of: the finest that is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Of<'a> {
    pub error: Option<&'a str>,
    pub stream: Option<&'a str>,
    pub shard: Option<&'a str>,
}

type Pair = (Arc<str>, Arc<str>);

const ERROR_CODE: &str = "ErrorCode";
const STREAM: &str = "StreamName";
const SHARD: &str = "ShardId";

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    extras: Vec<AdditionalDimension>,
    roots: Mutex<BTreeMap<Name, Node>>,
}

/// A metric, and those that it is a prefix of.
#[derive(Debug)]
struct Node {
    series: Series,
    below: BTreeMap<Pair, Self>,
}

/// A metric for CloudWatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Datum {
    pub name: Name,
    pub dimensions: Vec<(Arc<str>, Arc<str>)>,
    pub stat: Stat,
}

impl Metrics {
    pub fn new(extras: Vec<AdditionalDimension>) -> Self {
        Self {
            extras,
            roots: Mutex::default(),
        }
    }

    pub fn put(&self, name: Name, of: Of<'_>, stat: Stat, now: Instant) {
        if stat.is_empty() {
            return;
        }
        let path = self.path(of);
        let mut roots = self.roots.lock().expect("no panic while held");
        let mut node = roots.entry(name).or_insert_with(|| Node::new(now));
        node.series.add(stat, now);
        for pair in path {
            node = node.below.entry(pair).or_insert_with(|| Node::new(now));
            node.series.add(stat, now);
        }
    }

    /// The dimensions below the name, coarse ones first; those of the user's own follow what they are of.
    fn path(&self, of: Of<'_>) -> Vec<Pair> {
        let mut path = Vec::new();
        let add = |path: &mut Vec<Pair>, key: &str, value: &str| {
            path.push((Arc::from(key), Arc::from(value)));
        };
        let extras = |path: &mut Vec<Pair>, granularity| {
            for extra in self.extras.iter().filter(|e| e.granularity == granularity) {
                add(path, &extra.key, &extra.value);
            }
        };
        extras(&mut path, Granularity::Global);
        if let Some(code) = of.error {
            add(&mut path, ERROR_CODE, code);
        }
        if let Some(stream) = of.stream {
            add(&mut path, STREAM, stream);
            extras(&mut path, Granularity::Stream);
            if let Some(shard) = of.shard {
                add(&mut path, SHARD, shard);
                extras(&mut path, Granularity::Shard);
            }
        }
        path
    }

    /// Gives back the memory of single seconds that nobody can ask for any more. Sums since the start stay.
    pub fn forget_seconds(&self, now: Instant) {
        let mut roots = self.roots.lock().expect("no panic while held");
        for root in roots.values_mut() {
            root.forget_seconds(now);
        }
    }

    /// What the client asks for, level and granularity aside.
    pub fn answer(&self, request: &MetricsRequest, now: Instant) -> MetricsResponse {
        let roots = self.roots.lock().expect("no panic while held");
        let mut metrics = Vec::new();
        for (name, root) in roots.iter() {
            if request
                .name
                .as_deref()
                .is_none_or(|asked| asked == name.as_str())
            {
                root.visit(&mut Vec::new(), &mut |dimensions, series| {
                    metrics.push(answered(*name, dimensions, series, request.seconds, now));
                });
            }
        }
        fit(&mut metrics);
        MetricsResponse { metrics }
    }

    /// What there was from `from` to `to`, in whole seconds since the clock began, as far as it is to be uploaded. Sorted.
    pub fn between(
        &self,
        from: u64,
        to: u64,
        level: Level,
        granularity: Granularity,
        clock: &Clock,
    ) -> Vec<Datum> {
        let roots = self.roots.lock().expect("no panic while held");
        let mut data = Vec::new();
        for (name, root) in roots.iter().filter(|(name, _)| name.level() <= level) {
            root.visit(&mut Vec::new(), &mut |dimensions, series| {
                let stat = series.between(clock.at(from), clock.at(to));
                if !stat.is_empty() && granularity_of(dimensions) <= granularity {
                    data.push(Datum {
                        name: *name,
                        dimensions: dimensions.to_vec(),
                        stat,
                    });
                }
            });
        }
        data
    }
}

/// Whole seconds from one instant on.
#[derive(Debug, Clone, Copy)]
pub struct Clock(pub Instant);

impl Clock {
    pub fn at(&self, second: u64) -> Instant {
        self.0 + std::time::Duration::from_secs(second)
    }

    pub fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.0).as_secs()
    }
}

fn granularity_of(dimensions: &[Pair]) -> Granularity {
    let has = |key: &str| dimensions.iter().any(|(k, _)| &**k == key);
    match (has(SHARD), has(STREAM)) {
        (true, _) => Granularity::Shard,
        (false, true) => Granularity::Stream,
        (false, false) => Granularity::Global,
    }
}

fn answered(
    name: Name,
    dimensions: &[Pair],
    series: &Series,
    seconds: Option<u64>,
    now: Instant,
) -> Metric {
    let (stat, seconds) = match seconds {
        Some(seconds) => (series.last(seconds, now), seconds),
        None => (series.lifetime(), series.age(now).as_secs()),
    };
    let dimensions = dimensions.iter().map(|(key, value)| Dimension {
        key: key.to_string(),
        value: value.to_string(),
    });
    Metric {
        name: name.as_str().to_owned(),
        dimensions: dimensions.collect(),
        stats: stat.into(),
        seconds,
    }
}

/// Clients up to 1.0.5 read no frame longer than 8 MiB, and stop reading at one that is: the finest are left out then.
fn fit(metrics: &mut Vec<Metric>) {
    const MOST: usize = 7 << 20;
    let size = |metric: &Metric| prost::Message::encoded_len(metric) + 8;
    let mut total: usize = metrics.iter().map(size).sum();
    let mut longest = metrics
        .iter()
        .map(|m| m.dimensions.len())
        .max()
        .unwrap_or(0);
    while total > MOST && longest > 0 {
        metrics.retain(|metric| metric.dimensions.len() < longest);
        longest -= 1;
        total = metrics.iter().map(size).sum();
        tracing::warn!(
            "the answer to a request for metrics is longer than the client reads: shards are left out"
        );
    }
}

impl Node {
    fn new(now: Instant) -> Self {
        Self {
            series: Series::new(now),
            below: BTreeMap::new(),
        }
    }

    fn forget_seconds(&mut self, now: Instant) {
        self.series.forget_seconds(now);
        for node in self.below.values_mut() {
            node.forget_seconds(now);
        }
    }

    fn visit(&self, path: &mut Vec<Pair>, seen: &mut impl FnMut(&[Pair], &Series)) {
        seen(path, &self.series);
        for (pair, node) in &self.below {
            path.push(pair.clone());
            node.visit(path, seen);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests;
