//! The files being read, and when what is known of them is saved.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::ledger::{FileLedger, Place, TrackedFile};
use super::store::{CheckpointError, Disk, Lock, RealDisk, Saved, SavedFile, Store};
use crate::shutdown::Shutdown;

/// An entry that no source has claimed for so long is dropped: its file is gone, or no longer included. A
/// guess: longer than a disk stays unmounted, short enough that a year of rotations does not pile up.
const KEEP_UNCLAIMED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The checkpoint of one state directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Checkpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    _lock: Lock,
    /// Counted up by whatever there is to save.
    changes: Arc<AtomicU64>,
    state: Mutex<State>,
    /// Held while saving. Never taken inside `state`, and `state` never held during I/O.
    saver: Mutex<Saver>,
}

#[derive(Debug)]
struct State {
    includes: BTreeSet<String>,
    files: HashMap<Id, Entry>,
}

/// Device and inode.
type Id = (u64, u64);

#[derive(Debug)]
enum Entry {
    /// From an earlier run, and not yet met again.
    Unclaimed(SavedFile),
    Tracked(Arc<FileLedger>),
}

#[derive(Debug)]
struct Saver {
    /// What `changes` was when it was last saved.
    saved_changes: u64,
    saved: HashMap<Id, SavedFile>,
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
        let by_id: HashMap<Id, SavedFile> =
            saved.files.into_iter().map(|f| (id_of(&f), f)).collect();
        let files = by_id
            .iter()
            .map(|(id, f)| (*id, Entry::Unclaimed(f.clone())));
        Ok(Self(Arc::new(Inner {
            store,
            _lock: lock,
            changes: Arc::new(AtomicU64::new(0)),
            state: Mutex::new(State {
                includes: saved.includes.into_iter().collect(),
                files: files.collect(),
            }),
            saver: Mutex::new(Saver {
                saved_changes: 0,
                saved: by_id,
            }),
        })))
    }

    /// Whether an earlier run has looked at this glob: what matches it and has no entry has appeared since.
    pub fn has_looked_at(&self, include: &str) -> bool {
        self.state().includes.contains(include)
    }

    /// Every file that matches `include` now has its entry.
    pub fn looked_at(&self, include: &str) {
        if self.state().includes.insert(include.to_owned()) {
            self.0.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// What an earlier run knew of a file with this inode: on this device, or, because devices are numbered
    /// anew at every boot, under this path. Whether it is the same content is for the caller to see.
    pub fn find(&self, device: u64, inode: u64, path: &Path) -> Option<SavedFile> {
        let state = self.state();
        if let Some(Entry::Unclaimed(file)) = state.files.get(&(device, inode)) {
            return Some(file.clone());
        }
        let path = path.to_string_lossy();
        unclaimed(&state)
            .find(|file| file.inode == inode && file.path == path)
            .cloned()
    }

    /// Entries of earlier runs whose files have not been met again.
    pub fn unclaimed(&self) -> Vec<SavedFile> {
        unclaimed(&self.state()).cloned().collect()
    }

    /// Follows a file from `start` on. Whatever was known of this file, or of other content in it, is
    /// forgotten.
    pub fn track(&self, file: TrackedFile, start: Place) -> Arc<FileLedger> {
        let (id, path) = (
            (file.device, file.inode),
            file.path.to_string_lossy().into_owned(),
        );
        let ledger = Arc::new(FileLedger::new(file, start, Arc::clone(&self.0.changes)));
        let mut state = self.state();
        // Its entry from before a reboot that numbered the devices anew.
        state.files.retain(
            |_, entry| !matches!(entry, Entry::Unclaimed(f) if f.inode == id.1 && f.path == path),
        );
        state.files.insert(id, Entry::Tracked(Arc::clone(&ledger)));
        drop(state);
        self.0.changes.fetch_add(1, Ordering::Release);
        ledger
    }

    /// Saves if there is something new. True if it did. Blocks on the disk.
    pub fn save_if_moved(&self) -> Result<bool, CheckpointError> {
        let mut saver = self.0.saver.lock().expect("no panic while held");
        // Before the snapshot: what changes after it is saved next time.
        let changes = self.0.changes.load(Ordering::Acquire);
        if changes == saver.saved_changes {
            return Ok(false);
        }
        let saved = self.snapshot(&saver.saved);
        self.0.store.save(&saved)?;
        saver.saved = saved.files.into_iter().map(|f| (id_of(&f), f)).collect();
        saver.saved_changes = changes;
        Ok(true)
    }

    /// Saves every `interval` until told to stop; the caller saves once more when all is drained. A failure
    /// is logged when it begins and when it ends.
    pub async fn keep_saving(&self, interval: Duration, shutdown: Shutdown) {
        let mut failing = false;
        while !shutdown.is_stopped() {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(interval) => {}
            }
            let this = self.clone();
            let outcome = tokio::task::spawn_blocking(move || this.save_if_moved()).await;
            match outcome.expect("saving does not panic") {
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "the checkpoint stands still");
                }
                Ok(true) if failing => {
                    failing = false;
                    tracing::info!(path = %self.0.store.path().display(), "the checkpoint moves again");
                }
                _ => {}
            }
        }
    }

    /// Everything known now, in the order of its paths. `before` has the entries saved last.
    fn snapshot(&self, before: &HashMap<Id, SavedFile>) -> Saved {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut state = self.state();
        state.files.retain(|_, entry| match entry {
            Entry::Tracked(ledger) => !ledger.is_finished(),
            Entry::Unclaimed(f) => f.updated.saturating_add(KEEP_UNCLAIMED.as_secs()) > now,
        });
        let mut files: Vec<SavedFile> = state
            .files
            .iter()
            .map(|(id, entry)| match entry {
                Entry::Unclaimed(file) => file.clone(),
                Entry::Tracked(ledger) => {
                    let file = ledger.saved(now);
                    match before.get(id) {
                        Some(old) if same(old, &file) => old.clone(),
                        _ => file,
                    }
                }
            })
            .collect();
        files.sort_by(|a, b| (&a.path, a.inode).cmp(&(&b.path, b.inode)));
        Saved {
            includes: state.includes.iter().cloned().collect(),
            files,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while held")
    }
}

fn unclaimed(state: &State) -> impl Iterator<Item = &SavedFile> {
    state.files.values().filter_map(|entry| match entry {
        Entry::Unclaimed(file) => Some(file),
        Entry::Tracked(_) => None,
    })
}

fn id_of(file: &SavedFile) -> Id {
    (file.device, file.inode)
}

/// But for when it was noted.
fn same(old: &SavedFile, new: &SavedFile) -> bool {
    SavedFile {
        updated: old.updated,
        ..new.clone()
    } == *old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::store::ShortHash;
    use crate::delivery::SpanSettled;

    fn file(path: &str, inode: u64) -> TrackedFile {
        TrackedFile {
            path: path.into(),
            device: 1,
            inode,
            fingerprint: ShortHash::of(b"head"),
            size_seen: 100,
        }
    }

    fn place(offset: u64) -> Place {
        Place {
            offset,
            tail: ShortHash::of(b"tail"),
        }
    }

    fn reopen(dir: &Path, checkpoints: Checkpoints) -> Checkpoints {
        drop(checkpoints);
        Checkpoints::open(dir).unwrap()
    }

    #[test]
    fn saved_offset_is_the_settled_prefix_and_is_written_only_when_it_moves() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let ledger = checkpoints.track(file("/a", 7), place(0));
        let (first, second) = (ledger.open(place(10)), ledger.open(place(20)));
        assert!(checkpoints.save_if_moved().unwrap());
        ledger.settled(second);
        assert!(!checkpoints.save_if_moved().unwrap());
        ledger.settled(first);
        ledger.open(place(30));
        assert!(checkpoints.save_if_moved().unwrap());

        let checkpoints = reopen(dir.path(), checkpoints);
        assert_eq!(checkpoints.find(1, 7, Path::new("/b")).unwrap().offset, 20);
        assert_eq!(checkpoints.unclaimed().len(), 1);
        assert!(checkpoints.find(1, 8, Path::new("/a")).is_none());
    }

    #[test]
    fn closed_file_is_forgotten_once_it_is_settled_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let ledger = checkpoints.track(file("/a", 7), place(0));
        let span = ledger.open(place(10));
        ledger.close();
        checkpoints.save_if_moved().unwrap();
        let checkpoints = reopen(dir.path(), checkpoints);
        assert_eq!(checkpoints.find(1, 7, Path::new("/a")).unwrap().offset, 0);

        ledger.settled(span);
        let ledger = checkpoints.track(file("/a", 7), place(0));
        let span = ledger.open(place(10));
        ledger.close();
        ledger.settled(span);
        checkpoints.save_if_moved().unwrap();
        let checkpoints = reopen(dir.path(), checkpoints);
        assert!(checkpoints.unclaimed().is_empty());
    }

    #[test]
    fn answers_for_old_content_do_not_move_new_content() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        let old = checkpoints.track(file("/a", 7), place(0));
        let span = old.open(place(1000));
        let _new = checkpoints.track(file("/a", 7), place(0));
        old.settled(span);
        checkpoints.save_if_moved().unwrap();
        let checkpoints = reopen(dir.path(), checkpoints);
        assert_eq!(checkpoints.find(1, 7, Path::new("/a")).unwrap().offset, 0);
    }

    #[test]
    fn entry_is_found_again_under_its_path_when_devices_are_numbered_anew() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        checkpoints.track(file("/a", 7), place(5));
        checkpoints.save_if_moved().unwrap();
        let checkpoints = reopen(dir.path(), checkpoints);
        assert!(checkpoints.find(2, 7, Path::new("/b")).is_none());
        assert_eq!(checkpoints.find(2, 7, Path::new("/a")).unwrap().offset, 5);
        let renumbered = TrackedFile {
            device: 2,
            ..file("/a", 7)
        };
        checkpoints.track(renumbered, place(5));
        assert!(checkpoints.unclaimed().is_empty());
    }

    #[test]
    fn unclaimed_entry_is_kept_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        checkpoints.track(file("/fresh", 7), place(5));
        checkpoints.save_if_moved().unwrap();
        let path = dir.path().join("checkpoint.json");
        let checkpoints = reopen(dir.path(), checkpoints);
        checkpoints.looked_at("/*");
        checkpoints.save_if_moved().unwrap();
        assert_eq!(checkpoints.unclaimed().len(), 1);
        drop(checkpoints);

        let text = std::fs::read_to_string(&path).unwrap();
        let (before, after) = text.split_once("\"updated\": ").unwrap();
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        std::fs::write(&path, format!("{before}\"updated\": 5{after}")).unwrap();
        let checkpoints = Checkpoints::open(dir.path()).unwrap();
        assert!(checkpoints.has_looked_at("/*"));
        checkpoints.looked_at("/other");
        checkpoints.save_if_moved().unwrap();
        assert!(checkpoints.unclaimed().is_empty());
    }
}
