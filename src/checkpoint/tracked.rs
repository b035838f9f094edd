//! The files being read, and when what is known of them is saved.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::claim::{Id, SourceCheckpoints, Taken};
use super::ledger::{FileLedger, Place, TrackedFile};
use super::store::{CheckpointError, Disk, Lock, RealDisk, Saved, SavedFile, SavedInclude, Store};
use crate::record::StreamName;
use crate::recurring::{Recurring, Unsaid};
use crate::shutdown::Shutdown;

/// An entry that no source has claimed for so long is dropped: its file is gone, or no longer included. A
/// guess: longer than a disk stays unmounted, short enough that a year of rotations does not pile up.
const KEEP_UNCLAIMED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// One that is finished is kept for people, for `kinseal checkpoint wait`, and to know its compressed copy: a weekly
/// rotation that compresses a week later is the slowest that is common.
const KEEP_FINISHED: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// And no more than so many, the last ones: all are written with each change.
const MOST_FINISHED: usize = 1000;

/// The checkpoint of one state directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Checkpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    lock: Lock,
    /// Counted up by whatever there is to save.
    changes: Arc<AtomicU64>,
    state: Mutex<State>,
    /// Held while saving. Never taken inside `state`, and `state` never held during I/O.
    saver: Mutex<Saver>,
    /// It cannot be saved.
    trouble: Mutex<Recurring>,
}

#[derive(Debug)]
struct State {
    includes: BTreeSet<(StreamName, String)>,
    files: HashMap<Id, Entry>,
    /// See [`Saved::past`].
    past: VecDeque<SavedFile>,
    /// Sources by their names.
    claims: HashMap<Id, Arc<str>>,
    /// Refused to a source: not forgotten when its reader is done with it, for that one comes again.
    wanted: HashSet<Id>,
}

#[derive(Debug)]
enum Entry {
    /// From an earlier run or another source, and not yet met again.
    Unclaimed(SavedFile),
    Tracked {
        ledger: Arc<FileLedger>,
        by: Arc<str>,
    },
}

#[derive(Debug)]
struct Saver {
    /// What `changes` was when it was last saved.
    saved_changes: u64,
    saved: HashMap<Id, SavedFile>,
    /// What was saved was removed, and is to be saved again.
    is_gone: bool,
}

impl Checkpoints {
    /// Takes the state directory and reads what was saved there.
    pub fn open(state_dir: &Path) -> Result<Self, CheckpointError> {
        Self::open_on(state_dir, Box::new(RealDisk))
    }

    /// The same, with the checkpoint file on `disk`.
    pub fn open_on(state_dir: &Path, disk: Box<dyn Disk>) -> Result<Self, CheckpointError> {
        let lock = Lock::take(state_dir)?;
        let store = Store::new(state_dir.to_owned(), disk);
        let saved = store.load()?.unwrap_or_default();
        // A disk that is full now, or a directory that takes no files, is told before anything is sent.
        store.save(&saved).map_err(|error| match error {
            CheckpointError::Unwritable { source, .. } => CheckpointError::StateDir {
                dir: state_dir.to_owned(),
                source,
            },
            other => other,
        })?;
        let by_id: HashMap<Id, SavedFile> =
            saved.files.into_iter().map(|f| (id_of(&f), f)).collect();
        let files = by_id
            .iter()
            .map(|(id, f)| (id.clone(), Entry::Unclaimed(f.clone())));
        Ok(Self(Arc::new(Inner {
            store,
            lock,
            changes: Arc::new(AtomicU64::new(0)),
            state: Mutex::new(State {
                includes: (saved.includes.into_iter())
                    .map(|include| (include.stream, include.glob))
                    .collect(),
                files: files.collect(),
                past: saved.past.into(),
                claims: HashMap::new(),
                wanted: HashSet::new(),
            }),
            saver: Mutex::new(Saver {
                saved_changes: 0,
                saved: by_id,
                is_gone: false,
            }),
            trouble: Mutex::default(),
        })))
    }

    /// The view of one source, which people know by `name`.
    pub fn of_source(&self, stream: &StreamName, name: &str) -> SourceCheckpoints {
        SourceCheckpoints::new(self.clone(), stream.clone(), name)
    }

    pub(super) fn has_looked_at(&self, stream: &StreamName, glob: &str) -> bool {
        let include = (stream.clone(), glob.to_owned());
        self.state().includes.contains(&include)
    }

    pub(super) fn looked_at(&self, stream: &StreamName, glob: &str) {
        let include = (stream.clone(), glob.to_owned());
        if self.state().includes.insert(include) {
            self.0.changes.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn unclaimed(&self, stream: &StreamName) -> Vec<SavedFile> {
        unclaimed(&self.state(), stream)
            .filter(|file| !file.finished)
            .cloned()
            .collect()
    }

    /// All that is known of what the files of a stream hold or held, and whether a source has it now.
    pub(super) fn contents(&self, stream: &StreamName) -> Vec<(SavedFile, bool)> {
        let state = self.state();
        let files = (state.files.iter()).filter(|(id, _)| id.stream == *stream);
        let files = files.map(|(id, entry)| match entry {
            Entry::Unclaimed(file) => (file.clone(), false),
            Entry::Tracked { ledger, .. } => (ledger.saved(id, 0), ledger.is_under_way()),
        });
        let past = state.past.iter().filter(|file| file.stream == *stream);
        files
            .chain(past.map(|file| (file.clone(), false)))
            .collect()
    }

    /// The rest of `file`, which is gone, is read from another.
    pub(super) fn finish(&self, file: &SavedFile) {
        let mut state = self.state();
        if let Some(Entry::Unclaimed(saved)) = state.files.get_mut(&id_of(file)) {
            (saved.finished, saved.updated) = (true, seconds_since_1970());
            drop(state);
            self.0.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// The content of `whole` has been read to its end: forgets the files that had it before and were damaged, which are
    /// those that `is_copy` says. One that may be there still stays.
    pub(super) fn forget_damaged(
        &self,
        whole: &Id,
        path: &Path,
        is_copy: impl Fn(&SavedFile) -> bool,
    ) {
        let path = path.to_string_lossy();
        self.state().files.retain(|id, entry| {
            let file = match entry {
                Entry::Unclaimed(file) => file.clone(),
                Entry::Tracked { ledger, .. } if !ledger.is_under_way() => ledger.saved(id, 0),
                Entry::Tracked { .. } => return true,
            };
            let is_gone = file.finished || file.path == path;
            let is_other = id.stream == whole.stream && id != whole;
            !(file.damaged && is_gone && is_other && is_copy(&file))
        });
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// In one step, so that of two sources that meet a file at once one has it.
    pub(super) fn claim(&self, id: &Id, by: &Arc<str>) -> Result<(), Taken> {
        let mut state = self.state();
        let holder = match (state.claims.get(id), state.files.get(id)) {
            (Some(holder), _) => Some(holder),
            // Let go, but not over: nobody knows yet from where another would have to go on.
            (None, Some(Entry::Tracked { ledger, by })) if !ledger.is_finished() => Some(by),
            _ => None,
        };
        if let Some(holder) = holder.cloned() {
            state.wanted.insert(id.clone());
            return Err(Taken {
                by_itself: Arc::ptr_eq(&holder, by),
                by: holder,
            });
        }
        // From now on not forgotten before it is tracked again.
        if let Some(entry) = state.files.get_mut(id)
            && let Entry::Tracked { ledger, .. } = entry
        {
            *entry = Entry::Unclaimed(ledger.saved(id, seconds_since_1970()));
        }
        state.wanted.remove(id);
        state.claims.insert(id.clone(), Arc::clone(by));
        Ok(())
    }

    pub(super) fn release(&self, id: &Id) {
        self.state().claims.remove(id);
    }

    pub(super) fn find(&self, id: &Id, path: &Path) -> Option<SavedFile> {
        let state = self.state();
        if let Some(Entry::Unclaimed(file)) = state.files.get(id) {
            return Some(file.clone());
        }
        let path = path.to_string_lossy();
        unclaimed(&state, &id.stream)
            .find(|file| file.inode == id.inode && file.path == path)
            .cloned()
    }

    pub(super) fn track(
        &self,
        id: &Id,
        by: &Arc<str>,
        file: TrackedFile,
        start: Place,
    ) -> Arc<FileLedger> {
        let path = file.path.to_string_lossy().into_owned();
        let mut state = self.state();
        let cut = state.was_cut(&id.stream, start);
        let ledger = FileLedger::new(file, start, cut, Arc::clone(&self.0.changes));
        let ledger = Arc::new(ledger);
        state.remember_past(id, start);
        // Its entry from before a reboot that numbered the devices anew.
        state.files.retain(|other, entry| {
            let is_same = other.stream == id.stream && other.inode == id.inode;
            !matches!(entry, Entry::Unclaimed(f) if is_same && f.path == path)
        });
        let entry = Entry::Tracked {
            ledger: Arc::clone(&ledger),
            by: Arc::clone(by),
        };
        state.files.insert(id.clone(), entry);
        drop(state);
        self.0.changes.fetch_add(1, Ordering::Release);
        ledger
    }

    /// Saves if there is something new, or somebody has removed the state directory. True if it did. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::InUse`]: it was removed, and another process has it now.
    pub fn save_if_moved(&self) -> Result<bool, CheckpointError> {
        let mut saver = self.0.saver.lock().expect("no panic while held");
        saver.is_gone |= self.0.lock.hold()?;
        // Before the snapshot: what changes after it is saved next time.
        let changes = self.0.changes.load(Ordering::Acquire);
        if changes == saver.saved_changes && !saver.is_gone {
            return Ok(false);
        }
        let saved = self.snapshot(&saver.saved);
        self.0.store.save(&saved)?;
        saver.saved = saved.files.into_iter().map(|f| (id_of(&f), f)).collect();
        saver.saved_changes = changes;
        saver.is_gone = false;
        Ok(true)
    }

    /// Saves every `interval` until told to stop; the caller saves once more when all is drained. A failure
    /// is logged when it begins and when it ends.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::InUse`], and no other: another process has the state directory now.
    pub async fn keep_saving(
        &self,
        interval: Duration,
        shutdown: Shutdown,
    ) -> Result<(), CheckpointError> {
        while !shutdown.is_stopped() {
            tokio::select! {
                () = shutdown.stopped() => break,
                () = tokio::time::sleep(interval) => {}
            }
            let this = self.clone();
            let outcome = tokio::task::spawn_blocking(move || this.save_and_tell()).await;
            outcome.expect("saving does not panic")?;
        }
        Ok(())
    }

    /// The same as [`save_if_moved`](Self::save_if_moved), and the log says of trouble that it begins, goes on and ends,
    /// whoever meets it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::InUse`], and no other: another process has the state directory now.
    pub fn save_and_tell(&self) -> Result<(), CheckpointError> {
        let outcome = self.save_if_moved();
        let mut trouble = self.0.trouble.lock().expect("no panic while held");
        match outcome {
            Err(error @ CheckpointError::InUse { .. }) => return Err(error),
            Err(error) => {
                if let Some(Unsaid(others)) = trouble.goes_on(tokio::time::Instant::now()) {
                    tracing::error!(%error, others_unsaid = others, "the checkpoint stands still");
                }
            }
            Ok(true) => {
                if let Some(down_for) = trouble.end(tokio::time::Instant::now()) {
                    let path = self.0.store.path();
                    tracing::info!(path = %path.display(), ?down_for, "the checkpoint moves again");
                }
            }
            Ok(false) => {}
        }
        Ok(())
    }

    /// Whether it could not be saved when that was last tried. Sending goes on; after a crash more is read again.
    pub fn stands_still(&self) -> bool {
        let trouble = self.0.trouble.lock().expect("no panic while held");
        trouble.is_on()
    }

    /// Everything known now, in the order of its paths. `before` has the entries saved last.
    fn snapshot(&self, before: &HashMap<Id, SavedFile>) -> Saved {
        let now = seconds_since_1970();
        let mut state = self.state();
        let State { files, wanted, .. } = &mut *state;
        files.retain(|id, entry| match entry {
            Entry::Tracked { ledger, .. } if !ledger.is_finished() => true,
            Entry::Tracked { ledger, .. } => {
                let finished = !wanted.remove(id);
                *entry = Entry::Unclaimed(SavedFile {
                    finished,
                    ..ledger.saved(id, now)
                });
                true
            }
            Entry::Unclaimed(f) => {
                let keep = if f.finished {
                    KEEP_FINISHED
                } else {
                    KEEP_UNCLAIMED
                };
                f.updated.saturating_add(keep.as_secs()) > now
            }
        });
        forget_first_finished(files);
        let mut files: Vec<SavedFile> = files
            .iter()
            .map(|(id, entry)| match entry {
                Entry::Unclaimed(file) => file.clone(),
                Entry::Tracked { ledger, .. } => {
                    let file = ledger.saved(id, now);
                    match before.get(id) {
                        Some(old) if same(old, &file) => old.clone(),
                        _ => file,
                    }
                }
            })
            .collect();
        files.sort_by(|a, b| (&a.path, a.inode, &a.stream).cmp(&(&b.path, b.inode, &b.stream)));
        let include = |(stream, glob): &(StreamName, String)| SavedInclude {
            stream: stream.clone(),
            glob: glob.clone(),
        };
        Saved {
            past: state.past.iter().cloned().collect(),
            includes: state.includes.iter().map(include).collect(),
            files,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while held")
    }
}

impl State {
    /// Whether a line was cut off of what is before `start` in a file of `stream`. Its copy is known by the same place.
    fn was_cut(&self, stream: &StreamName, start: Place) -> bool {
        let is_it = |file: &SavedFile| {
            file.cut && (file.offset, file.tail_hash) == (start.offset, start.tail)
        };
        let now = self.files.iter().any(|(id, entry)| {
            let is_cut = match entry {
                Entry::Unclaimed(file) => is_it(file),
                Entry::Tracked { ledger, .. } => ledger.is_cut_before(start),
            };
            is_cut && id.stream == *stream
        });
        now || self.past.iter().any(|f| is_it(f) && f.stream == *stream)
    }

    /// The file behind `id` is read from `start` now. If that is not where it was, it is another file, or has other content:
    /// what it held is not forgotten, if any of it was read.
    fn remember_past(&mut self, id: &Id, start: Place) {
        let was = match self.files.get(id) {
            Some(Entry::Unclaimed(file)) => file.clone(),
            Some(Entry::Tracked { ledger, .. }) => ledger.saved(id, seconds_since_1970()),
            None => return,
        };
        let goes_on = (was.offset, was.tail_hash) == (start.offset, start.tail);
        if goes_on || was.offset == 0 {
            return;
        }
        self.past.push_back(was);
        let now = seconds_since_1970();
        let is_old = |file: &SavedFile| file.updated + KEEP_FINISHED.as_secs() < now;
        while self.past.len() > MOST_FINISHED || self.past.front().is_some_and(is_old) {
            self.past.pop_front();
        }
    }
}

fn unclaimed<'a>(state: &'a State, stream: &'a StreamName) -> impl Iterator<Item = &'a SavedFile> {
    state.files.values().filter_map(move |entry| match entry {
        Entry::Unclaimed(file) if file.stream == *stream => Some(file),
        Entry::Unclaimed(_) | Entry::Tracked { .. } => None,
    })
}

fn forget_first_finished(files: &mut HashMap<Id, Entry>) {
    let finished = files.iter().filter_map(|(id, entry)| match entry {
        Entry::Unclaimed(file) if file.finished => Some((file.updated, id)),
        Entry::Unclaimed(_) | Entry::Tracked { .. } => None,
    });
    let mut finished: Vec<(u64, &Id)> = finished.collect();
    let Some(too_many @ 1..) = finished.len().checked_sub(MOST_FINISHED) else {
        return;
    };
    finished.select_nth_unstable_by_key(too_many - 1, |(updated, _)| *updated);
    finished.truncate(too_many);
    let first: Vec<Id> = finished.into_iter().map(|(_, id)| id.clone()).collect();
    for id in first {
        files.remove(&id);
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn id_of(file: &SavedFile) -> Id {
    Id {
        stream: file.stream.clone(),
        device: file.device,
        inode: file.inode,
    }
}

/// But for when it was noted.
fn same(old: &SavedFile, new: &SavedFile) -> bool {
    SavedFile {
        updated: old.updated,
        ..new.clone()
    } == *old
}

#[cfg(test)]
pub(super) mod tests;
