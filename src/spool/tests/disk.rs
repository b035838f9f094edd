//! A disk that forgets what was not synced when its power goes, and that refuses when told to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::spool::{Disk, DiskFile};

#[derive(Debug, Clone, Default)]
pub(super) struct TestDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Stored>,
    /// Those without a name, as they were removed: who has them open reads and writes them.
    removed: BTreeMap<u64, Stored>,
    next_inode: u64,
    /// Bytes that still fit, where that is bounded.
    room: Option<usize>,
    refuses_writes: bool,
    refuses_syncs: bool,
    refuses_reads: bool,
    syncs: usize,
}

#[derive(Debug, Clone, Default)]
struct Stored {
    inode: u64,
    bytes: Vec<u8>,
    /// What survives for certain.
    synced: usize,
    /// Whether the name does.
    is_named: bool,
}

impl State {
    fn inode(&mut self, inode: u64) -> &mut Stored {
        let mut named = self.files.values_mut();
        let named = named.find(|file| file.inode == inode);
        named
            .or_else(|| self.removed.get_mut(&inode))
            .expect("open")
    }

    fn unlink(&mut self, path: &Path) -> Option<usize> {
        let file = self.files.remove(path)?;
        let bytes = file.bytes.len();
        self.removed.insert(file.inode, file);
        Some(bytes)
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }
}

impl TestDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    pub(super) fn refuse(&self, writes: bool, syncs: bool, reads: bool) {
        let mut state = self.state();
        (
            state.refuses_writes,
            state.refuses_syncs,
            state.refuses_reads,
        ) = (writes, syncs, reads);
    }

    pub(super) fn syncs(&self) -> usize {
        self.state().syncs
    }

    pub(super) fn names(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        self.state().files.keys().map(name).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.state()
            .files
            .values()
            .map(|file| file.bytes.len())
            .sum()
    }

    /// Changes what lies in the `n`th segment, from 0 on.
    pub(super) fn damage_nth(&self, n: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|e| e == "spool");
        let mut segments = state.files.iter_mut().filter(|(path, _)| is_segment(path));
        change(&mut segments.nth(n).expect("a segment").1.bytes);
    }

    /// Somebody removes the `n`th segment.
    pub(super) fn remove_nth(&self, n: usize) {
        let mut state = self.state();
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|e| e == "spool");
        let nth = state.files.keys().filter(is_segment).nth(n).cloned();
        state.unlink(&nth.expect("a segment"));
    }

    /// Writes a file of the stream `s`, in place of what is there.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let path = super::rig::settings().path.join("s").join(name);
        let mut state = self.state();
        state.unlink(&path);
        let stored = Stored {
            inode: state.new_inode(),
            bytes: bytes.to_vec(),
            synced: bytes.len(),
            is_named: true,
        };
        state.files.insert(path, stored);
    }

    /// Somebody removes a file of the stream `s`; false if there was none.
    pub(super) fn remove(&self, name: &str) -> bool {
        let path = super::rig::settings().path.join("s").join(name);
        self.state().unlink(&path).is_some()
    }

    /// Somebody copies what is here over what is there.
    pub(super) fn copy_all_to(&self, other: &Self) {
        let files = self.state().files.clone();
        for (path, file) in files {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            other.put(&name, &file.bytes);
        }
    }

    /// The same of segments, but for those that are there under the same name.
    pub(super) fn copy_segments_to(&self, other: &Self) {
        let there = other.names();
        let files = self.state().files.clone();
        for (path, file) in files {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".spool") && !there.contains(&name) {
                other.put(&name, &file.bytes);
            }
        }
    }

    pub(super) fn refuses_writes(&self) -> bool {
        self.state().refuses_writes
    }

    /// Changes what lies in the one segment there is.
    pub(super) fn damage(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let mut segments = state
            .files
            .iter_mut()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "spool"));
        change(&mut segments.next().expect("a segment").1.bytes);
        assert!(segments.next().is_none());
    }

    /// Somebody removes all of it.
    pub(super) fn remove_all(&self) {
        let mut state = self.state();
        let all: Vec<_> = state.files.keys().cloned().collect();
        for path in all {
            state.unlink(&path);
        }
    }

    /// What another process finds after this one was killed just now.
    pub(super) fn after_a_kill(&self) -> Self {
        let files = self.state().files.clone();
        self.with(files)
    }

    /// What a machine finds that was switched off just now: of what was not synced some is there, some is not, and some
    /// is nonsense.
    pub(super) fn after_a_power_cut(&self, rng: &mut StdRng) -> Self {
        let mut files = self.state().files.clone();
        files.retain(|_, file| file.is_named || rng.random());
        for file in files.values_mut() {
            let unsynced = file.bytes.len() - file.synced;
            let kept = file.synced + rng.random_range(0..=unsynced);
            file.bytes.truncate(kept);
            if unsynced > 0 && rng.random() {
                let torn = rng.random_range(file.synced..=kept);
                file.bytes[torn..].fill_with(|| rng.random());
            }
            (file.synced, file.is_named) = (kept, true);
        }
        self.with(files)
    }

    fn with(&self, files: BTreeMap<PathBuf, Stored>) -> Self {
        let state = State {
            files,
            next_inode: self.state().next_inode,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

fn refused() -> io::Error {
    io::Error::other("this disk refuses")
}

impl Disk for TestDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        let files = state
            .files
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        let named = files.map(|(path, file)| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, file.bytes.len() as u64)
        });
        Ok(named.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.refuses_writes {
            return Err(refused());
        }
        if state.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.new_inode();
        let stored = Stored {
            inode,
            ..Stored::default()
        };
        state.files.insert(path.to_owned(), stored);
        let disk = self.clone();
        Ok(Arc::new(TestFile { disk, inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        let inode = state.files.get(path).ok_or(io::ErrorKind::NotFound)?.inode;
        let disk = self.clone();
        Ok(Arc::new(TestFile { disk, inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        file.is_named = state.files.get(to).is_some_and(|old| old.is_named);
        state.unlink(to);
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let bytes = state.unlink(path).ok_or(io::ErrorKind::NotFound)?;
        if let Some(room) = &mut state.room {
            *room += bytes;
        }
        Ok(())
    }

    fn empty(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.files.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        let bytes = std::mem::take(&mut file.bytes).len();
        file.synced = 0;
        if let Some(room) = &mut state.room {
            *room += bytes;
        }
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.files.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        file.synced = file.bytes.len();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.refuses_syncs {
            return Err(refused());
        }
        for (path, file) in &mut state.files {
            file.is_named |= path.parent() == Some(dir);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct TestFile {
    disk: TestDisk,
    inode: u64,
}

impl DiskFile for TestFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.refuses_writes {
            return Err(refused());
        }
        let fits = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if let Some(room) = &mut state.room {
            *room -= fits;
        }
        // A file that was removed takes what is written to it.
        (state.inode(self.inode).bytes).extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut state = self.disk.state();
        if state.refuses_reads {
            return Err(refused());
        }
        let file = state.inode(self.inode);
        let begin = (offset as usize).min(file.bytes.len());
        let end = begin.saturating_add(len).min(file.bytes.len());
        Ok(file.bytes[begin..end].to_vec())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        if state.refuses_syncs {
            return Err(refused());
        }
        let file = state.inode(self.inode);
        file.synced = file.bytes.len();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        Ok(state.inode(self.inode).bytes.len() as u64)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let state = self.disk.state();
        let there = state.files.get(path);
        Ok(there.is_some_and(|file| file.inode == self.inode))
    }
}
