//! Times that a restart understands, and those of this process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    instant: Instant,
    /// Since 1970.
    ms: u64,
}

impl Clock {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            ms: since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// In milliseconds since 1970.
    pub(super) fn ms(self, at: Instant) -> u64 {
        let ago = self.instant.saturating_duration_since(at).as_millis();
        self.ms
            .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }

    /// Not in the future, whatever the clock was set to; nor before what this process can tell.
    pub(super) fn instant(self, ms: u64) -> Instant {
        let ago = Duration::from_millis(self.ms.saturating_sub(ms));
        self.instant.checked_sub(ago).unwrap_or(self.instant)
    }
}
