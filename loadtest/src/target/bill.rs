//! What runs would send to a stream that costs money: reckoned before anything is sent.

use std::fmt;

use kinseal::aggregate;
use kinseal::metrics::report::Thousands;
use kinseal::seal::block;
use kinseal::seal::message::Settings;

use crate::bytes_per_line::writer;
use crate::report::{PUT_UNIT, Prices};
use crate::scenario::{Case, Encryption, Pace, Source};

/// Of all runs, each with its own.
#[derive(Debug)]
pub(super) struct Bill {
    runs: Vec<(String, Sent)>,
    dollars: f64,
    as_of: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) lines: u64,
    /// Of lines, newlines included: what is sent may be more, or less.
    pub(super) bytes: u64,
    /// PUT payload units: about, since entries may be less full, and compression is not reckoned with.
    pub(super) units: u64,
}

/// A key, and what the format has around a line.
const AROUND: u64 = 16;

impl Bill {
    pub(super) fn of(cases: &[Case], prices: &Prices) -> Self {
        let runs = cases.iter().map(|case| (case.to_string(), Sent::by(case)));
        let runs: Vec<_> = runs.collect();
        let units: u64 = runs.iter().map(|(_, sent)| sent.units).sum();
        Self {
            runs,
            dollars: prices.of_put_units(units),
            as_of: prices.as_of().to_owned(),
        }
    }
}

impl Sent {
    pub(super) fn by(case: &Case) -> Self {
        let line = case.line_bytes as u64;
        let record = AROUND
            + match case.encryption {
                Encryption::Record => writer(None, Settings::default())
                    .map_or(line, |writer| writer.sealed_len(case.line_bytes) as u64),
                Encryption::Off | Encryption::Block | Encryption::BlockZstd => line,
            };
        let entry = record * lines_of_an_entry(case, record);
        let entries = (case.lines * record).div_ceil(entry);
        Self {
            lines: case.lines,
            bytes: case.lines * (line + 1),
            units: entries * entry.div_ceil(PUT_UNIT as u64),
        }
    }
}

/// As many as have room, and come while one waits.
fn lines_of_an_entry(case: &Case, record: u64) -> u64 {
    let room = match case.encryption {
        Encryption::Block | Encryption::BlockZstd => block::Settings::default().max_size,
        _ if case.aggregation && case.source != Source::Bare => {
            aggregate::Settings::default().max_size
        }
        _ => return 1,
    };
    let linger = aggregate::Settings::default().linger.as_millis() as u64;
    let linger = case.linger_ms.unwrap_or(linger);
    let in_time = match case.pace {
        Pace::LinesPerSecond(rate) => rate.saturating_mul(linger) / 1000,
        Pace::AsFastAsItGoes => u64::MAX,
    };
    (room as u64 / record).min(in_time).max(1)
}

impl std::iter::Sum for Sent {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |one, other| Self {
            lines: one.lines + other.lines,
            bytes: one.bytes + other.bytes,
            units: one.units + other.units,
        })
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lines of {:.1} MB, about {} PUT payload units",
            Thousands(self.lines),
            self.bytes as f64 / 1e6,
            Thousands(self.units)
        )
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, sent) in &self.runs {
            writeln!(f, "  {name}: {sent}")?;
        }
        let all: Sent = self.runs.iter().map(|(_, sent)| *sent).sum();
        let (runs, dollars, as_of) = (self.runs.len(), self.dollars, &self.as_of);
        write!(
            f,
            "In all {runs} runs, {all}: ${dollars:.4} at the prices of {as_of}, besides the stream's shards or its \
             on-demand throughput, and requests to KMS."
        )
    }
}
