//! What an answer means, and when to try again.

use std::time::Duration;

/// `delivery.retry`: exponential backoff with full jitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The bound of the first delay; doubles with each attempt.
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
        }
    }
}
