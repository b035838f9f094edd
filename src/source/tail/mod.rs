//! Files that grow.
//!
//! One thread per source finds its files, watches them and reads them in turns, a block each. It promises:
//!
//! - every line of a file that matches is handed over once, and once more only after a restart, from where the
//!   checkpoint says that everything before is settled;
//! - a file that is renamed is read on to its end, and `rotate_wait` longer; the file that takes its name is
//!   read from its beginning, after it. A file that was renamed while nobody looked is found by its identity
//!   in its directory and finished first. One that came and was renamed while nobody looked has never been
//!   met: only a glob that matches its new name as well (`app.log*`) finds it;
//! - a file that matches sources of several streams goes to each of them; of several sources of one stream,
//!   the first to meet it has it, and another takes it up only where that one has let go of it;
//! - a file that shrinks, or has other bytes where reading has got to, is new content from its beginning;
//! - a file that cannot be read stops no other.
//!
//! Where there is no room for what is read, the thread waits, and holds on to files that come up meanwhile.
//!
//! An unfinished last line waits for its newline; it becomes a record when its file has lost its name and is
//! closed, or by `partial_timeout`, and so does a record of several lines that more might have been joined to. It is kept in memory only as far as [`UNFINISHED_KEPT`] goes, which is beside the memory budget; beyond
//! that it is read again once its newline has come. So what is not yet a line of a file that is truncated may be
//! lost.
//!
//! What is compressed (gzip, zstd) is unpacked as it is read, one file at a time, and is known to have been read under
//! its plain name by the checkpoint's hashes of that. Where it is cut short or damaged, the line that it breaks off in is not
//! sent: the place stays before it, for a whole copy.
//!
//! A file that is read to its end and quiet for `close_inactive` is closed, and so are the ones that were quiet
//! longest where more than `max_open_files` would be open. It is opened again when it grows, and known again by
//! its device, inode, head and the bytes before its place. If it is renamed meanwhile, it is found by its inode in
//! its directory. What is written to a closed file that is deleted before the next look is lost, as is what was
//! not yet read of one that had to be closed because all others had something to read, too.

mod content;
mod discover;
mod identity;
mod newcomers;
mod notifier;
mod outlet;
mod packed;
mod reader;
mod settable;
mod skim;
mod standing;
mod tailer;
mod watch;

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use self::discover::{GlobError, Globs};
use self::newcomers::Live;
pub use self::notifier::Notifier;
use self::outlet::{Ended, Outlet};
pub use self::settable::Settable;
pub use self::standing::Standing;
use self::tailer::Tailer;
use self::watch::Watch;
use super::join::LineRules;
use super::making::Making;
use super::{Closed, Intake};
use crate::checkpoint::Checkpoints;
pub use crate::checkpoint::ledger::FileStatus;
use crate::delivery::MemoryBudget;
use crate::record::StreamName;
use crate::shutdown::Shutdown;

/// A source keeps so many bytes of unfinished lines in memory, of all its files together. A guess: a short line
/// for each of 10,000 files.
pub const UNFINISHED_KEPT: usize = 4 << 20;

/// A `[[source]]` table of `type = "file"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Absolute globs, `**` allowed.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub start_position: StartPosition,
    /// A file that was not written to for so long when it is met, and that has no checkpoint, is taken up at its end.
    pub ignore_older: Option<Duration>,
    /// A file that has been read to its end, and not written to since, is closed after so long.
    pub close_inactive: Duration,
    /// A file that has lost its name is read for so long: its writer may not have noticed yet.
    pub rotate_wait: Duration,
    /// Files of the source that are held open at once.
    pub max_open_files: usize,
    /// Longer lines are dead-lettered; none: what the stream takes.
    pub max_line_bytes: Option<usize>,
    pub rules: LineRules,
}

impl Settings {
    /// Descriptors that its files may take at any moment, with those held while there is no room.
    pub fn most_open(&self) -> usize {
        self.max_open_files + self.max_open_files.div_ceil(newcomers::BEYOND)
    }
}

impl Default for Settings {
    /// Nothing is included yet.
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            start_position: StartPosition::End,
            ignore_older: None,
            // As Filebeat's `close_inactive`.
            close_inactive: Duration::from_secs(5 * 60),
            // As Fluent Bit's `Rotate_Wait`.
            rotate_wait: Duration::from_secs(5),
            // Half of the 1024 that a process may have open where nobody raised it.
            max_open_files: 512,
            max_line_bytes: None,
            rules: LineRules::default(),
        }
    }
}

/// Where to start in a file that was there before the agent and has no checkpoint. A file that appears
/// later is always read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    Beginning,
    End,
}

/// A file source at work.
#[derive(Debug)]
pub struct Tail {
    live: Live,
    thread: thread::JoinHandle<Ended>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    #[error(transparent)]
    Glob(#[from] GlobError),
    #[error(
        "no thread can be started to read files: {0}; raise the limit of processes for this user"
    )]
    Thread(#[source] std::io::Error),
}

impl Tail {
    /// Starts reading: into `intake`, which leads to `stream`, each record as `making` makes it, until
    /// `shutdown`. `notifier` is that of all sources. Needs a runtime.
    pub fn spawn(
        settings: &Settings,
        notifier: &Notifier,
        stream: &StreamName,
        checkpoints: &Checkpoints,
        intake: Intake,
        making: Making,
        shutdown: Shutdown,
    ) -> Result<Self, TailError> {
        let globs = Globs::new(&settings.include, &settings.exclude)?;
        let runtime = Handle::current();
        let watch = Watch::new(notifier, intake.pause());
        let waker = watch.waker();
        let outlet = Outlet {
            runtime: runtime.clone(),
            intake,
            making,
            rules: settings.rules.clone(),
            max_line: settings.max_line_bytes,
            unfinished: MemoryBudget::new(UNFINISHED_KEPT),
            shutdown: shutdown.clone(),
            newcomers: RefCell::default(),
        };
        let checkpoints = checkpoints.of_source(stream, &settings.include.join(", "));
        let now = Instant::now();
        let tailer = Tailer::new(settings, globs, checkpoints, outlet, watch, now);
        let live = tailer.live();
        let (on_end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("tail".to_owned())
            .spawn(move || {
                let _on_end = on_end;
                tailer.run()
            })
            .map_err(TailError::Thread)?;
        runtime.spawn(async move {
            shutdown.stopped().await;
            waker.wake();
        });
        Ok(Self {
            live,
            thread,
            ended,
        })
    }

    /// How far each file is that is open now, in the order of their paths.
    pub fn status(&self) -> Vec<FileStatus> {
        let live = self.live.lock().expect("no panic while held");
        let mut status: Vec<FileStatus> =
            live.values().map(|known| known.ledger.status()).collect();
        status.sort_by(|a, b| a.path.cmp(&b.path));
        status
    }

    /// Waits until the thread has ended: after a shutdown, or because the pipeline is gone.
    pub async fn finished(self) -> Result<(), Closed> {
        // Dropped by the thread as its last deed, whichever way it ends.
        let _ = self.ended.await;
        match self.thread.join().expect("the tail thread does not panic") {
            Ended::Stopped => Ok(()),
            Ended::PipelineClosed => Err(Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{PartitionKey, RecordKey};
    use crate::shutdown;
    use crate::source::Costs;
    use crate::source::keying::{Keying, PartitionKeyRule};
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use tokio::sync::mpsc;

    fn spawn(
        settings: &Settings,
        checkpoints: &Checkpoints,
        intake: Intake,
        shutdown: Shutdown,
    ) -> Tail {
        let stream = StreamName::new("logs").unwrap();
        let making = Making::from(Keying::RANDOM);
        let notifier = Notifier::default();
        Tail::spawn(
            settings,
            &notifier,
            &stream,
            checkpoints,
            intake,
            making,
            shutdown,
        )
        .unwrap()
    }

    async fn line(chunks: &mut mpsc::Receiver<super::super::Chunk>) -> String {
        let chunk = chunks.recv().await.unwrap();
        String::from_utf8(chunk.records[0].data.to_vec()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn thread_follows_files_until_it_is_told_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log/a.log");
        fs::create_dir(dir.path().join("log")).unwrap();
        let settings = Settings {
            include: vec![dir.path().join("log/*.log").display().to_string()],
            ..Settings::default()
        };
        let checkpoints = Checkpoints::open(&dir.path().join("state")).unwrap();
        let (to, mut chunks) = mpsc::channel(4);
        let costs = Costs::new(0, true);
        let intake = Intake::new(to, MemoryBudget::new(1 << 26), costs);
        let (stop, shutdown) = shutdown::channel();
        let tail = spawn(&settings, &checkpoints, intake, shutdown);

        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        // Whether or not the first look has been taken by now, this file was empty in it.
        file.write_all(b"").unwrap();
        while tail.status().is_empty() {
            tokio::task::yield_now().await;
        }
        file.write_all(b"one\n").unwrap();
        assert_eq!(line(&mut chunks).await, "one");
        fs::rename(&log, dir.path().join("log/a.log.1")).unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(line(&mut chunks).await, "two");
        fs::write(&log, "three\n").unwrap();
        assert_eq!(line(&mut chunks).await, "three");
        assert_eq!(tail.status().len(), 2);
        stop.stop();
        tail.finished().await.unwrap();
        assert!(chunks.recv().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn file_rotated_twice_at_once_is_caught() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("log").join(name);
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(at("a.log"), "1\n").unwrap();
        let settings = Settings {
            include: vec![at("a.log").display().to_string()],
            start_position: StartPosition::Beginning,
            ..Settings::default()
        };
        let checkpoints = Checkpoints::open(&dir.path().join("state")).unwrap();
        let (to, mut chunks) = mpsc::channel(4);
        let costs = Costs::new(0, true);
        let intake = Intake::new(to, MemoryBudget::new(1 << 26), costs);
        let (stop, shutdown) = shutdown::channel();
        let tail = spawn(&settings, &checkpoints, intake, shutdown);
        assert_eq!(line(&mut chunks).await, "1");
        fs::rename(at("a.log"), at("a.log.1")).unwrap();
        fs::write(at("a.log"), "2\n").unwrap();
        fs::rename(at("a.log.1"), at("a.log.2")).unwrap();
        fs::rename(at("a.log"), at("a.log.1")).unwrap();
        fs::write(at("a.log"), "3\n").unwrap();
        // In which order, where a look falls between two of these: a law of the tailer, whose looks are told when.
        let two = [line(&mut chunks).await, line(&mut chunks).await];
        assert!(two.contains(&"2".to_owned()) && two.contains(&"3".to_owned()));
        stop.stop();
        tail.finished().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn file_that_is_rotated_keeps_the_key_of_its_first_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("log").join(name);
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(at("a.log"), "one\n").unwrap();
        let settings = Settings {
            include: vec![at("*.log").display().to_string()],
            start_position: StartPosition::Beginning,
            ..Settings::default()
        };
        let checkpoints = Checkpoints::open(&dir.path().join("state")).unwrap();
        let (to, mut chunks) = mpsc::channel(4);
        let intake = Intake::new(to, MemoryBudget::new(1 << 26), Costs::new(0, true));
        let (stop, shutdown) = shutdown::channel();
        let stream = StreamName::new("logs").unwrap();
        let making = Keying::new(&PartitionKeyRule::File).unwrap().into();
        let notifier = Notifier::default();
        let tail = Tail::spawn(
            &settings,
            &notifier,
            &stream,
            &checkpoints,
            intake,
            making,
            shutdown,
        )
        .unwrap();
        let key = |name| {
            let path = at(name).display().to_string();
            RecordKey::Keyed(PartitionKey::new(path).unwrap())
        };
        let mut next = async || chunks.recv().await.unwrap().records.remove(0);

        assert_eq!(next().await.key, key("a.log"));
        fs::rename(at("a.log"), at("a.log.1")).unwrap();
        let mut rotated = OpenOptions::new().append(true).open(at("a.log.1")).unwrap();
        rotated.write_all(b"two\n").unwrap();
        let two = next().await;
        assert_eq!((&two.data[..], two.key), (&b"two"[..], key("a.log")));
        fs::write(at("b.log"), "three\n").unwrap();
        assert_eq!(next().await.key, key("b.log"));
        stop.stop();
        tail.finished().await.unwrap();
    }

    #[tokio::test]
    async fn source_that_waits_for_room_stops_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1\n".repeat(100_000)).unwrap();
        let settings = Settings {
            include: vec![dir.path().join("a").display().to_string()],
            start_position: StartPosition::Beginning,
            ..Settings::default()
        };
        let checkpoints = Checkpoints::open(&dir.path().join("state")).unwrap();
        let (to, mut chunks) = mpsc::channel(4);
        let costs = Costs::new(0, true);
        let budget = MemoryBudget::new(4096);
        let intake = Intake::new(to, budget.clone(), costs);
        let (stop, shutdown) = shutdown::channel();
        let tail = spawn(&settings, &checkpoints, intake, shutdown);
        let first = chunks.recv().await.unwrap();
        assert_eq!(budget.in_use(), budget.limit(), "and it waits for more");
        stop.stop();
        tail.finished().await.unwrap();
        assert!(chunks.recv().await.is_none());
        drop(first);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn source_that_nobody_takes_chunks_from_stops_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1\n".repeat(100_000)).unwrap();
        let settings = Settings {
            include: vec![dir.path().join("a").display().to_string()],
            start_position: StartPosition::Beginning,
            ..Settings::default()
        };
        let checkpoints = Checkpoints::open(&dir.path().join("state")).unwrap();
        let (to, chunks) = mpsc::channel(1);
        let costs = Costs::new(0, true);
        let budget = MemoryBudget::new(1 << 30);
        let intake = Intake::new(to, budget.clone(), costs);
        let (stop, shutdown) = shutdown::channel();
        let tail = spawn(&settings, &checkpoints, intake, shutdown);
        // One chunk waits in the channel and one outside, of 1024 lines each.
        let chunk = budget.reserve(costs.of(1024, 1024)).await;
        while budget.in_use() != 3 * chunk.bytes() {
            tokio::task::yield_now().await;
        }
        stop.stop();
        tail.finished().await.unwrap();
        checkpoints.save_if_moved().unwrap();
        let saved = checkpoints.of_source(&StreamName::new("logs").unwrap(), "");
        assert!(saved.unclaimed().is_empty());
        drop((chunks, chunk));
        assert_eq!(budget.in_use(), 0, "what was not taken is dropped");
    }
}
