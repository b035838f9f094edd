//! What part of its rate a process gives a shard, learned from the shard's answers.
//!
//! Additive increase, multiplicative decrease, as TCP does it, so that many hosts share a shard without
//! knowing of each other:
//!
//! - **Each refusal** takes a little off. As much is refused in the end as makes up for what it grows by: with
//!   entries of 50 KiB and a few hosts, two or three in a hundred.
//! - **Up** with time, and the faster the longer nothing was refused: as the cube of that time, like CUBIC
//!   (<https://www.rfc-editor.org/rfc/rfc9438>).
//! - **Down** at once, when more was refused than chance explains, to just below what the shard has taken
//!   meanwhile. That is what there is; single steps would take long to find it.
//!
//! All that is only right where it helps. Entries may also be refused whatever the rate is: because the service
//! is unwell, or because others do not give way. There, each cut would lead to the next one, and the rate to
//! nothing. So a cut is on [`Trial`], and between two judgements single refusals do not bring it far.

use std::time::Duration;

use tokio::time::Instant;

use super::trial::{Trial, Verdict};

/// The service's quotas are for each second: nothing is judged by less,
const LEAST: Duration = Duration::from_secs(1);
/// and by more than this only if it has to be,
const MOST: Duration = Duration::from_secs(10);
/// or if it is on trial.
const LONGEST_TRIAL: Duration = Duration::from_secs(30);
/// A rate is not found good by fewer answers, or by so few when some were refused,
const ANSWERS: f64 = 10.0;
const MANY_ANSWERS: f64 = 100.0;
/// or bad by fewer refusals,
const REFUSALS: f64 = 50.0;
/// even if it has to be judged.
const FEW_REFUSALS: f64 = 3.0;
/// The part of entries that may be throttled: at the full rate, some always are.
const TOLERATED: f64 = 0.01;
/// And without a cut: as many are where hosts share a shard and each refusal takes a little off, which is enough.
const TOLERATED_UNCUT: f64 = 0.02;
/// Standard deviations that are still chance.
const CHANCE: f64 = 3.0;
/// Of what the shard took, after a cut. The rest lets it recover, and what was refused come again.
const KEEP: f64 = 0.94;
/// Of the level, at least, when a cut that seems in vain is tried again.
const KEEP_AGAIN: f64 = 0.7;
/// What is more than this being refused is no ailment of the service, but far too much being sent.
const MOST_USUAL: f64 = 0.4;
/// For how long what was learned at the start counts,
const USUAL_FOR: Duration = Duration::from_secs(120);
/// and what a trial found: then it is tried again whether a lower rate helps. Hosts that share the shard may have been giving
/// way just when it was tried, and starve while one takes them for an ailment of the service. Where it is one, trying
/// costs one to four hundredths of the rate more than each two minutes; each ten seconds, work of half a minute would take
/// too long.
const IN_VAIN_FOR: Duration = Duration::from_secs(15);
/// Near enough to the full rate that what is refused there is no one's but the service's.
const NEARLY_FULL: f64 = 0.9;
/// How fast a new measure becomes the usual.
const SMOOTHING: f64 = 0.2;
/// What fifty hosts on one shard have for each of them: an aggregate of 50 KiB each two and a half seconds. A guess.
const FLOOR: f64 = 0.02;

/// What a refusal takes off, for each second of the full rate that was refused: 7 % for 50 KiB.
const STEP_DOWN: f64 = 1.5;
/// It is divided by 1 and the usual part of refusals over this: the more of them are chance, the less one tells.
const NOISE: f64 = 0.01;
/// Of the level that was found good, how far single refusals bring it down. Any further is for a cut, on trial.
const SINGLE_REFUSALS_KEEP: f64 = 0.9;
/// What it grows by in a second at level 1. Below, it is times the level to the power of 1.5: in a second, those with
/// less grow by a larger part of theirs, and catch up; for each entry, by a smaller one than if all grew alike, so
/// that fifty hosts together do not climb fifty times as fast.
const STEP_UP: f64 = 0.025;
/// And for each second of quiet, squared: back at the full rate within a minute if the limit has gone.
const STEP_UP_QUIET: f64 = 0.000_05;
/// Seconds of quiet, beyond which it does not grow any faster.
const LONG_QUIET: f64 = 60.0;
/// And at least: from the floor, too, it gets away.
const LEAST_STEP_UP: f64 = 0.0002;
/// Seconds for which it grows at once.
const LONG_STEP: f64 = 5.0;

/// A part of a rate, from nearly nothing to 1.
#[derive(Debug, Clone)]
pub struct Level {
    level: f64,
    /// Where it was last found good, or brought to.
    judged: f64,
    /// The part of entries that is refused whatever the level.
    usual: f64,
    /// Until when that counts.
    usual_until: Instant,
    /// It was found by a trial.
    in_vain: bool,
    /// Seconds of quiet, up to [`LONG_QUIET`].
    quiet: f64,
    answered: Instant,
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

impl Seen {
    fn since(now: Instant) -> Self {
        Self {
            since: now,
            entries: 0.0,
            throttled: 0.0,
            taken: 0.0,
        }
    }

    fn count(&mut self, share: f64, throttled: bool) {
        self.entries += 1.0;
        if throttled {
            self.throttled += 1.0;
        } else {
            self.taken += share;
        }
    }

    fn throttled_part(&self) -> f64 {
        self.throttled / self.entries.max(1.0)
    }

    /// Standard deviation of as many entries, if `part` of them is throttled.
    fn deviation(&self, part: f64) -> f64 {
        (part * (1.0 - part) / self.entries.max(1.0)).sqrt()
    }
}

impl Level {
    /// Starts at 1.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            level: 1.0,
            judged: 1.0,
            usual: 0.0,
            usual_until: now + USUAL_FOR,
            in_vain: false,
            quiet: 0.0,
            answered: now,
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
            self.judge(&seen, now);
        }
        let elapsed = now.saturating_duration_since(self.answered);
        self.answered = self.answered.max(now);
        self.seen.count(share, throttled);
        if let Some(trial) = &mut self.trial {
            trial.weigh(throttled);
            return;
        }
        // After a long silence, too, it goes up step by step.
        self.grow(elapsed.as_secs_f64().min(LONG_STEP), throttled);
        self.step_down(share, throttled);
    }

    fn grow(&mut self, seconds: f64, throttled: bool) {
        self.quiet = if throttled { 0.0 } else { self.quiet };
        self.quiet = (self.quiet + seconds).min(LONG_QUIET);
        let step = self.level.powf(1.5) * STEP_UP + self.level * STEP_UP_QUIET * self.quiet.powi(2);
        self.level = (self.level + step.max(LEAST_STEP_UP) * seconds).min(1.0);
    }

    /// By as much as this answer is worse than usual; up again if it is better.
    fn step_down(&mut self, share: f64, throttled: bool) {
        let worse = if throttled { 1.0 } else { 0.0 } - self.usual;
        let step = STEP_DOWN / (1.0 + self.usual / NOISE) * share * worse;
        let least = (self.judged * SINGLE_REFUSALS_KEEP).clamp(FLOOR, self.level);
        self.level = (self.level * (1.0 - step)).clamp(least, 1.0);
    }

    fn tells_enough(&self, now: Instant) -> bool {
        let length = now.saturating_duration_since(self.seen.since);
        if length < LEAST {
            return false;
        }
        let Seen {
            entries, throttled, ..
        } = self.seen;
        match &self.trial {
            Some(trial) => trial.is_decided_after(length) || length >= LONGEST_TRIAL,
            None if length >= MOST => true,
            None if throttled == 0.0 => entries >= ANSWERS,
            None => throttled >= REFUSALS || entries >= MANY_ANSWERS && !self.is_more(&self.seen),
        }
    }

    /// More was throttled than is usual and tolerated, and than chance would have it.
    fn is_more(&self, seen: &Seen) -> bool {
        let expected = (self.usual + TOLERATED_UNCUT).min(1.0);
        let most = expected + CHANCE * seen.deviation(expected);
        seen.throttled >= FEW_REFUSALS && seen.throttled_part() > most
    }

    fn judge(&mut self, seen: &Seen, now: Instant) {
        if seen.taken == 0.0 {
            // That is no rate to learn: who asks leaves the shard alone for a while, and then asks again.
            return;
        }
        let taken = seen.taken / now.saturating_duration_since(seen.since).as_secs_f64();
        if let Some(trial) = self.trial.take() {
            match trial.verdict() {
                Verdict::Later(trial) => self.trial = Some(trial),
                Verdict::InVain { before, usual } => {
                    self.bring_to(before);
                    self.usual = usual;
                    self.usual_until = now + IN_VAIN_FOR;
                    self.in_vain = true;
                }
                Verdict::Again(trial) => {
                    let least = (self.level * KEEP_AGAIN).max(FLOOR);
                    self.bring_to((taken * KEEP).clamp(least, self.level));
                    self.trial = Some(trial);
                }
                Verdict::Helped => self.bring_to(self.level),
            }
            return;
        }
        let is_over = now >= self.usual_until;
        if is_over {
            self.usual = 0.0;
        }
        let was_in_vain = is_over && std::mem::take(&mut self.in_vain);
        if self.is_more(seen) {
            self.cut(seen, taken, was_in_vain);
            return;
        }
        let throttled = seen.throttled_part();
        if self.level >= NEARLY_FULL || throttled < self.usual {
            self.usual += (throttled - self.usual) * SMOOTHING;
        }
        if throttled <= self.usual + TOLERATED || self.level > self.judged {
            self.bring_to(self.level);
        }
    }

    fn cut(&mut self, seen: &Seen, taken: f64, was_in_vain: bool) {
        self.quiet = 0.0;
        let (before, throttled) = (self.judged, seen.throttled_part());
        self.bring_to((taken * KEEP).clamp(FLOOR, self.level));
        // What is refused if the rate is the cause. While a shard still takes what it had saved up, it takes nearly
        // all: then there is no effect to be seen, and nothing to try.
        let expected = 1.0 - (1.0 - throttled) * before / self.level;
        // It was looked at because it was much, which is more than it is on average.
        let likely = throttled - seen.deviation(throttled);
        if expected < throttled / 2.0 && likely < MOST_USUAL {
            let (entries, refused) = (seen.entries, seen.throttled);
            let trial = Trial::new(before, self.usual, likely, entries, refused);
            self.trial = Some(if was_in_vain { trial.at_once() } else { trial });
        }
    }

    fn bring_to(&mut self, level: f64) {
        self.level = level;
        self.judged = level;
    }
}
