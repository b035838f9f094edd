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
    /// When there are so many, those that no longer hold are left out.
    too_many: usize,
}

/// So many that no longer hold are kept in any case: less than a page.
const SOME: usize = 64;

impl<P: Copy + Ord> Deadlines<P> {
    pub(super) fn new() -> Self {
        Self {
            in_order: VecDeque::new(),
            others: BinaryHeap::new(),
            too_many: SOME,
        }
    }

    /// One more.
    pub(super) fn add(&mut self, deadline: Instant, of: P, holds: impl Fn(Instant, P) -> bool) {
        if self.len() >= self.too_many {
            self.in_order.retain(|&(deadline, of)| holds(deadline, of));
            self.others
                .retain(|&Reverse((deadline, of))| holds(deadline, of));
            // One that was closed and opened again for the same time holds twice: so it is by what is left.
            self.too_many = 2 * self.len() + SOME;
        }
        match self.in_order.back() {
            Some(&(last, _)) if deadline < last => self.others.push(Reverse((deadline, of))),
            _ => self.in_order.push_back((deadline, of)),
        }
    }

    fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
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
        if self.len() == 0 {
            self.too_many = SOME;
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
    use std::cell::Cell;
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
                if let Some(deadline) = open[place] {
                    deadlines.add(deadline, place, holds);
                }
                deadlines.skip(holds);
                let first = open.iter().flatten().min().copied();
                prop_assert_eq!(deadlines.first().map(|(deadline, _)| deadline), first);
                // Hardly any is noted twice for the same time.
                prop_assert!(deadlines.len() <= 3 * open.len() + SOME);
            }
        }
    }

    /// As of one chunk, where one container stays open and others are closed by size. Once each was a look at all others.
    #[test]
    fn what_is_opened_for_the_same_time_again_and_again_costs_no_search_each() {
        const TIMES: usize = 20_000;
        let due = Instant::now();
        let looks = Cell::new(0);
        let mut deadlines = Deadlines::new();
        for n in 0..TIMES {
            let holds = |deadline, _| {
                looks.set(looks.get() + 1);
                deadline == due
            };
            deadlines.add(due, usize::from(n > 0), holds);
            deadlines.skip(holds);
        }
        assert_eq!(deadlines.first(), Some((due, 0)));
        assert!(looks.get() < 4 * TIMES, "{} looks", looks.get());
        deadlines.skip(|_, _| false);
        assert_eq!((deadlines.len(), deadlines.too_many), (0, SOME));
    }
}
