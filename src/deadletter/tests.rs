use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;

use super::folder::{Appended, Dropped};
use super::*;
use crate::aggregate::reducer::tests::sealed;
use crate::delivery::{Delivery, MemoryBudget, Ticket};
use crate::record::{HashKey, PartitionKey, RecordKey};
use crate::seal::Route;

fn stream() -> StreamName {
    StreamName::new("shop").unwrap()
}

/// A line of about `len` bytes.
fn line(text: &str, len: usize) -> Line<'static> {
    Line {
        time_ms: 1,
        stream: "shop".into(),
        kind: "TooLarge".into(),
        reason: text.into(),
        attempts: 0,
        records: 2,
        partition_key: None,
        explicit_hash_key: None,
        data_base64: "A".repeat(len / 4 * 4).into(),
    }
}

fn small(when_full: WhenFull) -> Settings {
    Settings {
        max_file_size: 1000,
        max_total_size: 3000,
        when_full,
    }
}

/// Appends, as a new process would.
fn append(folder: &Folder, text: &str, settings: &Settings) -> (Appended, Vec<Dropped>) {
    let mut dropped = Vec::new();
    let appended = folder.append(text.as_bytes(), settings, &mut None, &mut dropped);
    (appended.unwrap(), dropped)
}

/// The reason of each line, file by file; `None` for what cannot be read.
fn reasons(folder: &Folder) -> Vec<Vec<Option<String>>> {
    let of = |path: &PathBuf| {
        let (mut lines, mut reasons) = (Lines::open(path).unwrap(), Vec::new());
        while let Some(line) = lines.next() {
            reasons.push(line.unwrap().ok().map(|(_, line)| line.reason));
        }
        reasons
    };
    let files = folder.files().unwrap();
    files.iter().map(|file| of(&file.path)).collect()
}

fn some(reasons: &[&str]) -> Vec<Option<String>> {
    reasons.iter().map(|r| Some((*r).to_owned())).collect()
}

#[tokio::test]
async fn a_dead_record_is_settled_once_its_line_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let counters: Arc<Counters> = Arc::default();
    let settings = Settings::default();
    let (letters, writer) =
        DeadLetters::open(dir.path(), &stream(), settings, Arc::clone(&counters));
    let memory = MemoryBudget::new(1000).try_reserve(1).unwrap();
    let (ticket, receipt) = Ticket::for_caller(tokio::time::Instant::now(), memory);
    let key = RecordKey::Explicit(PartitionKey::new("k\n").unwrap(), HashKey(7));
    let route = Route::of(key.clone());
    let record = SealedRecord::for_test(bytes::Bytes::from_static(b"sealed"), route, ticket);
    let reason = FailReason::TooLarge { bytes: 7, limit: 5 };
    letters.bury(DeadRecord {
        record,
        reason: reason.clone(),
        attempts: 3,
    });
    let attempts = 3;
    assert_eq!(receipt.await, Delivery::Failed { reason, attempts });
    assert_eq!(counters.snapshot().dead_lettered, 1);

    drop(letters);
    writer.await.unwrap();
    let files = Folder::of(dir.path(), &stream()).files().unwrap();
    let path = &files[0].path;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&dir.path().join("dead_letter")), 0o700);
    let mut lines = Lines::open(path).unwrap();
    let (number, line) = lines.next().unwrap().unwrap().unwrap();
    assert_eq!((number, line.bytes(), line.attempts), (1, 6, 3));
    assert!(
        line.reason.contains("over the limit of 5"),
        "{}",
        line.reason
    );
    let (to, record) = line.record().unwrap();
    assert_eq!(
        (to, &record.data[..], record.key),
        (stream(), &b"sealed"[..], key)
    );
    assert!(lines.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_is_waited_out_and_the_record_stays_owed() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the folder should be.
    let blocker = dir.path().join("dead_letter");
    fs::write(&blocker, "").unwrap();
    let counters: Arc<Counters> = Arc::default();
    let settings = Settings::default();
    let (letters, writer) =
        DeadLetters::open(dir.path(), &stream(), settings, Arc::clone(&counters));
    letters.bury(dead());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(counters.snapshot().dead_lettered, 0);
    fs::remove_file(&blocker).unwrap();
    drop(letters);
    writer.await.unwrap();
    assert_eq!(counters.snapshot().dead_lettered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_folder_holds_records_until_files_are_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let counters: Arc<Counters> = Arc::default();
    let settings = small(WhenFull::Block);
    append(&folder, &line("old", 2900).to_text(), &settings);
    let (letters, writer) =
        DeadLetters::open(dir.path(), &stream(), settings, Arc::clone(&counters));
    let budget = MemoryBudget::new(1000);
    let memory = budget.try_reserve(1).unwrap();
    let (ticket, _) = Ticket::for_caller(tokio::time::Instant::now(), memory);
    let record = SealedRecord::for_test(bytes::Bytes::new(), Route::Any, ticket);
    letters.bury(DeadRecord { record, ..dead() });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(counters.snapshot().dead_lettered, 0);
    assert!(budget.in_use() > 0, "so that sources stop");
    assert_eq!(reasons(&folder), [some(&["old"])]);

    fs::remove_file(&folder.files().unwrap()[0].path).unwrap();
    drop(letters);
    writer.await.unwrap();
    assert_eq!((counters.snapshot().dead_lettered, budget.in_use()), (1, 0));
    assert_eq!(reasons(&folder).concat().len(), 1);
}

#[tokio::test]
async fn records_that_wait_together_are_all_buried_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let counters: Arc<Counters> = Arc::default();
    let settings = Settings {
        max_file_size: 2000,
        ..Settings::default()
    };
    let (letters, writer) =
        DeadLetters::open(dir.path(), &stream(), settings, Arc::clone(&counters));
    for limit in 0..1000 {
        let reason = FailReason::TooLarge { bytes: 1, limit };
        letters.bury(DeadRecord { reason, ..dead() });
    }
    drop(letters);
    writer.await.unwrap();
    assert_eq!(counters.snapshot().dead_lettered, 1000);
    let folder = Folder::of(dir.path(), &stream());
    let files = folder.files().unwrap();
    assert!(files.len() > 10 && files.iter().all(|file| file.bytes <= 2000));
    let written = reasons(&folder).concat();
    for (limit, reason) in written.iter().enumerate() {
        let expected = format!("over the limit of {limit};");
        assert!(reason.as_ref().unwrap().contains(&expected), "{reason:?}");
    }
}

proptest! {
    #[test]
    fn a_record_comes_back_from_its_line(
        data in prop::collection::vec(any::<u8>(), 0..300),
        key in "(?s).{1,40}",
        hash in any::<Option<u128>>(),
    ) {
        let key = PartitionKey::new(key).unwrap();
        let key = match hash {
            None => RecordKey::Keyed(key),
            Some(hash) => RecordKey::Explicit(key, HashKey(hash)),
        };
        let record = sealed(data.clone(), key.clone());
        let text = Line::of(&DeadRecord { record, ..dead() }, "shop").to_text();
        prop_assert_eq!(text.matches('\n').count(), 1);
        let line = Line::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(line.bytes(), data.len());
        let (_, record) = line.record().unwrap();
        prop_assert_eq!((&record.data[..], record.key), (&data[..], key));
    }

    #[test]
    fn a_part_of_a_line_is_none(cut in 0usize..100) {
        let text = Line::of(&dead(), "shop").to_text();
        let end = text.trim_end().len() * cut / 100;
        prop_assert!(Line::parse(&text.as_bytes()[..end]).is_none());
    }
}

fn dead() -> DeadRecord {
    DeadRecord {
        record: sealed("x", RecordKey::Any),
        reason: FailReason::Abandoned,
        attempts: 1,
    }
}

#[test]
fn files_are_begun_anew_when_full_and_their_names_sort_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let settings = small(WhenFull::Block);
    for text in ["a", "b", "c", "d", "e"] {
        append(&folder, &line(text, 300).to_text(), &settings);
    }
    assert_eq!(
        reasons(&folder),
        [some(&["a", "b"]), some(&["c", "d"]), some(&["e"])]
    );
    let names: Vec<_> = folder
        .files()
        .unwrap()
        .into_iter()
        .map(|f| f.path)
        .collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn a_clock_that_was_put_back_does_not_put_a_new_file_before_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    fs::create_dir_all(folder.path()).unwrap();
    let future = folder.path().join("9999999999998.jsonl");
    fs::write(&future, line("future", 900).to_text()).unwrap();
    append(
        &folder,
        &line("now", 900).to_text(),
        &small(WhenFull::Block),
    );
    assert_eq!(reasons(&folder), [some(&["future"]), some(&["now"])]);
}

#[test]
fn files_that_are_moved_away_while_more_is_written_replace_none_where_they_go() {
    const LINES: usize = 300;
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = Folder::of(dir.path(), &stream());
    let there = Folder::of(elsewhere.path(), &stream());
    fs::create_dir_all(there.path()).unwrap();
    let move_away = || {
        for file in folder.files().unwrap() {
            let to = there.path().join(file.path.file_name().unwrap());
            assert!(!to.exists(), "{to:?} would be replaced");
            fs::rename(&file.path, to).unwrap();
        }
    };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                move_away();
            }
        });
        let settings = Settings {
            max_total_size: 1 << 20,
            ..small(WhenFull::Block)
        };
        let mut known = None;
        for number in 0..LINES {
            let text = line(&number.to_string(), 8).to_text();
            let appended = folder.append(text.as_bytes(), &settings, &mut known, &mut Vec::new());
            assert_eq!(appended.unwrap(), Appended::Written);
        }
        ended.store(true, Relaxed);
    });
    move_away();
    let mut numbers: Vec<usize> = reasons(&there)
        .concat()
        .into_iter()
        .map(|reason| reason.unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..LINES));
}

#[test]
fn a_clock_that_was_put_back_gives_no_name_that_was_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let mut known = Some(folder.path().join("9999999999998.jsonl"));
    let settings = small(WhenFull::Block);
    let appended = folder.append(b"{}\n", &settings, &mut known, &mut Vec::new());
    assert_eq!(appended.unwrap(), Appended::Written);
    assert_eq!(known, Some(folder.path().join("9999999999999.jsonl")));
}

#[test]
fn a_line_that_was_cut_short_is_ended_before_the_next_one() {
    let whole = line("cut", 100).to_text();
    for cut in [1, whole.len() / 2, whole.len() - 2] {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path(), &stream());
        let settings = small(WhenFull::Block);
        append(&folder, &line("before", 100).to_text(), &settings);
        let path = folder.files().unwrap().remove(0).path;
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str(&whole[..cut]);
        fs::write(&path, text).unwrap();
        append(&folder, &line("after", 100).to_text(), &settings);
        let before_and_after = [some(&["before"]), vec![None], some(&["after"])].concat();
        assert_eq!(reasons(&folder), [before_and_after]);
    }
}

#[test]
fn at_the_cap_nothing_is_written_and_nothing_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let settings = small(WhenFull::Block);
    while append(&folder, &line("x", 500).to_text(), &settings).0 == Appended::Written {}
    let lying = reasons(&folder);
    let (appended, dropped) = append(&folder, &line("y", 500).to_text(), &settings);
    assert!(matches!(appended, Appended::Full { bytes } if bytes > 2000));
    assert_eq!((dropped, reasons(&folder)), (vec![], lying));
}

#[test]
fn drop_oldest_gives_up_whole_files_and_counts_their_records() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let settings = small(WhenFull::DropOldest);
    let mut gone = Vec::new();
    for text in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let (appended, dropped) = append(&folder, &line(text, 300).to_text(), &settings);
        assert_eq!(appended, Appended::Written);
        gone.extend(dropped.into_iter().map(|dropped| dropped.records));
    }
    // Two lines a file, two records a line.
    assert_eq!(gone, [4]);
    assert_eq!(
        reasons(&folder),
        [some(&["c", "d"]), some(&["e", "f"]), some(&["g", "h"])]
    );
}

#[test]
fn an_empty_folder_takes_a_line_of_any_length() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let giant = line("giant", 10_000).to_text();
    let settings = small(WhenFull::Block);
    assert_eq!(append(&folder, &giant, &settings).0, Appended::Written);
    assert!(matches!(
        append(&folder, &giant, &settings).0,
        Appended::Full { .. }
    ));
    let settings = small(WhenFull::DropOldest);
    assert_eq!(append(&folder, &giant, &settings).0, Appended::Written);
    assert_eq!(reasons(&folder), [some(&["giant"])]);
}

#[test]
fn no_stream_has_the_folder_of_another_or_one_elsewhere() {
    let name = |stream: &str| {
        let folder = Folder::of(Path::new("/s"), &StreamName::new(stream).unwrap());
        assert_eq!(folder.path().parent(), Some(Path::new("/s/dead_letter")));
        folder.path().file_name().unwrap().to_owned()
    };
    assert_eq!(name("shop"), "shop");
    assert_eq!(name(".."), "+..");
    assert_eq!(
        name("arn:aws:kinesis:eu-west-1:111122223333:stream/shop"),
        "arn+aws+kinesis+eu-west-1+111122223333+stream+shop"
    );
}

#[test]
fn rewriting_touches_only_the_lines_that_met_their_fate() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::of(dir.path(), &stream());
    let settings = Settings::default();
    let texts = ["a", "b", "c"].map(|text| line(text, 100).to_text());
    append(&folder, &texts.concat(), &settings);
    let path = folder.files().unwrap().remove(0).path;
    fs::write(
        &path,
        format!("{}half a li\n{}", texts[0], texts[1..].concat()),
    )
    .unwrap();
    // What an earlier crash has left.
    fs::write(path.with_extension("jsonl.new"), "rubbish").unwrap();

    let reason = FailReason::Refused {
        code: "ValidationException".into(),
        message: "no".into(),
    };
    let refused = Fate::RefusedAgain {
        reason: reason.clone(),
        attempts: 2,
    };
    rewrite(&path, &HashMap::from([(1, Fate::Gone), (4, refused)])).unwrap();
    let mut again = line("c", 100);
    again.refused_again(&reason, 2);
    assert_eq!(
        (again.kind.as_str(), again.attempts),
        ("ValidationException", 2)
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!("half a li\n{}{}", texts[1], again.to_text())
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(folder.files().unwrap().len(), 1);

    rewrite(&path, &(1..=3).map(|number| (number, Fate::Gone)).collect()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
