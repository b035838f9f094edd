//! What others can make happen as often as they like, told to the log now and then.

use std::time::Duration;

use tokio::time::Instant;

/// Once a minute is seldom enough for any log.
const EVERY: Duration = Duration::from_secs(60);

/// Tells at once when something happens after a minute without, and then once a minute how often it has.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    untold: u64,
    again_at: Option<Instant>,
}

impl Seldom {
    /// It has happened `times` times: how often it is now to be told, if it is.
    pub(super) fn add(&mut self, times: u64) -> Option<u64> {
        self.untold += times;
        self.due()
    }

    /// Resolves when there is something to tell: how often it has happened. Cancel safe.
    pub(super) async fn wait(&mut self) -> u64 {
        match self.again_at {
            Some(at) if self.untold > 0 => tokio::time::sleep_until(at).await,
            _ => std::future::pending().await,
        }
        self.last().expect("nothing was told meanwhile")
    }

    /// What is left to tell when no more will happen.
    pub(super) fn last(&mut self) -> Option<u64> {
        if self.untold == 0 {
            return None;
        }
        self.again_at = Some(Instant::now() + EVERY);
        Some(std::mem::take(&mut self.untold))
    }

    fn due(&mut self) -> Option<u64> {
        match self.again_at {
            Some(at) if Instant::now() < at => None,
            _ => self.last(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_the_rest_together_a_minute_later() {
        let mut seldom = Seldom::default();
        assert_eq!(seldom.add(1), Some(1));
        let began = Instant::now();
        assert_eq!((seldom.add(1), seldom.add(2)), (None, None));
        assert_eq!(seldom.wait().await, 3);
        assert_eq!(began.elapsed(), EVERY);
        assert_eq!(seldom.add(1), None);
        assert_eq!(seldom.last(), Some(1));
        assert_eq!(seldom.last(), None);
        tokio::time::advance(EVERY).await;
        assert_eq!(seldom.add(5), Some(5));
    }
}
