//! What a line costs in a stream, by how it is encrypted, how fast lines come, and how long a block waits.
//!
//! Nothing runs: lines are packed, compressed and sealed by the agent's own code, in the blocks that so many
//! lines a second make on one shard, and their bytes are counted.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use kinseal::aggregate::format::Layout;
use kinseal::metrics::report::Thousands;
use kinseal::record::PartitionKey;
use kinseal::seal::EncryptionContext;
use kinseal::seal::block::{self, Packing};
use kinseal::seal::message::{Binding, EncryptedDataKey, SecretKeyBytes, Settings, Writer};
use kinseal::shard::ShardMap;
use kinseal::{aggregate, config};

use crate::out;
use crate::sample::Sample;

/// Bytes per line in the stream, by line rate and linger
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Your own lines; otherwise three kinds that are made up
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
}

/// Lines a second, on one shard.
const RATES: [u64; 4] = [10, 100, 1_000, 10_000];
const LINGERS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

pub(crate) fn print(args: &Args) -> anyhow::Result<()> {
    let samples = match &args.sample {
        Some(path) => vec![Sample::of(path)?],
        None => Sample::made_up(),
    };
    for sample in &samples {
        print_one(sample)?;
    }
    Ok(())
}

/// In Markdown: a row for each rate, and in the column of a linger what packing alone and zstd come to.
fn print_one(sample: &Sample) -> anyhow::Result<()> {
    out::line(format!(
        "{}, {:.0} bytes a line",
        sample.name,
        sample.mean_len()
    ))?;
    out::line("block: \"none\" / \"zstd\"\n")?;
    let lingers =
        LINGERS.map(|linger| format!(" block, {} |", config::words::show_duration(linger)));
    out::line(format!("| lines/s | plain | record |{}", lingers.concat()))?;
    out::line(format!("|--:|--:|--:|{}", "--:|".repeat(LINGERS.len())))?;
    for rate in RATES {
        let singly = lines_in(rate, aggregate::Settings::default().linger);
        let plain = aggregates(sample, singly, |len| len)?;
        let writer = writer(None, Settings::default())?;
        let record = aggregates(sample, singly, |len| writer.sealed_len(len))?;
        let (plain, record) = (shown(plain), shown(record));
        let mut row = format!("| {} | {plain} | {record} |", Thousands(rate));
        for linger in LINGERS {
            let together = lines_in(rate, linger);
            let of = |packing| blocks(sample, together, packing).map(shown);
            let [none, zstd] = PACKINGS.map(of);
            write!(row, " {} / {} |", none?, zstd?)?;
        }
        out::line(row)?;
    }
    out::line("")
}

const PACKINGS: [Packing; 2] = [Packing::Kpl, Packing::KplZstd { level: 1 }];

fn shown(bytes: f64) -> String {
    match bytes {
        b if b < 99.5 => format!("{b:.1}"),
        b => format!("{b:.0}"),
    }
}

/// Lines that come while one waits.
fn lines_in(rate: u64, linger: Duration) -> usize {
    let lines = u128::from(rate) * linger.as_millis() / 1000;
    usize::try_from(lines).unwrap_or(usize::MAX).max(1)
}

/// Bytes per line of records that are sent as they are or sealed each by itself: aggregated.
fn aggregates(
    sample: &Sample,
    together: usize,
    len: impl Fn(usize) -> usize,
) -> anyhow::Result<f64> {
    let max_size = aggregate::Settings::default().max_size;
    let key = partition_key()?;
    let (mut bytes, mut lines) = (0, 0);
    for group in groups(sample, &key, max_size, together, &len) {
        bytes += match group.lines {
            // As with the KPL, a lone record goes as it is.
            [only] => len(only.len()),
            _ => group.layout.wire_len(),
        };
        bytes += key.len();
        lines += group.lines.len();
    }
    Ok(bytes as f64 / lines as f64)
}

/// Bytes per line of sealed blocks, each a record of its own: its lines have waited as long as they may.
fn blocks(sample: &Sample, together: usize, packing: Packing) -> anyhow::Result<f64> {
    let settings = block::Settings {
        packing,
        ..block::Settings::default()
    };
    let writer = writer(Some(&settings), Settings::default())?;
    let key = partition_key()?;
    let (mut bytes, mut lines) = (0, 0);
    for group in groups(sample, &key, settings.max_size, together, |len| len) {
        let packed = packing.pack(&group.layout, group.lines.iter().map(Vec::as_slice));
        bytes += writer.sealed_len(packed.len()) + key.len();
        lines += group.lines.len();
    }
    Ok(bytes as f64 / lines as f64)
}

/// Lines that travel together.
struct Group<'s> {
    layout: Layout,
    lines: &'s [Vec<u8>],
}

/// As the agent groups them: until the next would be too large, or none has come in time. The rest at the
/// end of the sample is left out, unless it is all there is.
fn groups<'s>(
    sample: &'s Sample,
    key: &PartitionKey,
    max_size: usize,
    together: usize,
    len: impl Fn(usize) -> usize,
) -> Vec<Group<'s>> {
    let mut groups = Vec::new();
    let (mut layout, mut begin) = (Layout::new(), 0);
    for (end, line) in sample.lines.iter().enumerate() {
        let len = len(line.len());
        let is_full = layout.members() == together
            || layout.members() > 0 && layout.wire_len_with(key, None, len) > max_size;
        if is_full {
            groups.push(Group {
                layout: std::mem::take(&mut layout),
                lines: &sample.lines[begin..end],
            });
            begin = end;
        }
        layout.add(key, None, len);
    }
    if groups.is_empty() {
        let lines = &sample.lines[..];
        groups.push(Group { layout, lines });
    }
    groups
}

/// As long as those that the agent draws.
fn partition_key() -> anyhow::Result<PartitionKey> {
    Ok(PartitionKey::new("k".repeat(ShardMap::SPREAD_KEY_LEN))?)
}

/// Under a data key of KMS, for blocks or for records.
pub(crate) fn writer(
    block: Option<&block::Settings>,
    mut settings: Settings,
) -> anyhow::Result<Writer> {
    let mut context = EncryptionContext::from([("app".into(), "shop".into())]);
    if let Some(block) = block {
        let packing = block.packing.context_value().to_owned();
        context.insert(block::CONTEXT_KEY.to_owned(), packing);
        settings.frame_length = block.frame_length();
    }
    let binding = Binding::new(settings.suite, &context)?;
    let key = SecretKeyBytes::new(vec![7; binding.key_len()]);
    let edk = EncryptedDataKey {
        provider: EncryptedDataKey::KMS.into(),
        info: "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab".into(),
        // What KMS answers for 32 bytes under a key of today is 184 bytes, for 16 bytes 168.
        ciphertext: vec![0; 152 + binding.key_len()].into(),
    };
    Ok(Writer::new(binding, &key, &[edk], settings)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let mut samples = Sample::made_up();
        samples.truncate(1);
        let mut sample = samples.remove(0);
        sample.lines.truncate(5_000);
        sample
    }

    #[test]
    fn more_lines_in_a_block_never_cost_more_and_zstd_saves() {
        let sample = sample();
        for packing in PACKINGS {
            let of = |together| blocks(&sample, together, packing).unwrap();
            let bytes = [1, 10, 100, usize::MAX].map(of);
            assert!(bytes.is_sorted_by(|one, more| one > more), "{bytes:?}");
        }
        let full = |packing| blocks(&sample, usize::MAX, packing).unwrap();
        assert!(full(PACKINGS[1]) * 2.0 < full(PACKINGS[0]));
    }

    #[test]
    fn a_block_is_no_larger_than_it_may_be_and_no_line_is_lost() {
        let sample = sample();
        let key = partition_key().unwrap();
        let groups = groups(&sample, &key, 48 << 10, usize::MAX, |len| len);
        assert!(
            groups
                .iter()
                .all(|group| group.layout.wire_len() <= 48 << 10)
        );
        let lines = groups.iter().flat_map(|group| group.lines);
        assert!(lines.zip(&sample.lines).all(|(one, other)| one == other));
    }
}
