//! What is wrong with a matrix, each mistake by its key and with what is allowed.

use anyhow::{bail, ensure};

use super::{Axes, LONGEST_RUN};
use crate::scenario::shape::Keys;
use crate::scenario::{Encryption, Source, Text};

/// Of one matrix.
const MOST_RUNS: usize = 2000;

impl Axes {
    /// What serde does not see.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.encryption.is_some(),
            "encryption: missing; a list of \"off\", \"record\", \"block\" and \"block_zstd\""
        );
        self.check_filled()?;
        self.check_lines()?;
        self.check_length_of_run()?;
        ensure!(
            self.shards
                .iter()
                .flatten()
                .all(|n| (1..=10_000).contains(n)),
            "shards: allowed: a list of numbers from 1 to 10000"
        );
        ensure!(
            self.failing_percent.iter().flatten().all(|n| *n <= 90),
            "failing_percent: allowed: a list of numbers from 0 to 90"
        );
        ensure!(
            !self.has(Source::Bare)
                || self.rate.is_some() && self.encryption == Some(vec![Encryption::Off]),
            "source: \"bare\" needs a rate, and encryption = [\"off\"]"
        );
        if self.has(Source::Python) {
            self.check_python()?;
        }
        if self.has(Source::FluentBit) || self.has(Source::Vector) {
            self.check_shippers()?;
        }
        self.check_many()?;
        self.kms_ms().and(self.sink_ms()).and(self.lingers())?;
        Ok(())
    }

    fn has(&self, source: Source) -> bool {
        self.source.iter().flatten().any(|other| *other == source)
    }

    /// No axis without a point on it, and no more runs than anybody waits for.
    fn check_filled(&self) -> anyhow::Result<()> {
        fn points<T>(list: Option<&Vec<T>>) -> usize {
            list.map_or(1, Vec::len)
        }
        let axes = [
            ("encryption", points(self.encryption.as_ref())),
            ("aggregation", points(self.aggregation.as_ref())),
            ("line_bytes", points(self.line_bytes.as_ref())),
            ("partition_key", points(self.partition_key.as_ref())),
            ("source", points(self.source.as_ref())),
            ("suite", points(self.suite.as_ref())),
            ("backend", points(self.backend.as_ref())),
            ("lanes", points(self.lanes.as_ref())),
            ("cache", points(self.cache.as_ref())),
            ("shards", points(self.shards.as_ref())),
            ("files", points(self.files.as_ref())),
            ("streams", points(self.streams.as_ref())),
            ("protocol", points(self.protocol.as_ref())),
            ("memory_limit", points(self.memory_limit.as_ref())),
            ("failing_percent", points(self.failing_percent.as_ref())),
            ("rate", points(self.rate.as_ref())),
            ("linger", points(self.linger.as_ref())),
        ];
        if let Some((key, _)) = axes.iter().find(|(_, points)| *points == 0) {
            bail!("{key}: allowed: a list that is not empty");
        }
        let runs = axes
            .iter()
            .try_fold(1_usize, |runs, (_, points)| runs.checked_mul(*points));
        ensure!(
            runs.is_some_and(|runs| runs <= MOST_RUNS),
            "the lists come to more than {MOST_RUNS} runs together: give fewer, or several tables [[runs]]"
        );
        Ok(())
    }

    /// What they are, and under which keys they go.
    fn check_lines(&self) -> anyhow::Result<()> {
        for length in self.line_bytes.iter().flatten() {
            length.check().map_err(anyhow::Error::msg)?;
        }
        let is_sample = matches!(self.text, Some(Text::Sample(_)));
        ensure!(
            self.line_bytes.is_some() != is_sample,
            "line_bytes: needed, but not with text.sample, whose lines have their own lengths"
        );
        for keys in self.partition_key.iter().flatten() {
            match keys {
                Keys::Many(many) => ensure!(
                    (1..=Keys::MOST).contains(many) && !is_sample,
                    "partition_key: a number of keys: allowed: 1 to {}, and not with text.sample, whose lines are as they are",
                    Keys::MOST
                ),
                Keys::Default => {}
                Keys::Word(_) | Keys::Rule(_) => ensure!(
                    self.source
                        .iter()
                        .flatten()
                        .all(|source| matches!(source, Source::File | Source::Socket)),
                    "partition_key: a rule of the agent's: allowed: with source = [\"file\"] or [\"socket\"]"
                ),
            }
        }
        let has_keys = self.partition_key.is_some();
        ensure!(
            !has_keys
                || self
                    .source
                    .iter()
                    .flatten()
                    .all(|source| source.has_agent()),
            "partition_key: allowed: without source \"bare\", \"python\", \"fluent_bit\" and \"vector\""
        );
        Ok(())
    }

    fn check_length_of_run(&self) -> anyhow::Result<()> {
        ensure!(
            self.rate
                .iter()
                .flatten()
                .all(|n| (1..=1_000_000_000).contains(n)),
            "rate: allowed: a list of numbers from 1 to 1000000000, lines a second"
        );
        let lengths = [
            self.megabytes.is_some(),
            self.lines.is_some(),
            self.seconds.is_some(),
        ];
        ensure!(
            lengths.iter().filter(|given| **given).count() == 1,
            "megabytes, lines, seconds: one of them says how long a run is"
        );
        ensure!(
            self.seconds.is_none() || self.rate.is_some(),
            "seconds: allowed: with rate; without one, lines are there before the agent starts"
        );
        let most_megabytes = (LONGEST_RUN / 1_000_000) as f64;
        ensure!(
            self.megabytes
                .is_none_or(|n| n > 0.0 && n <= most_megabytes)
                && self.lines != Some(0)
                && self.seconds != Some(0),
            "megabytes, lines, seconds: allowed: more than 0, and no more than a terabyte of lines"
        );
        Ok(())
    }

    /// Files are written before the agent starts, and one stream alone is read back.
    fn check_many(&self) -> anyhow::Result<()> {
        for (key, numbers) in [("files", &self.files), ("streams", &self.streams)] {
            ensure!(
                numbers.iter().flatten().all(|n| (1..=10_000).contains(n)),
                "{key}: allowed: a list of numbers from 1 to 10000"
            );
        }
        let many = |numbers: &Option<Vec<usize>>| numbers.iter().flatten().any(|n| *n > 1);
        let is_of_files = self.source.iter().flatten().all(|s| *s == Source::File);
        ensure!(
            is_of_files && self.rate.is_none() || !many(&self.files) && !many(&self.streams),
            "files, streams: allowed: with source = [\"file\"], and without rate"
        );
        let reads = self.read_back == Some(true) || self.keep == Some(true);
        ensure!(
            !many(&self.streams)
                || !reads && self.failing_percent.is_none() && self.shard_limits != Some(true),
            "streams: allowed: without read_back, keep, failing_percent and shard_limits"
        );
        Ok(())
    }

    /// It has fewer ways than the agent.
    fn check_python(&self) -> anyhow::Result<()> {
        let ways = self.encryption.iter().flatten();
        ensure!(
            !ways.clone().any(|how| how.is_block()),
            "source: \"python\" encrypts records: allowed: encryption = [\"off\", \"record\"]"
        );
        ensure!(
            self.rate.is_none() && self.linger.is_none(),
            "source: \"python\" catches up with a file: allowed: without rate and linger"
        );
        ensure!(
            self.suite.is_none() && self.backend.is_none() && self.lanes.is_none(),
            "source: \"python\" has its own suite and backend: allowed: without these keys"
        );
        Ok(())
    }

    /// They have no encryption, and a place to send to that counts what arrives.
    fn check_shippers(&self) -> anyhow::Result<()> {
        let encryption = self.encryption.iter().flatten();
        ensure!(
            encryption.clone().all(|how| *how == Encryption::Off),
            "source: \"fluent_bit\" and \"vector\" do not encrypt: allowed: encryption = [\"off\"]"
        );
        ensure!(
            self.rate.is_none() && self.linger.is_none(),
            "source: \"fluent_bit\" and \"vector\" catch up with a file: allowed: without rate and linger"
        );
        ensure!(
            self.keep == Some(true) && self.tls != Some(false),
            "source: \"fluent_bit\" and \"vector\" keep no account that could be asked for: allowed: keep = true, over TLS"
        );
        let aggregates = self.aggregation.iter().flatten().any(|on| *on);
        ensure!(
            !self.has(Source::Vector) || !aggregates && self.aggregation.is_some(),
            "source: \"vector\" does not aggregate: allowed: aggregation = [false]"
        );
        Ok(())
    }
}
