//! Taking up a stream's spool: what earlier runs left there, and the three that work on it from now on.

use std::sync::Arc;

use super::cursor::{self, Cursor};
use super::keeper::Keeper;
use super::look::Look;
use super::shelf::Shelf;
use super::{Disk, RealDisk, Settings, SpoolError};
use crate::checkpoint::Lock;
use crate::metrics::Counters;
use crate::record::StreamName;

/// A stream's spool, looked through and not yet in use.
#[derive(Debug)]
pub struct Spool {
    pub(super) shelf: Arc<Shelf>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) settings: Settings,
    /// The next record's number.
    pub(super) next: u64,
    pub(super) settled: u64,
    pub(super) plain: bool,
}

impl Spool {
    /// `PATH/STREAM`, made if need be. `plain`: nothing is encrypted. `lock` is the right to `PATH`. Blocks: it reads
    /// through all that is there.
    pub fn open(
        settings: &Settings,
        stream: &StreamName,
        plain: bool,
        lock: Arc<Lock>,
        counters: Arc<Counters>,
    ) -> Result<Self, SpoolError> {
        let disk = Arc::new(RealDisk);
        Self::open_on(disk, settings, stream, plain, lock, counters)
    }

    /// The same on another disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        settings: &Settings,
        stream: &StreamName,
        plain: bool,
        lock: Arc<Lock>,
        counters: Arc<Counters>,
    ) -> Result<Self, SpoolError> {
        let dir = settings.path.join(stream.folder_name());
        let unusable = |source| SpoolError::Unusable {
            dir: dir.clone(),
            source,
        };
        disk.create_dir(&dir).map_err(unusable)?;
        let cursor = cursor::load(&*disk, &dir)?;
        if let Cursor::Damaged { why } = &cursor {
            cursor::put_aside(&*disk, &dir, why).map_err(unusable)?;
        }
        let look = Look::through_all(&*disk, &dir, &cursor, settings.sync)?;
        if !plain && look.plain > 0 {
            let records = look.plain;
            return Err(SpoolError::Plaintext { dir, records });
        }
        look.tidy(&dir).map_err(unusable)?;
        let Look {
            segments,
            settled,
            next,
            spool,
            missing,
            markers,
            ..
        } = look;
        let found = next - settled;
        if found > 0 {
            tracing::warn!(
                path = %dir.display(), records = found,
                "the spool has records of an earlier run: they are sent first"
            );
        }
        if plain {
            tracing::warn!(path = %dir.display(), "the spool holds plaintext, since encryption is off");
        }
        // Accepted anew: they are owed an answer by this process.
        Counters::add(&counters.accepted, found + missing);
        counters.lose(missing);
        counters.spool(found);
        let shelf = Shelf::new(dir, lock, segments, spool, (settled, next), counters);
        shelf.add_markers(markers);
        Ok(Self {
            shelf: Arc::new(shelf),
            disk,
            settings: settings.clone(),
            next,
            settled,
            plain,
        })
    }

    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    pub fn keeper(&self) -> Keeper {
        Keeper {
            shelf: Arc::clone(&self.shelf),
            disk: Arc::clone(&self.disk),
            sync: self.settings.sync,
        }
    }
}
