//! Whose long record is read.
//!
//! What is held of a record that has not come whole is in no budget: memory is reserved for what is read, and a client
//! that is silent holds none. So that a thousand clients do not hold ten megabytes each, only one of them at a time is
//! read on beyond [`SHORT`]; the others wait for their turn with what they have sent so far, and lose nothing. Whoever
//! has its turn and keeps the others waiting for long is not read any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So much of a record may be held without its turn: more than most records have.
pub(super) const SHORT: usize = 64 * 1024;
/// So long a client may be waited for in all, within one record, while others wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The turns of a socket's clients.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// The first who asks is the first who gets it.
    turn: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// While it lives, nobody else has one.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    waiting: Arc<AtomicUsize>,
    /// Its client was waited for so long.
    spent: Duration,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    /// Cancel safe: the place in the line is lost.
    pub(super) async fn next(&self) -> Turn {
        let _waiting = Waiting::one_more(&self.waiting);
        let permit = Arc::clone(&self.turn).acquire_owned().await;
        Turn {
            _permit: permit.expect("never closed"),
            waiting: Arc::clone(&self.waiting),
            spent: Duration::ZERO,
        }
    }
}

impl Turn {
    /// Resolves when its client, waited for since `since`, has kept others waiting for too long. Cancel safe.
    pub(super) async fn is_over(&self, since: Instant) {
        tokio::time::sleep_until(since + PATIENCE.saturating_sub(self.spent)).await;
        while self.waiting.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// It came after so long.
    pub(super) fn spend(&mut self, waited: Duration) {
        self.spent += waited;
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_has_its_turn_and_the_next_when_it_is_over() {
        let turns = Turns::new();
        let first = turns.next().await;
        let mut second = Box::pin(turns.next());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        second.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_when_others_wait_and_the_client_was_waited_for_too_long_in_all() {
        let turns = Turns::new();
        let mut turn = turns.next().await;
        let began = Instant::now();
        let alone = tokio::time::timeout(100 * PATIENCE, turn.is_over(began));
        alone.await.expect_err("nobody waits");

        let turns_too = turns.clone();
        let other = tokio::spawn(async move { turns_too.next().await });
        tokio::task::yield_now().await;
        turn.spend(PATIENCE / 2);
        let (spent, began) = (PATIENCE / 2, Instant::now());
        turn.is_over(began).await;
        assert!(began.elapsed() + spent <= PATIENCE + Duration::from_secs(1));
        drop(turn);
        other.await.unwrap();
    }
}
