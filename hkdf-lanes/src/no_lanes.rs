//! What stands for [`SideBySide`] on other processors than x86-64: none.

use crate::hkdf::Key;
use crate::{Committed, Lanes};

pub(crate) enum SideBySide {}

impl SideBySide {
    pub(crate) fn new(_: Lanes, _: u16, _: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(crate) fn lanes(&self) -> usize {
        match *self {}
    }

    pub(crate) fn derive(&self, _: &[Key<u64>], _: &mut [Committed]) {
        match *self {}
    }
}

pub(crate) fn has(lanes: Lanes) -> bool {
    matches!(lanes, Lanes::Auto | Lanes::Scalar)
}
