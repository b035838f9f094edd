//! Stopping, as a value that is passed down.
//!
//! [`Stop`] says so, once; every clone of [`Shutdown`] hears it, also one that asks later. A stage that has
//! been told finishes what it holds; that all is done is known by its channel being closed, not from here.

use std::sync::Arc;

use tokio::sync::watch;

/// The side that says stop. Dropping it says so too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// The side that hears it.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Receiver<bool>>);

pub fn channel() -> (Stop, Shutdown) {
    let (tx, rx) = watch::channel(false);
    (Stop(tx), Shutdown(Arc::new(rx)))
}

impl Stop {
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Resolves when stop has been said. Cancel safe.
    pub async fn stopped(&self) {
        let mut rx = watch::Receiver::clone(&self.0);
        // An error means that `Stop` is gone, which says the same.
        let _ = rx.wait_for(|stopped| *stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_stop_also_one_that_asks_later() {
        let (stop, shutdown) = channel();
        let other = shutdown.clone();
        assert!(!shutdown.is_stopped());
        stop.stop();
        other.stopped().await;
        shutdown.clone().stopped().await;
        assert!(shutdown.is_stopped());
    }

    #[tokio::test]
    async fn dropping_the_stopper_stops() {
        let (stop, shutdown) = channel();
        drop(stop);
        shutdown.stopped().await;
        assert!(shutdown.is_stopped());
    }
}
