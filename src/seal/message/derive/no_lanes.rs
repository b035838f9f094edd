//! What stands for [`SideBySide`] on other processors than x86-64: none.

use super::{Committed, Id, Lanes};
use crate::seal::message::suite::Suite;

pub(super) enum SideBySide {}

impl SideBySide {
    pub(super) fn new(_: Lanes, _: Suite, _: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(super) fn lanes(&self) -> usize {
        match *self {}
    }

    pub(super) fn derive(&self, _: &[impl Id], _: &mut [Committed]) {
        match *self {}
    }
}

pub(super) fn has(lanes: Lanes) -> bool {
    matches!(lanes, Lanes::Auto | Lanes::Scalar)
}
