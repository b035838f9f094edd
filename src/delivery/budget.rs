//! The byte budget of everything between read and settled (`memory_limit`).
//!
//! Streams divide it so that one whose records do not leave takes no other's room. Half of it is guaranteed, in equal
//! parts; the other half is common, and a stream may hold at most three quarters of that: one stopped stream leaves every
//! other its own part and a quarter of the common half. What is more than a stream may ever hold waits until the stream
//! holds nothing and passes alone, so that there is always a way on.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// One stream's account with the budget.
#[derive(Clone)]
pub struct MemoryBudget {
    pool: Arc<Pool>,
    stream: usize,
}

struct Pool {
    total: usize,
    /// What each stream can count on.
    guaranteed: usize,
    /// What any stream may hold beyond that, and all of them together.
    common_each: usize,
    common: usize,
    accounts: Mutex<Accounts>,
    /// For the first in the line of each stream: something was given back.
    freed: Vec<Notify>,
    /// The line of each stream: first come, first served.
    lines: Vec<tokio::sync::Mutex<()>>,
}

struct Accounts {
    used: Vec<usize>,
    /// In line, the first included.
    waiting: Vec<usize>,
    /// Of all streams, beyond what they can count on.
    common_used: usize,
}

impl MemoryBudget {
    /// All of it for one stream.
    pub fn new(bytes: usize) -> Self {
        Self::divided(bytes, 1).remove(0)
    }

    /// Shares of one budget, one for each of `streams` streams.
    pub fn divided(bytes: usize, streams: usize) -> Vec<Self> {
        let (guaranteed, common) = match streams {
            0 | 1 => (bytes, 0),
            _ => (bytes / 2 / streams, bytes - bytes / 2),
        };
        let pool = Arc::new(Pool {
            total: bytes,
            guaranteed,
            common_each: common / 4 * 3,
            common,
            accounts: Mutex::new(Accounts {
                used: vec![0; streams],
                waiting: vec![0; streams],
                common_used: 0,
            }),
            freed: (0..streams).map(|_| Notify::new()).collect(),
            lines: (0..streams)
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
        });
        let share = |stream| Self {
            pool: Arc::clone(&pool),
            stream,
        };
        (0..streams).map(share).collect()
    }

    /// Waits until `bytes` are free. More than the stream may ever hold waits for all of it, so that one large record
    /// can still pass, alone. Fair within the stream: first come, first served. Cancel safe.
    pub async fn reserve(&self, bytes: usize) -> MemoryPermit {
        if let Some(permit) = self.try_reserve(bytes) {
            return permit;
        }
        let _waiting = Waiting::join(self);
        let _first = self.pool.lines[self.stream].lock().await;
        loop {
            if let Some(permit) = self.take(bytes) {
                return permit;
            }
            // What is freed between the look and the wait is remembered.
            self.pool.freed[self.stream].notified().await;
        }
    }

    /// What is free now, or nothing. Overtakes nobody.
    pub fn try_reserve(&self, bytes: usize) -> Option<MemoryPermit> {
        if self.pool.accounts().waiting[self.stream] > 0 {
            return None;
        }
        self.take(bytes)
    }

    /// Bytes now held by this stream's permits.
    pub fn in_use(&self) -> usize {
        self.pool.accounts().used[self.stream]
    }

    /// The most that this stream's permits can hold.
    pub fn limit(&self) -> usize {
        self.pool.most()
    }

    fn take(&self, bytes: usize) -> Option<MemoryPermit> {
        let bytes = bytes.clamp(1, self.pool.most().max(1));
        let mut accounts = self.pool.accounts();
        let used = accounts.used[self.stream];
        let others = accounts.common_used - self.pool.beyond(used);
        let beyond = self.pool.beyond(used + bytes);
        let fits = beyond <= self.pool.common_each && others + beyond <= self.pool.common;
        // Where others hold what is common, what a stream can count on must do for one.
        let bytes = if fits {
            bytes
        } else if used == 0 {
            bytes.min(self.pool.guaranteed.max(1))
        } else {
            return None;
        };
        self.pool.set(&mut accounts, self.stream, used + bytes);
        Some(MemoryPermit {
            budget: self.clone(),
            bytes,
        })
    }
}

impl Pool {
    fn most(&self) -> usize {
        self.guaranteed + self.common_each
    }

    fn beyond(&self, used: usize) -> usize {
        used.saturating_sub(self.guaranteed)
    }

    fn set(&self, accounts: &mut Accounts, stream: usize, used: usize) {
        let was = std::mem::replace(&mut accounts.used[stream], used);
        accounts.common_used = accounts.common_used - self.beyond(was) + self.beyond(used);
    }

    fn give_back(&self, stream: usize, bytes: usize) {
        let mut accounts = self.accounts();
        let was = accounts.used[stream];
        self.set(&mut accounts, stream, was - bytes);
        drop(accounts);
        if self.beyond(was) > 0 {
            for freed in &self.freed {
                freed.notify_one();
            }
        } else {
            self.freed[stream].notify_one();
        }
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().expect("no panic while held")
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("total", &self.pool.total)
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

/// A place in a stream's line, left on drop.
struct Waiting<'a>(&'a MemoryBudget);

impl<'a> Waiting<'a> {
    fn join(budget: &'a MemoryBudget) -> Self {
        budget.pool.accounts().waiting[budget.stream] += 1;
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pool.accounts().waiting[self.0.stream] -= 1;
    }
}

/// A share of the [`MemoryBudget`], given back on drop.
#[derive(Debug)]
pub struct MemoryPermit {
    budget: MemoryBudget,
    bytes: usize,
}

impl MemoryPermit {
    /// Gives back all but `bytes`. A permit never grows: that could deadlock.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes.max(1));
        self.bytes -= surplus;
        if surplus > 0 {
            self.budget.pool.give_back(self.budget.stream, surplus);
        }
    }

    /// A permit of its own for `bytes` of these, or for all there are.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: self.budget.clone(),
            bytes,
        }
    }

    /// Takes in another of the same stream: what both hold is held already, and nothing is waited for.
    pub fn absorb(&mut self, mut other: Self) {
        let same = Arc::ptr_eq(&self.budget.pool, &other.budget.pool);
        assert!(
            same && self.budget.stream == other.budget.stream,
            "permits of one stream"
        );
        self.bytes += std::mem::take(&mut other.bytes);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        // Nothing is left of one that was absorbed.
        if self.bytes > 0 {
            self.budget.pool.give_back(self.budget.stream, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    /// Takes `each` until there is no more.
    fn fill(budget: &MemoryBudget, each: usize) -> Vec<MemoryPermit> {
        std::iter::from_fn(|| budget.try_reserve(each)).collect()
    }

    #[tokio::test]
    async fn permit_shrinks_and_never_takes_more_than_the_budget() {
        let budget = MemoryBudget::new(1000);
        let mut all = budget.reserve(usize::MAX).await;
        assert_eq!(all.bytes(), 1000);
        assert!(budget.try_reserve(1).is_none());
        all.shrink_to(100);
        assert_eq!(budget.in_use(), 100);
        all.shrink_to(500);
        assert_eq!(all.bytes(), 100, "a permit never grows");
        drop(all);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn permits_become_one_that_gives_back_what_both_held() {
        let budget = MemoryBudget::new(1000);
        let mut one = budget.try_reserve(100).unwrap();
        one.absorb(budget.try_reserve(20).unwrap());
        assert_eq!((one.bytes(), budget.in_use()), (120, 120));
        one.shrink_to(110);
        assert_eq!(budget.in_use(), 110);
        drop(one);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn who_came_first_is_served_first_and_nobody_overtakes() {
        let budget = MemoryBudget::new(100);
        let held = budget.reserve(60).await;
        let mut large = Box::pin(budget.reserve(80));
        assert!((&mut large).now_or_never().is_none());
        let mut small = Box::pin(budget.reserve(10));
        assert!((&mut small).now_or_never().is_none());
        assert!(budget.try_reserve(10).is_none());
        drop(held);
        assert!((&mut small).now_or_never().is_none());
        let large = large.now_or_never().expect("its turn");
        assert_eq!(large.bytes(), 80);
        assert!(small.now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_holds_up_nobody() {
        let budget = MemoryBudget::new(100);
        let held = budget.reserve(60).await;
        let mut large = Box::pin(budget.reserve(80));
        assert!((&mut large).now_or_never().is_none());
        let mut small = Box::pin(budget.reserve(40));
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some());
        drop(held);
        assert!(budget.try_reserve(100).is_some());
    }

    #[tokio::test]
    async fn a_blocked_stream_leaves_the_others_their_room() {
        let [blocked, other] = &MemoryBudget::divided(1600, 2)[..] else {
            panic!("two shares");
        };
        let held = fill(blocked, 10);
        assert_eq!(blocked.in_use(), blocked.limit());
        assert_eq!(blocked.in_use(), 400 + 600);
        let mut waits = Box::pin(blocked.reserve(10));
        assert!((&mut waits).now_or_never().is_none());
        // Again and again, as records come and go.
        for _ in 0..3 {
            let taken = fill(other, 10);
            assert_eq!(other.in_use(), 400 + 200);
            assert!((&mut waits).now_or_never().is_none());
            drop(taken);
        }
        drop(held);
        assert!(waits.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_record_over_a_streams_part_passes_alone_while_all_others_are_blocked() {
        let shares = MemoryBudget::divided(1600, 4);
        let _blocked: Vec<_> = shares[1..].iter().map(|share| fill(share, 10)).collect();
        let first = shares[0].reserve(10).await;
        let mut large = Box::pin(shares[0].reserve(900));
        assert!((&mut large).now_or_never().is_none());
        drop(first);
        assert!(large.now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_one_stream_gives_back_wakes_another_that_waits_for_it() {
        let shares = MemoryBudget::divided(1600, 2);
        let held = fill(&shares[0], 10);
        let _own = fill(&shares[1], 10);
        let waiting = shares[1].clone();
        let waits = tokio::spawn(async move { waiting.reserve(300).await.bytes() });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(held);
        assert_eq!(waits.await.unwrap(), 300);
    }

    proptest! {
        /// Each step: of which stream, and how much to take; or 0, to give back what was taken first.
        #[test]
        fn together_they_never_hold_more_than_the_budget_and_each_can_have_its_part(
            streams in 1usize..6,
            steps in prop::collection::vec((0usize..6, 0usize..400), 1..200),
        ) {
            let shares = MemoryBudget::divided(3000, streams);
            let mut held: Vec<Vec<MemoryPermit>> = (0..streams).map(|_| Vec::new()).collect();
            for (stream, bytes) in steps {
                let stream = stream % streams;
                if bytes == 0 {
                    let first = 1.min(held[stream].len());
                    held[stream].drain(..first);
                } else {
                    held[stream].extend(shares[stream].try_reserve(bytes));
                }
                let in_use: usize = shares.iter().map(MemoryBudget::in_use).sum();
                prop_assert!(in_use <= 3000);
                for share in &shares {
                    let free = share.pool.guaranteed.saturating_sub(share.in_use());
                    if free > 0 {
                        prop_assert!(share.try_reserve(free).is_some());
                    }
                }
            }
        }
    }
}
