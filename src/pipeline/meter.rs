//! What a pipeline counts, also after its end.

use std::sync::{Arc, Mutex};

use super::Sealer;
use crate::metrics::{Counters, Counts, Histograms, KeyInUse, Trouble};
use crate::seal::keyring::Keyring;

/// Reads a pipeline's counters, and those of its data-key cache. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter {
    counters: Arc<Counters>,
    /// None where nothing is encrypted.
    keyring: Option<Arc<Keyring>>,
    /// What is measured on the way to the disk, where there is a spool.
    spooled: Option<Arc<Mutex<Histograms>>>,
}

impl Meter {
    pub(super) fn new(
        counters: &Arc<Counters>,
        sealer: &Sealer,
        spooled: Option<Arc<Mutex<Histograms>>>,
    ) -> Self {
        let keyring = match sealer {
            Sealer::Encrypt(keyring) | Sealer::Blocks(keyring, _) => Some(keyring),
            Sealer::Plain(_) => None,
        };
        Self {
            counters: Arc::clone(counters),
            keyring: keyring.cloned(),
            spooled,
        }
    }

    pub fn counts(&self) -> Counts {
        let mut counts = self.counters.snapshot();
        if let Some(keyring) = &self.keyring {
            counts.data_keys = keyring.keys_fetched();
            counts.keys = keyring.counts();
        }
        counts
    }

    /// None where nothing is encrypted, or the last key has expired.
    pub fn key_in_use(&self) -> Option<KeyInUse> {
        self.keyring.as_ref()?.in_use()
    }

    pub fn has(&self, trouble: Trouble) -> bool {
        self.counters.troubles.has(trouble)
    }

    /// What is wrong now.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.counters.troubles.now()
    }

    /// The owner's, and what is measured elsewhere.
    pub(super) fn complete(&self, mut histograms: Histograms) -> Histograms {
        if let Some(spooled) = &self.spooled {
            histograms.merge(&spooled.lock().expect("no panic while held"));
        }
        if let Some(keyring) = &self.keyring {
            histograms.key_call = keyring.call_latency();
        }
        histograms
    }
}
