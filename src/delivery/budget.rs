//! The byte budget of everything between read and settled (`memory_limit`).
//!
//! Streams divide it so that one whose records do not leave takes no other's room. Half of it is guaranteed, in equal
//! parts; the other half is common, and a stream may hold at most three quarters of that: one stopped stream leaves every
//! other its own part and a quarter of the common half. What is more than a stream may ever hold waits until the stream
//! holds nothing and passes alone, so that there is always a way on. What is held [whatever records there
//! are](MemoryBudget::reserve_standing) stands in nobody's way then.

mod line;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use self::line::{Line, Wish};
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
    /// For the first in the line of each stream: there is room for it.
    freed: Vec<Notify>,
    /// The line of each stream: first come, first served.
    lines: Vec<tokio::sync::Mutex<()>>,
}

struct Accounts {
    used: Vec<usize>,
    /// Of that, what is not of records.
    standing: Vec<usize>,
    /// In line, the first included.
    waiting: Vec<usize>,
    /// Of all streams, beyond what they can count on.
    common_used: usize,
    /// The first in the line of each stream.
    line: Line,
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
                standing: vec![0; streams],
                waiting: vec![0; streams],
                common_used: 0,
                line: Line::default(),
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
        // Before the look: what is freed behind it is told.
        let _wish = Wish::enter(self, bytes);
        loop {
            if let Some(permit) = self.take(bytes) {
                return permit;
            }
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

    /// Waits for room for what is there whatever records there are; `None` for nothing. All such permits of a stream hold a
    /// quarter of what it may hold, at most, and half of what it can count on: it can count on the rest for its records. Cancel
    /// safe.
    pub async fn reserve_standing(&self, bytes: usize) -> Option<StandingPermit> {
        let room = |accounts: &Accounts| {
            let stands = accounts.standing[self.stream];
            let most = (self.limit() / 4).min(self.pool.guaranteed / 2);
            most.saturating_sub(stands)
        };
        let bytes = bytes.min(room(&self.pool.accounts()));
        if bytes == 0 {
            return None;
        }
        let mut all = self.reserve(bytes).await;
        let mut accounts = self.pool.accounts();
        // Another one may have come first meanwhile.
        let permit = all.split(room(&accounts));
        accounts.standing[self.stream] += permit.bytes;
        // What passes alone may pass now.
        self.pool.wake(accounts);
        Some(StandingPermit(permit))
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
        let mut accounts = self.pool.accounts();
        let used = accounts.used[self.stream];
        let common_used = accounts.common_used;
        let bytes = (self.pool).grant(&accounts, self.stream, bytes, common_used)?;
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

    /// How much of `bytes` a stream gets, where all together hold `common_used` beyond what they can count on.
    fn grant(
        &self,
        accounts: &Accounts,
        stream: usize,
        bytes: usize,
        common_used: usize,
    ) -> Option<usize> {
        let used = accounts.used[stream];
        let bytes = bytes.clamp(1, self.most().max(1));
        let others = common_used - self.beyond(used);
        let beyond = self.beyond(used + bytes);
        let fits = beyond <= self.common_each && others + beyond <= self.common;
        let is_alone = used == accounts.standing[stream];
        match (fits, is_alone) {
            (true, _) => Some(bytes),
            // Where others hold what is common, what a stream can count on must do for one.
            (false, true) => Some(bytes.min(self.guaranteed.max(1))),
            (false, false) => None,
        }
    }

    fn set(&self, accounts: &mut Accounts, stream: usize, used: usize) {
        let was = std::mem::replace(&mut accounts.used[stream], used);
        accounts.common_used = accounts.common_used - self.beyond(was) + self.beyond(used);
    }

    fn give_back(&self, stream: usize, bytes: usize) {
        let mut accounts = self.accounts();
        let was = accounts.used[stream];
        self.set(&mut accounts, stream, was - bytes);
        self.wake(accounts);
    }

    /// Those for whom there is room, and no others: of hundreds of streams that wait, each would only look and wait again.
    fn wake(&self, accounts: MutexGuard<'_, Accounts>) {
        let served = accounts.line.served(self, &accounts);
        drop(accounts);
        for stream in served {
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

    /// Takes up to `bytes` off this one.
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

/// What is held of the [`MemoryBudget`] whatever records there are, given back on drop.
#[derive(Debug)]
pub struct StandingPermit(MemoryPermit);

impl Drop for StandingPermit {
    fn drop(&mut self) {
        let MemoryPermit { budget, bytes } = &self.0;
        budget.pool.accounts().standing[budget.stream] -= bytes;
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        // Nothing is left of one that was absorbed, or split.
        if self.bytes > 0 {
            self.budget.pool.give_back(self.budget.stream, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests;
