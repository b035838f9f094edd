//! A disk between the client and its streams, where a file says so.
//!
//! A record that is in the spool is told as put, without shard and sequence number: it is not known yet where it will lie.
//! From then on it is this host's affair, whatever becomes of the client and of this process, for as long as it takes;
//! what can never be stored becomes a dead letter.
//!
//! Daemons of several clients read the same file. Each takes the first folder of `spool.path` that no other one has,
//! named by its number: what one of them left behind, the next one that starts finds there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::checkpoint::{CheckpointError, Lock};
use crate::deadletter::{self, DeadLetters};
use crate::delivery::MemoryBudget;
use crate::metrics::Counters;
use crate::pipeline::Spooled;
use crate::record::StreamName;
use crate::spool::{self, Spool, SpoolError};

/// `[spool]` and `[dead_letter]` of a daemon's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its path is for all daemons of the host.
    pub spool: spool::Settings,
    pub dead_letter: deadletter::Settings,
}

/// This process's own folder: the spool of each stream, and its dead letters.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    spool: spool::Settings,
    dead_letter: deadletter::Settings,
    lock: Arc<Lock>,
}

/// All that a stream's pipeline needs of it.
pub(super) struct Opened {
    pub(super) spooled: Spooled,
    pub(super) dead_letters: DeadLetters,
    pub(super) writer: JoinHandle<()>,
}

/// The memory of a process with a spool. What waits for the disk must not hold what empties it, and no stream what another
/// one reads with.
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) sources: MemoryBudget,
    readers: Vec<MemoryBudget>,
}

impl Budgets {
    /// Streams that have a share of their own to be read with; more of them share.
    const READERS: usize = 14;

    /// With what is left for pipelines themselves.
    pub(super) fn of(memory_limit: usize) -> (MemoryBudget, Self) {
        let mut all = MemoryBudget::divided(memory_limit, 2 + Self::READERS);
        let readers = all.split_off(2);
        let sources = all.pop().expect("two were left");
        let pipelines = all.pop().expect("and one");
        (pipelines, Self { sources, readers })
    }

    pub(super) fn reader(&self, place: usize) -> MemoryBudget {
        self.readers[place % Self::READERS].clone()
    }
}

/// More daemons than a host can run.
const MOST_HOMES: u32 = 10_000;

impl Home {
    /// The first folder that is free.
    pub(super) fn take(settings: &Settings) -> Result<Self, SpoolError> {
        let path = &settings.spool.path;
        for number in 0..MOST_HOMES {
            let dir = path.join(number.to_string());
            let spool = dir.join("spool");
            match Lock::take(&spool) {
                Ok(lock) => {
                    tell_left_alone(path, number);
                    return Ok(Self {
                        dir,
                        spool: spool::Settings {
                            path: spool,
                            ..settings.spool.clone()
                        },
                        dead_letter: settings.dead_letter.clone(),
                        lock: Arc::new(lock),
                    });
                }
                Err(CheckpointError::InUse { .. }) => {}
                Err(CheckpointError::StateDir { dir, source }) => {
                    return Err(SpoolError::Unusable { dir, source });
                }
                Err(error) => return Err(unusable(&spool, io::Error::other(error))),
            }
        }
        let why = format!("{MOST_HOMES} daemons have one there already");
        Err(unusable(path, io::Error::other(why)))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// For [`spool::hold`].
    pub(super) fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }

    /// The streams for which an earlier daemon left records.
    pub(super) fn left_behind(&self) -> Vec<StreamName> {
        let folders = spool::folders_with_records(&self.spool.path).into_iter();
        folders
            .filter_map(|folder| StreamName::of_folder(&folder))
            .collect()
    }

    /// Opens what a stream's earlier runs left. Blocks.
    pub(super) fn open(
        &self,
        stream: &StreamName,
        plain: bool,
        (budgets, place): (&Budgets, usize),
        counters: &Arc<Counters>,
    ) -> Result<Opened, SpoolError> {
        let lock = Arc::clone(&self.lock);
        let spool = Spool::open(&self.spool, stream, plain, lock, Arc::clone(counters))?;
        let (dead_letters, writer) = DeadLetters::open(
            &self.dir,
            stream,
            self.dead_letter.clone(),
            Arc::clone(counters),
        );
        Ok(Opened {
            spooled: Spooled {
                spool,
                sources: budgets.sources.clone(),
                reader: budgets.reader(place),
            },
            dead_letters,
            writer,
        })
    }
}

fn unusable(dir: &Path, source: io::Error) -> SpoolError {
    let dir = dir.to_owned();
    SpoolError::Unusable { dir, source }
}

/// What lies where no daemon is: there were more of them once.
fn tell_left_alone(path: &Path, own: u32) {
    for number in own + 1.. {
        let spool = path.join(number.to_string()).join("spool");
        if !spool.is_dir() {
            return;
        }
        // Tried, and given back at once.
        let is_free = Lock::take(&spool).is_ok();
        if is_free && !spool::folders_with_records(&spool).is_empty() {
            tracing::warn!(
                path = %spool.display(),
                "records wait there that another daemon has left: they are sent once as many daemons run as then"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> Settings {
        Settings {
            spool: spool::Settings {
                path: path.to_owned(),
                ..spool::Settings::under(path)
            },
            dead_letter: deadletter::Settings::default(),
        }
    }

    #[test]
    fn each_daemon_has_the_first_folder_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let number = |home: &Home| home.dir().file_name().unwrap().to_owned();
        let first = Home::take(&settings).unwrap();
        let second = Home::take(&settings).unwrap();
        assert_eq!((number(&first), number(&second)), ("0".into(), "1".into()));
        drop(first);
        assert_eq!(number(&Home::take(&settings).unwrap()), "0");
    }

    #[test]
    fn what_an_earlier_one_left_is_known_by_its_stream() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let arn = "arn:aws:kinesis:eu-west-1:111122223333:stream/shop";
        for name in ["shop", "..", arn] {
            let folder = StreamName::new(name).unwrap().folder_name();
            let folder = dir.path().join("0/spool").join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("00000000000000000000.spool"), b"").unwrap();
        }
        std::fs::create_dir_all(dir.path().join("0/spool/empty")).unwrap();
        let home = Home::take(&settings).unwrap();
        let mut left: Vec<_> = home.left_behind().iter().map(ToString::to_string).collect();
        left.sort();
        assert_eq!(left, ["..", arn, "shop"]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Home::take(&settings(&file)).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
