//! Many user records → one Kinesis record, in the KPL's format.

pub mod format;
pub mod reducer;

use std::time::Duration;

/// The `[aggregation]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    /// Bytes of one aggregate, magic and checksum included.
    pub max_size: usize,
    /// A record's one deadline, from read to batch, aggregated or not.
    pub linger: Duration,
}

impl Default for Settings {
    /// The KPL's own: 50 KiB, 100 ms.
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: 50 << 10,
            linger: Duration::from_millis(100),
        }
    }
}
