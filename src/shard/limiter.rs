//! How much a shard may be given: token buckets for bytes and for records.
//!
//! A shard takes 1 MiB and 1,000 records a second
//! (<https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>); what exceeds it comes
//! back throttled and costs another call. `delivery.rate_limit` is the percentage of that quota which this
//! process takes. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

const RECORDS_PER_SECOND: f64 = 1000.0;
const BYTES_PER_SECOND: f64 = (1 << 20) as f64;

/// One shard's tokens.
#[derive(Debug, Clone)]
pub struct Limiter {
    records: Bucket,
    bytes: Bucket,
}

impl Limiter {
    /// `percent` of a shard's quota; starts full, with one second's worth.
    pub fn new(percent: u32, now: Instant) -> Self {
        let share = f64::from(percent) / 100.0;
        Self {
            records: Bucket::new(RECORDS_PER_SECOND * share, now),
            bytes: Bucket::new(BYTES_PER_SECOND * share, now),
        }
    }

    /// Takes tokens for one Kinesis record of `bytes`, or says when to ask again.
    pub fn admit(&mut self, bytes: usize, now: Instant) -> Result<(), Instant> {
        let wait = self
            .records
            .wait_for(1.0, now)
            .max(self.bytes.wait_for(bytes as f64, now));
        if wait.is_zero() {
            self.records.take(1.0);
            self.bytes.take(bytes as f64);
            Ok(())
        } else {
            Err(now + wait)
        }
    }
}

#[derive(Debug, Clone)]
struct Bucket {
    tokens: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: f64, now: Instant) -> Self {
        Self {
            tokens: per_second,
            per_second,
            filled: now,
        }
    }

    /// How long until `amount` can be taken. More than the bucket holds waits for a full bucket and leaves
    /// a debt, so that a large record passes, at the right average rate.
    fn wait_for(&mut self, amount: f64, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second).min(self.per_second);
        let missing = amount.min(self.per_second) - self.tokens;
        if missing <= 0.0 {
            Duration::ZERO
        } else {
            // Rounded up: waking a little early would only ask again.
            Duration::from_secs_f64(missing / self.per_second) + Duration::from_micros(1)
        }
    }

    fn take(&mut self, amount: f64) {
        self.tokens -= amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes and records admitted in `seconds`, offered without end.
    fn admitted(percent: u32, record: usize, seconds: u64) -> (f64, f64) {
        let start = Instant::now();
        let mut limiter = Limiter::new(percent, start);
        let (mut now, mut records) = (start, 0.0);
        while now < start + Duration::from_secs(seconds) {
            match limiter.admit(record, now) {
                Ok(()) => records += 1.0,
                Err(later) => now = later,
            }
        }
        (records * record as f64, records)
    }

    #[test]
    fn rate_settles_at_the_share_of_the_quota_whichever_binds() {
        // Ten seconds, and the full bucket at the start.
        let (_, records) = admitted(100, 10, 10);
        assert!((10_990.0..=11_010.0).contains(&records), "{records}");
        let (bytes, _) = admitted(150, 51_200, 10);
        let quota = 1.5 * BYTES_PER_SECOND * 11.0;
        assert!((quota * 0.98..=quota * 1.01).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_record_larger_than_the_bucket_passes_and_is_paid_for() {
        let (bytes, records) = admitted(10, 1 << 20, 100);
        assert!(records >= 10.0, "{records}");
        assert!(bytes <= 0.1 * BYTES_PER_SECOND * 112.0, "{bytes}");
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_gives_no_tokens() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut limiter = Limiter::new(100, start);
        while limiter.admit(51_200, start).is_ok() {}
        assert!(
            limiter
                .admit(51_200, start - Duration::from_secs(5))
                .is_err()
        );
        assert!(limiter.admit(51_200, start).is_err());
    }
}
