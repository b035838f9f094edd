//! Who waits for memory, and whom it suffices for.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Accounts, MemoryBudget, Pool};

/// At most one of each stream, first come, first served.
#[derive(Debug, Default)]
pub(super) struct Line(VecDeque<(usize, usize)>);

impl Line {
    /// Whom what is free is enough for, each behind those before it.
    pub(super) fn served(&self, pool: &Pool, accounts: &Accounts) -> SmallVec<[usize; 4]> {
        let mut common_used = accounts.common_used;
        let is_served = |(stream, bytes): &&(usize, usize)| {
            let granted = pool.grant(accounts, *stream, *bytes, common_used);
            if let Some(bytes) = granted {
                let used = accounts.used[*stream];
                common_used += pool.beyond(used + bytes) - pool.beyond(used);
            }
            granted.is_some()
        };
        let served = self.0.iter().filter(is_served);
        served.map(|(stream, _)| *stream).collect()
    }
}

/// A place in it, left on drop.
pub(super) struct Wish<'a>(&'a MemoryBudget);

impl<'a> Wish<'a> {
    pub(super) fn enter(budget: &'a MemoryBudget, bytes: usize) -> Self {
        let mut accounts = budget.pool.accounts();
        accounts.line.0.push_back((budget.stream, bytes));
        Self(budget)
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let (pool, stream) = (&self.0.pool, self.0.stream);
        let mut accounts = pool.accounts();
        accounts.line.0.retain(|(other, _)| *other != stream);
        // It may have been served, and gone without.
        pool.wake(accounts);
    }
}
