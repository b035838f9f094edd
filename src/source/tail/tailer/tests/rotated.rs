//! Files that lose their names, while they are read and while nobody reads them.

use super::*;

#[test]
fn renamed_file_is_read_to_its_end_and_then_its_successor() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    rig.deliver();
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log.1", "3, by a writer that has not noticed\n");
    rig.append("a.log", "4\n");
    assert_eq!(
        rig.deliver(),
        ["2", "3, by a writer that has not noticed", "4"]
    );
    assert_eq!(rig.status().len(), 2, "the old one is kept for a while");
    rig.append("a.log.1", "5, no newline");
    assert_eq!(rig.deliver(), ["5, no newline"], "it is closed");
    assert_eq!(rig.status(), [("a.log".to_owned(), 2, 2)]);
    assert_eq!(rig.run().tailer.checkpoints.unclaimed().len(), 0);
}

#[test]
fn renamed_file_that_still_matches_stays_one_file() {
    let mut rig = Rig::started(&["a.log*"]);
    rig.append("a.log", "1\n");
    rig.deliver();
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "2\n");
    assert_eq!(rig.deliver(), ["2"]);
    rig.append("a.log.1", "3\n");
    assert_eq!(rig.deliver(), ["3"]);
    rig.stop();
    rig.rename("a.log.1", "a.log.2");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log.1", "4\n");
    rig.start();
    assert_eq!(rig.deliver(), ["4"]);
}

#[test]
fn file_rotated_twice_between_two_looks_is_caught_by_its_event() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    rig.deliver();
    let mut changes = Changes::default();
    for text in ["2\n", "3\n"] {
        for (from, to) in [("a.log.1", "a.log.2"), ("a.log", "a.log.1")] {
            if rig.path(from).exists() {
                rig.rename(from, to);
                changes.renames.push((rig.path(from), rig.path(to)));
            }
        }
        rig.append("a.log", text);
    }
    let now = rig.now;
    rig.run().tailer.take_up(&changes, now);
    assert_eq!(rig.deliver(), ["2", "3"]);
    assert_eq!(rig.deliver(), NOTHING);
    assert_eq!(rig.status(), [("a.log".to_owned(), 2, 2)]);
}

#[test]
fn file_renamed_on_while_the_event_of_its_first_rename_is_looked_at_is_caught() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    rig.rename("a.log", "a.rotating");
    rig.rename("a.rotating", "a.yesterday");
    for (from, to) in [("a.log", "a.rotating"), ("a.rotating", "a.yesterday")] {
        let changes = Changes {
            renames: vec![(rig.path(from), rig.path(to))],
            ..Changes::default()
        };
        let now = rig.now;
        rig.run().tailer.take_up(&changes, now);
    }
    assert_eq!(rig.deliver(), ["1"]);
}

#[test]
fn file_that_lost_its_name_goes_first_though_no_event_says_that_it_has_grown() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "");
    assert_eq!(rig.deliver(), NOTHING);
    rig.append("a.log", "1\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "2\n");
    // A look at the directory, and none at what is open.
    let now = rig.now + SWEEP_POLLING / 2;
    rig.run().tailer.scan_wanted = true;
    rig.run().tailer.scan_allowed = now;
    let (lines, _) = rig.run().read(now);
    assert_eq!(lines, ["1", "2"]);
}

#[test]
fn file_rotated_while_down_is_found_and_finished_first() {
    let mut rig = Rig::started(&["z.log"]);
    rig.append("z.log", "1\n");
    rig.deliver();
    rig.stop();
    rig.append("z.log", "2\n");
    rig.rename("z.log", "z.log.1");
    rig.append("z.log", "3\n");
    rig.append("z.log.0", "a stranger\n");
    rig.start();
    assert_eq!(rig.deliver(), ["2", "3"]);
    assert_eq!(rig.deliver(), NOTHING);
    rig.stop();
    rig.start();
    assert_eq!(rig.deliver(), NOTHING);
}

#[test]
fn file_rotated_while_down_is_found_while_its_directory_is_being_rotated() {
    let mut rig = Rig::started(&["z.log"]);
    for n in 0..20 {
        rig.append("z.log", &format!("{n}\n"));
        rig.deliver();
        rig.stop();
        rig.append("z.log", &format!("{n} more\n"));
        rig.rename("z.log", "z.log.0");
        // A rotation never ends, as far as a look through the directory can see.
        let (at, stop) = (rig.path("z.log"), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let rotation = std::thread::spawn(move || {
            let name = |n: u32| at.with_extension(format!("log.{n}"));
            let others: Vec<u32> = (1000..1050).collect();
            others.iter().for_each(|n| fs::write(name(*n), "").unwrap());
            let mut at_last = 0;
            while !stopped.load(Ordering::Acquire) {
                fs::rename(name(at_last), name(at_last + 1)).unwrap();
                at_last += 1;
                for n in &others {
                    let (is, was) = if at_last % 2 == 0 { (0, 100) } else { (100, 0) };
                    fs::rename(name(n + was), name(n + is)).unwrap();
                }
            }
            fs::remove_file(name(at_last)).unwrap();
        });
        rig.start();
        let lines = rig.deliver();
        stop.store(true, Ordering::Release);
        rotation.join().unwrap();
        assert_eq!(lines, [format!("{n} more")]);
        assert_eq!(rig.deliver(), NOTHING);
        assert_eq!(rig.deliver(), NOTHING);
    }
}

#[test]
fn deleted_file_is_read_to_its_end() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    rig.deliver();
    rig.append("a.log", "2\n3");
    fs::remove_file(rig.path("a.log")).unwrap();
    assert_eq!(rig.deliver(), ["2"]);
    assert_eq!(rig.deliver(), ["3"]);
    assert!(rig.status().is_empty());
    rig.append("a.log", "4\n");
    assert_eq!(rig.deliver(), ["4"]);
}

#[test]
fn link_and_its_file_are_one_and_a_link_set_anew_is_a_rotation() {
    let mut rig = Rig::started(&["*"]);
    rig.append("monday", "1\n");
    symlink(rig.path("monday"), rig.path("current")).unwrap();
    assert_eq!(rig.deliver(), ["1"]);
    rig.append("tuesday", "3\n");
    rig.append("monday", "2\n");
    fs::remove_file(rig.path("current")).unwrap();
    symlink(rig.path("tuesday"), rig.path("current")).unwrap();
    let mut lines = rig.deliver();
    lines.sort();
    assert_eq!(lines, ["2", "3"]);
    assert_eq!(rig.deliver(), NOTHING);
}

#[test]
fn lines_of_a_writer_that_rotates_meanwhile_all_come_once() {
    const LINES: usize = 30_000;
    let mut rig = Rig::started(&["a.log*"]);
    let path = rig.path("a.log");
    let writer = std::thread::spawn(move || {
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap()
        };
        let mut file = open();
        for n in 0..LINES {
            // In two writes, so that half lines are met.
            let line = format!("{n}\n");
            let (a, b) = line.split_at(n % line.len());
            file.write_all(a.as_bytes()).unwrap();
            file.write_all(b.as_bytes()).unwrap();
            if n % 1999 == 1998 {
                fs::rename(&path, path.with_extension(format!("log.{n}"))).unwrap();
                file.write_all(b"late\n").unwrap();
                file = open();
            }
        }
    });
    let mut lines = Vec::new();
    while !writer.is_finished() {
        lines.extend(rig.deliver());
    }
    writer.join().unwrap();
    lines.extend(rig.deliver());
    let late = lines.len();
    lines.retain(|line| line != "late");
    assert_eq!(late - lines.len(), LINES / 1999);
    let mut numbers: Vec<usize> = lines.iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort();
    assert!(numbers.into_iter().eq(0..LINES));
}
