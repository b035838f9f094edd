//! All files of one source, in turns.
//!
//! [`Tailer::poll_once`] looks for what has changed and gives every file that has data one turn; the source's
//! thread calls it for ever. Time is passed in.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::discover::{Found, Globs};
use super::identity::{self, FileId};
use super::reader::{Ended, Outlet, Reader, Turn, TurnError};
use super::watch::{Changes, Watch};
use super::{Settings, StartPosition};
use crate::checkpoint::{Checkpoints, FileLedger, SavedFile};

/// All directories are looked through so often, whatever the events say.
const RESCAN: Duration = Duration::from_secs(5);
/// The same where there are no events.
const RESCAN_POLLING: Duration = Duration::from_secs(1);
/// All files are looked at so often. With 10,000 of them this costs under 1 % of a core (a guess: 0.6 us per
/// `fstat`).
const SWEEP: Duration = Duration::from_secs(1);
/// The same for files that no events come for, and where there are none at all.
pub(super) const SWEEP_POLLING: Duration = Duration::from_millis(250);
/// A file that could not be read is left alone for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// A look through the directories takes at most this share of the time, however many events ask for one.
const SCAN_SHARE: u32 = 10;

/// The ledgers of the files now open, for whoever wants to know how far they are.
pub(super) type Live = Arc<Mutex<HashMap<FileId, Arc<FileLedger>>>>;

#[derive(Debug)]
pub(super) struct Tailer {
    globs: Globs,
    include: Vec<String>,
    start_position: StartPosition,
    /// Of `include`: an earlier run looked at them, so what is new for us appeared since.
    known_includes: Vec<String>,
    rotate_wait: Duration,
    checkpoints: Checkpoints,
    outlet: Outlet,
    watch: Watch,
    files: HashMap<FileId, Tailed>,
    by_path: HashMap<PathBuf, FileId>,
    /// Files that may have data, each once (`Tailed::queued`).
    queue: VecDeque<FileId>,
    /// What could not be read at the last look, so that it is said once.
    refused: HashSet<PathBuf>,
    live: Live,
    /// Until it is over, what is new for us may have been there for long.
    is_first_look: bool,
    scan_wanted: bool,
    next_scan: Instant,
    scan_allowed: Instant,
    next_sweep: Instant,
    next_polling_sweep: Instant,
}

#[derive(Debug)]
struct Tailed {
    reader: Reader,
    queued: bool,
    /// No events come for it.
    unwatched: bool,
    /// Its name has gone, or belongs to another file now. It is read to its end and then for a while.
    gone_since: Option<Instant>,
    /// The file that had its name before: it is finished first.
    after: Option<FileId>,
    /// Reading failed.
    paused_until: Option<Instant>,
}

impl Tailer {
    pub(super) fn new(
        settings: &Settings,
        globs: Globs,
        checkpoints: Checkpoints,
        outlet: Outlet,
        watch: Watch,
        now: Instant,
    ) -> Self {
        let known = |glob: &&String| checkpoints.has_looked_at(glob);
        Self {
            globs,
            include: settings.include.clone(),
            start_position: settings.start_position,
            known_includes: settings.include.iter().filter(known).cloned().collect(),
            rotate_wait: super::ROTATE_WAIT,
            checkpoints,
            outlet,
            watch,
            files: HashMap::new(),
            by_path: HashMap::new(),
            queue: VecDeque::new(),
            refused: HashSet::new(),
            live: Live::default(),
            is_first_look: true,
            scan_wanted: true,
            next_scan: now,
            scan_allowed: now,
            next_sweep: now,
            next_polling_sweep: now,
        }
    }

    pub(super) fn live(&self) -> Live {
        Arc::clone(&self.live)
    }

    /// Runs until there is nothing left to do it for.
    pub(super) fn run(mut self) -> Ended {
        loop {
            if self.outlet.shutdown.is_stopped() {
                return Ended::Stopped;
            }
            match self.poll_once(Instant::now()) {
                Ok(true) => {}
                Ok(false) => self.watch.wait(SWEEP_POLLING),
                Err(ended) => return ended,
            }
        }
    }

    /// Looks, and gives each file that has data one turn. False if there is nothing more to do. Blocks while there is no room
    /// for what is read.
    pub(super) fn poll_once(&mut self, now: Instant) -> Result<bool, Ended> {
        let changes = self.watch.changes();
        self.take_up(&changes);
        if now >= self.next_scan || (self.scan_wanted && now >= self.scan_allowed) {
            self.scan(now);
        }
        self.sweep(now);
        let busy = self.give_turns(now)?;
        self.close_finished(now)?;
        Ok(busy)
    }

    fn take_up(&mut self, changes: &Changes) {
        if changes.overflowed {
            self.scan_wanted = true;
            self.next_sweep = self.next_sweep.min(self.next_polling_sweep);
        }
        for path in changes.contents.iter().chain(&changes.names) {
            match self.by_path.get(path) {
                Some(id) => enqueue(&mut self.files, &mut self.queue, *id),
                None => self.scan_wanted |= self.globs.matches(path),
            }
        }
        for path in &changes.names {
            self.scan_wanted |= self.by_path.contains_key(path) || path.is_dir();
        }
    }

    /// Looks through the directories: files that are new, renamed, gone.
    fn scan(&mut self, now: Instant) {
        let began = Instant::now();
        let (mut found, mut directories) = (Vec::new(), HashSet::new());
        let mut refused = HashMap::new();
        self.globs.walk(|what| match what {
            Found::File(path, meta) => found.push((path, meta)),
            Found::Directory(path) => {
                directories.insert(path);
            }
            Found::Refused(path, error) => {
                refused.insert(path, error);
            }
        });
        self.scan_wanted = self.watch.watch(&directories);

        let new = self.recognise(found, &refused, now);
        let mut had_name = self.names_lost();
        if self.is_first_look {
            self.find_rotated_away(&new, &mut had_name, now);
        }
        for (path, meta) in new {
            if let Err(error) = self.open(&path, &meta, had_name.get(&path).copied()) {
                refused.insert(path, error);
            }
        }
        if std::mem::take(&mut self.is_first_look) {
            self.remember_first_look();
        }
        self.warn_of(refused);
        self.by_path = (self.files.iter())
            .filter(|(_, tailed)| tailed.gone_since.is_none())
            .map(|(id, tailed)| (tailed.reader.path().to_owned(), *id))
            .collect();

        let every = if self.watch.is_polling() {
            RESCAN_POLLING
        } else {
            RESCAN
        };
        self.next_scan = now + every;
        self.scan_allowed = now + began.elapsed() * SCAN_SHARE;
    }

    /// Brings the names of known files up to date; returns what is not known.
    fn recognise(
        &mut self,
        found: Vec<(PathBuf, Metadata)>,
        refused: &HashMap<PathBuf, io::Error>,
        now: Instant,
    ) -> Vec<(PathBuf, Metadata)> {
        let mut names: HashMap<FileId, Vec<&Path>> = HashMap::new();
        for (path, meta) in &found {
            names.entry(FileId::of(meta)).or_default().push(path);
        }
        for (id, tailed) in &mut self.files {
            match names.get(id) {
                Some(names) => {
                    tailed.gone_since = None;
                    if !names.contains(&tailed.reader.path()) {
                        tailed.reader.renamed(names[0].to_owned());
                        tailed.unwatched = is_unwatched(&self.watch, names[0]);
                    }
                }
                // In a directory that cannot be read it may have its name still.
                None if is_under(tailed.reader.path(), refused) => {}
                None => {
                    tailed.gone_since.get_or_insert(now);
                    tailed.unwatched = true;
                }
            }
        }
        let mut new = HashSet::new();
        let is_new = |(_, meta): &(PathBuf, Metadata)| {
            let id = FileId::of(meta);
            !self.files.contains_key(&id) && new.insert(id)
        };
        found.into_iter().filter(is_new).collect()
    }

    /// Names that open files had until now.
    fn names_lost(&self) -> HashMap<PathBuf, FileId> {
        let has_lost = |(path, id): &(&PathBuf, &FileId)| {
            let tailed = self.files.get(id);
            tailed.is_some_and(|t| t.gone_since.is_some() || t.reader.path() != *path)
        };
        (self.by_path.iter())
            .filter(has_lost)
            .map(|(path, id)| (path.clone(), *id))
            .collect()
    }

    /// Files that were renamed while nobody looked, and whose new names are not asked for.
    fn find_rotated_away(
        &mut self,
        new: &[(PathBuf, Metadata)],
        had_name: &mut HashMap<PathBuf, FileId>,
        now: Instant,
    ) {
        for saved in self.checkpoints.unclaimed() {
            let old_path = PathBuf::from(&saved.path);
            let id = FileId {
                device: saved.device,
                inode: saved.inode,
            };
            if !self.globs.matches(&old_path) || self.files.contains_key(&id) {
                continue;
            }
            if let Some((path, _)) = new.iter().find(|(_, meta)| FileId::of(meta) == id) {
                // Its new name is asked for. Only the order is of interest.
                if *path != old_path {
                    had_name.insert(old_path, id);
                }
                continue;
            }
            match self.open_rotated(&saved, id) {
                Ok(Some(reader)) => {
                    let mut tailed = self.tailed(reader);
                    tailed.gone_since = Some(now);
                    self.insert(id, tailed);
                    had_name.insert(old_path, id);
                }
                Ok(None) if saved.size_seen > saved.offset => tracing::warn!(
                    path = saved.path,
                    unread = saved.size_seen - saved.offset,
                    "file was rotated or deleted while nobody read it, and is not in its directory any \
                     more; what was not read of it is lost, unless it is put back there"
                ),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    path = saved.path, %error,
                    "file that was rotated while nobody read it cannot be finished; let this user read \
                     its directory and start again"
                ),
            }
        }
    }

    fn open_rotated(&self, saved: &SavedFile, id: FileId) -> io::Result<Option<Reader>> {
        let Some(directory) = Path::new(&saved.path).parent() else {
            return Ok(None);
        };
        for entry in directory.read_dir()? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file() && FileId::of(&meta) == id {
                let file = File::open(entry.path())?;
                if identity::is_saved(saved, &file, file.metadata()?.len())? {
                    tracing::info!(
                        path = saved.path, now = %entry.path().display(),
                        "file was rotated while nobody read it; finishing it"
                    );
                    let path = PathBuf::from(&saved.path);
                    return Reader::new(path, file, saved.offset, &self.checkpoints).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn open(&mut self, path: &Path, meta: &Metadata, after: Option<FileId>) -> io::Result<()> {
        let file = match File::open(path) {
            Ok(file) => file,
            // Gone since.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let opened = file.metadata()?;
        let id = FileId::of(&opened);
        if id != FileId::of(meta) {
            // Rotated since: the next look has it.
            self.scan_wanted = true;
            return Ok(());
        }
        let offset = self.offset_to_start_at(&file, path, id, opened.len())?;
        let reader = Reader::new(path.to_owned(), file, offset, &self.checkpoints)?;
        let mut tailed = self.tailed(reader);
        tailed.after = after.filter(|after| *after != id);
        self.insert(id, tailed);
        Ok(())
    }

    fn offset_to_start_at(
        &self,
        file: &File,
        path: &Path,
        id: FileId,
        size: u64,
    ) -> io::Result<u64> {
        if let Some(saved) = self.checkpoints.find(id.device, id.inode, path) {
            if identity::is_saved(&saved, file, size)? {
                return Ok(saved.offset);
            }
            tracing::info!(
                path = %path.display(), offset = saved.offset,
                "file has other content than the checkpoint knows; reading it from its beginning"
            );
            return Ok(0);
        }
        let was_there_before =
            self.is_first_look && !self.globs.matches_one_of(path, &self.known_includes);
        match self.start_position {
            StartPosition::End if was_there_before => identity::line_start(file, size),
            _ => Ok(0),
        }
    }

    /// Saved before anything is read: after a crash, files that started at their end are not taken for ones
    /// that were never seen, and what came since is not skipped.
    fn remember_first_look(&mut self) {
        for glob in &self.include {
            self.checkpoints.looked_at(glob);
        }
        if let Err(error) = self.checkpoints.save_if_moved() {
            tracing::error!(%error, "the checkpoint stands still");
        }
    }

    fn warn_of(&mut self, refused: HashMap<PathBuf, io::Error>) {
        for (path, error) in &refused {
            if !self.refused.contains(path) {
                tracing::warn!(
                    path = %path.display(), %error,
                    "cannot be read; let this user read it, or exclude it. It is tried again every few \
                     seconds, other files go on"
                );
            }
        }
        self.refused = refused.into_keys().collect();
    }

    fn tailed(&self, reader: Reader) -> Tailed {
        Tailed {
            unwatched: is_unwatched(&self.watch, reader.path()),
            reader,
            queued: false,
            gone_since: None,
            after: None,
            paused_until: None,
        }
    }

    fn insert(&mut self, id: FileId, tailed: Tailed) {
        self.files.insert(id, tailed);
        self.show(id);
        enqueue(&mut self.files, &mut self.queue, id);
    }

    /// Looks at files that events may have missed.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_polling_sweep {
            return;
        }
        let all = now >= self.next_sweep || self.watch.is_polling();
        self.next_polling_sweep = now + SWEEP_POLLING;
        if all {
            self.next_sweep = now + SWEEP;
        }
        for (id, tailed) in &mut self.files {
            if (all || tailed.unwatched) && !tailed.queued {
                tailed.queued = true;
                self.queue.push_back(*id);
            }
        }
    }

    fn give_turns(&mut self, now: Instant) -> Result<bool, Ended> {
        let mut busy = false;
        for _ in 0..self.queue.len() {
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            let predecessor_reads = self.predecessor_reads(id);
            let Some(tailed) = self.files.get_mut(&id) else {
                continue;
            };
            if predecessor_reads {
                self.queue.push_back(id);
                continue;
            }
            (tailed.queued, tailed.after) = (false, None);
            if tailed.paused_until.is_some_and(|until| now < until) {
                continue;
            }
            match tailed.reader.turn(&self.outlet, &self.checkpoints) {
                Ok(turn) => {
                    tailed.paused_until = None;
                    if turn != Turn::CaughtUp {
                        busy = true;
                        enqueue(&mut self.files, &mut self.queue, id);
                    }
                    if turn == Turn::StartedOver {
                        self.show(id);
                    }
                }
                Err(TurnError::Read(error)) => {
                    if tailed.paused_until.is_none() {
                        tracing::warn!(
                            path = %tailed.reader.path().display(), %error,
                            "reading failed; it is tried again every few seconds. Look after its disk"
                        );
                    }
                    tailed.paused_until = Some(now + PAUSE);
                }
                Err(TurnError::Ended(ended)) => return Err(ended),
            }
        }
        // Who waited for a predecessor has its turn as soon as that one is done.
        Ok(busy || !self.queue.is_empty())
    }

    /// The file that had this one's name before still has something to read.
    fn predecessor_reads(&self, id: FileId) -> bool {
        let after = self.files.get(&id).and_then(|tailed| tailed.after);
        after
            .and_then(|after| self.files.get(&after))
            .is_some_and(|before| before.queued && before.paused_until.is_none())
    }

    /// Lets go of files that have lost their name and have had their time.
    fn close_finished(&mut self, now: Instant) -> Result<(), Ended> {
        let rotate_wait = self.rotate_wait;
        let is_finished = |(id, tailed): (&FileId, &Tailed)| {
            let waited = (tailed.gone_since).is_some_and(|since| now >= since + rotate_wait);
            (waited && !tailed.queued && tailed.paused_until.is_none()).then_some(*id)
        };
        let finished: Vec<FileId> = self.files.iter().filter_map(is_finished).collect();
        for id in finished {
            let Some(tailed) = self.files.get_mut(&id) else {
                continue;
            };
            // A last look: it may have been written to since the last turn.
            match tailed.reader.turn(&self.outlet, &self.checkpoints) {
                Ok(Turn::CaughtUp) => {
                    tailed.reader.close(&self.outlet)?;
                    self.files.remove(&id);
                    self.live().lock().expect("no panic while held").remove(&id);
                }
                Ok(_) => enqueue(&mut self.files, &mut self.queue, id),
                Err(TurnError::Read(_)) => tailed.paused_until = Some(now + PAUSE),
                Err(TurnError::Ended(ended)) => return Err(ended),
            }
        }
        Ok(())
    }

    fn show(&self, id: FileId) {
        let ledger = Arc::clone(self.files[&id].reader.ledger());
        let mut live = self.live.lock().expect("no panic while held");
        live.insert(id, ledger);
    }
}

fn is_under(path: &Path, refused: &HashMap<PathBuf, io::Error>) -> bool {
    path.ancestors().any(|above| refused.contains_key(above))
}

fn enqueue(files: &mut HashMap<FileId, Tailed>, queue: &mut VecDeque<FileId>, id: FileId) {
    if let Some(tailed) = files.get_mut(&id)
        && !tailed.queued
    {
        tailed.queued = true;
        queue.push_back(id);
    }
}

/// No events come for a file behind a link, or in a directory that is not watched.
fn is_unwatched(watch: &Watch, path: &Path) -> bool {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    is_link || !path.parent().is_some_and(|parent| watch.covers(parent))
}

#[cfg(test)]
#[path = "tailer_tests.rs"]
mod tests;
