//! Files that come up while the source's thread waits for room.
//!
//! Such a wait may last as long as an outage does, and rotation goes on meanwhile: a file can come, lose its name and be
//! deleted, all before the next scan. So the wait itself looks through the globs every now and then and opens what is
//! new, and what was closed and has grown since. Nothing of it is read; it is in the checkpoint from then on. The tailer takes it over before it scans again.
//!
//! What comes and has lost its name within [`EVERY`] is seen by the system's events alone, and no longer there for them
//! where it is deleted, too, before the wait is over.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Settings;
use super::content::Content;
use super::discover::{Found, Globs};
use super::identity::{self, FileId};
use super::outlet::Outlet;
use super::packed::Packing;
use super::reader::{Reader, Seen};
use crate::checkpoint::{FileLedger, SourceCheckpoints};

/// A wait looks so often. Rotations are minutes apart, seconds where a writer is mad.
const EVERY: Duration = Duration::from_millis(250);
/// The looks of all sources together take at most this share of the time: there may be 10,000 files, or 200 sources of one
/// directory, each of which walks it.
const SHARE: u32 = 20;
/// But it is never further off than this: a look also takes long when the process, or its machine, is stopped meanwhile.
const MOST: Duration = Duration::from_secs(30);
/// This share of `max_open_files` may be held beyond it: those that are open cannot be closed during a wait.
pub(super) const BEYOND: usize = 8;

/// The files that a tailer knows, for whoever wants to know how far they are.
pub(super) type Live = Arc<Mutex<HashMap<FileId, Known>>>;

/// A file that a tailer knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) ledger: Arc<FileLedger>,
    /// It is closed, and was this when that was done.
    pub(super) asleep: Option<Seen>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Newcomers {
    globs: Arc<Globs>,
    checkpoints: SourceCheckpoints,
    live: Live,
    ignore_older: Option<Duration>,
    max_open_files: usize,
    /// How many may be held.
    room: usize,
    held: Vec<Newcomer>,
    ids: HashSet<FileId>,
    every: Duration,
    /// That look, itself included.
    sources: u32,
    next_look: Instant,
    is_full_said: bool,
}

/// A file that is held open.
#[derive(Debug)]
pub(super) enum Newcomer {
    New(Box<Reader>),
    /// Known, and closed before.
    Grown(FileId, PathBuf, File),
}

impl Newcomers {
    pub(super) fn new(
        settings: &Settings,
        globs: Arc<Globs>,
        checkpoints: SourceCheckpoints,
        live: Live,
        now: Instant,
    ) -> Self {
        Self {
            globs,
            checkpoints,
            live,
            ignore_older: settings.ignore_older,
            max_open_files: settings.max_open_files,
            room: settings.max_open_files,
            held: Vec::new(),
            ids: HashSet::new(),
            every: EVERY,
            sources: 1,
            next_look: now + EVERY,
            is_full_said: false,
        }
    }

    #[cfg(test)]
    pub(super) fn look_every(&mut self, every: Duration) {
        (self.every, self.next_look) = (every, Instant::now());
    }

    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The tailer has just looked itself, and so many files are open beside what is held; so many sources look.
    pub(super) fn begin(&mut self, open: usize, sources: u32) {
        self.sources = sources;
        self.next_look = self.next_look.max(Instant::now() + self.every);
        let left = self.max_open_files.saturating_sub(open);
        self.room = left.max(self.max_open_files.div_ceil(BEYOND));
    }

    /// What is held, in the order it came.
    pub(super) fn take(&mut self) -> Vec<Newcomer> {
        self.ids.clear();
        std::mem::take(&mut self.held)
    }

    /// Opens what is new. `outlet` is where it will be read to.
    pub(super) fn look(&mut self, outlet: &Outlet) {
        let began = Instant::now();
        let mut found = Vec::new();
        self.globs.walk(|what| {
            // What is refused is told by the scan.
            if let Found::File(path, meta) = what
                && Packing::of(&path).is_none()
            {
                found.push((path, meta));
            }
        });
        let known_before = self.held.len();
        for (path, meta) in found {
            let id = FileId::of(&meta);
            if self.ids.contains(&id) || !self.is_wanted(id, &meta) {
                continue;
            }
            if self.held.len() >= self.room {
                self.say_full();
                break;
            }
            // What cannot be opened is left to the scan, which says why.
            if let Ok(Some(newcomer)) = self.hold(path, id, outlet) {
                self.ids.insert(id);
                self.held.push(newcomer);
            }
        }
        // By its identity it is found again after a crash, whatever it is called by then.
        if self.held.len() > known_before {
            self.checkpoints.save_new();
        }
        let now = Instant::now();
        self.next_look = now + pause(self.every, now - began, self.sources);
    }

    /// It is not known, or it was closed and is not what it was then.
    fn is_wanted(&self, id: FileId, meta: &Metadata) -> bool {
        let live = self.live.lock().expect("no panic while held");
        match live.get(&id) {
            None => true,
            Some(known) => known.asleep.is_some_and(|asleep| asleep != Seen::of(meta)),
        }
    }

    fn hold(&self, path: PathBuf, id: FileId, outlet: &Outlet) -> io::Result<Option<Newcomer>> {
        let is_known = (self.live.lock().expect("no panic while held")).contains_key(&id);
        let file = File::open(&path)?;
        let meta = file.metadata()?;
        if FileId::of(&meta) != id {
            // Renamed since: the next look has it.
            return Ok(None);
        }
        if is_known {
            return Ok(Some(Newcomer::Grown(id, path, file)));
        }
        // Another source of this stream may have it, or what was read of it is under way still.
        let Ok(claim) = self.checkpoints.claim(id.device, id.inode) else {
            return Ok(None);
        };
        let file = Content::Plain(file);
        let offset = match claim.saved(&path) {
            Some(saved) => identity::offset_of(&saved, &file, &path, meta.len())?,
            // As old as it is now: a wait may be longer than that.
            None if is_too_old(self.ignore_older, &meta) => {
                identity::line_start(&file, meta.len())?
            }
            None => 0,
        };
        let reader = Reader::new(path, file, offset, claim, outlet)?;
        Ok(Some(Newcomer::New(Box::new(reader))))
    }

    fn say_full(&mut self) {
        if !std::mem::replace(&mut self.is_full_said, true) {
            tracing::warn!(
                held = self.held.len(),
                "more files came while records wait than may be held open; those that are rotated to another name and \
                 deleted before there is room are lost. Raise max_open_files"
            );
        }
    }
}

/// Until the next look, after one that took so long, where so many sources look.
fn pause(every: Duration, took: Duration, sources: u32) -> Duration {
    let share = SHARE.saturating_mul(sources.max(1));
    every.max(took.saturating_mul(share).min(MOST))
}

pub(super) fn is_too_old(limit: Option<Duration>, meta: &Metadata) -> bool {
    let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
    limit.zip(age).is_some_and(|(limit, age)| age > limit)
}

/// Whether `path` is the name of file `id` now.
pub(super) fn leads_to(path: &Path, id: FileId) -> bool {
    path.metadata().is_ok_and(|meta| FileId::of(&meta) == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_take_a_small_share_of_the_time_and_a_stopped_process_looks_again_soon() {
        let after = |millis, sources| pause(EVERY, Duration::from_millis(millis), sources);
        assert_eq!(after(1, 1), EVERY);
        assert_eq!(after(500, 1), Duration::from_secs(10));
        assert_eq!(after(1, 200), Duration::from_secs(4), "of all of them");
        assert_eq!(after(60_000, 1), MOST);
    }
}
