use super::*;
use crate::checkpoint::Claim;
use crate::checkpoint::store::ShortHash;
use crate::delivery::SpanSettled;

pub(in crate::checkpoint) fn track(claim: &Claim, path: &str, offset: u64) -> Arc<FileLedger> {
    let file = TrackedFile {
        path: path.into(),
        fingerprint: ShortHash::of(b"head"),
        size_seen: 100,
    };
    claim.track(file, place(offset))
}

pub(in crate::checkpoint) fn place(offset: u64) -> Place {
    Place {
        offset,
        tail: ShortHash::of(b"tail"),
    }
}

#[test]
fn of_finished_files_the_last_thousand_are_kept_and_no_others_forgotten() {
    let file = |inode: u64, finished| SavedFile {
        stream: StreamName::new("logs").unwrap(),
        path: format!("/var/log/{inode}.log"),
        device: 1,
        inode,
        fingerprint: ShortHash::of(b"head"),
        offset: 10,
        tail_hash: ShortHash::of(b"tail"),
        size_seen: 10,
        updated: inode,
        finished,
        packed_bytes: None,
        damaged: false,
        cut: false,
    };
    let files = (0..1100).map(|inode| file(inode, inode >= 50));
    let mut files = files.map(|f| (id_of(&f), Entry::Unclaimed(f))).collect();
    forget_first_finished(&mut files);
    let mut left: Vec<u64> = files.keys().map(|id| id.inode).collect();
    left.sort_unstable();
    assert_eq!(left, (0..50).chain(100..1100).collect::<Vec<_>>());
}

/// From one start of the agent to the next.
fn run(dir: &Path, run: impl FnOnce(&Checkpoints, &SourceCheckpoints)) {
    let checkpoints = Checkpoints::open(dir).unwrap();
    let stream = StreamName::new("logs").unwrap();
    run(&checkpoints, &checkpoints.of_source(&stream, "/*"));
}

fn offset(source: &SourceCheckpoints, device: u64, path: &str) -> Option<u64> {
    let claim = source.claim(device, 7).unwrap();
    claim.saved(Path::new(path)).map(|saved| saved.offset)
}

#[test]
fn saved_offset_is_the_settled_prefix_and_is_written_only_when_it_moves() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), |checkpoints, source| {
        let claim = source.claim(1, 7).unwrap();
        let ledger = track(&claim, "/a", 0);
        let (first, second) = (ledger.open(place(10)), ledger.open(place(20)));
        assert!(checkpoints.save_if_moved().unwrap());
        ledger.settled(second);
        assert!(!checkpoints.save_if_moved().unwrap());
        ledger.settled(first);
        ledger.open(place(30));
        assert!(checkpoints.save_if_moved().unwrap());
    });
    run(dir.path(), |_, source| {
        assert_eq!(offset(source, 1, "/b"), Some(20));
        assert_eq!(source.unclaimed().len(), 1);
        let other = source.claim(1, 8).unwrap();
        assert!(other.saved(Path::new("/a")).is_none());
    });
}

#[test]
fn closed_file_is_forgotten_once_it_is_settled_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), |checkpoints, source| {
        let claim = source.claim(1, 7).unwrap();
        let ledger = track(&claim, "/a", 0);
        ledger.open(place(10));
        ledger.close();
        checkpoints.save_if_moved().unwrap();
    });
    run(dir.path(), |checkpoints, source| {
        let claim = source.claim(1, 7).unwrap();
        assert_eq!(claim.saved(Path::new("/a")).unwrap().offset, 0);
        let ledger = track(&claim, "/a", 0);
        let span = ledger.open(place(10));
        ledger.close();
        ledger.settled(span);
        checkpoints.save_if_moved().unwrap();
    });
    run(dir.path(), |_, source| {
        assert!(source.unclaimed().is_empty())
    });
}

#[test]
fn answers_for_old_content_do_not_move_new_content() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), |checkpoints, source| {
        let claim = source.claim(1, 7).unwrap();
        let old = track(&claim, "/a", 0);
        let span = old.open(place(1000));
        let _new = track(&claim, "/a", 0);
        old.settled(span);
        checkpoints.save_if_moved().unwrap();
    });
    run(dir.path(), |_, source| {
        assert_eq!(offset(source, 1, "/a"), Some(0));
    });
}

#[test]
fn entry_is_found_again_under_its_path_when_devices_are_numbered_anew() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), |checkpoints, source| {
        track(&source.claim(1, 7).unwrap(), "/a", 5);
        checkpoints.save_if_moved().unwrap();
    });
    run(dir.path(), |_, source| {
        assert_eq!(offset(source, 2, "/b"), None);
        assert_eq!(offset(source, 2, "/a"), Some(5));
        track(&source.claim(2, 7).unwrap(), "/a", 5);
        assert!(source.unclaimed().is_empty());
    });
}

#[test]
fn unclaimed_entry_is_kept_until_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), |checkpoints, source| {
        track(&source.claim(1, 7).unwrap(), "/fresh", 5);
        checkpoints.save_if_moved().unwrap();
    });
    run(dir.path(), |checkpoints, source| {
        source.looked_at("/*");
        checkpoints.save_if_moved().unwrap();
        assert_eq!(source.unclaimed().len(), 1);
    });

    let path = dir.path().join("checkpoint.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, after) = text.split_once("\"updated\": ").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let (_sum, before) = before.split_once("\",\n").unwrap();
    std::fs::write(&path, format!("{{{before}\"updated\": 5{after}")).unwrap();
    run(dir.path(), |checkpoints, source| {
        assert!(source.has_looked_at("/*"));
        source.looked_at("/other");
        checkpoints.save_if_moved().unwrap();
        assert!(source.unclaimed().is_empty());
    });
}
