//! All files of one source, in turns.
//!
//! [`Tailer::poll_once`] looks for what has changed and gives every file that has data one turn; the source's
//! thread calls it for ever. Time is passed in. Which files there are is [`scan`]'s part.

mod closing;
mod meanwhile;
mod packed;
mod renamed;
mod rotated;
mod scan;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::closing::OpenFiles;
use super::discover::Globs;
use super::identity::FileId;
use super::newcomers::{Known, Live, Newcomers};
use super::outlet::{Ended, Outlet};
use super::reader::{Done, Reader, Turn, TurnError};
use super::watch::{Changes, Watch};
use super::{Settings, StartPosition};
use crate::checkpoint::SourceCheckpoints;

/// All files are looked at so often. With 10,000 of them this costs under 1 % of a core (a guess: 0.6 us per
/// `fstat`).
const SWEEP: Duration = Duration::from_secs(1);
/// The same for files that no events come for, and where there are none at all.
pub(super) const SWEEP_POLLING: Duration = Duration::from_millis(250);
/// A file that could not be read is left alone for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// Files are given turns for so long between two looks at which there are.
const SLICE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Tailer {
    globs: Arc<Globs>,
    include: Vec<String>,
    start_position: StartPosition,
    ignore_older: Option<Duration>,
    close_inactive: Duration,
    open_files: OpenFiles,
    /// Of `include`: an earlier run looked at them, so what is new for us appeared since.
    known_includes: Vec<String>,
    rotate_wait: Duration,
    checkpoints: SourceCheckpoints,
    outlet: Outlet,
    watch: Watch,
    files: HashMap<FileId, Tailed>,
    /// Compressed files that have been read.
    done: HashMap<FileId, Done>,
    /// Compressed files that wait for their turn.
    packed_wait: bool,
    by_path: HashMap<PathBuf, FileId>,
    /// `by_path` and `gone` are to be made anew.
    names_moved: bool,
    /// What has just been renamed: by what it is called now, what it was called first of what is asked for.
    renamed: HashMap<PathBuf, (PathBuf, Instant)>,
    /// Files that may have lost their names.
    gone: Vec<FileId>,
    /// Files with an unfinished line or an open record, which may come to be due; others too.
    holding: HashSet<FileId>,
    /// Files that may have data, each once (`Tailed::queued`).
    queue: VecDeque<FileId>,
    /// What could not be read at the last look, so that it is said once.
    refused: HashSet<PathBuf>,
    /// Sources of the same stream that a file was left to, so that it is said once of each.
    left_to: HashSet<Arc<str>>,
    live: Live,
    /// A file has come that the checkpoint on disk does not know.
    has_unsaved: bool,
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
    /// Among the open files.
    listed: bool,
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
        checkpoints: SourceCheckpoints,
        outlet: Outlet,
        watch: Watch,
        now: Instant,
    ) -> Self {
        let known = |glob: &&String| checkpoints.has_looked_at(glob);
        let (globs, live) = (Arc::new(globs), Live::default());
        let newcomers = Newcomers::new(
            settings,
            Arc::clone(&globs),
            checkpoints.clone(),
            Arc::clone(&live),
            now,
        );
        *outlet.newcomers.borrow_mut() = Some(newcomers);
        Self {
            globs,
            include: settings.include.clone(),
            start_position: settings.start_position,
            ignore_older: settings.ignore_older,
            close_inactive: settings.close_inactive,
            open_files: OpenFiles::new(settings.max_open_files),
            known_includes: settings.include.iter().filter(known).cloned().collect(),
            rotate_wait: settings.rotate_wait,
            checkpoints,
            outlet,
            watch,
            files: HashMap::new(),
            done: HashMap::new(),
            packed_wait: false,
            by_path: HashMap::new(),
            names_moved: false,
            renamed: HashMap::new(),
            gone: Vec::new(),
            holding: HashSet::new(),
            queue: VecDeque::new(),
            refused: HashSet::new(),
            left_to: HashSet::new(),
            live,
            has_unsaved: false,
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
                Ok(false) => self.watch.wait(self.patience(Instant::now())),
                Err(ended) => return ended,
            }
        }
    }

    /// Looks, and gives each file that has data one turn. False if there is nothing more to do. Blocks while there is no room
    /// for what is read.
    pub(super) fn poll_once(&mut self, now: Instant) -> Result<bool, Ended> {
        let changes = self.watch.changes();
        self.take_newcomers(now);
        self.take_up(&changes, now);
        if now >= self.next_scan || (self.scan_wanted && now >= self.scan_allowed) {
            self.scan(now);
        }
        self.save_new();
        self.sweep(now);
        self.begin_waits();
        let busy = self.give_turns(now)?;
        self.close_finished(now)?;
        Ok(busy || self.has_newcomers())
    }

    /// How long there is nothing to do unless events say so.
    fn patience(&self, now: Instant) -> Duration {
        let until_scan = if self.scan_wanted {
            self.scan_allowed.saturating_duration_since(now)
        } else {
            SWEEP_POLLING
        };
        until_scan.min(SWEEP_POLLING)
    }

    fn take_up(&mut self, changes: &Changes, now: Instant) {
        self.catch_renamed(&changes.renames, now);
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

    /// Before anything of a new file is read: after a crash it is found by its identity, whatever it is called
    /// by then; and one that started at its end does not start there once more.
    fn save_new(&mut self) {
        if std::mem::take(&mut self.has_unsaved) {
            self.checkpoints.save_new();
        }
    }

    fn insert(&mut self, id: FileId, tailed: Tailed) {
        let is_open = tailed.reader.is_open();
        if tailed.gone_since.is_some() {
            self.gone.push(id);
        }
        self.files.insert(id, tailed);
        (self.has_unsaved, self.names_moved) = (true, true);
        self.show(id);
        if is_open {
            enqueue(&mut self.files, &mut self.queue, id);
            self.hold_to_limit(id);
        }
    }

    /// Looks at files that events may have missed, and at those with a record that has waited long enough.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_polling_sweep {
            return;
        }
        let all = now >= self.next_sweep || self.watch.is_polling();
        self.next_polling_sweep = now + SWEEP_POLLING;
        if all {
            self.next_sweep = now + SWEEP;
            self.close_inactive(now);
        }
        // Not through all that are known: of 10,000 few are open, and fewer hold something.
        for id in self.open_files.iter() {
            if all || self.files.get(id).is_some_and(|tailed| tailed.unwatched) {
                enqueue(&mut self.files, &mut self.queue, *id);
            }
        }
        let (files, queue, rules) = (&mut self.files, &mut self.queue, &self.outlet.rules);
        self.holding.retain(|id| {
            let tailed = files.get(id);
            if tailed.is_some_and(|tailed| tailed.reader.is_due(rules, now)) {
                enqueue(files, queue, *id);
            }
            files.contains_key(id)
        });
    }

    fn give_turns(&mut self, now: Instant) -> Result<bool, Ended> {
        let (mut busy, began) = (false, Instant::now());
        for _ in 0..self.queue.len() {
            if began.elapsed() > SLICE {
                break;
            }
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
            match tailed.reader.turn(&self.outlet, now) {
                Ok(turn) => {
                    tailed.paused_until = None;
                    if tailed.reader.holds_something() {
                        self.holding.insert(id);
                    } else {
                        self.holding.remove(&id);
                    }
                    if matches!(turn, Turn::Read | Turn::StartedOver) {
                        busy = true;
                        enqueue(&mut self.files, &mut self.queue, id);
                    }
                    if turn == Turn::StartedOver {
                        self.show(id);
                    }
                    self.scan_wanted |= turn == Turn::Away;
                    self.hold_to_limit(id);
                    if turn == Turn::Ended {
                        self.put_aside(id);
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
        let is_finished = |id: &FileId| {
            self.files.get(id).is_some_and(|tailed| {
                let waited = (tailed.gone_since).is_some_and(|since| now >= since + rotate_wait);
                waited && !tailed.queued && tailed.paused_until.is_none()
            })
        };
        let finished: Vec<FileId> = self.gone.iter().copied().filter(is_finished).collect();
        for id in finished {
            let Some(tailed) = self.files.get_mut(&id) else {
                continue;
            };
            // A last look: it may have been written to since the last turn.
            let closed = match tailed.reader.turn(&self.outlet, now) {
                // It comes to its end, or is given up, in its own time.
                Ok(Turn::CaughtUp) if tailed.reader.lacks_its_end() => continue,
                Ok(Turn::CaughtUp) => tailed.reader.close(&self.outlet).map(|()| true),
                Ok(Turn::Ended) => {
                    tailed.reader.ledger().close();
                    Ok(true)
                }
                Ok(Turn::Away) => closing::give_up(&mut tailed.reader, &self.outlet).map(|()| true),
                turn => turn.map(|_| false),
            };
            match closed {
                Ok(true) => {
                    self.files.remove(&id);
                    self.live().lock().expect("no panic while held").remove(&id);
                }
                Ok(false) => enqueue(&mut self.files, &mut self.queue, id),
                Err(TurnError::Read(_)) => tailed.paused_until = Some(now + PAUSE),
                Err(TurnError::Ended(ended)) => return Err(ended),
            }
        }
        Ok(())
    }

    fn show(&self, id: FileId) {
        let reader = &self.files[&id].reader;
        let known = Known {
            ledger: Arc::clone(reader.ledger()),
            asleep: reader.asleep(),
        };
        let mut live = self.live.lock().expect("no panic while held");
        live.insert(id, known);
    }
}

fn enqueue(files: &mut HashMap<FileId, Tailed>, queue: &mut VecDeque<FileId>, id: FileId) {
    if let Some(tailed) = files.get_mut(&id)
        && !tailed.queued
    {
        tailed.queued = true;
        queue.push_back(id);
    }
}

#[cfg(test)]
mod tests;
