//! Values of one metric: their sums, by second and since the start.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::message::Stats;

/// Of any number of values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stat {
    pub count: f64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Stat {
    pub fn one(value: f64) -> Self {
        Self::equal(1, value)
    }

    /// Of so many equal values.
    pub fn equal(count: u64, value: f64) -> Self {
        if count == 0 {
            return Self::default();
        }
        let count = count as f64;
        Self {
            count,
            sum: count * value,
            min: value,
            max: value,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0.0
    }

    pub fn merge(&mut self, other: Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub fn add(&mut self, value: f64) {
        self.merge(Self::one(value));
    }
}

/// Of no values: zeros, where the KPL's own daemon said NaN and the largest and the smallest number there is.
impl From<Stat> for Stats {
    fn from(stat: Stat) -> Self {
        let mean = match stat.is_empty() {
            true => 0.0,
            false => stat.sum / stat.count,
        };
        Self {
            count: stat.count,
            sum: stat.sum,
            mean,
            min: stat.min,
            max: stat.max,
        }
    }
}

/// The seconds that are kept: a minute, which is the longest between two uploads, the one that is now, and one in which an
/// upload may be late.
const SECONDS: u64 = 62;

/// Of one metric.
#[derive(Debug)]
pub(super) struct Series {
    born: Instant,
    lifetime: Stat,
    /// By the second since `born`, rounded down; the newest last.
    seconds: VecDeque<(u64, Stat)>,
}

impl Series {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            born: now,
            lifetime: Stat::default(),
            seconds: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, stat: Stat, now: Instant) {
        self.lifetime.merge(stat);
        let second = self.second(now);
        match self.seconds.back_mut() {
            Some((last, sum)) if *last >= second => sum.merge(stat),
            _ => self.seconds.push_back((second, stat)),
        }
        self.pass_over(second);
    }

    fn pass_over(&mut self, second: u64) {
        while (self.seconds.front()).is_some_and(|(first, _)| first + SECONDS <= second) {
            self.seconds.pop_front();
        }
    }

    pub(super) fn forget_seconds(&mut self, now: Instant) {
        self.pass_over(self.second(now));
        if self.seconds.is_empty() {
            self.seconds.shrink_to_fit();
        }
    }

    pub(super) fn lifetime(&self) -> Stat {
        self.lifetime
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// Of the last so many seconds that are over.
    pub(super) fn last(&self, seconds: u64, now: Instant) -> Stat {
        let this = self.second(now);
        self.sum(this.saturating_sub(seconds), this)
    }

    /// From the one instant to the other, to the second.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Stat {
        self.sum(self.second(from), self.second(to))
    }

    fn sum(&self, from: u64, to: u64) -> Stat {
        let mut sum = Stat::default();
        for (_, stat) in (self.seconds.iter()).filter(|(at, _)| (from..to).contains(at)) {
            sum.merge(*stat);
        }
        sum
    }

    fn second(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.born).as_secs()
    }
}
