//! Whether a cut of a shard's rate helps, or entries are refused whatever the rate is.
//!
//! A sequential probability ratio test (Wald, 1945, <https://doi.org/10.1214/aoms/1177731118>): each answer after
//! the cut adds to the evidence for the one or the other, and it is over as soon as that is enough; mostly after a
//! few seconds. A cut that seems in vain is made deeper and tried again before it is given up: hosts that
//! have only just come to share a shard may still be giving way.

use std::time::Duration;

/// Evidence that a cut is in vain, the natural logarithm of how much likelier that is: wrong once in 150,
const IN_VAIN: f64 = 5.0;
/// and the second time for so long: hosts that share the shard may be giving way. With a second of it, and evidence that is wrong
/// once in twenty, of five hosts one went on at its full rate in every sixtieth run; so it is one in 570. With ten seconds
/// it was none of 1,200, and where a service refuses a fifth at random, work of half a minute took too long.
const OTHERS_GIVE_WAY: Duration = Duration::from_secs(4);
/// Evidence that it helps: wrong once in three thousand. A rate that came down for nothing takes a minute to come up,
/// and of the next cut even less is left; one that is held a few seconds longer than need be costs next to nothing.
const HELPED: f64 = 8.0;
/// Where there is no more time, what it takes to give up.
const SOME: f64 = 2.0;
/// A cut helps if of what was refused beyond the usual, this part still is,
const STILL_REFUSED: f64 = 0.15;
/// or as much as hosts that share a shard are refused all the time,
const SHARING: f64 = 0.03;
/// and of less than twice that, a half.
const STILL_REFUSED_OF_FEW: f64 = 0.5;

/// A cut that has to show whether it helps.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// The level before the first cut.
    before: f64,
    /// The part of entries refused if the cut is in vain, and if it helps.
    in_vain: f64,
    helped: f64,
    /// For "in vain", in nats.
    evidence: f64,
    /// Answers to what was sent at the level before and after the cut, and how many were refusals.
    entries: f64,
    refused: f64,
    /// Answers to what was sent before the cut tell nothing about it.
    settled: bool,
    second: bool,
    /// No second is needed.
    at_once: bool,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Only what was sent before has been answered until now.
    Later(Trial),
    Helped,
    /// It seems in vain: cut more, and see.
    Again(Trial),
    InVain {
        /// The level before.
        before: f64,
        /// The part of entries that is refused all the same.
        usual: f64,
    },
}

impl Trial {
    /// Of a cut from level `before`, where `refused` of so many `entries` were throttled: of all there are `likely`
    /// that part, rather than the `usual` one.
    pub(super) fn new(before: f64, usual: f64, likely: f64, entries: f64, refused: f64) -> Self {
        let more = likely - usual;
        let still = (more * STILL_REFUSED).max(SHARING);
        Self {
            before,
            in_vain: likely,
            helped: usual + still.min(more * STILL_REFUSED_OF_FEW),
            evidence: 0.0,
            entries,
            refused,
            settled: false,
            second: false,
            at_once: false,
        }
    }

    /// Of a cut that was in vain some time ago: to find it so again, once is enough.
    pub(super) fn at_once(self) -> Self {
        Self {
            at_once: true,
            ..self
        }
    }

    pub(super) fn weigh(&mut self, throttled: bool) {
        if self.settled {
            self.entries += 1.0;
            self.refused += if throttled { 1.0 } else { 0.0 };
            let likely = |refused: f64| if throttled { refused } else { 1.0 - refused };
            self.evidence += (likely(self.in_vain) / likely(self.helped)).ln();
        }
    }

    /// Whether more answers would tell anything, when they have come for so long.
    pub(super) fn is_decided_after(&self, length: Duration) -> bool {
        let is_long_enough = !self.second || length >= OTHERS_GIVE_WAY;
        !self.settled || self.evidence <= -HELPED || (self.evidence >= IN_VAIN && is_long_enough)
    }

    pub(super) fn verdict(self) -> Verdict {
        if !self.settled {
            let settled = true;
            return Verdict::Later(Self { settled, ..self });
        }
        if self.evidence < SOME {
            Verdict::Helped
        } else if self.second || self.at_once {
            Verdict::InVain {
                before: self.before,
                usual: self.refused / self.entries,
            }
        } else {
            Verdict::Again(Self {
                evidence: 0.0,
                settled: false,
                second: true,
                ..self
            })
        }
    }
}
