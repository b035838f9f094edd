//! Newline-framed records over a Unix stream socket.

use std::path::PathBuf;

/// A `[[source]]` table of `type = "unix"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub path: PathBuf,
}
