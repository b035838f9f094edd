//! Latencies as they leave this program: points of a curve for the page, logs for the standard plotters.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use kinseal::metrics::Histograms;
use serde::{Deserialize, Serialize};

/// Latency by percentile of one stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) stage: String,
    pub(crate) count: u64,
    /// Quantiles (0 to 1) and milliseconds.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    pub(crate) fn of_stages(histograms: &Histograms) -> Vec<Self> {
        let stages = histograms.stages().into_iter();
        let timed = stages.filter_map(|(name, latency)| Some((name, latency.histogram()?)));
        timed
            .map(|(name, histogram)| Self::of(name, histogram))
            .collect()
    }

    /// Of microseconds.
    pub(crate) fn of(stage: &str, histogram: &Histogram<u64>) -> Self {
        // Each step halves what is left above it: as even on the plotters' axis as it can be.
        let steps = (0..).map(|step| 1.0 - 0.5_f64.powf(f64::from(step) / 3.0));
        let above = |q: f64| (1.0 - q) * histogram.len() as f64;
        let quantiles = steps.take_while(|q| above(*q) >= 0.5).chain([1.0]);
        let ms = |q| histogram.value_at_quantile(q) as f64 / 1e3;
        Self {
            stage: stage.to_owned(),
            count: histogram.len(),
            points: quantiles.map(|q| (q, ms(q))).collect(),
        }
    }

    /// Milliseconds, of the nearest point at or above.
    pub(crate) fn at(&self, q: f64) -> f64 {
        let point = self.points.iter().find(|(at, _)| *at >= q - 1e-9);
        point.or(self.points.last()).map_or(0.0, |(_, ms)| *ms)
    }
}

/// An HdrHistogram log: for each stage and second a compressed histogram of microseconds, tagged with the stage.
///
/// Format: HdrHistogram's `HistogramLogWriter`, version 1.3, as HistogramLogAnalyzer and others read it.
pub(crate) struct Log {
    path: PathBuf,
    out: BufWriter<File>,
    serializer: V2DeflateSerializer,
    /// All that was logged, and up to when.
    logged: Histograms,
    until: Duration,
}

impl Log {
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| cannot_write(path))?;
        let mut log = Self::of(path, file);
        let mut head = IntervalLogWriterBuilder::new();
        head.add_comment("[Histogram log format version 1.3]")
            .add_comment("kinseal loadtest: microseconds, each stage by its tag")
            .with_start_time(SystemTime::now());
        head.begin_log_with(&mut log.out, &mut log.serializer)?;
        // Some readers look for it.
        let legend =
            r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;
        writeln!(log.out, "{legend}")?;
        Ok(log)
    }

    fn of(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            out: BufWriter::new(file),
            serializer: V2DeflateSerializer::new(),
            logged: Histograms::new(),
            until: Duration::ZERO,
        }
    }

    /// Goes on with one whose writer has ended, or begins one where there was none: a histogram for each second from `start` on.
    pub(crate) fn add_seconds(
        path: &Path,
        stage: &str,
        start: SystemTime,
        seconds: &[Histogram<u64>],
    ) -> anyhow::Result<()> {
        let mut log = match File::options().append(true).open(path) {
            Ok(file) => Self::of(path, file),
            Err(_) => Self::create(path)?,
        };
        let begun = began(&std::fs::read_to_string(path)?).unwrap_or(start);
        let lead = start.duration_since(begun).unwrap_or_default();
        for (second, histogram) in (0..).zip(seconds) {
            if !histogram.is_empty() {
                let from = lead + Self::INTERVAL * second;
                log.write(stage, histogram, from, Self::INTERVAL)?;
            }
        }
        log.out.flush().with_context(|| cannot_write(path))
    }

    fn write(
        &mut self,
        stage: &str,
        histogram: &Histogram<u64>,
        from: Duration,
        took: Duration,
    ) -> anyhow::Result<()> {
        let tag = stage.replace(' ', "_");
        let tag = Tag::new(&tag).expect("no comma, no space");
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.out, &mut self.serializer)?
            .write_histogram(histogram, from, took, Some(tag))
            .map_err(|error| anyhow!("{}: {error:?}", cannot_write(&self.path)))
    }

    pub(crate) fn add_if_due(&mut self, all: &Histograms, now: Duration) -> anyhow::Result<()> {
        match now >= self.until + Self::INTERVAL {
            true => self.add(all, now),
            false => Ok(()),
        }
    }

    /// What has come since the last time.
    pub(crate) fn add(&mut self, all: &Histograms, now: Duration) -> anyhow::Result<()> {
        let before = std::mem::replace(&mut self.logged, all.clone());
        let stages = all.stages().into_iter().zip(before.stages());
        for ((name, latency), (_, before)) in stages {
            let Some(mut since) = latency.histogram().cloned() else {
                continue;
            };
            if let Some(before) = before.histogram() {
                since.subtract(before)?;
            }
            if since.is_empty() {
                continue;
            }
            self.write(name, &since, self.until, now - self.until)?;
        }
        self.until = now;
        self.out.flush().with_context(|| cannot_write(&self.path))
    }
}

fn cannot_write(log: &Path) -> String {
    format!(
        "cannot write {}; --hdr-logs names another folder",
        log.display()
    )
}

/// What a log says of its start.
fn began(log: &str) -> Option<SystemTime> {
    let mut lines = log.lines();
    let said = lines.find_map(|line| line.strip_prefix("#[StartTime: "))?;
    let seconds: f64 = said.split(' ').next()?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn each_interval_of_a_log_has_what_came_in_it_and_no_stage_is_there_without_any() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = Log::create(file.path()).unwrap();
        let mut all = Histograms::new();
        for second in 1..=3 {
            let took = Duration::from_millis(10 * second);
            all.request.record(took, 5);
            log.add_if_due(&all, Duration::from_secs(second)).unwrap();
        }
        log.add_if_due(&all, Duration::from_millis(3500)).unwrap();
        let text = std::fs::read(file.path()).unwrap();
        let entries = IntervalLogIterator::new(&text).map(Result::unwrap);
        let intervals: Vec<_> = entries
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 3);
        for (second, interval) in intervals.iter().enumerate() {
            assert_eq!(interval.tag().unwrap().as_str(), "request");
            assert_eq!(
                interval.start_timestamp(),
                Duration::from_secs(second as u64)
            );
            let longest = 10_000.0 * (second + 1) as f64;
            assert!(
                (longest..longest * 1.01).contains(&interval.max()),
                "{interval:?}"
            );
        }
    }

    #[test]
    fn a_log_goes_on_with_what_another_process_timed_by_the_same_clock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let second = |micros| {
            let mut histogram = Histogram::new(3).unwrap();
            histogram.record(micros).unwrap();
            histogram
        };
        let seconds = [second(1000), Histogram::new(3).unwrap(), second(3000)];
        let added = |start| Log::add_seconds(&path, "due to arrived", start, &seconds).unwrap();
        added(SystemTime::now());
        let begun = began(&std::fs::read_to_string(&path).unwrap()).unwrap();
        added(begun + Duration::from_secs(10));
        let text = std::fs::read(&path).unwrap();
        let starts: Vec<_> = IntervalLogIterator::new(&text)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval.start_timestamp().as_secs_f64()),
                _ => None,
            })
            .collect();
        assert_eq!(starts.len(), 4, "none without any");
        for (start, expected) in starts.iter().zip([0.0, 2.0, 10.0, 12.0]) {
            assert!((start - expected).abs() < 0.1, "{starts:?}");
        }
    }

    #[test]
    fn a_curve_ends_in_the_longest_and_is_as_fine_as_there_are_values() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000).for_each(|ms: u64| histogram.record(ms * 1000).unwrap());
        let curve = Curve::of("s", &histogram);
        assert!(
            curve.points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{curve:?}"
        );
        assert!((500.0..520.0).contains(&curve.at(0.5)), "{}", curve.at(0.5));
        assert!(
            (1000.0..1001.0).contains(&curve.at(1.0)),
            "{}",
            curve.at(1.0)
        );
        assert!((15..40).contains(&curve.points.len()), "{curve:?}");
    }
}
