//! What keeps a stream from its work now.

use std::sync::atomic::{AtomicU32, Ordering};

/// A kind of trouble. Whoever meets it says when it begins and when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The stream takes nothing, and will not before somebody puts something right.
    Outage,
    /// A service takes no call under these credentials; others may come.
    RefusedCredentials,
    /// Calls fail that may succeed when they are tried again.
    FailingCalls,
    /// There is no data key to seal with.
    NoDataKey,
    /// The spool takes nothing: its disk refuses, or it is full.
    SpoolBlocked,
    /// No dead letter can be written.
    DeadLettersBlocked,
}

impl Trouble {
    pub const ALL: [Self; 6] = [
        Self::Outage,
        Self::RefusedCredentials,
        Self::FailingCalls,
        Self::NoDataKey,
        Self::SpoolBlocked,
        Self::DeadLettersBlocked,
    ];

    /// The word for it in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::RefusedCredentials => "refused_credentials",
            Self::FailingCalls => "failing_calls",
            Self::NoDataKey => "no_data_key",
            Self::SpoolBlocked => "spool_blocked",
            Self::DeadLettersBlocked => "dead_letters_blocked",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The troubles that a stream has.
#[derive(Debug, Default)]
pub struct Troubles(AtomicU32);

impl Troubles {
    pub fn begin(&self, trouble: Trouble) {
        self.0.fetch_or(trouble.bit(), Ordering::Relaxed);
    }

    pub fn end(&self, trouble: Trouble) {
        self.0.fetch_and(!trouble.bit(), Ordering::Relaxed);
    }

    pub fn has(&self, trouble: Trouble) -> bool {
        self.0.load(Ordering::Relaxed) & trouble.bit() != 0
    }

    pub fn now(&self) -> Vec<Trouble> {
        let all = Trouble::ALL.into_iter();
        all.filter(|trouble| self.has(*trouble)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_begins_and_ends_for_itself() {
        let troubles = Troubles::default();
        assert!(troubles.now().is_empty());
        for trouble in Trouble::ALL {
            troubles.begin(trouble);
        }
        assert_eq!(troubles.now(), Trouble::ALL);
        troubles.end(Trouble::NoDataKey);
        troubles.end(Trouble::NoDataKey);
        assert!(!troubles.has(Trouble::NoDataKey));
        assert_eq!(troubles.now().len(), Trouble::ALL.len() - 1);
    }
}
