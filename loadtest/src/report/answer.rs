//! The question's answer, in a sentence for each way to encrypt.

use super::{Report, Run};
use crate::scenario::{Encryption, Pace};

/// What encrypting this way adds to what is sent anyway. Negative: it saves.
#[derive(Debug)]
pub(super) struct Answer<'r> {
    pub(super) encrypted: &'r Run,
    /// Percent.
    pub(super) cpu: f64,
    pub(super) bytes: f64,
    /// Milliseconds, if lines came at a steady pace in some run.
    pub(super) p99_ms: Option<f64>,
    pub(super) shards: f64,
    pub(super) dollars: f64,
}

impl Report {
    /// For the most usual lines that were measured: aggregated, and nearest to 200 bytes.
    pub(super) fn answers(&self) -> Vec<Answer<'_>> {
        const USUAL: usize = 200;
        let fast = |run: &&Run| {
            let case = &run.case;
            !run.is_paced() && !case.is_throttled() && case.aggregation && case.source.has_agent()
        };
        let plain = self
            .runs
            .iter()
            .filter(fast)
            .filter(|run| run.case.encryption == Encryption::Off)
            .min_by_key(|run| run.case.line_bytes.abs_diff(USUAL));
        let Some(plain) = plain else {
            return Vec::new();
        };
        let of = |encryption| {
            let case = crate::scenario::Case {
                encryption,
                ..plain.case.clone()
            };
            // As the agent does it by default, but for how far KMS is away.
            let is_it = |run: &&Run| {
                let alike = crate::scenario::Case {
                    kms_ms: case.kms_ms,
                    ..run.case.clone()
                };
                alike == case
            };
            let encrypted = self.runs.iter().find(is_it)?;
            Some(self.answer(plain, encrypted))
        };
        let ways = [Encryption::Record, Encryption::Block, Encryption::BlockZstd];
        ways.into_iter().filter_map(of).collect()
    }

    fn answer<'r>(&self, plain: &Run, encrypted: &'r Run) -> Answer<'r> {
        let more = |with: f64, without: f64| (with / without - 1.0) * 100.0;
        let (with, without) = (self.prices.of(encrypted), self.prices.of(plain));
        Answer {
            encrypted,
            cpu: more(encrypted.cpu_per_megabyte(), plain.cpu_per_megabyte()),
            bytes: more(encrypted.bytes_per_line(), plain.bytes_per_line()),
            p99_ms: self.p99_added(encrypted),
            shards: with.shards - without.shards,
            dollars: with.dollars() - without.dollars(),
        }
    }

    /// At the pace that was run with and without it.
    fn p99_added(&self, encrypted: &Run) -> Option<f64> {
        let paced = self.runs.iter().find(|run| {
            let (one, other) = (&run.case, &encrypted.case);
            matches!(one.pace, Pace::LinesPerSecond(_))
                && (one.encryption, one.line_bytes, one.aggregation)
                    == (other.encryption, other.line_bytes, other.aggregation)
        })?;
        let plain = self.plain_like(&paced.case)?;
        // From when a line was read would leave out what it waits to be read.
        let p99 = |run: &Run| Some(run.outcome.due_to_arrived.as_ref()?.at(0.99));
        Some(p99(paced)? - p99(plain)?)
    }
}

impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let case = &self.encrypted.case;
        let way = match case.encryption {
            Encryption::Off => "Nothing",
            Encryption::Record => "Each record encrypted",
            Encryption::Block => "Blocks encrypted",
            Encryption::BlockZstd => "Blocks compressed and encrypted",
        };
        write!(
            f,
            "{way}, lines of {}: CPU {}, bytes {}, ",
            case.length(),
            signed(self.cpu, "%"),
            signed(self.bytes, "%")
        )?;
        if let Some(ms) = self.p99_ms {
            write!(f, "p99 {}, ", signed_fine(ms, "ms"))?;
        }
        write!(f, "shards {}, ", signed(self.shards, ""))?;
        write!(f, "{} a month", signed_dollars(self.dollars))
    }
}

/// A whole number with its sign; 0 has none.
pub(super) fn signed(value: f64, unit: &str) -> String {
    let sign = match value.round() {
        0.0 => "",
        v if v < 0.0 => "−",
        _ => "+",
    };
    let shown = format!("{sign}{:.0} {unit}", value.abs());
    shown.trim_end().to_owned()
}

/// With a digit behind the point, where it says something.
pub(super) fn signed_fine(value: f64, unit: &str) -> String {
    match value.abs() {
        v if v >= 99.95 => signed(value, unit),
        _ => format!("{value:+.1} {unit}").replace('-', "−"),
    }
}

pub(super) fn signed_dollars(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}${:.0}", value.abs())
}
