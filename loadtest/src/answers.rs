//! What became of each line, as whoever put it was told.

use serde::{Deserialize, Serialize};

/// One answer for each line is what there should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// Lines that are in the stream.
    pub(crate) stored: u64,
    /// Lines that are not.
    pub(crate) refused: u64,
    /// Answers to nothing that was put, or to what had one already.
    pub(crate) unasked: u64,
    pub(crate) first_refusal: Option<String>,
}

impl Answers {
    pub(crate) fn refuse(&mut self, why: impl FnOnce() -> String) {
        self.refused += 1;
        self.first_refusal.get_or_insert_with(why);
    }
}
