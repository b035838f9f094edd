//! Files that grow.

/// A `[[source]]` table of `type = "file"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Absolute globs, `**` allowed.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub start_position: StartPosition,
}

/// Where to start in a file that was there before the agent and has no checkpoint. A file that appears
/// later is always read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    Beginning,
    End,
}
