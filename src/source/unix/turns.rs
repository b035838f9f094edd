//! Whose long record is read.
//!
//! What is held of a record that has not come whole is in no budget: memory is reserved for what is read, and a client
//! that is silent holds none. So that a thousand clients do not hold ten megabytes each, only one of them at a time is
//! read on beyond [`SHORT`]; the others wait for their turn with what they have sent so far, and lose nothing. Whoever
//! has its turn and keeps the others waiting for long is not read any more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So much of a record may be held without its turn: more than most records have.
pub(super) const SHORT: usize = 64 * 1024;
/// So long a client may be waited for in all, within one record, while another waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// And so long while several do. Not less: a busy machine, or a collection of garbage, keeps a client from writing for
/// seconds, and what it had sent of its record is cut off then. A guess.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// Who sends so fast is never waited for too long, however many others there are: what it was waited for is forgotten at
/// this pace. A guess, slower than programs make records.
const BYTES_PER_SECOND: f64 = (1 << 20) as f64;

/// The turns of a socket's clients.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// The first who asks is the first who gets it.
    turn: Arc<Semaphore>,
    line: Arc<Mutex<Line>>,
}

/// Those who wait, and since when there is anyone.
#[derive(Debug, Default)]
struct Line {
    waiting: usize,
    since: Option<Instant>,
}

/// While it lives, nobody else has one.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    line: Arc<Mutex<Line>>,
    /// Its client was waited for so long while others waited.
    spent: Duration,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            line: Arc::default(),
        }
    }

    /// Cancel safe: the place in the line is lost.
    pub(super) async fn next(&self) -> Turn {
        let _waiting = Waiting::one_more(&self.line);
        let permit = Arc::clone(&self.turn).acquire_owned().await;
        Turn {
            _permit: permit.expect("never closed"),
            line: Arc::clone(&self.line),
            spent: Duration::ZERO,
        }
    }
}

impl Turn {
    /// How often it is looked how many others wait.
    const LOOK: Duration = Duration::from_millis(100);

    /// Resolves when its client, waited for since `since`, has kept others waiting for too long. Cancel safe.
    pub(super) async fn is_over(&self, since: Instant) {
        loop {
            let kept_waiting = self.kept_waiting(since);
            let left = self.patience().saturating_sub(self.spent);
            if kept_waiting.is_some_and(|so_long| so_long >= left) {
                return;
            }
            let wait = kept_waiting.map_or(Self::LOOK, |so_long| left - so_long);
            tokio::time::sleep(wait.min(Self::LOOK)).await;
        }
    }

    /// Its client was waited for since `since`.
    pub(super) fn spend(&mut self, since: Instant) {
        self.spent += self.kept_waiting(since).unwrap_or_default();
    }

    /// So many bytes have come of it after that.
    pub(super) fn has_come(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        self.spent = self.spent.saturating_sub(earned);
    }

    fn patience(&self) -> Duration {
        let others = self.line.lock().expect("no panic while held").waiting;
        if others > 1 { LEAST_PATIENCE } else { PATIENCE }
    }

    /// For how long others wait now, of the time since `since`.
    fn kept_waiting(&self, since: Instant) -> Option<Duration> {
        let others = self.line.lock().expect("no panic while held").since?;
        Some(since.max(others).elapsed())
    }
}

struct Waiting<'a>(&'a Mutex<Line>);

impl<'a> Waiting<'a> {
    fn one_more(line: &'a Mutex<Line>) -> Self {
        let mut locked = line.lock().expect("no panic while held");
        locked.waiting += 1;
        locked.since.get_or_insert_with(Instant::now);
        Self(line)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut line = self.0.lock().expect("no panic while held");
        line.waiting -= 1;
        if line.waiting == 0 {
            line.since = None;
        }
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

    /// Polls it for so long, as a client's task does.
    async fn is_over_within(turn: &Turn, time: Duration) -> bool {
        let over = turn.is_over(Instant::now());
        tokio::time::timeout(time, over).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_when_others_have_waited_for_its_client_too_long_in_all() {
        let turns = Turns::new();
        let mut turn = turns.next().await;
        let alone = Instant::now();
        assert!(!is_over_within(&turn, 100 * PATIENCE).await, "nobody waits");
        turn.spend(alone);

        let others = turns.clone();
        let other = tokio::spawn(async move { others.next().await });
        tokio::task::yield_now().await;
        let contested = Instant::now();
        assert!(!is_over_within(&turn, PATIENCE * 2 / 3).await);
        turn.spend(contested);
        assert!(is_over_within(&turn, PATIENCE / 2).await);
        drop(turn);
        other.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_have_stopped_in_turn_hold_up_an_honest_one_for_five_seconds_each() {
        for (stopped, most) in [(1, 10), (10, 55), (100, 505)] {
            let turns = Turns::new();
            let began = Instant::now();
            for _ in 0..stopped {
                let turns = turns.clone();
                tokio::spawn(async move {
                    let turn = turns.next().await;
                    turn.is_over(Instant::now()).await;
                });
                tokio::task::yield_now().await;
            }
            let _honest = turns.next().await;
            let waited = began.elapsed();
            assert!(waited <= Duration::from_secs(most), "{stopped}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_mebibyte_a_second_keeps_its_turn_whoever_waits_and_who_drips_does_not() {
        for (block, keeps) in [(64 * 1024, true), (1024, false)] {
            let turns = Turns::new();
            let mut turn = turns.next().await;
            for _ in 0..50 {
                let turns = turns.clone();
                tokio::spawn(async move { turns.next().await });
            }
            tokio::task::yield_now().await;
            let mut kept = true;
            for _ in 0..160 {
                let since = Instant::now();
                kept &= !is_over_within(&turn, Duration::from_millis(60)).await;
                turn.spend(since);
                turn.has_come(block);
            }
            assert_eq!(kept, keeps, "{block}");
        }
    }
}
