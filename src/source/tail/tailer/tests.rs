//! Real files, a clock of our own, and a pipeline that settles when it is told to.

mod closing;
mod damaged;
mod joined;
mod overlong;
mod packed;
mod waiting;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::*;
use crate::checkpoint::Checkpoints;
use crate::delivery::{Delivery, MemoryBudget, Ticket};
use crate::record::StreamName;
use crate::shutdown::{self, Stop};
use crate::source::keying::Keying;
use crate::source::tail::UNFINISHED_KEPT;
use crate::source::tail::reader::BLOCK;
use crate::source::{Chunk, Costs, Intake};

struct Rig {
    dir: TempDir,
    include: Vec<String>,
    settings: Settings,
    /// For unfinished lines.
    kept: usize,
    runtime: Runtime,
    now: Instant,
    run: Option<Run>,
    /// Read, not settled.
    held: Vec<Ticket>,
}

/// From a start of the agent to its end.
struct Run {
    tailer: Tailer,
    chunks: mpsc::Receiver<Chunk>,
    checkpoints: Checkpoints,
    budget: MemoryBudget,
    stop: Stop,
}

impl Rig {
    fn new(include: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let log = dir.path().join("log").display().to_string();
        Self {
            include: include.iter().map(|g| format!("{log}/{g}")).collect(),
            settings: Settings {
                start_position: StartPosition::Beginning,
                ..Settings::default()
            },
            kept: UNFINISHED_KEPT,
            runtime: Runtime::new().unwrap(),
            now: Instant::now(),
            run: None,
            held: Vec::new(),
            dir,
        }
    }

    fn started(include: &[&str]) -> Self {
        let mut rig = Self::new(include);
        rig.start();
        rig
    }

    fn start(&mut self) {
        let settings = Settings {
            include: self.include.clone(),
            ..self.settings.clone()
        };
        let checkpoints = Checkpoints::open(&self.dir.path().join("state")).unwrap();
        self.run = Some(self.run_on(&settings, "logs", checkpoints));
    }

    /// A source of `stream`.
    fn run_on(&self, settings: &Settings, stream: &str, checkpoints: Checkpoints) -> Run {
        let globs = Globs::new(&settings.include, &[]).unwrap();
        let (to, chunks) = mpsc::channel(10_000);
        let budget = MemoryBudget::new(1 << 30);
        let (stop, shutdown) = shutdown::channel();
        let costs = Costs::new(100, true);
        let outlet = Outlet {
            runtime: self.runtime.handle().clone(),
            intake: Intake::new(to, budget.clone(), costs),
            making: Keying::RANDOM.into(),
            rules: settings.rules.clone(),
            max_line: settings.max_line_bytes,
            unfinished: MemoryBudget::new(self.kept),
            shutdown,
            newcomers: RefCell::default(),
        };
        let stream = StreamName::new(stream).unwrap();
        let ours = checkpoints.of_source(&stream, &settings.include.join(", "));
        let watch = Watch::polling();
        Run {
            tailer: Tailer::new(settings, globs, ours, outlet, watch, self.now),
            chunks,
            checkpoints,
            budget,
            stop,
        }
    }

    /// What files hold between turns.
    fn kept(&mut self) -> usize {
        let files = &self.run().tailer.files;
        files.values().map(|file| file.reader.kept_bytes()).sum()
    }

    /// Another source, beside the first, for as long as that runs.
    fn beside(&mut self, include: &str, stream: &str) -> Run {
        let settings = Settings {
            include: vec![self.path(include).display().to_string()],
            ..self.settings.clone()
        };
        let checkpoints = self.run().checkpoints.clone();
        self.run_on(&settings, stream, checkpoints)
    }

    /// Ends the agent, with all that is settled saved and all else abandoned.
    fn stop(&mut self) {
        self.run().checkpoints.save_if_moved().unwrap();
        self.kill();
    }

    fn kill(&mut self) {
        self.run = None;
        self.held.clear();
    }

    fn run(&mut self) -> &mut Run {
        self.run.as_mut().expect("started")
    }

    /// Ten seconds later: whatever is there is found, and read to its end. The lines read, not yet settled.
    fn read(&mut self) -> Vec<String> {
        self.now += Duration::from_secs(10);
        let now = self.now;
        let run = self.run.as_mut().expect("started");
        let (lines, tickets) = run.read(now);
        self.held.extend(tickets);
        lines
    }

    fn settle(&mut self) {
        self.held
            .drain(..)
            .for_each(|ticket| ticket.settle(&STORED()));
    }

    /// Reads, and everything is stored at once.
    fn deliver(&mut self) -> Vec<String> {
        let lines = self.read();
        self.settle();
        lines
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn status(&mut self) -> Vec<(String, u64, u64)> {
        let live = self.run().tailer.live();
        let live = live.lock().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut status: Vec<_> = (live.values().map(|known| known.ledger.status()))
            .map(|s| (name(s.path), s.read, s.settled))
            .collect();
        status.sort();
        status
    }
}

impl Run {
    fn read(&mut self, now: Instant) -> (Vec<String>, Vec<Ticket>) {
        while self.tailer.poll_once(now).unwrap() {}
        let (mut lines, mut tickets) = (Vec::new(), Vec::new());
        while let Ok(chunk) = self.chunks.try_recv() {
            for record in chunk.records {
                lines.push(String::from_utf8(record.data.to_vec()).unwrap());
                tickets.push(record.ticket);
            }
        }
        (lines, tickets)
    }
}

const STORED: fn() -> Delivery = || Delivery::Stored {
    shard: "shardId-000000000000".into(),
    sequence: "1".into(),
    attempts: 1,
};

const NOTHING: [&str; 0] = [];

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
fn partial_line_is_not_sent_at_shutdown() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "one\ntw");
    rig.deliver();
    rig.run().stop.stop();
    rig.append("a.log", "o\n");
    let now = rig.now + Duration::from_secs(10);
    assert_eq!(rig.run().tailer.poll_once(now), Err(Ended::Stopped));
    assert!(rig.run().chunks.try_recv().is_err());
    rig.stop();
    rig.start();
    assert_eq!(rig.deliver(), ["two"]);
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
fn truncated_file_starts_over_and_old_answers_do_not_move_it() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n2\nhalf");
    assert_eq!(rig.read(), ["1", "2"]);
    fs::write(rig.path("a.log"), "").unwrap();
    assert_eq!(rig.read(), ["half"]);
    rig.append("a.log", "3\n");
    assert_eq!(rig.read(), ["3"]);
    let newest = rig.held.pop().unwrap();
    rig.settle();
    assert_eq!(rig.status(), [("a.log".to_owned(), 2, 0)]);
    newest.settle(&STORED());
    assert_eq!(rig.status(), [("a.log".to_owned(), 2, 2)]);
}

#[test]
fn file_refilled_beyond_its_old_size_starts_over() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "old 1\nold 2\n");
    rig.deliver();
    fs::write(rig.path("a.log"), "new 1\nnew 2\nnew 3\n").unwrap();
    assert_eq!(rig.deliver(), ["new 1", "new 2", "new 3"]);
    rig.stop();
    fs::write(rig.path("a.log"), "newer\n".repeat(10)).unwrap();
    rig.start();
    assert_eq!(rig.deliver(), vec!["newer"; 10]);
}

#[test]
fn file_refilled_to_its_old_size_starts_over_also_when_it_loses_its_name_then() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "old 1\nold 2\n");
    rig.deliver();
    assert_eq!(rig.deliver(), NOTHING);
    fs::write(rig.path("a.log"), "new 1\nnew 2\n").unwrap();
    assert_eq!(rig.deliver(), ["new 1", "new 2"]);
    // Its last bytes alone do not tell.
    let like = |first: &str| format!("{first}\n{}", "same\n".repeat(30));
    fs::write(rig.path("a.log"), like("one")).unwrap();
    assert_eq!(rig.deliver().len(), 31);
    assert_eq!(rig.deliver(), NOTHING);
    fs::write(rig.path("a.log"), like("two")).unwrap();
    fs::rename(rig.path("a.log"), rig.path("a.log.1")).unwrap();
    rig.append("a.log", "three\n");
    let found = rig.deliver();
    assert_eq!((&*found[0], &*found[31]), ("two", "three"));
}

#[test]
fn file_that_is_touched_and_has_its_content_still_is_not_read_again() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\nhalf");
    assert_eq!(rig.deliver(), ["1"]);
    for _ in 0..3 {
        let file = fs::File::options().write(true).open(rig.path("a.log"));
        file.unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        assert_eq!(rig.deliver(), NOTHING);
    }
    rig.append("a.log", " 2\n");
    assert_eq!(rig.deliver(), ["half 2"]);
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

#[test]
fn unfinished_lines_of_many_files_take_bounded_memory_and_come_whole() {
    let mut rig = Rig::started(&["*"]);
    let sizes = [10_000, 60_000, 100_000, 600_000];
    let name = |file: usize| format!("{file:03}");
    let text = |file: usize| format!("{file:03}").repeat(sizes[file % sizes.len()] / 3);
    for part in 0..3 {
        for file in 0..200 {
            let text = text(file);
            let third = text.len() / 3;
            rig.append(&name(file), &text[part * third..(part + 1) * third]);
        }
        assert_eq!(rig.read(), NOTHING);
        let kept = rig.kept();
        assert!(kept > 0 && kept <= UNFINISHED_KEPT, "{kept}");
        assert_eq!(rig.run().budget.in_use(), 0);
    }
    let read_to = rig.status().iter().all(|(_, read, settled)| read > settled);
    assert!(read_to);
    for file in 0..200 {
        rig.append(&name(file), "\nnext\n");
    }
    let mut lines = rig.deliver();
    lines.sort();
    let whole = |file| text(file)[..text(file).len() / 3 * 3].to_owned();
    let mut want: Vec<String> = (0..200).map(whole).collect();
    want.extend(vec!["next".to_owned(); 200]);
    want.sort();
    assert!(lines == want);
    assert_eq!(rig.kept(), 0);
}

#[test]
fn unfinished_line_not_kept_comes_when_its_file_is_closed_and_after_a_restart() {
    let mut rig = Rig::started(&["a.log"]);
    let long = "x".repeat(3_000_000);
    rig.append("a.log", &format!("1\n{long}"));
    assert_eq!(rig.deliver(), ["1"]);
    assert_eq!(rig.kept(), 0);
    rig.stop();
    rig.start();
    assert_eq!(rig.deliver(), NOTHING);
    fs::remove_file(rig.path("a.log")).unwrap();
    assert_eq!(rig.deliver(), NOTHING);
    assert!(rig.deliver() == [long]);
}

#[test]
fn file_truncated_within_a_line_not_kept_starts_over() {
    let mut rig = Rig::started(&["a"]);
    rig.append("a", &"x".repeat(300_000));
    assert_eq!(rig.deliver(), NOTHING);
    fs::write(rig.path("a"), "new\n".repeat(100_000)).unwrap();
    assert!(
        rig.deliver() == vec!["new"; 100_000],
        "and it is longer than before"
    );
}

/// What may happen to a log, and to who reads it.
#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    /// Bytes that become a line with whatever is appended next.
    AppendPart,
    Rotate,
    Read,
    Settle,
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..40).prop_map(Step::Append),
        2 => Just(Step::AppendPart),
        2 => Just(Step::Rotate),
        4 => Just(Step::Read),
        3 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

/// Plays `steps`; with `matching`, rotated files match the glob still. Returns how often each line came, and
/// whether there was a moment when lines were read and abandoned.
fn play(
    steps: &[Step],
    matching: bool,
    kept: usize,
    closes: bool,
) -> (BTreeMap<String, u32>, u32, bool) {
    let mut rig = Rig::new(&[if matching { "a.log*" } else { "a.log" }]);
    rig.kept = kept;
    if closes {
        rig.settings.close_inactive = Duration::from_secs(1);
        rig.settings.max_open_files = 1;
    }
    rig.start();
    // The least that a budget has goes to somebody else.
    let _unit = (kept == 0).then(|| rig.run().tailer.outlet.unfinished.try_reserve(1));
    let (mut seen, mut abandoned, mut next, mut rotations) = (BTreeMap::new(), false, 0, 0);
    let (mut has_part, mut is_known) = (false, false);
    let mut note = |lines: Vec<String>| {
        for line in lines {
            let line = line.trim_start_matches('p').to_owned();
            *seen.entry(line).or_insert(0u32) += 1;
        }
    };
    rig.read();
    for step in steps {
        match step {
            Step::Append(lines) => {
                for _ in 0..*lines {
                    rig.append("a.log", &format!("{next}\n"));
                    next += 1;
                }
                has_part = false;
            }
            Step::AppendPart => {
                rig.append("a.log", "p");
                has_part = true;
            }
            // Without a glob that matches it, a file is only known once it has been seen.
            Step::Rotate if !rig.path("a.log").exists() || (!matching && !is_known) => {}
            Step::Rotate => {
                // The line it ends with is another story: it becomes a record, or waits for ever.
                if has_part {
                    rig.append("a.log", &format!("{next}\n"));
                    next += 1;
                    has_part = false;
                }
                rig.rename("a.log", &format!("a.log.{rotations}"));
                rotations += 1;
                is_known = false;
            }
            Step::Read => {
                note(rig.read());
                is_known = rig.path("a.log").exists();
            }
            Step::Settle => rig.settle(),
            Step::Restart | Step::Kill => {
                abandoned |= !rig.held.is_empty() || matches!(step, Step::Kill);
                match step {
                    Step::Restart => rig.stop(),
                    _ => rig.kill(),
                }
                rig.start();
                note(rig.read());
                is_known = rig.path("a.log").exists();
            }
        }
    }
    rig.append("a.log", &format!("{next}\n"));
    next += 1;
    note(rig.read());
    note(rig.read());
    rig.settle();
    rig.stop();
    rig.start();
    let again = rig.read();
    assert!(again.is_empty(), "settled, and read again: {again:?}");
    (seen, next, abandoned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_line_is_read_exactly_once_unless_a_restart_abandons_it(
        steps in prop::collection::vec(step(), 1..40),
        matching: bool,
        keeps: bool,
        closes: bool,
    ) {
        let kept = if keeps { UNFINISHED_KEPT } else { 0 };
        let (seen, written, abandoned) = play(&steps, matching, kept, closes);
        let want: BTreeMap<String, u32> = (0..written).map(|n| (n.to_string(), 1)).collect();
        if abandoned {
            prop_assert!(seen.keys().eq(want.keys()), "{seen:?} of {written}");
        } else {
            prop_assert_eq!(seen, want);
        }
    }
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
