//! What a source with `when_full = "drop_newest"` drops, and how the log is told.
//!
//! The log hears when it begins, each minute how much it has been, and when it has ended: lines are dropped by
//! the thousand, and room comes and goes by the millisecond while a stream is overloaded.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::WhenFull;

/// It has ended when nothing was dropped for this long. A guess.
const QUIET: Duration = Duration::from_secs(10);
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The lines that one source has dropped.
#[derive(Debug, Default)]
pub(super) struct Drops {
    lines: AtomicU64,
    /// There are more.
    more: Notify,
}

impl Drops {
    /// `None` where nothing may be dropped.
    pub(super) fn of(when_full: WhenFull) -> Option<Arc<Self>> {
        (when_full == WhenFull::DropNewest).then(Arc::default)
    }

    pub(super) fn add(&self, lines: u64) {
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.more.notify_one();
    }

    pub(super) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }
}

/// Runs the source called `name`, and tells the log meanwhile what it drops, if it may. As cancel safe as the source.
pub(super) async fn told_during<T>(
    drops: Option<&Drops>,
    name: &str,
    source: impl Future<Output = T>,
) -> T {
    let Some(drops) = drops else {
        return source.await;
    };
    let mut teller = Teller::new(drops);
    let ended = tokio::select! {
        biased;
        ended = source => ended,
        never = teller.tell_on(name) => match never {},
    };
    if let Some(last) = teller.last() {
        last.tell(name);
    }
    ended
}

/// What the log is told, with the lines dropped since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Begins,
    GoesOn(u64),
    Ended(u64),
}

impl Said {
    fn tell(self, source: &str) {
        match self {
            Self::Begins => tracing::error!(
                source,
                "no room within memory_limit: lines are dropped, as when_full of their source says"
            ),
            Self::GoesOn(lines) => {
                tracing::error!(source, lines, "lines are still dropped for want of room");
            }
            Self::Ended(lines) => {
                tracing::warn!(source, lines, "lines are no longer dropped; these are lost");
            }
        }
    }
}

/// Decides what to say, and when.
struct Teller<'a> {
    drops: &'a Drops,
    /// Of which an end has been told.
    told: u64,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    /// Dropped when it was last looked at.
    seen: u64,
    look_at: Instant,
    remind_at: Instant,
}

impl<'a> Teller<'a> {
    fn new(drops: &'a Drops) -> Self {
        Self {
            drops,
            told: 0,
            under_way: None,
        }
    }

    /// Cancel safe.
    async fn tell_on(&mut self, source: &str) -> Infallible {
        loop {
            self.next().await.tell(source);
        }
    }

    /// Resolves when there is something to say. Cancel safe.
    async fn next(&mut self) -> Said {
        loop {
            let Some(under_way) = &mut self.under_way else {
                self.drops.more.notified().await;
                if let Some(begins) = self.begin() {
                    return begins;
                }
                continue;
            };
            tokio::time::sleep_until(under_way.look_at).await;
            let (now, dropped) = (Instant::now(), self.drops.lines());
            if dropped == under_way.seen {
                return self.end();
            }
            under_way.seen = dropped;
            under_way.look_at = now + QUIET;
            if now >= under_way.remind_at {
                under_way.remind_at = now + REMIND_EVERY;
                return Said::GoesOn(dropped - self.told);
            }
        }
    }

    /// What is left to say when no more will be dropped.
    fn last(&mut self) -> Option<Said> {
        (self.drops.lines() > self.told).then(|| self.end())
    }

    fn begin(&mut self) -> Option<Said> {
        let (now, seen) = (Instant::now(), self.drops.lines());
        // Otherwise it was heard of late, and its end has been told.
        (seen > self.told).then(|| {
            self.under_way = Some(UnderWay {
                seen,
                look_at: now + QUIET,
                remind_at: now + REMIND_EVERY,
            });
            Said::Begins
        })
    }

    fn end(&mut self) -> Said {
        self.under_way = None;
        let before = std::mem::replace(&mut self.told, self.drops.lines());
        Said::Ended(self.told - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said, and after how many seconds, when a line is dropped each second that `dropping` names.
    async fn said(seconds: u64, dropping: impl Fn(u64) -> bool) -> Vec<(u64, Said)> {
        let drops = Drops::default();
        let (mut teller, began) = (Teller::new(&drops), Instant::now());
        let mut said = Vec::new();
        for second in 0..seconds {
            if dropping(second) {
                drops.add(1);
            }
            let until = began + Duration::from_secs(second + 1);
            while let Ok(next) = tokio::time::timeout_at(until, teller.next()).await {
                said.push((began.elapsed().as_secs(), next));
            }
        }
        said.extend(teller.last().map(|last| (seconds, last)));
        said
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_at_once_then_each_minute_and_when_it_has_ended() {
        let said = said(1000, |second| (5..155).contains(&second)).await;
        let expected = [
            (5, Said::Begins),
            (65, Said::GoesOn(60)),
            (125, Said::GoesOn(120)),
            (165, Said::Ended(150)),
        ];
        assert_eq!(said, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn short_pauses_are_no_end_and_what_is_dropped_later_begins_anew() {
        let said = said(100, |second| second % 5 == 0 && second < 30 || second == 70).await;
        let expected = [
            (0, Said::Begins),
            (40, Said::Ended(6)),
            (70, Said::Begins),
            (80, Said::Ended(1)),
        ];
        assert_eq!(said, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_ends_meanwhile_leaves_nothing_untold() {
        assert_eq!(said(3, |_| false).await, []);
        let expected = [(0, Said::Begins), (3, Said::Ended(3))];
        assert_eq!(said(3, |_| true).await, expected);
    }
}
