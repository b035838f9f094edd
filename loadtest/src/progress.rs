//! How far a matrix has got, and how long the rest takes: on a terminal only.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::agent::Sample;
use crate::out;
use crate::scenario::{Case, Encryption, Pace, Source};

/// A bar below the rows of the table.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Of the runs that are done, in thousandths of a second as guessed.
    done: u64,
    failed: RefCell<Option<anyhow::Error>>,
}

impl Progress {
    pub(crate) fn of(cases: &[Case]) -> Self {
        let bar = ProgressBar::new(cases.iter().map(guess).sum());
        let began = Instant::now();
        let left = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}", left(began.elapsed(), state.fraction()));
        };
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {left}  {wide_msg}");
        bar.set_style(style.expect("a valid template").with_key("left", left));
        // Between samples, too.
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            bar,
            done: 0,
            failed: RefCell::default(),
        }
    }

    pub(crate) fn begin(&self, case: &Case) {
        self.bar.set_message(case.to_string());
    }

    /// A moment of the run of `case`, of which half is the rest: making lines, starting, reading back.
    pub(crate) fn moved(&self, case: &Case, sample: Sample) {
        let part = sample.stored as f64 / case.lines as f64;
        let of_it = guess(case) as f64 * (0.2 + 0.5 * part.min(1.0));
        self.bar.set_position(self.done + of_it as u64);
    }

    pub(crate) fn end(&mut self, case: &Case) {
        self.done += guess(case);
        self.bar.set_position(self.done);
    }

    /// A line above the bar, or just a line where there is none. Whether that went well says [`Self::is_heard`].
    pub(crate) fn print(&self, line: &str) {
        let printed = match self.bar.is_hidden() {
            true => out::line(line),
            false => self.bar.suspend(|| out::line(line)),
        };
        if let Err(why) = printed {
            self.failed.borrow_mut().get_or_insert(why);
        }
    }

    /// An error if a line could not be printed.
    pub(crate) fn is_heard(&self) -> anyhow::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Milliseconds that a run takes, roughly: what is left is reckoned by what runs took so far.
fn guess(case: &Case) -> u64 {
    const START_AND_END: u64 = 900;
    let sending = match case.pace {
        Pace::LinesPerSecond(rate) => case.lines * 1000 / rate,
        Pace::AsFastAsItGoes => {
            let bytes = case.lines * (case.line_bytes as u64 + 1);
            let micros = match case.encryption {
                Encryption::Record if case.source == Source::Python => 250.0,
                Encryption::Off => 2.0,
                Encryption::Record => 6.0,
                Encryption::Block | Encryption::BlockZstd => 2.5,
            };
            (case.lines as f64 * micros / 1e3) as u64 + bytes / 400_000
        }
    };
    let reading = match case.read_back {
        true => START_AND_END + sending / 2,
        false => 0,
    };
    START_AND_END + sending + reading
}

fn left(elapsed: Duration, fraction: f32) -> String {
    let mut text = String::new();
    if fraction < 0.03 {
        return text;
    }
    let seconds = elapsed.as_secs_f32() * (1.0 - fraction) / fraction;
    let seconds = seconds.ceil() as u64;
    let _ = match seconds {
        0..120 => write!(text, "{seconds} s left"),
        _ => write!(text, "{} min left", seconds.div_ceil(60)),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_reckoned_by_what_it_took_so_far() {
        assert_eq!(left(Duration::from_secs(30), 0.25), "90 s left");
        assert_eq!(left(Duration::from_secs(60), 0.1), "9 min left");
        assert_eq!(left(Duration::from_secs(1), 0.0), "");
    }
}
