//! How many calls may be under way: between one and a maximum, learned from their answers.
//!
//! More calls at once carry more, until they only wait for one another; a service that is unwell is not helped
//! by more of them. Two signals, as congestion control has them:
//!
//! - **Latency**: when calls take longer than they usually do, by more than `TOLERANCE`, the window shrinks
//!   by as much, and grows by the square root of its size while they do not. What is usual follows slowly, so
//!   a service that has become slower for good is used to the full again. After Netflix's Gradient2,
//!   <https://github.com/Netflix/concurrency-limits>.
//! - **Failure**: a call that failed as a whole halves it. Calls that were under way at that moment are of the
//!   same trouble, and count once.
//!
//! Throttled entries of a call that was answered are not its business: they are a shard's, and the
//! [limiter](crate::shard::limiter) learns from them. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// How much longer than usual a call may take.
const TOLERANCE: f64 = 2.0;
/// The window never shrinks faster than to this part of itself, for latency.
const LEAST_GRADIENT: f64 = 0.5;
/// How fast a new size is taken over.
const SMOOTHING: f64 = 0.2;
/// Calls over which the usual latency is averaged.
const USUAL_OVER: f64 = 200.0;
/// After a failure.
const HALF: f64 = 0.5;

/// The calls under way at once.
#[derive(Debug)]
pub struct Window {
    size: f64,
    max: usize,
    /// Seconds; `None` before the first answer.
    usual: Option<f64>,
    shrunk: Option<Instant>,
}

impl Window {
    /// `max` is at least 1. Starts half open.
    pub fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            size: (max as f64 / 2.0).max(1.0),
            max,
            usual: None,
            shrunk: None,
        }
    }

    /// Calls that may be under way now.
    pub fn size(&self) -> usize {
        (self.size as usize).clamp(1, self.max)
    }

    /// A call was answered, whatever became of its entries. `beside` is how many were under way when it was
    /// sent, itself included: where they were few, the window is larger than what it is needed for, and nothing
    /// is learned of its size.
    pub fn answered(&mut self, took: Duration, beside: usize) {
        let took = took.as_secs_f64().max(1e-6);
        let mut usual = self.usual.unwrap_or(took);
        usual += (took - usual) / USUAL_OVER;
        // After a slow time, back to what is usual sooner than by averaging.
        if usual > TOLERANCE * took {
            usual *= 0.95;
        }
        self.usual = Some(usual);
        if beside * 2 < self.size() {
            return;
        }
        let gradient = (TOLERANCE * usual / took).clamp(LEAST_GRADIENT, 1.0);
        let wanted = self.size * gradient + self.size.sqrt();
        let size = self.size + (wanted - self.size) * SMOOTHING;
        self.size = size.clamp(1.0, self.max as f64);
    }

    /// A call that was sent at this time has failed as a whole.
    pub fn failed(&mut self, sent: Instant, now: Instant) {
        if self.shrunk.is_some_and(|shrunk| sent <= shrunk) {
            return;
        }
        self.shrunk = Some(now);
        self.size = (self.size * HALF).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(30);

    /// Answers that come as fast as they are, with the window full.
    fn answers(window: &mut Window, took: impl Fn(usize) -> Duration, calls: usize) {
        for _ in 0..calls {
            let size = window.size();
            window.answered(took(size), size);
        }
    }

    #[test]
    fn opens_to_its_maximum_while_calls_take_as_long_as_ever() {
        let mut window = Window::new(16);
        assert_eq!(window.size(), 8);
        answers(&mut window, |_| USUAL, 100);
        assert_eq!(window.size(), 16);
    }

    #[test]
    fn calls_that_failed_together_halve_it_once_and_one_is_always_left() {
        let mut window = Window::new(16);
        answers(&mut window, |_| USUAL, 100);
        let sent = Instant::now();
        let later = |ms| sent + Duration::from_millis(ms);
        for n in 0..16 {
            window.failed(later(n), later(100 + n));
        }
        assert_eq!(window.size(), 8);
        for n in 1..10 {
            window.failed(later(n * 1000), later(n * 1000 + 1));
        }
        assert_eq!(window.size(), 1);
        answers(&mut window, |_| USUAL, 100);
        assert_eq!(window.size(), 16, "and opens again");
    }

    #[test]
    fn what_is_not_used_teaches_nothing() {
        let mut window = Window::new(16);
        for _ in 0..1000 {
            window.answered(USUAL, 1);
        }
        assert_eq!(window.size(), 8);
        for _ in 0..10 {
            window.answered(USUAL * 10, 1);
        }
        assert_eq!(window.size(), 8, "a small window was not the cause");
    }

    #[test]
    fn calls_that_take_longer_close_it_until_that_is_usual() {
        let mut window = Window::new(16);
        answers(&mut window, |_| USUAL, 100);
        answers(&mut window, |_| USUAL * 5, 20);
        let shrunk = window.size();
        assert!(shrunk < 12, "{shrunk}");
        answers(&mut window, |_| USUAL * 5, 1000);
        assert_eq!(window.size(), 16);
    }

    #[test]
    fn a_maximum_of_one_is_kept() {
        let mut window = Window::new(1);
        answers(&mut window, |_| USUAL, 10);
        assert_eq!(window.size(), 1);
    }
}
