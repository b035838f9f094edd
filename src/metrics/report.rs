//! Counters and histograms as a person reads them.

use std::fmt;
use std::time::Duration;

use super::{Counts, Histograms, KeyCounts, KeyInUse};

/// A table of the stages' latencies.
#[derive(Debug)]
pub struct Latencies<'a>(pub &'a Histograms);

impl fmt::Display for Latencies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16}{:>10}{:>10}{:>10}{:>10}{:>13}",
            "stage", "p50", "p99", "p99.9", "max", "count"
        )?;
        for (name, latency) in self.0.stages() {
            // A stream without encryption, or with a key in a file, calls nobody; and most have no spool.
            if ["KMS call", "spool"].contains(&name) && latency.count() == 0 {
                continue;
            }
            // Where nothing was measured, nothing took 0 µs.
            let shown = |time| match latency.count() {
                0 => "–".to_owned(),
                _ => Short(time).to_string(),
            };
            let at = |q| shown(latency.quantile(q));
            writeln!(
                f,
                "{name:<16}{:>10}{:>10}{:>10}{:>10}{:>13}",
                at(0.5),
                at(0.99),
                at(0.999),
                shown(latency.max()),
                Thousands(latency.count()).to_string(),
            )?;
        }
        Ok(())
    }
}

/// One line that accounts for every record.
#[derive(Debug)]
pub struct Account<'a>(pub &'a Counts);

impl fmt::Display for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0;
        write!(
            f,
            "accepted {} = stored {} + dead-lettered {} + failed {} + dropped {} + abandoned {} + pending {}",
            Thousands(counts.accepted),
            Thousands(counts.stored),
            Thousands(counts.dead_lettered),
            Thousands(counts.failed),
            Thousands(counts.dropped),
            Thousands(counts.abandoned),
            Thousands(counts.pending),
        )?;
        if counts.spooled > 0 {
            write!(f, ", of which {} in the spool", Thousands(counts.spooled))?;
        }
        Ok(())
    }
}

/// What the calls came to.
#[derive(Debug)]
pub struct Calls<'a>(pub &'a Counts);

impl fmt::Display for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0;
        write!(
            f,
            "{} PutRecords calls, {} failed, {} of unknown outcome; entries: {} stored, {} throttled, \
             {} sent again, {} misplaced by a reshard",
            Thousands(counts.calls),
            Thousands(counts.calls_failed),
            Thousands(counts.calls_unknown),
            Thousands(counts.entries_stored),
            Thousands(counts.entries_throttled),
            Thousands(counts.entries_retried),
            Thousands(counts.entries_misplaced),
        )?;
        match counts.dead_letters_dropped {
            0 => Ok(()),
            dropped => write!(f, "; {} dead letters dropped", Thousands(dropped)),
        }
    }
}

/// Records that went to any shard though their source's rule gives keys.
#[derive(Debug)]
pub struct Unkeyed(u64);

impl Unkeyed {
    /// `None` where every record had what the rule asks for.
    pub fn of(counts: &Counts) -> Option<Self> {
        (counts.unkeyed > 0).then_some(Self(counts.unkeyed))
    }
}

impl fmt::Display for Unkeyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records had nothing that their source's partition_key asks for, and went to any shard",
            Thousands(self.0)
        )
    }
}

/// What the data keys came to.
#[derive(Debug)]
pub struct Keys<'a> {
    counts: &'a Counts,
    in_use: Option<&'a KeyInUse>,
}

impl<'a> Keys<'a> {
    /// `None` where nobody asked for a data key: without encryption.
    pub fn of(counts: &'a Counts, in_use: Option<&'a KeyInUse>) -> Option<Self> {
        let asked = counts.keys.hits + counts.keys.misses;
        (asked > 0).then_some(Self { counts, in_use })
    }
}

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_keys = Count(self.counts.data_keys, "data key");
        let cache = KeyCache(&self.counts.keys);
        write!(f, "{data_keys}; {cache}")?;
        if let Some(key) = self.in_use {
            write!(
                f,
                "; the current one is {} old and has sealed {}, {}",
                Short(key.age),
                Count(key.messages, "message"),
                Bytes(key.bytes),
            )?;
        }
        Ok(())
    }
}

/// How a cache of data keys did.
#[derive(Debug)]
pub struct KeyCache<'a>(pub &'a KeyCounts);

impl fmt::Display for KeyCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0;
        write!(
            f,
            "{}, {}; {}, {} failed",
            Count(keys.hits, "cache hit"),
            Count(keys.misses, "miss"),
            Count(keys.calls, "KMS call"),
            Thousands(keys.calls_failed),
        )
    }
}

/// What the bytes came to.
#[derive(Debug)]
pub struct Volume<'a>(pub &'a Counts);

impl fmt::Display for Volume<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0;
        write!(
            f,
            "{} read, {} sealed, {} stored (with keys and aggregation)",
            Bytes(counts.plain_bytes),
            Bytes(counts.sealed_bytes),
            Bytes(counts.bytes_stored),
        )
    }
}

/// A duration in the unit that suits it, three digits: `812 µs`, `4.31 ms`, `2.5 s`.
#[derive(Debug, Clone, Copy)]
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros() as f64;
        let (value, unit) = match micros {
            m if m < 1e3 => (m, "µs"),
            m if m < 1e6 => (m / 1e3, "ms"),
            m => (m / 1e6, "s"),
        };
        let decimals = match value {
            v if v >= 100.0 || unit == "µs" => 0,
            v if v >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{value:.decimals$} {unit}")
    }
}

/// So many of a thing, in words: `1 record`, `2,000 records`, `3 misses`.
#[derive(Debug, Clone, Copy)]
pub struct Count<'a>(pub u64, pub &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, word) = *self;
        let ending = match count {
            1 => "",
            _ if word.ends_with('s') => "es",
            _ => "s",
        };
        write!(f, "{} {word}{ending}", Thousands(count))
    }
}

/// A number with its thousands set apart: `1,234,567`.
#[derive(Debug, Clone, Copy)]
pub struct Thousands(pub u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Bytes in the decimal unit that suits them: `1.2 MB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            b if b < 1e3 => write!(f, "{b:.0} B"),
            b if b < 1e6 => write!(f, "{:.1} kB", b / 1e3),
            b if b < 1e9 => write!(f, "{:.1} MB", b / 1e6),
            b => write!(f, "{:.2} GB", b / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keys_are_told_where_there_are_any() {
        let mut counts = Counts::default();
        assert!(Keys::of(&counts, None).is_none());
        counts.data_keys = 2;
        counts.keys = KeyCounts {
            hits: 1_200,
            misses: 1,
            calls: 4,
            calls_failed: 0,
        };
        let in_use = KeyInUse {
            age: Duration::from_millis(43_100),
            messages: 60_000,
            bytes: 6_780_000,
        };
        let keys = Keys::of(&counts, Some(&in_use)).unwrap();
        assert_eq!(
            keys.to_string(),
            "2 data keys; 1,200 cache hits, 1 miss; 4 KMS calls, 0 failed; \
             the current one is 43.1 s old and has sealed 60,000 messages, 6.8 MB"
        );
    }

    #[test]
    fn a_stage_that_nothing_went_through_has_no_times() {
        let mut histograms = Histograms::new();
        histograms.read.record(Duration::from_micros(812), 1);
        let text = Latencies(&histograms).to_string();
        let of = |stage: &str| {
            let line = text.lines().find(|line| line.starts_with(stage)).unwrap();
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("request")[1..], ["–", "–", "–", "–", "0"], "{text}");
        assert_eq!(of("read")[2], "µs", "{text}");
    }

    #[test]
    fn the_account_names_every_end_of_a_record_and_adds_up() {
        let counts = Counts {
            accepted: 1_021,
            stored: 1_001,
            dead_lettered: 2,
            failed: 3,
            dropped: 4,
            abandoned: 5,
            pending: 6,
            ..Counts::default()
        };
        assert_eq!(
            Account(&counts).to_string(),
            "accepted 1,021 = stored 1,001 + dead-lettered 2 + failed 3 + dropped 4 + abandoned 5 + pending 6"
        );
        let spooled = Counts {
            spooled: 4,
            ..counts
        };
        assert!(
            Account(&spooled)
                .to_string()
                .ends_with("+ pending 6, of which 4 in the spool"),
        );
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(Thousands(0).to_string(), "0");
        assert_eq!(Thousands(1_234_567).to_string(), "1,234,567");
        assert_eq!(Thousands(123_456).to_string(), "123,456");
        assert_eq!(Short(Duration::from_micros(812)).to_string(), "812 µs");
        assert_eq!(Short(Duration::from_micros(4_310)).to_string(), "4.31 ms");
        assert_eq!(Short(Duration::from_millis(43_100)).to_string(), "43.1 s");
        assert_eq!(Bytes(1_234_567).to_string(), "1.2 MB");
    }
}
