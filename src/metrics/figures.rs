//! A stream at one moment, for whoever looks from outside.

use super::{Counts, Histograms, KeyInUse, Trouble};

/// All that is counted and timed of a stream, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Figures {
    pub stream: String,
    pub counts: Counts,
    pub histograms: Histograms,
    /// `None` where nothing is encrypted, or the last key has expired.
    pub key_in_use: Option<KeyInUse>,
    pub troubles: Vec<Trouble>,
    /// Whether it has been seen to be there, or nobody may look.
    pub is_known: bool,
    /// Bytes of its share of the memory, and of that what its records hold.
    pub memory_limit: usize,
    pub memory_in_use: usize,
}

impl Figures {
    /// Whether it takes records now, as far as is known.
    pub fn is_well(&self) -> bool {
        self.is_known && self.troubles.is_empty()
    }
}
