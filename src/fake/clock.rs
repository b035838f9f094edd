//! The time the stand-ins live in: arrival times, token buckets, expiry of iterators, ends of subscriptions, signature age.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// The system's time, or one that a test moves by hand.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// Wall time at the start plus what a monotonic clock says has passed: it never goes back.
    System {
        since_epoch: Duration,
        started: Instant,
    },
    Manual {
        micros: AtomicU64,
        moved: Notify,
    },
}

impl Clock {
    pub fn system() -> Self {
        Self(Arc::new(Source::System {
            since_epoch: wall_time(),
            started: Instant::now(),
        }))
    }

    /// Starts now, and stands still until [`advance`](Self::advance).
    pub fn manual() -> Self {
        let micros = u64::try_from(wall_time().as_micros()).unwrap_or(u64::MAX);
        Self(Arc::new(Source::Manual {
            micros: AtomicU64::new(micros),
            moved: Notify::new(),
        }))
    }

    /// Moves a manual clock; a system clock needs no help, and takes none.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { micros, moved } = &*self.0 {
            let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
            micros.fetch_add(by, Ordering::Relaxed);
            moved.notify_waiters();
        }
    }

    /// Resolves at that time since the Unix epoch, or at once if it has been. Cancel safe.
    pub(crate) async fn until(&self, time: Duration) {
        match &*self.0 {
            Source::System { .. } => tokio::time::sleep(time.saturating_sub(self.now())).await,
            Source::Manual { moved, .. } => loop {
                // Before the clock is read: it may be moved in between.
                let moves = moved.notified();
                if self.now() >= time {
                    return;
                }
                moves.await;
            },
        }
    }

    /// Time since the Unix epoch.
    pub(crate) fn now(&self) -> Duration {
        match &*self.0 {
            Source::System {
                since_epoch,
                started,
            } => *since_epoch + started.elapsed(),
            Source::Manual { micros, .. } => Duration::from_micros(micros.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn now_millis(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }
}

fn wall_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
