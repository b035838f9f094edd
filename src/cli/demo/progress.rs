//! How far the demo is, while it runs: a bar on a terminal, a line every few seconds elsewhere.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::interval;

use super::way::Way;
use crate::metrics::report::Thousands;

/// Where the tasks of the demo are. Each is set by one of them.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    written: AtomicU64,
    ways: [WayGauges; Way::ALL.len()],
}

#[derive(Debug, Default)]
struct WayGauges {
    stored: AtomicU64,
    read_back: AtomicU64,
}

/// One look at the demo. A record is stored, and read back, when it is so on both ways.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) written: u64,
    pub(super) stored: u64,
    pub(super) read_back: u64,
}

impl Gauges {
    pub(super) fn look(&self) -> State {
        let least = |of: fn(&WayGauges) -> &AtomicU64| {
            let ways = self.ways.iter().map(|way| of(way).load(Relaxed));
            ways.min().expect("there are two")
        };
        let read_back = least(|way| &way.read_back);
        State {
            written: self.written.load(Relaxed),
            // It is looked at now and then, and what was read back was stored.
            stored: least(|way| &way.stored).max(read_back),
            read_back,
        }
    }

    pub(super) fn set_written(&self, records: u64) {
        self.written.store(records, Relaxed);
    }

    pub(super) fn set_stored(&self, way: Way, records: u64) {
        self.ways[way as usize].stored.store(records, Relaxed);
    }

    pub(super) fn set_read_back(&self, way: Way, records: u64) {
        self.ways[way as usize].read_back.store(records, Relaxed);
    }
}

/// Shown on standard error.
#[derive(Debug)]
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    const LINES_EVERY: Duration = Duration::from_secs(2);

    pub(super) fn new(records: u64) -> Self {
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(records).with_style(style());
            bar.enable_steady_tick(Duration::from_millis(100));
            return Self::Bar(bar);
        }
        Self::Lines {
            next: Instant::now() + Self::LINES_EVERY,
        }
    }

    /// Shows how far it is, again and again.
    pub(super) async fn follow(&mut self, gauges: &Gauges, of: u64) -> Infallible {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            self.show(gauges.look(), of);
        }
    }

    fn show(&mut self, state: State, of: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(state.read_back);
                bar.set_message(state.words("  ", of));
            }
            Self::Lines { next } if Instant::now() >= *next => {
                *next += Self::LINES_EVERY;
                // Nobody is left to be told.
                let _ = writeln!(
                    std::io::stderr(),
                    "{} of {}",
                    state.words(", ", of),
                    Thousands(of)
                );
            }
            Self::Lines { .. } => {}
        }
    }

    /// Takes the bar away, so that what follows stands alone.
    pub(super) fn done(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl State {
    /// As wide at the start as at the end, so that the bar beside it stands still.
    fn words(self, between: &str, of: u64) -> String {
        let width = Thousands(of).to_string().len();
        let [written, stored, read_back] =
            [self.written, self.stored, self.read_back].map(|n| Thousands(n).to_string());
        format!(
            "written {written:>width$}{between}stored {stored:>width$}{between}read back {read_back:>width$}"
        )
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{percent:>3}% {wide_bar} {msg}  {elapsed}")
        .expect("a valid template")
        .progress_chars("━╸ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_all_three() {
        let state = State {
            written: 12_000,
            stored: 11_800,
            read_back: 900,
        };
        assert_eq!(
            state.words(", ", 60_000),
            "written 12,000, stored 11,800, read back    900"
        );
        style();
    }
}
