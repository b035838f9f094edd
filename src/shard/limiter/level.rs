//! What part of its rate a process gives a shard, learned from the shard's answers.
//!
//! Additive increase, multiplicative decrease, as TCP does it, so that many hosts share a shard without
//! knowing of each other:
//!
//! - **Down**: once more entries were throttled than chance explains, to just below what the shard has taken
//!   meanwhile. That is what there is; a fixed factor would take several rounds to find it.
//! - **Up**: while it is quiet, and the faster the longer it is.
//!
//! A cut is only right where it helps. Entries may also be refused whatever the rate is: because the service
//! is unwell, or because others do not give way. There, each cut would lead to the next one, and the rate to
//! nothing. So a cut is on trial: if as much is refused after it, it was in vain, the rate is what it was, and
//! that much being refused counts as the shard's way for a while.

use std::time::Duration;

use tokio::time::Instant;

/// The service's quotas are for each second: nothing is judged by less,
const LEAST: Duration = Duration::from_secs(1);
/// and by more than this only if it has to be.
const MOST: Duration = Duration::from_secs(10);
/// A rate is not found good by fewer answers, or by so few when some were refused,
const ANSWERS: f64 = 10.0;
const MANY_ANSWERS: f64 = 100.0;
/// or bad by fewer refusals,
const REFUSALS: f64 = 50.0;
/// even if it has to be judged;
const FEW_REFUSALS: f64 = 3.0;
/// and a cut is not judged by fewer than there should have been: their number is then right to a fifth.
const ON_TRIAL: f64 = 30.0;
/// The part of entries that may be throttled: at the full rate, some always are.
const TOLERATED: f64 = 0.01;
/// Standard deviations that are still chance.
const CHANCE: f64 = 2.5;
/// Of what the shard took, after a cut. The rest lets it recover, and what was refused come again.
const KEEP: f64 = 0.94;
/// A cut was in vain if what is refused after it is between these parts of what was before: unchanged, but for chance.
/// Less, and it helped, if only a little, since others have still to give way. More, and something else has changed.
const UNCHANGED: std::ops::Range<f64> = 0.7..1.4;
/// What is more than this being refused is no ailment of the service, but far too much being sent.
const MOST_USUAL: f64 = 0.3;
/// Until it is tried again whether a lower rate helps.
const USUAL_FOR: Duration = Duration::from_secs(60);
/// What fifty hosts on one shard have for each of them: an aggregate of 50 KiB each two and a half seconds. A guess.
const FLOOR: f64 = 0.02;
/// How much it grows in a second after a second of quiet, as a part of the level: however many share a shard,
/// together they grow by that much. After ten seconds of quiet it is ten times as much: slow where the limit was
/// last seen, and back to the full rate within a minute if it has gone.
const STEP: f64 = 0.002;
/// And as a part of the full rate, which is the same for all: those with less catch up.
const LEAST_STEP: f64 = 0.0002;
/// Seconds of quiet, beyond which it does not grow any faster.
const LONG_QUIET: f64 = 60.0;
/// Seconds for which it grows at once.
const LONG_STEP: f64 = 5.0;
/// How fast a new measure becomes the usual.
const SMOOTHING: f64 = 0.2;

/// A part of a rate, from nearly nothing to 1.
#[derive(Debug, Clone)]
pub struct Level {
    level: f64,
    /// The part of entries that is refused whatever the level; since when that is known.
    usual: f64,
    usual_since: Instant,
    /// Seconds of quiet, up to [`LONG_QUIET`].
    quiet: f64,
    trial: Option<Trial>,
    seen: Seen,
}

/// Answers since the last judgement.
#[derive(Debug, Clone)]
struct Seen {
    since: Instant,
    entries: f64,
    throttled: f64,
    /// What was stored, in seconds of the full rate.
    taken: f64,
}

/// A cut that has to show whether it helps.
#[derive(Debug, Clone)]
struct Trial {
    /// The part that was throttled before.
    throttled: f64,
    /// The level before.
    from: f64,
    /// Answers to what was sent before the cut tell nothing about it.
    settled: bool,
}

impl Seen {
    fn since(now: Instant) -> Self {
        Self {
            since: now,
            entries: 0.0,
            throttled: 0.0,
            taken: 0.0,
        }
    }
}

impl Level {
    /// Starts at 1.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            level: 1.0,
            usual: 0.0,
            usual_since: now,
            quiet: 0.0,
            trial: None,
            seen: Seen::since(now),
        }
    }

    pub(super) fn now(&self) -> f64 {
        self.level
    }

    /// Nothing is sent until then: what was seen before and what will be are two matters, and the time between is none
    /// in which little was taken.
    pub(super) fn rest(&mut self, until: Instant) {
        self.seen = Seen::since(until);
    }

    /// One entry was taken or throttled, which is `share` of what the full rate allows in a second.
    pub(super) fn answered(&mut self, share: f64, throttled: bool, now: Instant) {
        if self.tells_enough(now) {
            let seen = std::mem::replace(&mut self.seen, Seen::since(now));
            self.learn(&seen, now);
        }
        self.seen.entries += 1.0;
        if throttled {
            self.seen.throttled += 1.0;
        } else {
            self.seen.taken += share;
        }
    }

    fn tells_enough(&self, now: Instant) -> bool {
        let length = now.saturating_duration_since(self.seen.since);
        if length < LEAST {
            return false;
        }
        let entries = self.seen.entries;
        let Seen { throttled, .. } = self.seen;
        let enough = match &self.trial {
            Some(trial) if !trial.settled => true,
            Some(trial) => entries * trial.throttled >= ON_TRIAL,
            None if throttled == 0.0 => entries >= ANSWERS,
            None => throttled >= REFUSALS || entries >= MANY_ANSWERS && !self.is_more(&self.seen),
        };
        enough || length >= MOST
    }

    fn learn(&mut self, seen: &Seen, now: Instant) {
        let length = now.saturating_duration_since(seen.since).as_secs_f64();
        let throttled = seen.throttled / seen.entries.max(1.0);
        if seen.taken == 0.0 {
            // That is no rate to learn: who asks leaves the shard alone for a while, and then asks again.
            return;
        }
        if let Some(trial) = &mut self.trial
            && !trial.settled
        {
            trial.settled = true;
            return;
        }
        if self.usual > 0.0 && now.saturating_duration_since(self.usual_since) >= USUAL_FOR {
            self.usual = 0.0;
        }
        let trial = self.trial.take();
        if !self.is_more(seen) {
            self.usual += (throttled - self.usual) * SMOOTHING;
            if throttled <= self.usual + TOLERATED {
                self.rise(length);
            } else {
                self.quiet = 0.0;
            }
            return;
        }
        self.quiet = 0.0;
        let in_vain = |trial: &Trial| UNCHANGED.contains(&(throttled / trial.throttled));
        if let Some(trial) = trial.filter(in_vain)
            && throttled <= MOST_USUAL
        {
            self.level = trial.from;
            self.usual = throttled;
            self.usual_since = now;
            return;
        }
        let (from, taken) = (self.level, seen.taken / length);
        self.level = (taken * KEEP).clamp(FLOOR, from);
        // What is refused if the rate is the cause. While a shard still takes what it had saved up, it takes nearly
        // all: then there is no effect to be seen, and nothing to try.
        let expected = 1.0 - (1.0 - throttled) * from / self.level;
        self.trial = (expected < throttled / 2.0).then_some(Trial {
            throttled,
            from,
            settled: false,
        });
    }

    /// More was throttled than is usual and tolerated, and than chance would have it.
    fn is_more(&self, seen: &Seen) -> bool {
        let expected = (self.usual + TOLERATED).min(1.0);
        let deviation = (expected * (1.0 - expected) / seen.entries).sqrt();
        let throttled = seen.throttled / seen.entries.max(1.0);
        seen.throttled >= FEW_REFUSALS && throttled > expected + CHANCE * deviation
    }

    fn rise(&mut self, seconds: f64) {
        self.quiet = (self.quiet + seconds).min(LONG_QUIET);
        let step = (self.level * STEP).max(LEAST_STEP) * self.quiet;
        // After a long look, too, it goes up step by step.
        self.level = (self.level + step * seconds.min(LONG_STEP)).min(1.0);
    }
}
