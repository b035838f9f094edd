//! A moment as a person and a program both read it.

use std::fmt;
use std::time::SystemTime;

/// `2026-11-23T16:46:49.123Z`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Utc(pub(super) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}
