//! How much a shard may be given: token buckets for bytes and for records, at a rate that is learned.
//!
//! A shard takes 1 MiB and 1,000 records a second
//! (<https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>); what exceeds it comes
//! back throttled and costs another call. `delivery.rate_limit` is the percentage of that quota which this
//! process takes at most. Where others write to the shard too, it takes less: see [`Level`]. Pure: time is
//! passed in.

mod level;
mod trial;

use std::time::Duration;

use tokio::time::Instant;

pub use level::Level;

const RECORDS_PER_SECOND: f64 = 1000.0;
const BYTES_PER_SECOND: f64 = (1 << 20) as f64;

/// What a full bucket holds, in seconds of its rate. The service's own holds about one; the rest is slack for
/// entries that travel at different speeds and arrive closer together than they left. Without it, every
/// hiccup at the full rate is a throttle.
const BURST: f64 = 0.8;

/// One shard's tokens.
#[derive(Debug, Clone)]
pub struct Limiter {
    records: Bucket,
    bytes: Bucket,
    level: Level,
}

impl Limiter {
    /// `percent` of a shard's quota at most; starts full.
    pub fn new(percent: u32, now: Instant) -> Self {
        let share = f64::from(percent) / 100.0;
        Self {
            records: Bucket::new(RECORDS_PER_SECOND * share, now),
            bytes: Bucket::new(BYTES_PER_SECOND * share, now),
            level: Level::new(now),
        }
    }

    /// Takes tokens for one Kinesis record of `bytes`, or says when to ask again.
    pub fn admit(&mut self, bytes: usize, now: Instant) -> Result<(), Instant> {
        let level = self.level.now();
        let wait = self
            .records
            .wait_for(1.0, level, now)
            .max(self.bytes.wait_for(bytes as f64, level, now));
        if wait.is_zero() {
            self.records.take(1.0);
            self.bytes.take(bytes as f64);
            Ok(())
        } else {
            Err(now + wait)
        }
    }

    /// Nothing is saved up until then: a shard that took nothing for some time is not asked for everything at once
    /// when it is asked again. What it refused then would count against its rate.
    pub fn rest(&mut self, until: Instant) {
        for bucket in [&mut self.records, &mut self.bytes] {
            bucket.tokens = bucket.tokens.min(0.0);
            bucket.filled = until;
        }
        self.level.rest(until);
    }

    /// The service has taken one Kinesis record of `bytes`, or throttled it.
    pub fn answered(&mut self, bytes: usize, throttled: bool, now: Instant) {
        // Whichever quota it takes more of is the one that binds.
        let share = (1.0 / self.records.full_rate).max(bytes as f64 / self.bytes.full_rate);
        self.level.answered(share, throttled, now);
    }

    /// The part of its rate that it takes now, up to 1.
    pub fn level(&self) -> f64 {
        self.level.now()
    }
}

#[derive(Debug, Clone)]
struct Bucket {
    tokens: f64,
    /// Per second, at level 1.
    full_rate: f64,
    filled: Instant,
}

impl Bucket {
    fn new(full_rate: f64, now: Instant) -> Self {
        Self {
            tokens: full_rate * BURST,
            full_rate,
            filled: now,
        }
    }

    /// How long until `amount` can be taken. More than the bucket holds waits for a full bucket and leaves
    /// a debt, so that a large record passes, at the right average rate.
    fn wait_for(&mut self, amount: f64, level: f64, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        let rate = self.full_rate * level;
        let holds = rate * BURST;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate).min(holds);
        let missing = amount.min(holds) - self.tokens;
        if missing <= 0.0 {
            Duration::ZERO
        } else {
            // Rounded up: waking a little early would only ask again.
            Duration::from_secs_f64(missing / rate) + Duration::from_micros(1)
        }
    }

    fn take(&mut self, amount: f64) {
        self.tokens -= amount;
    }
}

#[cfg(test)]
mod tests;
