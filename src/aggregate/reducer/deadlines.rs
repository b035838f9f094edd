//! When what is open is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tokio::time::Instant;

/// The deadlines of what is open, of places `P`.
///
/// What is read later is due later, mostly: such a deadline is put behind the others, which takes no search. And one that no
/// longer holds is not sought either, but left out when its turn comes: who asks says whether one holds.
#[derive(Debug)]
pub(super) struct Deadlines<P> {
    in_order: VecDeque<(Instant, P)>,
    /// Those that came after later ones.
    others: BinaryHeap<Reverse<(Instant, P)>>,
}

/// So many that no longer hold are kept in any case: less than a page.
const SOME: usize = 64;

impl<P: Copy + Ord> Deadlines<P> {
    pub(super) fn new() -> Self {
        Self {
            in_order: VecDeque::new(),
            others: BinaryHeap::new(),
        }
    }

    /// One more; `hold` of them do.
    pub(super) fn add(
        &mut self,
        deadline: Instant,
        of: P,
        hold: usize,
        holds: impl Fn(Instant, P) -> bool,
    ) {
        if self.in_order.len() + self.others.len() > 2 * hold + SOME {
            self.in_order.retain(|&(deadline, of)| holds(deadline, of));
            self.others
                .retain(|&Reverse((deadline, of))| holds(deadline, of));
        }
        match self.in_order.back() {
            Some(&(last, _)) if deadline < last => self.others.push(Reverse((deadline, of))),
            _ => self.in_order.push_back((deadline, of)),
        }
    }

    /// Leaves out those in front that do not hold.
    pub(super) fn skip(&mut self, holds: impl Fn(Instant, P) -> bool) {
        while let Some(&(deadline, of)) = self.in_order.front()
            && !holds(deadline, of)
        {
            self.in_order.pop_front();
        }
        while let Some(&Reverse((deadline, of))) = self.others.peek()
            && !holds(deadline, of)
        {
            self.others.pop();
        }
    }

    /// The first; it holds, where others were [left out](Self::skip) since one ceased to.
    pub(super) fn first(&self) -> Option<(Instant, P)> {
        let other = self.others.peek().map(|Reverse(other)| other);
        self.in_order
            .front()
            .into_iter()
            .chain(other)
            .min()
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each place has one deadline or none, as with open containers.
        #[test]
        fn first_is_the_first_of_those_that_hold_and_the_others_do_not_pile_up(
            steps in proptest::collection::vec((0..50_usize, proptest::option::weighted(0.7, 0..2000_u64)), 1..2000),
        ) {
            let start = Instant::now();
            let mut open = [None; 50];
            let mut deadlines = Deadlines::new();
            for (n, (place, change)) in steps.into_iter().enumerate() {
                // Later and later, but not each later than the one before.
                open[place] = change.map(|ms| start + Duration::from_millis(20 * n as u64 + ms));
                let holds = |deadline, place: usize| open[place] == Some(deadline);
                let hold = open.iter().flatten().count();
                if let Some(deadline) = open[place] {
                    deadlines.add(deadline, place, hold, holds);
                }
                deadlines.skip(holds);
                let first = open.iter().flatten().min().copied();
                prop_assert_eq!(deadlines.first().map(|(deadline, _)| deadline), first);
                let kept = deadlines.in_order.len() + deadlines.others.len();
                prop_assert!(kept <= 2 * open.len() + SOME + 1);
            }
        }
    }
}
