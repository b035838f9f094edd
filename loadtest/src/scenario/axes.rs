//! A scenario's keys. Those before the first `[[runs]]` hold for all of its tables, which have the same ones.

mod check;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use kinseal::config::{self, words};
use serde::{Deserialize, Serialize};
use toml_edit::DocumentMut;

use super::shape::{Keys, LONGEST_LINE, Length};
use super::{Cache, Case, Encryption, Pace, Protocol, Source, Text};
use crate::configuration::Configuration;
use crate::sample::Sample;
use crate::sink::MOST_KEPT;
use crate::target::Place;

pub(super) const SUITE: &str = "0478";
pub(super) const BACKEND: &str = "auto";

/// Axes (lists) and what holds for a whole matrix.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Axes {
    encryption: Option<Vec<Encryption>>,
    aggregation: Option<Vec<bool>>,
    line_bytes: Option<Vec<Length>>,
    partition_key: Option<Vec<Keys>>,
    source: Option<Vec<Source>>,
    suite: Option<Vec<String>>,
    backend: Option<Vec<String>>,
    lanes: Option<Vec<String>>,
    cache: Option<Vec<Cache>>,
    shards: Option<Vec<usize>>,
    /// To each stream goes one at least.
    files: Option<Vec<usize>>,
    streams: Option<Vec<usize>>,
    protocol: Option<Vec<Protocol>>,
    memory_limit: Option<Vec<String>>,
    failing_percent: Option<Vec<u32>>,
    rate: Option<Vec<u64>>,
    linger: Option<Vec<String>>,
    /// Of lines, newlines included, for each run; or `lines` of them, or with a rate so many `seconds`.
    megabytes: Option<f64>,
    lines: Option<u64>,
    seconds: Option<u64>,
    text: Option<Text>,
    kms_latency: Option<String>,
    sink_latency: Option<String>,
    read_back: Option<bool>,
    keep: Option<bool>,
    tls: Option<bool>,
    shard_limits: Option<bool>,
}

/// A run takes no more than a terabyte of lines: it is a mistake, or somebody's disk.
const LONGEST_RUN: u64 = 1_000_000_000_000;

/// Of an answer: shorter than the agent's time-outs, which are defaults.
const LONGEST_LATENCY: Duration = Duration::from_secs(5);
/// Shorter than a run may be without progress.
const LONGEST_LINGER: Duration = Duration::from_secs(30);

/// The matrices of a scenario, in their order.
pub(super) fn matrices(text: &str) -> anyhow::Result<Vec<Axes>> {
    let mut document: DocumentMut = text.parse()?;
    let runs = document.remove("runs");
    let common: Axes = toml_edit::de::from_document(document)?;
    let mut matrices = Vec::new();
    match runs {
        None => matrices.push(common),
        Some(runs) => {
            let Some(tables) = runs.as_array_of_tables() else {
                bail!("runs: allowed: tables [[runs]]");
            };
            for (number, table) in tables.iter().enumerate() {
                let own: Axes = toml_edit::de::from_document(DocumentMut::from(table.clone()))
                    .with_context(|| format!("table {} of [[runs]]", number + 1))?;
                matrices.push(own.or(&common));
            }
        }
    }
    for matrix in &mut matrices {
        let keys = matrix.partition_key.take();
        matrix.partition_key = keys.map(|all| all.into_iter().map(Keys::settled).collect());
        matrix.check()?;
        if let Some(Text::Sample(path)) = &matrix.text {
            let sample = Sample::of(path)?;
            let longest = sample.lines.iter().map(Vec::len).max().unwrap_or_default();
            ensure!(
                longest <= LONGEST_LINE,
                "text.sample: {} has a line of {longest} bytes; a record takes {LONGEST_LINE}: leave it out",
                path.display()
            );
            let mean = sample.mean_len();
            matrix.line_bytes = Some(vec![Length::Fixed(mean as usize)]);
        }
        for case in matrix.cases() {
            check(&case).with_context(|| format!("run \"{case}\""))?;
        }
    }
    Ok(matrices)
}

/// What only all of a case shows: how much it is, and what the agent says of its configuration.
fn check(case: &Case) -> anyhow::Result<()> {
    let bytes = case.lines.checked_mul(case.line_bytes as u64 + 1);
    ensure!(
        bytes.is_some_and(|bytes| bytes <= LONGEST_RUN),
        "rate × seconds, lines: allowed: no more than a terabyte of lines"
    );
    ensure!(
        case.kept_bytes() <= MOST_KEPT,
        "its sink keeps what it takes (with keep, rate, failing_percent or shard_limits), which may come to {} GB in memory: \
         allowed: {} GB; give fewer lines",
        case.kept_bytes() >> 30,
        MOST_KEPT >> 30
    );
    let configuration = Configuration {
        case,
        place: &Place::nowhere(),
        folder: Path::new("/"),
    };
    let text = configuration.to_string();
    ensure!(
        (text.len() as u64) < config::LARGEST_FILE,
        "streams: allowed: as many as a configuration of {} MiB takes, some 8000",
        config::LARGEST_FILE >> 20
    );
    config::parse("configuration", &text, &config::System)?;
    Ok(())
}

impl Axes {
    fn or(self, common: &Self) -> Self {
        let common = common.clone();
        // How long a run is has three words, of which a table's own goes first.
        let has_length = self.megabytes.is_some() || self.lines.is_some() || self.seconds.is_some();
        let (megabytes, lines, seconds) = match has_length {
            true => (self.megabytes, self.lines, self.seconds),
            false => (common.megabytes, common.lines, common.seconds),
        };
        Self {
            encryption: self.encryption.or(common.encryption),
            aggregation: self.aggregation.or(common.aggregation),
            line_bytes: self.line_bytes.or(common.line_bytes),
            partition_key: self.partition_key.or(common.partition_key),
            source: self.source.or(common.source),
            suite: self.suite.or(common.suite),
            backend: self.backend.or(common.backend),
            lanes: self.lanes.or(common.lanes),
            cache: self.cache.or(common.cache),
            shards: self.shards.or(common.shards),
            files: self.files.or(common.files),
            streams: self.streams.or(common.streams),
            protocol: self.protocol.or(common.protocol),
            memory_limit: self.memory_limit.or(common.memory_limit),
            failing_percent: self.failing_percent.or(common.failing_percent),
            rate: self.rate.or(common.rate),
            linger: self.linger.or(common.linger),
            megabytes,
            lines,
            seconds,
            text: self.text.or(common.text),
            kms_latency: self.kms_latency.or(common.kms_latency),
            sink_latency: self.sink_latency.or(common.sink_latency),
            read_back: self.read_back.or(common.read_back),
            keep: self.keep.or(common.keep),
            tls: self.tls.or(common.tls),
            shard_limits: self.shard_limits.or(common.shard_limits),
        }
    }

    fn kms_ms(&self) -> anyhow::Result<u64> {
        millis("kms_latency", self.kms_latency.as_deref(), LONGEST_LATENCY)
    }

    fn sink_ms(&self) -> anyhow::Result<u64> {
        millis(
            "sink_latency",
            self.sink_latency.as_deref(),
            LONGEST_LATENCY,
        )
    }

    fn lingers(&self) -> anyhow::Result<Vec<Option<u64>>> {
        match &self.linger {
            None => Ok(vec![None]),
            Some(all) => all
                .iter()
                .map(|linger| millis("linger", Some(linger), LONGEST_LINGER).map(Some))
                .collect(),
        }
    }

    /// All combinations.
    ///
    /// # Panics
    ///
    /// If [`Self::check`] was not asked.
    pub(super) fn cases(&self) -> Vec<Case> {
        let text = self.text.clone().unwrap_or(Text::Random);
        let first = Case {
            encryption: Encryption::Off,
            aggregation: true,
            line_bytes: 0,
            lengths: None,
            keys: Keys::Default,
            text,
            lines: 0,
            is_counted: self.lines.is_some(),
            is_sized: false,
            source: Source::File,
            pace: Pace::AsFastAsItGoes,
            linger_ms: None,
            suite: SUITE.to_owned(),
            backend: BACKEND.to_owned(),
            lanes: None,
            cache: Cache::Default,
            kms_ms: self.kms_ms().expect("checked"),
            sink_ms: self.sink_ms().expect("checked"),
            shards: 1,
            files: 1,
            streams: 1,
            protocol: Protocol::Json,
            memory_limit: None,
            failing: None,
            shard_limits: self.shard_limits.unwrap_or(false),
            read_back: self.read_back.unwrap_or(false),
            keep: self.keep.unwrap_or(false),
            tls: self.tls.unwrap_or(true),
        };
        let mut cases = Cases(vec![first]);
        cases.by(self.line_bytes.as_ref(), |case, length| {
            case.line_bytes = length.mean();
            case.lengths = Some(*length).filter(|length| !matches!(length, Length::Fixed(_)));
        });
        cases.by(self.partition_key.as_ref(), |case, keys| {
            case.keys = keys.clone();
        });
        cases.by(self.aggregation.as_ref(), |case, on| case.aggregation = *on);
        cases.by(self.source.as_ref(), |case, source| case.source = *source);
        cases.by(self.shards.as_ref(), |case, n| case.shards = *n);
        cases.by(self.streams.as_ref(), |case, n| case.streams = *n);
        cases.by(self.files.as_ref(), |case, n| case.files = *n);
        cases.by(self.protocol.as_ref(), |case, how| case.protocol = *how);
        cases.by(self.memory_limit.as_ref(), |case, limit| {
            case.memory_limit = Some(limit.clone());
        });
        cases.by(self.rate.as_ref(), |case, n| {
            case.pace = Pace::LinesPerSecond(*n)
        });
        let lingers = self.lingers().expect("checked");
        cases.by(Some(&lingers), |case, ms| case.linger_ms = *ms);
        cases.by(self.failing_percent.as_ref(), |case, n| {
            case.failing = Some(*n)
        });
        cases.by(self.encryption.as_ref(), |case, how| case.encryption = *how);
        cases.by(self.suite.as_ref(), |case, suite| {
            case.suite.clone_from(suite)
        });
        cases.by(self.backend.as_ref(), |case, name| {
            case.backend.clone_from(name)
        });
        cases.by(self.lanes.as_ref(), |case, lanes| {
            case.lanes = Some(lanes.clone()).filter(|lanes| lanes != "auto");
        });
        cases.by(self.cache.as_ref(), |case, cache| case.cache = *cache);
        let with_lines = cases.0.into_iter().map(|mut case| {
            case.lines = self.lines_of(&case);
            case.files = case.files.max(case.streams);
            match case.encryption {
                Encryption::Off => case.without_encryption(),
                _ => case,
            }
        });
        with_lines.collect()
    }

    fn lines_of(&self, case: &Case) -> u64 {
        let lines = match (self.lines, self.megabytes, case.pace) {
            (Some(lines), _, _) => lines,
            (None, Some(megabytes), _) => (megabytes * 1e6) as u64 / (case.line_bytes as u64 + 1),
            (None, None, Pace::LinesPerSecond(rate)) => {
                rate.saturating_mul(self.seconds.unwrap_or(1))
            }
            (None, None, Pace::AsFastAsItGoes) => 1,
        };
        lines.max(1)
    }
}

struct Cases(Vec<Case>);

impl Cases {
    /// Each of them once for each of `values`, if there are any.
    fn by<T>(&mut self, values: Option<&Vec<T>>, set: impl Fn(&mut Case, &T)) {
        let Some(values) = values else { return };
        let each = |case: &Case| {
            let with = values.iter().map(|value| {
                let mut case = case.clone();
                set(&mut case, value);
                case
            });
            with.collect::<Vec<_>>()
        };
        self.0 = self.0.iter().flat_map(each).collect();
    }
}

fn millis(key: &str, text: Option<&str>, most: Duration) -> anyhow::Result<u64> {
    let Some(text) = text else { return Ok(0) };
    let duration = words::duration(text).map_err(|why| anyhow::anyhow!("{key}: {why}"))?;
    ensure!(
        duration <= most,
        "{key}: allowed: up to {} s; {} is more",
        most.as_secs(),
        words::show_duration(duration)
    );
    Ok(duration.as_millis() as u64)
}

/// `"default"`, `"off"`, or a number of messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum CacheWord {
    Messages(u64),
    Word(String),
}

impl TryFrom<CacheWord> for Cache {
    type Error = String;

    fn try_from(word: CacheWord) -> Result<Self, String> {
        match word {
            CacheWord::Messages(messages) if messages > 0 => Ok(Self::Messages(messages)),
            CacheWord::Word(word) if word == "default" => Ok(Self::Default),
            CacheWord::Word(word) if word == "off" => Ok(Self::Messages(1)),
            _ => Err("allowed: \"default\", \"off\", or how many messages a data key seals".into()),
        }
    }
}

impl From<Cache> for CacheWord {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::Default => Self::Word("default".to_owned()),
            Cache::Messages(messages) => Self::Messages(messages),
        }
    }
}
