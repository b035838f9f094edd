//! Figures as Prometheus reads them: its text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>), version 0.0.4.
//!
//! Names are in base units, seconds and bytes; counters end in `_total`. Latencies are summaries: their quantiles are of
//! all since the start.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Counts, Figures, KeyInUse, Trouble};

/// The `Content-Type` of it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Summary,
}

/// Text in the making: family by family, since each has to be in one piece.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a family. What it says of itself must be one line.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", Escaped(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

/// A label's value within its quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// One of a stream's numbers.
struct Number {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    read: fn(&Counts) -> u64,
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Counts) -> u64) -> Number {
    let kind = Kind::Counter;
    Number {
        name,
        kind,
        help,
        read,
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Counts) -> u64) -> Number {
    let kind = Kind::Gauge;
    Number {
        name,
        kind,
        help,
        read,
    }
}

/// accepted = stored + dead_lettered + failed + dropped + abandoned + pending, at any moment.
const NUMBERS: &[Number] = &[
    counter(
        "kinseal_records_accepted_total",
        "Records read, or dropped for want of room.",
        |c| c.accepted,
    ),
    counter(
        "kinseal_records_stored_total",
        "Records that the stream has.",
        |c| c.stored,
    ),
    counter(
        "kinseal_records_dead_lettered_total",
        "Records that can never be stored, on disk with the reason.",
        |c| c.dead_lettered,
    ),
    counter(
        "kinseal_records_failed_total",
        "Records that were not stored, as their sender was told.",
        |c| c.failed,
    ),
    counter(
        "kinseal_records_dropped_total",
        "Records thrown away for want of room, as their source's when_full says.",
        |c| c.dropped,
    ),
    counter(
        "kinseal_records_abandoned_total",
        "Records without an answer at a stop; those of files are read again.",
        |c| c.abandoned,
    ),
    gauge(
        "kinseal_records_pending",
        "Records read and not stored yet, those in the spool included.",
        |c| c.pending,
    ),
    gauge(
        "kinseal_records_spooled",
        "Records in the spool and not stored yet.",
        |c| c.spooled,
    ),
    counter(
        "kinseal_records_lost_in_spool_total",
        "Records that should be in the spool and are not, or cannot be read.",
        |c| c.lost_in_spool,
    ),
    counter(
        "kinseal_records_unkeyed_total",
        "Records in which their source's rule found no partition key.",
        |c| c.unkeyed,
    ),
    counter(
        "kinseal_dead_letters_dropped_total",
        "Dead letters removed to make room, as dead_letter.when_full says.",
        |c| c.dead_letters_dropped,
    ),
    counter(
        "kinseal_plain_bytes_total",
        "Bytes of records as read.",
        |c| c.plain_bytes,
    ),
    counter(
        "kinseal_sealed_bytes_total",
        "Bytes of records as sealed.",
        |c| c.sealed_bytes,
    ),
    counter(
        "kinseal_kinesis_records_stored_total",
        "Kinesis records stored; an aggregate or a block is one.",
        |c| c.entries_stored,
    ),
    counter(
        "kinseal_kinesis_bytes_stored_total",
        "Bytes of Kinesis records stored, partition keys included.",
        |c| c.bytes_stored,
    ),
    counter(
        "kinseal_kinesis_records_throttled_total",
        "Kinesis records refused by a shard's quota, and sent again.",
        |c| c.entries_throttled,
    ),
    counter(
        "kinseal_kinesis_records_retried_total",
        "Kinesis records sent again, for any reason.",
        |c| c.entries_retried,
    ),
    counter(
        "kinseal_kinesis_records_misplaced_total",
        "Aggregates that a reshard put where a member does not belong: sent again, so doubled.",
        |c| c.entries_misplaced,
    ),
    counter(
        "kinseal_put_records_calls_total",
        "PutRecords calls.",
        |c| c.calls,
    ),
    counter(
        "kinseal_put_records_calls_failed_total",
        "PutRecords calls that failed as a whole.",
        |c| c.calls_failed,
    ),
    counter(
        "kinseal_put_records_calls_unknown_total",
        "PutRecords calls after which nobody knows whether they stored: sent again, so perhaps doubled.",
        |c| c.calls_unknown,
    ),
    counter("kinseal_data_keys_total", "Data keys made.", |c| {
        c.data_keys
    }),
    counter(
        "kinseal_data_key_cache_hits_total",
        "Times that a data key was there.",
        |c| c.keys.hits,
    ),
    counter(
        "kinseal_data_key_cache_misses_total",
        "Times that a data key had to be waited for.",
        |c| c.keys.misses,
    ),
    counter("kinseal_kms_calls_total", "Calls to KMS.", |c| c.keys.calls),
    counter(
        "kinseal_kms_calls_failed_total",
        "Calls to KMS that failed.",
        |c| c.keys.calls_failed,
    ),
];

const QUANTILES: [(&str, f64); 4] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999)];

/// All of these streams.
pub fn streams(all: &[Figures], text: &mut Exposition) {
    for number in NUMBERS {
        text.family(number.name, number.kind, number.help);
        for figures in all {
            let labels = [("stream", &*figures.stream)];
            text.sample(number.name, &labels, (number.read)(&figures.counts));
        }
    }
    each(
        all,
        text,
        "kinseal_memory_bytes",
        "Bytes of the memory limit that its records hold.",
        |f| f.memory_in_use as f64,
    );
    each(
        all,
        text,
        "kinseal_memory_limit_bytes",
        "The most that its records may hold.",
        |f| f.memory_limit as f64,
    );
    each(
        all,
        text,
        "kinseal_data_key_age_seconds",
        "Age of the data key in use; 0 without one.",
        |f| {
            f.key_in_use
                .map_or(0.0, |KeyInUse { age, .. }| age.as_secs_f64())
        },
    );
    each(
        all,
        text,
        "kinseal_ready",
        "1 where the stream takes records, as far as is known.",
        |f| f64::from(u8::from(f.is_well())),
    );
    troubles(all, text);
    latencies(all, text);
}

fn each(all: &[Figures], text: &mut Exposition, name: &str, help: &str, read: fn(&Figures) -> f64) {
    text.family(name, Kind::Gauge, help);
    for figures in all {
        text.sample(name, &[("stream", &*figures.stream)], read(figures));
    }
}

fn troubles(all: &[Figures], text: &mut Exposition) {
    const NAME: &str = "kinseal_trouble";
    text.family(NAME, Kind::Gauge, "1 while there is trouble of this kind.");
    for figures in all {
        for trouble in Trouble::ALL {
            let labels = [("stream", &*figures.stream), ("kind", trouble.name())];
            let is_on = figures.troubles.contains(&trouble);
            text.sample(NAME, &labels, u8::from(is_on));
        }
    }
}

fn latencies(all: &[Figures], text: &mut Exposition) {
    const NAME: &str = "kinseal_stage_seconds";
    const SUM: &str = "kinseal_stage_seconds_sum";
    const COUNT: &str = "kinseal_stage_seconds_count";
    text.family(NAME, Kind::Summary, "How long each stage takes.");
    for figures in all {
        for (stage, latency) in figures.histograms.timed() {
            let of_stage = [("stream", &*figures.stream), ("stage", &*stage)];
            for (name, q) in QUANTILES {
                let labels = [of_stage[0], of_stage[1], ("quantile", name)];
                text.sample(NAME, &labels, latency.quantile(q).as_secs_f64());
            }
            text.sample(SUM, &of_stage, sum(latency.mean(), latency.count()));
            text.sample(COUNT, &of_stage, latency.count());
        }
    }
}

fn sum(mean: Duration, count: u64) -> f64 {
    mean.as_secs_f64() * count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histograms;

    fn figures(stream: &str) -> Figures {
        let mut histograms = Histograms::new();
        histograms.request.record(Duration::from_millis(20), 3);
        Figures {
            stream: stream.into(),
            counts: Counts {
                accepted: 7,
                stored: 4,
                pending: 3,
                ..Counts::default()
            },
            histograms,
            key_in_use: None,
            troubles: vec![Trouble::Outage],
            is_known: true,
            memory_limit: 64,
            memory_in_use: 5,
        }
    }

    fn text(all: &[Figures]) -> String {
        let mut text = Exposition::default();
        streams(all, &mut text);
        text.into_text()
    }

    #[test]
    fn each_family_is_in_one_piece_and_says_what_it_is() {
        let text = text(&[figures("a"), figures("b")]);
        let mut seen: Vec<&str> = Vec::new();
        for line in text.lines() {
            let name = match line
                .strip_prefix("# HELP ")
                .or(line.strip_prefix("# TYPE "))
            {
                Some(rest) => rest.split(' ').next().unwrap(),
                None => line.split(['{', ' ']).next().unwrap(),
            };
            let family = name.trim_end_matches("_sum").trim_end_matches("_count");
            if seen.last() != Some(&family) {
                assert!(!seen.contains(&family), "{family} is in two pieces");
                assert!(line.starts_with("# HELP "), "{line}");
                seen.push(family);
            }
        }
        assert!(text.contains("kinseal_records_stored_total{stream=\"b\"} 4\n"));
        assert!(text.contains("kinseal_trouble{stream=\"a\",kind=\"outage\"} 1\n"));
        assert!(text.contains("kinseal_trouble{stream=\"a\",kind=\"no_data_key\"} 0\n"));
        assert!(text.contains("kinseal_ready{stream=\"a\"} 0\n"));
        assert!(text.contains("kinseal_stage_seconds_count{stream=\"a\",stage=\"request\"} 3\n"));
    }

    #[test]
    fn the_account_can_be_added_up_from_what_is_told() {
        let text = text(&[figures("a")]);
        let value = |name: &str| -> u64 {
            let start = format!("kinseal_records_{name}{{stream=\"a\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("{start}")).parse().unwrap()
        };
        let ends = ["stored", "dead_lettered", "failed", "dropped", "abandoned"];
        let ended: u64 = ends.iter().map(|end| value(&format!("{end}_total"))).sum();
        assert_eq!(value("accepted_total"), ended + value("pending"));
    }

    #[test]
    fn what_a_label_may_not_hold_is_escaped() {
        let mut text = Exposition::default();
        text.sample("x", &[("path", "a\\b\"c\nd")], 1);
        assert_eq!(text.into_text(), "x{path=\"a\\\\b\\\"c\\nd\"} 1\n");
    }
}
