//! What a person is shown at the end, in 100 columns.

use std::fmt;

use super::journey::{ALIAS, Outcome, Sample};
use crate::fake::Service;
use crate::metrics::report::{Bytes, Latencies, Short, Thousands};
use crate::seal::message::{Message, ReadLimits, Suite};

#[derive(Debug)]
pub(super) struct Report<'a>(pub(super) &'a Outcome);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if let Some(sample) = &self.0.sample {
            one_record(sample, f)?;
        }
        self.records(f)?;
        self.bytes(f)?;
        self.calls(f)?;
        write!(f, "{}", Latencies(&self.0.sent.histograms))?;
        writeln!(f)?;
        self.verdict(f)
    }
}

impl Report<'_> {
    fn records(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.0.totals;
        writeln!(
            f,
            "Records  written {}, stored {}, read back {}, equal {}, in {}",
            Thousands(totals.written),
            Thousands(self.0.sent.counts.stored),
            Thousands(totals.read_back()),
            Thousands(totals.equal),
            Short(self.0.took),
        )
    }

    fn bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.0.sent.counts;
        let per_record = |bytes: u64| bytes as f64 / counts.stored.max(1) as f64;
        writeln!(f)?;
        writeln!(f, "{:<28}{:>10}{:>14}", "Bytes", "total", "per record")?;
        for (what, bytes) in [
            ("  plaintext", counts.plain_bytes),
            ("  encrypted", counts.sealed_bytes),
            ("  as stored, aggregated", counts.bytes_stored),
        ] {
            let total = Bytes(bytes).to_string();
            writeln!(f, "{what:<28}{total:>10}{:>12.0} B", per_record(bytes))?;
        }
        let entries = counts.entries_stored;
        let together = counts.stored as f64 / entries.max(1) as f64;
        writeln!(
            f,
            "  in {} with about {together:.0} each",
            Count(entries, "Kinesis record")
        )?;
        writeln!(f)
    }

    fn calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, service) in [
            ("KMS calls", Service::Kms),
            ("Kinesis calls", Service::Kinesis),
        ] {
            let calls = self.0.answered.calls.iter();
            let of_service = calls.filter(|((of, _), _)| *of == service);
            let words =
                of_service.map(|((_, name), calls)| format!("{name} {}", Thousands(*calls)));
            writeln!(f, "{title:<15}{}", words.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(f)
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.0.totals;
        if self.0.is_success() {
            if totals.doubled > 0 {
                writeln!(
                    f,
                    "{} came back twice, because {} of unknown outcome had to be made again.",
                    Thousands(totals.doubled),
                    Count(self.0.sent.counts.calls_unknown, "call"),
                )?;
            }
            return writeln!(
                f,
                "All {} records came back equal.",
                Thousands(totals.written)
            );
        }
        for complaint in &totals.complaints {
            writeln!(f, "  {complaint}")?;
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
            "FAILED: of {}, {} came back equal; {}.",
            Count(totals.written, "record"),
            Thousands(totals.equal),
            words.join(", "),
        )
    }
}

/// So many of a thing, in words: `1 record`, `2,000 records`.
pub(super) struct Count(pub(super) u64, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", Thousands(self.0), self.1)
    }
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
