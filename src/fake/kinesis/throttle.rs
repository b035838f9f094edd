//! A token bucket: a second's worth of quota, refilled as time passes.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Bucket {
    /// Per second, and what the bucket holds when full: one second of it.
    rate: f64,
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "quotas are far below 2^53")]
    pub(crate) fn full(per_second: u64, now: Duration) -> Self {
        Self {
            rate: per_second as f64,
            tokens: per_second as f64,
            filled: now,
        }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.rate);
        self.filled = self.filled.max(now);
    }

    /// Whether `cost` can be taken now. What costs more than the bucket holds (a record over 1 MiB) passes
    /// when the bucket is full, and leaves a debt: the long-run rate stays the quota, as AWS describes it for
    /// large records.
    #[expect(clippy::cast_precision_loss, reason = "costs are far below 2^53")]
    pub(crate) fn has(&mut self, cost: usize, now: Duration) -> bool {
        self.refill(now);
        self.tokens >= (cost as f64).min(self.rate)
    }

    #[expect(clippy::cast_precision_loss, reason = "costs are far below 2^53")]
    pub(crate) fn take(&mut self, cost: usize) {
        self.tokens -= cost as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_bucket_gives_one_second_at_once_and_then_the_rate() {
        let mut bucket = Bucket::full(1000, START);
        assert!(bucket.has(1000, START));
        bucket.take(1000);
        assert!(!bucket.has(1, START));
        let later = START + Duration::from_millis(500);
        assert!(bucket.has(500, later));
        assert!(!bucket.has(501, later));
    }

    #[test]
    fn idle_time_does_not_add_up_beyond_one_second() {
        let mut bucket = Bucket::full(1000, START);
        let later = START + Duration::from_secs(60);
        assert!(bucket.has(1000, later));
        bucket.take(1000);
        assert!(!bucket.has(1, later));
    }

    #[test]
    fn a_cost_above_the_bucket_passes_when_full_and_leaves_a_debt() {
        let mut bucket = Bucket::full(1000, START);
        assert!(bucket.has(5000, START));
        bucket.take(5000);
        assert!(!bucket.has(1, START + Duration::from_secs(4)));
        assert!(bucket.has(1, START + Duration::from_millis(4001)));
    }
}
