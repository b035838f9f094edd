//! A histogram of durations.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram of durations: 1 µs to 1 hour, each within one in a hundred; longer counts as an hour.
///
/// An agent keeps seven for each of its streams, most of which time nothing in an idle one: each is made when the first
/// duration comes, and is as large as its longest needs. With three digits in place of two, those of 200 busy streams
/// took twice the memory that all their records may.
#[derive(Debug, Clone, Default)]
pub struct Latency(Option<Histogram<u64>>);

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
        let recorded = self.made().record_n(micros, times);
        recorded.expect("it grows to an hour");
    }

    pub fn merge(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            let added = self.made().add(other);
            added.expect("it grows to an hour");
        }
    }

    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The least duration that so many (0 to 1) do not exceed, rounded up to two digits; 0 where there are none.
    pub fn quantile(&self, q: f64) -> Duration {
        Duration::from_micros(self.0.as_ref().map_or(0, |h| h.value_at_quantile(q)))
    }

    /// Rounded as a quantile is; 0 where there are none.
    pub fn mean(&self) -> Duration {
        let micros = self.0.as_ref().map_or(0.0, Histogram::mean);
        Duration::from_secs_f64(micros / 1e6)
    }

    /// Rounded as a quantile is.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.as_ref().map_or(0, Histogram::max))
    }

    /// What it is made of, where anything was timed: microseconds.
    pub fn histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_ref()
    }

    fn made(&mut self) -> &mut Histogram<u64> {
        // 2 KiB, and 1 more for each doubling of the longest duration from 256 µs on.
        let make = || Histogram::new(2).expect("two digits are allowed");
        self.0.get_or_insert_with(make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_kept_to_two_digits_and_capped_at_an_hour() {
        let mut latency = Latency::new();
        latency.record(Duration::from_micros(1_234_567), 3);
        latency.record(Duration::from_secs(86_400), 1);
        let median = latency.quantile(0.5).as_micros();
        assert!((1_222_000..=1_247_000).contains(&median), "{median}");
        assert!((3564..=3636).contains(&latency.max().as_secs()));
        assert_eq!(latency.count(), 4);
    }

    #[test]
    fn what_was_never_timed_takes_no_memory() {
        let mut latency = Latency::new();
        latency.merge(&Latency::new());
        latency.record(Duration::from_secs(1), 0);
        assert!(latency.0.is_none());
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        assert_eq!(latency.max(), Duration::ZERO);
    }

    #[test]
    fn merged_they_are_as_if_all_had_been_recorded_in_one() {
        let (mut one, mut merged) = (Latency::new(), Latency::new());
        for micros in [0, 1, 900, 70_000, 5_000_000, u64::MAX] {
            let mut part = Latency::new();
            for latency in [&mut one, &mut part] {
                latency.record(Duration::from_micros(micros), 2);
            }
            merged.merge(&part);
        }
        assert_eq!(one.0, merged.0);
    }

    #[test]
    fn one_takes_as_much_memory_as_its_longest_needs() {
        for (longest, kib) in [(1, 4), (10_000, 20)] {
            let mut latency = Latency::new();
            latency.record(Duration::from_millis(longest), 1);
            let slots = latency.made().distinct_values() * size_of::<u64>();
            assert!(slots <= kib << 10, "{longest} ms: {slots} bytes");
        }
    }
}
