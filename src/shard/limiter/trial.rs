//! Whether a cut of a shard's rate helps, or entries are refused whatever the rate is.
//!
//! A sequential probability ratio test (Wald, 1945): each answer after the cut adds to the evidence for the one or
//! the other, and it is over as soon as that is enough; mostly after a few seconds. A cut that seems in vain is made
//! a second time before it is given up: hosts that have only just come to share a shard may still be giving way.

/// Evidence that is enough: the natural logarithm of how much likelier the one is. Wrong once in twenty.
const ENOUGH: f64 = 3.0;
/// Where there is no more time, what it takes to give up.
const SOME: f64 = 2.0;
/// A cut helps if of what was refused beyond the usual, this part still is: less than half, but others need time.
const STILL_REFUSED: f64 = 0.25;

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
    /// Answers to what was sent before the cut tell nothing about it.
    settled: bool,
    second: bool,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Only what was sent before has been answered until now.
    Later(Trial),
    Helped,
    /// It seems in vain: cut again, and see.
    Again(Trial),
    InVain {
        /// The level before.
        before: f64,
        /// The part of entries that is refused all the same.
        usual: f64,
    },
}

impl Trial {
    /// Of a cut from level `before`, where `refused` of entries were throttled rather than the `usual` part.
    pub(super) fn new(before: f64, usual: f64, refused: f64) -> Self {
        Self {
            before,
            in_vain: refused,
            helped: usual + (refused - usual) * STILL_REFUSED,
            evidence: 0.0,
            settled: false,
            second: false,
        }
    }

    pub(super) fn weigh(&mut self, throttled: bool) {
        if self.settled {
            let likely = |refused: f64| if throttled { refused } else { 1.0 - refused };
            self.evidence += (likely(self.in_vain) / likely(self.helped)).ln();
        }
    }

    /// Whether more answers would tell anything.
    pub(super) fn is_decided(&self) -> bool {
        !self.settled || self.evidence.abs() >= ENOUGH
    }

    pub(super) fn verdict(self) -> Verdict {
        if !self.settled {
            let settled = true;
            return Verdict::Later(Self { settled, ..self });
        }
        if self.evidence < SOME {
            Verdict::Helped
        } else if self.second {
            Verdict::InVain {
                before: self.before,
                usual: self.in_vain,
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
