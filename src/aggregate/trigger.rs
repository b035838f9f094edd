//! Why something was closed that could have waited for more.

/// What closed a container or a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody asked, or what it was made for has changed.
    Asked,
    /// It held as many as it may.
    Count,
    /// It held as many bytes as it may.
    Size,
    /// The first of what it held was due.
    Time,
}
