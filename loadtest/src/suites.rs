//! What a message costs in each suite that is written: bytes, and time on one core.

use std::time::{Duration, Instant};

use kinseal::seal::message::{Encoding, MessageIds, Settings, Suite, Writer};

use crate::bytes_per_line::writer;
use crate::out;

/// A short log line.
const RECORD: [u8; 200] = [b'x'; 200];
/// Sealed with one call, as a chunk of the agent is.
const TOGETHER: usize = 64;
/// Short enough to be between two disturbances, and repeated until one is.
const WINDOW: Duration = Duration::from_millis(5);
const WINDOWS: usize = 200;

/// In Markdown.
pub(crate) fn print() -> anyhow::Result<()> {
    out::warn_of_a_debug_build()?;
    out::line("A record of 200 bytes, a KMS key, the context app=shop\n")?;
    out::line("| suite | bytes added | in base64 | µs each |")?;
    out::line("|---|--:|--:|--:|")?;
    for suite in Suite::written() {
        let settings = Settings {
            suite,
            ..Settings::default()
        };
        let text = Settings {
            encoding: Encoding::Base64,
            ..settings
        };
        let added = |settings| -> anyhow::Result<usize> {
            Ok(writer(None, settings)?.sealed_len(RECORD.len()) - RECORD.len())
        };
        out::line(format!(
            "| {suite} | {} | {} | {:.2} |",
            added(settings)?,
            added(text)?,
            micros_each(&writer(None, settings)?)
        ))?;
    }
    Ok(())
}

/// The least over many windows: what the machine does besides only adds.
fn micros_each(writer: &Writer) -> f64 {
    let mut out = Vec::with_capacity(TOGETHER * writer.sealed_len(RECORD.len()));
    let mut ends = Vec::with_capacity(TOGETHER);
    let mut ids = MessageIds::new();
    let mut window = || {
        let (start, mut messages) = (Instant::now(), 0.0);
        loop {
            out.clear();
            ends.clear();
            writer.seal_all(&mut ids, [&RECORD[..]; TOGETHER], &mut out, &mut ends);
            messages += TOGETHER as f64;
            let took = start.elapsed();
            if took >= WINDOW {
                return took.as_secs_f64() * 1e6 / messages;
            }
        }
    };
    (0..WINDOWS).map(|_| window()).fold(f64::INFINITY, f64::min)
}
