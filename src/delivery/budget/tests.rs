use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

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

#[test]
fn what_is_split_off_a_permit_is_given_back_once_and_is_never_more_than_it_held() {
    let budget = MemoryBudget::new(1000);
    let mut rest = budget.try_reserve(100).unwrap();
    let (some, all) = (rest.split(30), rest.split(1000));
    assert_eq!((some.bytes(), all.bytes(), rest.bytes()), (30, 70, 0));
    assert_eq!(budget.in_use(), 100);
    drop(rest);
    assert_eq!(budget.in_use(), 100);
    drop(some);
    assert_eq!(budget.in_use(), 70);
    drop(all);
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

#[tokio::test]
async fn what_is_held_whatever_records_there_are_is_a_quarter_at_most_and_stops_none_that_passes_alone()
 {
    let budget = MemoryBudget::new(1000);
    assert!(budget.reserve_standing(0).await.is_none());
    let held = budget.reserve(900).await;
    // As of two streams that share it.
    let mut one = Box::pin(budget.reserve_standing(200));
    let mut two = Box::pin(budget.reserve_standing(usize::MAX));
    let mut large = Box::pin(budget.reserve(1000));
    assert!((&mut one).now_or_never().is_none());
    assert!((&mut two).now_or_never().is_none());
    assert!((&mut large).now_or_never().is_none());
    drop(held);
    let one = one.now_or_never().expect("there is room");
    let two = two.now_or_never().expect("there is room");
    assert_eq!(budget.in_use(), 250);
    assert!(budget.reserve_standing(1).await.is_none());
    let large = large.now_or_never().expect("no other record is there");
    assert_eq!(large.bytes(), 1000);
    assert!(budget.try_reserve(1).is_none());
    drop(large);
    drop(one);
    assert_eq!(budget.in_use(), 50);
    let _record = budget.try_reserve(1).expect("there is room");
    assert!(budget.try_reserve(1000).is_none(), "it is not alone");
    drop(two);
    assert_eq!(budget.in_use(), 1);
}

#[tokio::test]
async fn what_is_held_whatever_records_there_are_leaves_half_of_what_a_stream_can_count_on() {
    let shares = MemoryBudget::divided(8000, 8);
    let _blocked: Vec<_> = shares[1..].iter().map(|share| fill(share, 10)).collect();
    let _stands = shares[0].reserve_standing(usize::MAX).await;
    assert_eq!(shares[0].in_use(), 250);
    assert_eq!(fill(&shares[0], 10).len(), 25);
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn of_many_who_wait_one_is_woken_for_the_room_of_one() {
    let shares = MemoryBudget::divided(8000, 40);
    let mut held: Vec<_> = shares.iter().map(|share| fill(share, 100)).collect();
    let woken: Vec<Arc<Woken>> = shares.iter().map(|_| Arc::default()).collect();
    let told = || -> Vec<usize> {
        let was = |n: &usize| woken[*n].0.swap(0, Ordering::Relaxed) > 0;
        (0..40).filter(was).collect()
    };
    let mut waiting: Vec<_> = shares.iter().map(|s| Box::pin(s.reserve(100))).collect();
    fn poll<F: Future>(waiting: &mut Pin<Box<F>>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        let polled = waiting.as_mut().poll(&mut Context::from_waker(&waker));
        polled.is_ready()
    }
    for (n, waits) in waiting.iter_mut().enumerate().rev() {
        assert!(!poll(waits, &woken[n]));
    }
    assert_eq!(told(), [0; 0]);
    let most = held[0].len() - 2;
    held[0].truncate(most);
    assert_eq!(told(), [38, 39], "room for two, and who came first");
    // One gives it back at once, and the other has gone: the next ones hear of that.
    assert!(poll(&mut waiting[39], &woken[39]));
    drop(waiting.remove(38));
    assert_eq!(told(), [36, 37]);
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
