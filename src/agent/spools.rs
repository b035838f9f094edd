//! Which streams have a spool, and how it is taken up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{AgentError, Settings, Source};
use crate::checkpoint::{CheckpointError, Lock};
use crate::delivery::MemoryBudget;
use crate::metrics::Counters;
use crate::pipeline::{Spooled, StreamSettings};
use crate::record::StreamName;
use crate::seal::Scope;
use crate::shutdown::Shutdown;
use crate::spool::{self, Spool, SpoolError};

/// A stream's memory, and its spool where it needs one.
pub(super) struct Shares {
    pub(super) pipeline: MemoryBudget,
    spooled: Option<(MemoryBudget, MemoryBudget)>,
}

impl Settings {
    /// A stream has a spool where one of its sources cannot be read again, or where an earlier run left one.
    fn spool_of(&self, stream: &StreamName) -> Option<&spool::Settings> {
        let needs_it = |s: &Source| s.stream == *stream && !s.kind.can_be_read_again();
        self.spool.as_ref().filter(|spool| {
            self.sources.iter().any(needs_it) || spool.path.join(stream.folder_name()).is_dir()
        })
    }

    /// Each stream's share of the memory. A spool has two of its own: what waits for the disk must not hold what
    /// empties it.
    pub(super) fn shares(&self) -> Vec<Shares> {
        let has_spool: Vec<bool> = (self.streams.iter())
            .map(|stream| self.spool_of(&stream.name).is_some())
            .collect();
        let spools = has_spool.iter().filter(|has| **has).count();
        let mut all =
            MemoryBudget::divided(self.memory_limit, has_spool.len() + 2 * spools).into_iter();
        let mut next = || {
            all.next()
                .expect("one for each stream, and two for each spool")
        };
        has_spool
            .into_iter()
            .map(|has_spool| Shares {
                pipeline: next(),
                spooled: has_spool.then(|| (next(), next())),
            })
            .collect()
    }

    /// The right to the spool, for as long as it lives.
    pub(super) fn lock_spool(&self) -> Result<Option<Arc<Lock>>, AgentError> {
        let Some(spool) = &self.spool else {
            self.tell_unnamed(&spool::Settings::under(&self.state_dir).path, &[]);
            return Ok(None);
        };
        let path = spool.path.clone();
        match Lock::take(&path) {
            Ok(lock) => {
                self.tell_unnamed(&path, &self.streams);
                Ok(Some(Arc::new(lock)))
            }
            Err(error) => Err(of_spool(error)),
        }
    }

    /// What waits there for a stream that no source names any more would wait for ever, unnoticed.
    fn tell_unnamed(&self, path: &Path, streams: &[StreamSettings]) {
        for folder in spool::folders_with_records(path) {
            let is_named = |stream: &StreamSettings| stream.name.folder_name() == folder;
            if !streams.iter().any(is_named) {
                tracing::warn!(
                    path = %path.join(&folder).display(),
                    "the spool holds records for a stream that has none now: they wait until there is a table [spool] and a \
                     source names that stream as it was named"
                );
            }
        }
    }
}

/// Keeps the right to the spool, as [`spool::hold`] does.
pub(super) async fn hold(
    lock: Arc<Lock>,
    interval: Duration,
    shutdown: Shutdown,
) -> Result<(), AgentError> {
    let held = spool::hold(lock, interval, shutdown).await;
    held.map_err(of_spool)
}

fn of_spool(error: CheckpointError) -> AgentError {
    match error {
        CheckpointError::InUse { dir: path, holder } => AgentError::SpoolInUse { path, holder },
        CheckpointError::StateDir { dir, source } => SpoolError::Unusable { dir, source }.into(),
        error => error.into(),
    }
}

impl Shares {
    /// Opens what the stream's earlier runs left.
    pub(super) async fn spool(
        &mut self,
        settings: &Settings,
        stream: &StreamSettings,
        lock: Option<&Arc<Lock>>,
        counters: &Arc<Counters>,
    ) -> Result<Option<Spooled>, AgentError> {
        let (Some((sources, reader)), Some(spool), Some(lock)) =
            (self.spooled.take(), &settings.spool, lock)
        else {
            return Ok(None);
        };
        let (spool, name, counters) = (spool.clone(), stream.name.clone(), Arc::clone(counters));
        let lock = Arc::clone(lock);
        let plain = stream.encryption.scope == Scope::Off;
        let opening =
            tokio::task::spawn_blocking(move || Spool::open(&spool, &name, plain, lock, counters));
        let spool = opening.await.expect("opening does not panic")?;
        Ok(Some(Spooled {
            spool,
            sources,
            reader,
        }))
    }
}
