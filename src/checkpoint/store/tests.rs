use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoints;

fn saved(offset: u64) -> Saved {
    Saved {
        includes: vec![SavedInclude {
            stream: StreamName::new("logs").unwrap(),
            glob: "/var/log/*.log".to_owned(),
        }],
        files: vec![SavedFile {
            stream: StreamName::new("logs").unwrap(),
            path: "/var/log/a.log".to_owned(),
            device: 64768,
            inode: 1311,
            fingerprint: ShortHash::of(b"head"),
            offset,
            tail_hash: ShortHash::of(b"tail"),
            size_seen: 100,
            updated: 1_767_225_600,
            finished: false,
            packed_bytes: None,
            damaged: false,
            cut: false,
        }],
        past: Vec::new(),
    }
}

fn real(dir: &Path) -> Store {
    Store::new(dir.to_owned(), Box::new(RealDisk))
}

#[test]
fn what_was_saved_is_loaded_and_a_person_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    assert_eq!(store.load().unwrap(), None);
    store.save(&saved(1)).unwrap();
    store.save(&saved(2)).unwrap();
    assert_eq!(store.load().unwrap(), Some(saved(2)));
    let text = std::fs::read_to_string(store.path()).unwrap();
    assert!(text.contains("\n  \"version\": 1,\n"), "{text}");
    assert!(text.contains("\"path\": \"/var/log/a.log\""), "{text}");
    // As those that were written before there was such a thing.
    assert!(!text.contains("damaged"), "{text}");
    let mut damaged = saved(3);
    (damaged.files[0].packed_bytes, damaged.files[0].damaged) = (Some(50), true);
    store.save(&damaged).unwrap();
    assert_eq!(store.load().unwrap(), Some(damaged));
}

#[test]
fn torn_unfinished_write_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    store.save(&saved(1)).unwrap();
    std::fs::write(dir.path().join(UNFINISHED), "{\"versi").unwrap();
    assert_eq!(store.load().unwrap(), Some(saved(1)));
    store.save(&saved(2)).unwrap();
    assert_eq!(store.load().unwrap(), Some(saved(2)));
}

#[test]
fn damaged_checkpoint_is_an_error_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    for bad in [
        "",
        "{\"version\":1",
        "{\"version\":1}",
        "[]",
        "{\"version\":1,\"files\":[{}]}",
        "{\"version\":1,\"includes\":[{\"stream\":\"no stream\",\"glob\":\"/\"}],\"files\":[]}",
        "\0\0\0\0",
    ] {
        std::fs::write(store.path(), bad).unwrap();
        let error = Checkpoints::open(dir.path()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{bad:?}");
        assert!(
            text.contains("checkpoint.json") && text.contains("move it away"),
            "{text}"
        );
    }
}

#[test]
fn any_bit_that_changes_is_noticed_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    store.save(&saved(1)).unwrap();
    let whole = std::fs::read(store.path()).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(store.path(), &bytes).unwrap();
        if let Ok(loaded) = store.load() {
            assert_eq!(loaded, Some(saved(1)), "bit {bit}");
        }
    }
}

#[test]
fn whoever_edits_a_checkpoint_takes_its_sum_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    store.save(&saved(1)).unwrap();
    let text = std::fs::read_to_string(store.path()).unwrap();
    let edited = text.replace("\"offset\": 1", "\"offset\": 7");
    std::fs::write(store.path(), &edited).unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("\"crc32\" has to go"), "{error}");
    let is_kept = |line: &&str| !line.contains("crc32");
    let lines: Vec<_> = edited.lines().filter(is_kept).collect();
    std::fs::write(store.path(), lines.join("\n")).unwrap();
    assert_eq!(store.load().unwrap(), Some(saved(7)));
    // What editors do by themselves is no change.
    for ended in [text.trim_end().to_owned(), text + "\n"] {
        std::fs::write(store.path(), ended).unwrap();
        assert_eq!(store.load().unwrap(), Some(saved(1)));
    }
}

#[test]
fn checkpoint_of_another_version_is_not_guessed_at() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(real(dir.path()).path(), "{\"version\":2,\"log\":[]}").unwrap();
    let error = real(dir.path()).load().unwrap_err();
    assert!(matches!(error, CheckpointError::Version { found: 2, .. }));
}

#[test]
fn second_writer_is_refused_and_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = Checkpoints::open(&dir.path().join("not/there/yet")).unwrap();
    let error = Checkpoints::open(&dir.path().join("not/there/yet")).unwrap_err();
    let holder = format!("in use by process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    drop(first);
    Checkpoints::open(&dir.path().join("not/there/yet")).unwrap();
}

#[test]
fn a_state_directory_that_is_removed_is_made_and_locked_again_and_all_is_saved_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("lib/state");
    let logs = StreamName::new("logs").unwrap();
    let first = Checkpoints::open(&state).unwrap();
    first.of_source(&logs, "/a").looked_at("/a");
    assert!(first.save_if_moved().unwrap());
    for gone in [dir.path().join("lib"), state.join(LOCK)] {
        match gone.is_dir() {
            true => std::fs::remove_dir_all(&gone).unwrap(),
            false => std::fs::remove_file(&gone).unwrap(),
        }
        // Though nothing has moved.
        assert!(first.save_if_moved().unwrap());
        let error = Checkpoints::open(&state).unwrap_err();
        assert!(matches!(error, CheckpointError::InUse { .. }), "{error}");
    }
    assert!(!first.save_if_moved().unwrap());
    drop(first);
    let again = Checkpoints::open(&state).unwrap();
    assert!(again.of_source(&logs, "/a").has_looked_at("/a"));
}

#[test]
fn a_removed_state_directory_that_another_has_taken_is_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let logs = StreamName::new("logs").unwrap();
    let first = Checkpoints::open(&state).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    let second = Checkpoints::open(&state).unwrap();
    first.of_source(&logs, "/a").looked_at("/a");
    let error = first.save_if_moved().unwrap_err();
    assert!(matches!(error, CheckpointError::InUse { .. }), "{error}");
    drop(second);
    let saved = real(&state).load().unwrap().unwrap();
    assert!(saved.includes.is_empty(), "{saved:?}");
}

#[test]
fn state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Checkpoints::open(&dir.path().join("file/state")).unwrap_err();
    assert!(matches!(error, CheckpointError::StateDir { .. }));
    assert!(error.to_string().contains("file/state"), "{error}");
}

/// A disk that keeps what was synced, and of the rest whatever a power cut leaves.
#[derive(Debug, Clone, Default)]
struct Forgetful(Arc<Mutex<Platters>>);

#[derive(Debug, Default)]
struct Platters {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    names_synced: BTreeMap<PathBuf, usize>,
    /// Operations left until the power fails or the disk is full.
    left: usize,
    full: bool,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl Forgetful {
    fn operate<T>(&self, on: impl FnOnce(&mut Platters) -> io::Result<T>) -> io::Result<T> {
        let mut platters = self.0.lock().unwrap();
        if platters.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match platters.left.checked_sub(1) {
            Some(left) => platters.left = left,
            None => return Err(io::Error::other("power cut")),
        }
        on(&mut platters)
    }

    /// What was not synced is there, gone or torn: as `luck` has it.
    fn cut_power(&self, luck: u8) {
        let mut platters = self.0.lock().unwrap();
        if luck & 1 == 0 {
            platters.names = platters.names_synced.clone();
        }
        for inode in &mut platters.inodes {
            let torn = inode.now.len() / 2;
            match luck >> 1 & 3 {
                0 => inode.now = inode.synced.clone(),
                1 if inode.now != inode.synced => inode.now.truncate(torn),
                _ => {}
            }
        }
        platters.left = usize::MAX;
    }
}

impl Disk for Forgetful {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let platters = self.0.lock().unwrap();
        let inode = platters.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(platters.inodes[*inode].now.clone())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.operate(|p| {
            let new = p.inodes.len();
            let inode = *p.names.entry(path.to_owned()).or_insert(new);
            if inode == new {
                p.inodes.push(Inode::default());
            }
            p.inodes[inode].now = bytes.to_vec();
            Ok(())
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.operate(|p| {
            match p.names.get(path) {
                Some(inode) => {
                    let inode = &mut p.inodes[*inode];
                    inode.synced = inode.now.clone();
                }
                None => p.names_synced = p.names.clone(),
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(|p| {
            let inode = p.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            p.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }
}

proptest! {
    #[test]
    fn power_cut_at_any_point_leaves_the_last_save_or_the_one_in_progress(
        cuts in prop::collection::vec((0usize..12, any::<u8>()), 1..6),
    ) {
        let disk = Forgetful::default();
        disk.0.lock().unwrap().left = usize::MAX;
        let store = Store::new("/state".into(), Box::new(disk.clone()));
        let (mut durable, mut next) = (None, 0);
        for (operations, luck) in cuts {
            disk.0.lock().unwrap().left = operations;
            let mut in_progress = durable.clone();
            for _ in 0..3 {
                next += 1;
                in_progress = Some(saved(next));
                if store.save(&saved(next)).is_err() { break }
                durable = in_progress.clone();
            }
            disk.cut_power(luck);
            let found = store.load().unwrap();
            prop_assert!(found == durable || found == in_progress, "{found:?}");
            // What is there after the cut stays there.
            durable = found;
            let mut p = disk.0.lock().unwrap();
            p.names_synced = p.names.clone();
            for inode in &mut p.inodes {
                inode.synced = inode.now.clone();
            }
        }
    }
}

#[test]
fn full_disk_is_named_and_saving_works_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Forgetful::default();
    disk.0.lock().unwrap().left = usize::MAX;
    let checkpoints = Checkpoints::open_on(dir.path(), Box::new(disk.clone())).unwrap();
    let logs = StreamName::new("logs").unwrap();
    let source = checkpoints.of_source(&logs, "/a, /b");
    source.looked_at("/a");
    checkpoints.save_if_moved().unwrap();
    source.looked_at("/b");
    disk.0.lock().unwrap().full = true;
    for _ in 0..2 {
        let error = checkpoints.save_if_moved().unwrap_err().to_string();
        let path = dir.path().join(NAME).display().to_string();
        assert!(
            error.contains(&path) && error.contains("free space"),
            "{error}"
        );
    }
    disk.0.lock().unwrap().full = false;
    assert!(checkpoints.save_if_moved().unwrap());
    drop((checkpoints, source));
    let again = Checkpoints::open_on(dir.path(), Box::new(disk)).unwrap();
    let again = again.of_source(&logs, "/a, /b");
    assert!(again.has_looked_at("/a") && again.has_looked_at("/b"));
}
