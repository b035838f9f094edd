//! The program whose log is shipped: appends sales to a file at a steady pace.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::progress::Gauges;
use super::ticker::Tickers;

/// How fast, how many, and how far ahead of the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) records: u64,
    pub(super) per_second: u64,
}

impl Pace {
    /// Records that may be written and not read back yet: less than a shard's ring buffer of the stand-in
    /// holds (64 MiB), because what leaves it unread would be missing.
    const LEAD: u64 = 50_000;
    /// Finer than a person sees, coarser than a write costs.
    const TICK: Duration = Duration::from_millis(10);

    /// Up to which record the file may reach, so long after the start.
    fn due(self, elapsed: Duration, read_back: u64) -> u64 {
        let by_time = elapsed.as_micros() * u128::from(self.per_second) / 1_000_000;
        let by_time = u64::try_from(by_time).unwrap_or(u64::MAX);
        by_time
            .min(read_back.saturating_add(Self::LEAD))
            .min(self.records)
    }
}

/// Appends all records to the file at `path`, which must exist.
pub(super) async fn write(
    path: &Path,
    tickers: &Tickers,
    pace: Pace,
    gauges: &Arc<Gauges>,
) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path).await?;
    let start = Instant::now();
    let mut ticks = interval(Pace::TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut next, mut lines) = (0, Vec::new());
    while next < pace.records {
        ticks.tick().await;
        let due = pace.due(start.elapsed(), gauges.look().read_back);
        if due <= next {
            continue;
        }
        lines.clear();
        (next..due).for_each(|number| tickers.append(number, &mut lines));
        file.write_all(&lines).await?;
        file.flush().await?;
        gauges.set_written(due);
        next = due;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const PACE: Pace = Pace {
        records: 100_000,
        per_second: 10_000,
    };

    #[test]
    fn writing_is_held_by_time_by_the_reader_and_by_the_end() {
        let after = Duration::from_secs;
        assert_eq!(PACE.due(after(2), 0), 20_000);
        assert_eq!(PACE.due(after(9), 30_000), 80_000, "the reader lags");
        assert_eq!(PACE.due(after(60), 90_000), 100_000);
    }

    #[tokio::test]
    async fn the_file_holds_every_record_once_and_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tickers = Tickers::new(1, SystemTime::UNIX_EPOCH, 100_000);
        let gauges = Arc::default();
        let pace = Pace {
            records: 2500,
            per_second: 100_000,
        };
        write(file.path(), &tickers, pace, &gauges).await.unwrap();
        let mut expected = Vec::new();
        (0..2500).for_each(|number| tickers.append(number, &mut expected));
        assert_eq!(std::fs::read(file.path()).unwrap(), expected);
        assert_eq!(gauges.look().written, 2500);
    }
}
