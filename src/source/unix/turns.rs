//! Who is read on within a long record.
//!
//! What is held of a record that has not come whole is in no budget: memory is reserved for what is read, and a client
//! that is silent holds none. So that a thousand clients do not hold ten megabytes each, what all hold beyond [`SHORT`]
//! comes from a [`ROOM`] that they share. Where it is full, one of them at a time is read on, so that one can always
//! end; the others wait with what they have sent so far, and lose nothing. Whoever is waited for while others want its
//! room is not read any more.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So much of a record may be held without a share: more than most records have.
pub(super) const SHORT: usize = 64 * 1024;
/// So much is held beyond, of all clients of a socket together, before one keeps another waiting: eight of the largest
/// records that a stream takes by default, or some sixty of twice [`SHORT`].
const ROOM: usize = 8 << 20;
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
    /// In bytes.
    room: Arc<Semaphore>,
    /// To be read on though there is no room. The first who asks is the first who gets it.
    turn: Arc<Semaphore>,
    line: Arc<Mutex<Line>>,
}

/// Those who wait, and for how long there has been anyone, again and again: who waits for a long record gets its room
/// piece by piece, and waits for each.
#[derive(Debug, Default)]
struct Line {
    waiting: usize,
    since: Option<Instant>,
    /// Before that.
    waited: Duration,
    /// Somebody has just given way to them: it is seen first whether that is enough.
    gave_way: Option<Instant>,
}

/// What one client holds of a long record.
#[derive(Debug)]
pub(super) struct Share {
    turns: Turns,
    room: Option<OwnedSemaphorePermit>,
    turn: Option<OwnedSemaphorePermit>,
    /// The client was waited for so long while others waited.
    spent: Duration,
}

/// A moment on the clock that goes only while somebody waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited(Duration);

/// What was waited for.
#[derive(Debug)]
pub(super) enum More {
    Room(OwnedSemaphorePermit),
    Turn(OwnedSemaphorePermit),
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM)),
            turn: Arc::new(Semaphore::new(1)),
            line: Arc::default(),
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("no panic while held")
    }

    /// Of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share {
            turns: self.clone(),
            room: None,
            turn: None,
            spent: Duration::ZERO,
        }
    }

    /// Waits until there is room for so many bytes, or nobody else is read on without. Cancel safe: the place in the line
    /// is lost.
    pub(super) async fn more(&self, bytes: usize) -> More {
        let _waiting = Waiting::one_more(&self.line);
        let room = async {
            match u32::try_from(bytes) {
                Ok(bytes) if bytes as usize <= ROOM => {
                    Arc::clone(&self.room).acquire_many_owned(bytes).await
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            room = room => More::Room(room.expect("never closed")),
            turn = Arc::clone(&self.turn).acquire_owned() => More::Turn(turn.expect("never closed")),
        }
    }
}

impl Share {
    /// How often it is looked how many others wait, and how long it takes to see whether one that gave way is enough.
    const LOOK: Duration = Duration::from_millis(100);

    /// So many bytes more than it has room for; 0: its client may be read on until it holds `bytes`. What is free is taken
    /// at once.
    pub(super) fn lacks(&mut self, bytes: usize) -> usize {
        let has = self
            .room
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = bytes.saturating_sub(has);
        if lacks == 0 || self.turn.is_some() {
            return 0;
        }
        let free = u32::try_from(lacks).ok();
        let free = free.and_then(|n| Arc::clone(&self.turns.room).try_acquire_many_owned(n).ok());
        match free {
            Some(free) => {
                self.add(More::Room(free));
                0
            }
            None => lacks,
        }
    }

    pub(super) fn add(&mut self, more: More) {
        match (more, &mut self.room) {
            (More::Turn(turn), _) => self.turn = Some(turn),
            (More::Room(more), Some(room)) => room.merge(more),
            (More::Room(more), none) => *none = Some(more),
        }
    }

    /// Now. What others wait is counted from here.
    pub(super) fn clock(&self) -> Waited {
        Waited(self.turns.line().waited_for())
    }

    /// Resolves when its client, waited for since `since`, has kept others waiting for too long. Cancel safe.
    pub(super) async fn is_over(&self, since: Waited) {
        loop {
            let left = self.patience().saturating_sub(self.spent);
            let left = left.saturating_sub(self.kept_waiting(since));
            if left.is_zero() && self.gives_way() {
                return;
            }
            let wait = if left.is_zero() { Self::LOOK } else { left };
            tokio::time::sleep(wait.min(Self::LOOK)).await;
        }
    }

    /// One after the other, so that no more do than have to.
    fn gives_way(&self) -> bool {
        let mut line = self.turns.line();
        let is_enough = line.gave_way.is_some_and(|at| at.elapsed() < Self::LOOK);
        let gives_way = line.waiting > 0 && !is_enough;
        if gives_way {
            line.gave_way = Some(Instant::now());
        }
        gives_way
    }

    /// Its client was waited for since `since`.
    pub(super) fn spend(&mut self, since: Waited) {
        self.spent += self.kept_waiting(since);
    }

    /// So many bytes have come of it after that.
    pub(super) fn has_come(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        self.spent = self.spent.saturating_sub(earned);
    }

    fn patience(&self) -> Duration {
        if self.turns.line().waiting > 1 {
            LEAST_PATIENCE
        } else {
            PATIENCE
        }
    }

    fn kept_waiting(&self, Waited(since): Waited) -> Duration {
        self.turns.line().waited_for().saturating_sub(since)
    }
}

impl Line {
    /// For how long there was anyone, in all.
    fn waited_for(&self) -> Duration {
        self.waited + self.since.map(|since| since.elapsed()).unwrap_or_default()
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
        // It was enough for this one.
        line.gave_way = None;
        if line.waiting == 0 {
            line.waited = line.waited_for();
            line.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// A client that holds so much.
    async fn holder(turns: &Turns, bytes: usize) -> Share {
        let mut share = turns.share();
        let lacks = share.lacks(bytes);
        if lacks > 0 {
            share.add(turns.more(lacks).await);
        }
        share
    }

    /// Nothing is left of the room, nor is the turn.
    async fn all_of_it(turns: &Turns) -> [Share; 2] {
        [holder(turns, ROOM).await, holder(turns, 1).await]
    }

    #[tokio::test]
    async fn while_there_is_room_nobody_waits() {
        let turns = Turns::new();
        let mut stopped = Vec::new();
        for _ in 0..ROOM / (2 * SHORT) {
            let mut share = turns.share();
            assert_eq!(share.lacks(SHORT), 0);
            assert_eq!(share.lacks(2 * SHORT), 0, "it grows");
            stopped.push(share);
        }
        assert_eq!(turns.share().lacks(1), 1, "all of it is taken");
        stopped.pop();
        assert_eq!(turns.share().lacks(2 * SHORT), 0, "and comes back");
    }

    #[tokio::test]
    async fn where_there_is_no_room_one_at_a_time_is_read_on_however_long_its_record_is() {
        let turns = Turns::new();
        let [_room, mut first] = all_of_it(&turns).await;
        assert_eq!(first.lacks(2 * ROOM), 0);
        let mut second = Box::pin(holder(&turns, 2 * ROOM));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert_eq!(second.await.lacks(3 * ROOM), 0);
    }

    #[tokio::test]
    async fn who_waits_gets_the_room_that_another_gives_back() {
        let turns = Turns::new();
        let [room, _turn] = all_of_it(&turns).await;
        let mut waits = Box::pin(holder(&turns, SHORT));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(room);
        let share = waits.await;
        assert!(share.turn.is_none(), "the turn stays with who has it");
    }

    /// Polls it for so long, as a client's task does.
    async fn is_over_within(share: &Share, time: Duration) -> bool {
        let over = share.is_over(share.clock());
        tokio::time::timeout(time, over).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_when_others_have_waited_for_its_client_too_long_in_all() {
        let turns = Turns::new();
        let [mut share, _turn] = all_of_it(&turns).await;
        let alone = share.clock();
        assert!(
            !is_over_within(&share, 100 * PATIENCE).await,
            "nobody waits"
        );
        share.spend(alone);

        let others = turns.clone();
        let other = tokio::spawn(async move { others.more(1).await });
        tokio::task::yield_now().await;
        let contested = share.clock();
        assert!(!is_over_within(&share, PATIENCE * 2 / 3).await);
        share.spend(contested);
        assert!(is_over_within(&share, PATIENCE / 2).await);
        drop(share);
        other.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_honest_one_waits_for_none_that_have_stopped_while_there_is_room_and_then_five_seconds_for_each_eight()
     {
        for stopped in [1_usize, 8, 100] {
            let turns = Turns::new();
            let began = Instant::now();
            for _ in 0..stopped {
                let turns = turns.clone();
                tokio::spawn(async move {
                    let share = holder(&turns, 1 << 20).await;
                    share.is_over(share.clock()).await;
                });
                tokio::task::yield_now().await;
            }
            let _honest = holder(&turns, 1 << 20).await;
            let waited = began.elapsed();
            let most = match stopped {
                ..=8 => Duration::ZERO,
                // In turns of five seconds, eight or nine at once.
                _ => LEAST_PATIENCE * u32::try_from(stopped / 8 + 1).unwrap(),
            };
            assert!(waited <= most, "{stopped}: {waited:?}");
        }
    }

    /// It waits for each of its pieces anew.
    #[tokio::test(start_paused = true)]
    async fn a_long_record_waits_ten_seconds_in_all_however_many_have_stopped() {
        let turns = Turns::new();
        for _ in 0..ROOM / SHORT + 1 {
            let turns = turns.clone();
            tokio::spawn(async move {
                // The last of them has the turn.
                let share = holder(&turns, SHORT).await;
                share.is_over(share.clock()).await;
            });
            tokio::task::yield_now().await;
        }
        let (mut honest, began) = (turns.share(), Instant::now());
        for piece in 1..=(10 << 20) / SHORT {
            let lacks = honest.lacks(piece * SHORT);
            if lacks > 0 {
                honest.add(turns.more(lacks).await);
            }
        }
        let waited = began.elapsed();
        assert!(waited <= PATIENCE + Duration::from_secs(1), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_give_way_than_have_to() {
        let turns = Turns::new();
        let mut stopped = Vec::new();
        for _ in 0..9 {
            let turns = turns.clone();
            stopped.push(tokio::spawn(async move {
                let share = holder(&turns, 1 << 20).await;
                share.is_over(share.clock()).await;
            }));
            tokio::task::yield_now().await;
        }
        let _honest = holder(&turns, 1 << 20).await;
        tokio::time::sleep(100 * PATIENCE).await;
        assert_eq!(stopped.iter().filter(|s| s.is_finished()).count(), 1);
        stopped.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_mebibyte_a_second_keeps_its_turn_whoever_waits_and_who_drips_does_not() {
        for (block, keeps) in [(64 * 1024, true), (1024, false)] {
            let turns = Turns::new();
            let [mut share, _turn] = all_of_it(&turns).await;
            for _ in 0..50 {
                let turns = turns.clone();
                tokio::spawn(async move { turns.more(1).await });
            }
            tokio::task::yield_now().await;
            let mut kept = true;
            for _ in 0..160 {
                let since = share.clock();
                kept &= !is_over_within(&share, Duration::from_millis(60)).await;
                share.spend(since);
                share.has_come(block);
            }
            assert_eq!(kept, keeps, "{block}");
        }
    }
}
