//! A histogram of durations that takes memory only where there were any.
//!
//! An agent keeps seven for each of its streams. As one array each (`hdrhistogram`'s way) they took 1.3 MiB a stream
//! before anything was timed, and as much again for each copy in a report. The buckets are the same: the tests hold
//! this against that crate.

use std::time::Duration;

/// A histogram of durations: 1 µs to 1 hour, three significant digits; longer counts as an hour.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    /// Of [`SLOTS`] counters each, made when the first of them counts.
    pages: Vec<Option<Box<Page>>>,
    count: u64,
    max: u64,
}

/// The counters of neighbouring values. Latencies of one stage are near one another: some dozen pages of 512 bytes.
type Page = [u64; SLOTS];
const SLOTS: usize = 64;

/// Values below twice 2 to this power have a slot each; of larger ones, each power of two is cut into so many.
const STEPS_LOG2: u32 = 10;

impl Latency {
    const MAX_MICROS: u64 = 3_600_000_000;

    pub fn new() -> Self {
        Self::default()
    }

    pub fn record(&mut self, took: Duration, times: u64) {
        if times == 0 {
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let micros = micros.clamp(1, Self::MAX_MICROS);
        let slot = slot(micros);
        let counter = &mut self.page(slot / SLOTS)[slot % SLOTS];
        *counter = counter.saturating_add(times);
        self.count = self.count.saturating_add(times);
        self.max = self.max.max(micros);
    }

    pub fn merge(&mut self, other: &Self) {
        for (at, theirs) in other.pages.iter().enumerate() {
            let Some(theirs) = theirs else { continue };
            for (counter, more) in self.page(at).iter_mut().zip(theirs.iter()) {
                *counter = counter.saturating_add(*more);
            }
        }
        self.count = self.count.saturating_add(other.count);
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The least duration that so many (0 to 1) do not exceed, rounded up to three digits; 0 where there are none.
    pub fn quantile(&self, q: f64) -> Duration {
        let wanted = (q.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let mut below = 0_u64;
        let counters = self.counters().map(|(slot, count)| {
            below = below.saturating_add(count);
            (slot, below)
        });
        let mut reached = counters.filter(|(_, below)| *below >= wanted.max(1));
        Duration::from_micros(reached.next().map_or(0, |(slot, _)| largest(slot)))
    }

    /// Rounded as a quantile is.
    pub fn max(&self) -> Duration {
        match self.max {
            0 => Duration::ZERO,
            max => Duration::from_micros(largest(slot(max))),
        }
    }

    /// Slots and what they have counted, the shortest duration first.
    fn counters(&self) -> impl Iterator<Item = (usize, u64)> {
        let pages = self.pages.iter().enumerate();
        let pages = pages.filter_map(|(at, page)| Some((at * SLOTS, page.as_deref()?)));
        pages.flat_map(|(first, page)| (first..).zip(page.iter().copied()))
    }

    fn page(&mut self, at: usize) -> &mut Page {
        if at >= self.pages.len() {
            self.pages.resize(at + 1, None);
        }
        self.pages[at].get_or_insert_with(|| Box::new([0; SLOTS]))
    }
}

/// Where a value is counted.
fn slot(micros: u64) -> usize {
    let shift = shift(micros);
    ((u64::from(shift) << STEPS_LOG2) + (micros >> shift)) as usize
}

/// By how many bits a value is too long for its digits.
fn shift(micros: u64) -> u32 {
    (micros | 1).ilog2().saturating_sub(STEPS_LOG2)
}

/// The largest value that is counted there.
fn largest(slot: usize) -> u64 {
    let slot = slot as u64;
    let shift = (slot >> STEPS_LOG2).saturating_sub(1);
    ((slot - (shift << STEPS_LOG2) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_latency_is_kept_to_three_digits_and_capped_at_an_hour() {
        let mut latency = Latency::new();
        latency.record(Duration::from_micros(1_234_567), 3);
        latency.record(Duration::from_secs(86_400), 1);
        let median = latency.quantile(0.5).as_micros();
        assert!((1_233_000..=1_236_000).contains(&median), "{median}");
        assert!(latency.max() >= Duration::from_secs(3590));
        assert_eq!(latency.count(), 4);
    }

    #[test]
    fn what_was_never_timed_takes_no_memory() {
        let mut latency = Latency::new();
        latency.merge(&Latency::new());
        latency.record(Duration::from_secs(1), 0);
        assert_eq!(latency.pages.capacity(), 0);
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        assert_eq!(latency.max(), Duration::ZERO);
    }

    #[test]
    fn latencies_that_differ_tenfold_take_some_tens_of_kilobytes() {
        let mut latency = Latency::new();
        for micros in 10_000..100_000 {
            latency.record(Duration::from_micros(micros), 1);
        }
        let pages = latency.pages.iter().flatten().count() * size_of::<Page>();
        assert!(pages <= 30 << 10, "{pages}");
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_hdrhistogram(
            parts in prop::collection::vec(prop::collection::vec((0_u32..33, any::<u64>(), 1_u64..9), 0..40), 1..4),
            q in 0.001..=1.0,
        ) {
            let mut theirs = Histogram::<u64>::new_with_bounds(1, Latency::MAX_MICROS, 3).unwrap();
            let mut ours = Latency::new();
            for part in parts {
                let mut latency = Latency::new();
                for (bits, micros, times) in part {
                    let micros = micros >> (63 - bits);
                    latency.record(Duration::from_micros(micros), times);
                    theirs.saturating_record_n(micros.clamp(1, Latency::MAX_MICROS), times);
                }
                ours.merge(&latency);
            }
            prop_assert_eq!(ours.count(), theirs.len());
            prop_assert_eq!(ours.max(), Duration::from_micros(theirs.max()));
            for q in [q, 0.5, 0.99, 0.999, 1.0] {
                prop_assert_eq!(ours.quantile(q), Duration::from_micros(theirs.value_at_quantile(q)));
            }
        }
    }
}
