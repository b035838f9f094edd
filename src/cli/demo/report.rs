//! What a person is shown at the end, in 100 columns.

use std::fmt;

use super::journey::{ALIAS, Outcome, WayOutcome};
use super::reader::Sample;
use super::way::Way;
use crate::fake::Service;
use crate::metrics::report::{Count, Short, Thousands};
use crate::seal::message::{Message, ReadLimits, Suite};

#[derive(Debug)]
pub(super) struct Report<'a>(pub(super) &'a Outcome);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let of_records = self.0.ways.iter().find(|way| way.way == Way::Record);
        if let Some(sample) = of_records.and_then(|way| way.sample.as_ref()) {
            one_record(sample, f)?;
        }
        self.side_by_side(f)?;
        self.calls(f)?;
        for way in &self.0.ways {
            verdict(way, f)?;
        }
        let written = self.0.ways.first().map_or(0, |way| way.totals.written);
        match self.0.is_success() {
            true => writeln!(
                f,
                "All {} records came back equal, from both streams, after {}.",
                Thousands(written),
                Short(self.0.took)
            ),
            false => Ok(()),
        }
    }
}

impl Report<'_> {
    /// What each way came to, in a column of its own.
    fn side_by_side(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |way: &WayOutcome, bytes: u64| match per(bytes, way.sent.counts.stored) {
            bytes if bytes < 99.5 => format!("{bytes:.1} B"),
            bytes => format!("{bytes:.0} B"),
        };
        let latency = |way: &WayOutcome, quantile| {
            let latency = &way.sent.histograms.line_to_stored;
            Short(latency.quantile(quantile)).to_string()
        };
        let whole = |number: f64| Thousands(number.round() as u64).to_string();
        self.row(f, "", |way| way.way.name().to_owned())?;
        self.row(f, "a sale, plain", |w| each(w, w.sent.counts.plain_bytes))?;
        self.row(f, "        encrypted", |w| {
            each(w, w.sent.counts.sealed_bytes)
        })?;
        self.row(f, "        stored", |w| each(w, w.sent.counts.bytes_stored))?;
        self.row(f, "in one Kinesis record", |w| whole(together(w)))?;
        self.row(f, "in a shard's second", |w| whole(in_a_shard(w)))?;
        self.row(f, "data keys from KMS", |w| {
            Thousands(w.sent.counts.data_keys).to_string()
        })?;
        self.row(f, "read to stored, p50", |w| latency(w, 0.5))?;
        self.row(f, "                p99", |w| latency(w, 0.99))?;
        self.row(f, "came back equal", |w| {
            Thousands(w.totals.equal).to_string()
        })?;
        writeln!(f)
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        cell: impl Fn(&WayOutcome) -> String,
    ) -> fmt::Result {
        write!(f, "  {title:<24}")?;
        for way in &self.0.ways {
            write!(f, "{:>14}", cell(way))?;
        }
        writeln!(f)
    }

    fn calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, service, names) in [
            ("calls of KMS", Service::Kms, ["GenerateDataKey", "Decrypt"]),
            (
                "calls of Kinesis",
                Service::Kinesis,
                ["PutRecords", "GetRecords"],
            ),
        ] {
            let calls = |name| Thousands(self.0.answered.calls_of(service, name));
            let words = names.map(|name| format!("{name} {}", calls(name)));
            writeln!(f, "  {title:<24}    {}", words.join(", "))?;
        }
        writeln!(f)
    }
}

/// Sales in one Kinesis record, on average.
fn together(way: &WayOutcome) -> f64 {
    per(way.sent.counts.stored, way.sent.counts.entries_stored)
}

/// Sales that the quota of one shard lets through each second.
/// <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
fn in_a_shard(way: &WayOutcome) -> f64 {
    let by_bytes = f64::from(1 << 20) / per(way.sent.counts.bytes_stored, way.sent.counts.stored);
    by_bytes.min(1000.0 * together(way))
}

fn per(total: u64, count: u64) -> f64 {
    total as f64 / count.max(1) as f64
}

/// What is to be said of a way beyond its column.
fn verdict(way: &WayOutcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (totals, name) = (&way.totals, way.way.name());
    if way.is_success() {
        if totals.doubled > 0 {
            writeln!(
                f,
                "{name}: {} came back twice, because {} of unknown outcome had to be made again.",
                Thousands(totals.doubled),
                Count(way.sent.counts.calls_unknown, "call"),
            )?;
        }
        return Ok(());
    }
    for complaint in &totals.complaints {
        writeln!(f, "  {name}: {complaint}")?;
    }
    let words: Vec<String> = [
        (totals.missing, "did not come back"),
        (totals.different, "came back different"),
        (totals.unreadable, "could not be read"),
        (totals.doubled, "came back again"),
        (totals.invented, "were never written"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", Thousands(count)))
    .collect();
    writeln!(
        f,
        "FAILED: {name}: of {}, {} came back equal; {}.",
        Count(totals.written, "record"),
        Thousands(totals.equal),
        words.join(", "),
    )
}

/// Characters of a line of text, so that it fits 80 columns with its indent.
const LINE: usize = 76;

/// A ciphertext beside its plaintext.
fn one_record(sample: &Sample, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (plaintext, message) = (&sample.plaintext, &sample.message);
    writeln!(
        f,
        "One record as it was written ({} bytes):",
        plaintext.len()
    )?;
    for part in plaintext.chunks(LINE) {
        writeln!(f, "  {}", String::from_utf8_lossy(part))?;
    }
    writeln!(f)?;
    writeln!(
        f,
        "The same in {}, in an aggregate of {} ({} bytes):",
        sample.place.shard,
        Count(sample.members as u64, "record"),
        message.len()
    )?;
    hex_head(message, f)?;
    writeln!(f)?;
    in_clear(message, f)
}

/// Lines of hex and ASCII that show where the header ends being readable.
fn hex_head(message: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const LINES: usize = 6;
    const WIDTH: usize = 16;
    for (offset, line) in (0..).step_by(WIDTH).zip(message.chunks(WIDTH)).take(LINES) {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let ascii: String = line.iter().map(printable).collect();
        writeln!(f, "  {offset:04x}  {:<47}  {ascii}", hex.join(" "))?;
    }
    match message.len().saturating_sub(LINES * WIDTH) {
        0 => Ok(()),
        more => writeln!(f, "  …     and {more} bytes more"),
    }
}

/// What anybody can read who has the stream and no key.
fn in_clear(message: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Ok(message) = Message::parse(message, &ReadLimits::default()) else {
        return Ok(());
    };
    writeln!(f, "Its header says in clear:")?;
    let suite = message.suite();
    let words = match suite {
        Suite::COMMITTED => ": AES-256-GCM, HKDF-SHA512, key commitment",
        _ => "",
    };
    writeln!(f, "  suite    0x{suite}{words}")?;
    for key in message.encrypted_data_keys() {
        writeln!(f, "  key      {} ({ALIAS})", key.to_owned().wrapping_key())?;
    }
    let pairs = message.context();
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    writeln!(f, "  context  {}", pairs.join(", "))?;
    writeln!(f)
}
