//! Files that grow, come and can be read or not.

use super::*;

#[test]
fn lines_come_as_they_are_appended_and_a_partial_one_waits() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "one\ntw");
    assert_eq!(rig.deliver(), ["one"]);
    assert_eq!(rig.deliver(), NOTHING);
    rig.append("a.log", "o\n\nthree\n");
    assert_eq!(rig.deliver(), ["two", "", "three"]);
    assert_eq!(rig.status(), [("a.log".to_owned(), 15, 15)]);
    assert_eq!(rig.run().budget.in_use(), 0);
}

#[test]
fn restart_goes_on_after_what_was_settled() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "one\n");
    rig.deliver();
    rig.append("a.log", "two\nthr");
    assert_eq!(rig.read(), ["two"]);
    rig.stop();
    rig.append("a.log", "ee\n");
    rig.start();
    assert_eq!(rig.deliver(), ["two", "three"]);
    rig.stop();
    rig.start();
    assert_eq!(rig.deliver(), NOTHING);
}

#[test]
fn pipeline_that_is_gone_ends_the_source() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "one\n");
    rig.run().chunks.close();
    let now = rig.now;
    assert_eq!(rig.run().tailer.poll_once(now), Err(Ended::PipelineClosed));
}

#[test]
fn start_at_the_end_is_for_files_that_were_there_before_the_first_start() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.start_position = StartPosition::End;
    rig.append("old.log", "long ago\nhalf ");
    rig.start();
    assert_eq!(rig.deliver(), NOTHING);
    rig.append("old.log", "a line\n");
    rig.append("new.log", "hello\n");
    assert_eq!(rig.deliver(), ["hello", "half a line"]);
    rig.stop();

    rig.append("while-down.log", "also new\n");
    rig.start();
    assert_eq!(rig.deliver(), ["also new"]);
    rig.stop();

    rig.include.push(rig.path("other/*").display().to_string());
    fs::create_dir(rig.path("other")).unwrap();
    rig.append("other/a", "before its glob was configured\n");
    rig.start();
    assert_eq!(rig.deliver(), NOTHING);
}

#[test]
fn file_that_started_at_its_end_is_remembered_before_anything_of_it_is_read() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.start_position = StartPosition::End;
    rig.append("old.log", "long ago\n");
    rig.start();
    rig.read();
    rig.kill();
    rig.append("old.log", "while down\n");
    rig.start();
    assert_eq!(rig.deliver(), ["while down"]);
}

#[test]
fn file_and_directory_that_appear_later_are_found_by_a_glob_with_two_stars() {
    let mut rig = Rig::started(&["**/*.log"]);
    assert_eq!(rig.deliver(), NOTHING);
    fs::create_dir_all(rig.path("deep/er")).unwrap();
    rig.append("deep/er/a.log", "1\n");
    rig.append("deep/er/a.txt", "no\n");
    assert_eq!(rig.deliver(), ["1"]);
}

#[test]
fn unreadable_file_stops_no_other_and_is_read_once_it_may_be() {
    let mut rig = Rig::started(&["*"]);
    // Nobody can read it; permissions would not stop root.
    symlink(rig.path("a"), rig.path("a")).unwrap();
    rig.append("b", "2\n");
    assert_eq!(rig.deliver(), ["2"]);
    assert_eq!(rig.run().tailer.refused.len(), 1);
    fs::remove_file(rig.path("a")).unwrap();
    rig.append("a", "1\n");
    assert_eq!(rig.deliver(), ["1"]);
    assert!(rig.run().tailer.refused.is_empty());
}

#[test]
fn file_that_may_not_be_read_is_read_once_it_may_be() {
    let mut rig = Rig::started(&["*"]);
    rig.append("a", "1\n");
    rig.append("b", "2\n");
    let mode = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(rig.path("a"), 0o000);
    // Root may read it now.
    let mut lines = rig.deliver();
    mode(rig.path("a"), 0o644);
    lines.extend(rig.deliver());
    lines.sort();
    assert_eq!(lines, ["1", "2"]);
}

#[test]
fn file_is_saved_before_it_is_read() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    assert_eq!(rig.read(), ["1"]);
    rig.kill();
    rig.rename("a.log", "a.log.1");
    rig.start();
    assert_eq!(rig.deliver(), ["1"]);
}

#[test]
fn large_file_does_not_keep_a_small_one_waiting() {
    let mut rig = Rig::started(&["*"]);
    let line = "x".repeat(99) + "\n";
    rig.append("a-large", &line.repeat(30_000));
    rig.append("b-small", "small\n");
    rig.now += Duration::from_secs(10);
    let now = rig.now;
    assert_eq!(rig.run().tailer.poll_once(now), Ok(true));
    let mut sizes = Vec::new();
    while let Ok(chunk) = rig.run().chunks.try_recv() {
        sizes.push(chunk.records.len());
    }
    let of_a_block = BLOCK / line.len();
    assert_eq!(sizes, [of_a_block, 1], "one block of the large one");
}

#[test]
fn block_of_empty_lines_becomes_chunks_of_bounded_size() {
    let mut rig = Rig::started(&["a"]);
    rig.append("a", &"\n".repeat(300_000));
    rig.now += Duration::from_secs(10);
    let now = rig.now;
    while rig.run().tailer.poll_once(now).unwrap() {}
    let mut count = 0;
    while let Ok(chunk) = rig.run().chunks.try_recv() {
        assert!(chunk.records.len() <= 1024);
        count += chunk.records.len();
        let tickets = chunk.records.into_iter().map(|record| record.ticket);
        rig.held.extend(tickets);
    }
    assert_eq!(count, 300_000);
    rig.settle();
    assert_eq!(rig.status(), [("a".to_owned(), 300_000, 300_000)]);
}

#[test]
fn file_for_two_streams_goes_on_in_each_from_what_is_settled_there() {
    let mut rig = Rig::started(&["*.log"]);
    let mut audit = rig.beside("a.log", "audit");
    rig.append("a.log", "1\n2\n");
    assert_eq!(rig.deliver(), ["1", "2"]);
    let (lines, tickets) = audit.read(rig.now);
    assert_eq!(lines, ["1", "2"]);
    drop((audit, tickets));
    rig.stop();

    rig.start();
    let mut audit = rig.beside("a.log", "audit");
    assert_eq!(rig.deliver(), NOTHING);
    assert_eq!(audit.read(rig.now).0, ["1", "2"]);
}

#[test]
fn file_that_two_sources_of_a_stream_match_is_read_by_one() {
    let mut rig = Rig::started(&["*.log"]);
    let mut second = rig.beside("a*", "logs");
    rig.append("a.log", "1\n");
    assert_eq!(rig.read(), ["1"]);
    assert_eq!(second.read(rig.now).0, NOTHING);
    let left_to: Vec<&str> = second.tailer.left_to.iter().map(|by| &**by).collect();
    assert_eq!(left_to, [rig.path("*.log").to_str().unwrap()]);

    // The first lets go of it: the second goes on where that stopped, once it is settled.
    rig.rename("a.log", "a.old");
    rig.append("a.old", "2\n");
    assert_eq!(rig.read(), ["2"]);
    assert_eq!(rig.read(), NOTHING);
    assert!(rig.status().is_empty(), "let go");
    rig.append("a.old", "3\n");
    assert_eq!(second.read(rig.now).0, NOTHING, "still under way");
    rig.settle();
    rig.run().checkpoints.save_if_moved().unwrap();
    rig.now += Duration::from_secs(10);
    let (lines, tickets) = second.read(rig.now);
    assert_eq!((lines, tickets.len()), (vec!["3".to_owned()], 1));
}
