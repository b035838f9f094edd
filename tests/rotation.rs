//! Every kind of rotation, as a real logrotate does it: each line arrives, and arrives once.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt;

use kinseal::fake::{Action, Faults, Rule, Service};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{Arrived, line};
use crate::support::logrotate::Logrotate;
use crate::support::process::Running;
use crate::support::servers::StandIn;

/// Lines between two rotations.
const SOME: u64 = 500;

/// A log that is written to and rotated, and the agent that reads it.
struct Site {
    stand_in: StandIn,
    home: Home,
    logrotate: Logrotate,
    agent: Option<Running>,
    written: u64,
    /// Stored by agents that have ended.
    stored_before: u64,
}

impl Site {
    /// `globs` are of names in the folder of the log, `sales.log`.
    fn new(globs: &[&str], directives: &str) -> Self {
        let stand_in = StandIn::start();
        stand_in.endpoints.create_stream(STREAM, 4);
        let more = "[metrics]\nlog_interval = \"1s\"";
        let home = Home::new(&stand_in.endpoints, "scope = \"off\"", more);
        home.set_include(globs);
        let logrotate = Logrotate::new(home.path(), &home.log(), directives);
        Self {
            stand_in,
            home,
            logrotate,
            agent: None,
            written: 0,
            stored_before: 0,
        }
    }

    /// The same, with an agent at work.
    fn started(globs: &[&str], directives: &str) -> Self {
        let mut site = Self::new(globs, directives);
        site.start();
        site
    }

    fn start(&mut self) {
        self.agent = Some(self.home.start_agent());
    }

    fn agent(&mut self) -> &mut Running {
        self.agent.as_mut().expect("started")
    }

    fn stop(&mut self) {
        let report = FinalReport::of(self.agent.take().expect("started"));
        self.stored_before += report.account()[1];
    }

    /// Has the agent look at nothing until `go_on`.
    fn pause(&mut self) {
        self.agent().signal("STOP");
    }

    fn go_on(&mut self) {
        self.agent().signal("CONT");
    }

    fn open(&self) -> File {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.home.log());
        log.expect("a file of ours")
    }

    /// Appends the next lines to the log, which is made where there is none.
    fn write(&mut self, lines: u64) {
        let log = self.open();
        self.write_to(log, lines);
    }

    fn write_to(&mut self, file: impl std::io::Write, lines: u64) {
        let mut file = BufWriter::new(file);
        for number in self.written + 1..=self.written + lines {
            writeln!(file, "{}", line(number)).expect("room for it");
        }
        file.flush().expect("room for it");
        self.written += lines;
    }

    fn rotate(&self) {
        self.logrotate.rotate();
    }

    /// Waits until all that was written is stored.
    fn until_stored(&mut self) {
        let want = self.written - self.stored_before;
        self.agent().until("all lines are stored", |agent| {
            let said = agent.stderr().replace(',', "");
            said.contains(&format!("stored {want} ")).then_some(())
        });
    }

    /// Waits until the agent has the log open.
    fn until_open(&mut self) {
        let log = self.home.log();
        self.agent().until_open(&log);
    }

    /// Every line that was written is in the stream, once.
    fn finish(mut self) {
        self.until_stored();
        self.stop();
        let arrived = Arrived::of(self.home.consume(&[]));
        arrived.expect_all(1..=self.written);
        arrived.expect_no_doubles();
    }

    /// Rotations of a log that is written to all the while.
    fn rotate_often(&mut self, times: usize) {
        for _ in 0..times {
            self.write(SOME);
            self.until_open();
            self.rotate();
        }
        self.write(SOME);
    }

    fn exists(&self, name: &str) -> bool {
        self.home.logs().join(name).exists()
    }
}

#[test]
fn renamed_and_made_anew() {
    let mut site = Site::started(&["*.log"], "rotate 9\ncreate");
    site.rotate_often(5);
    assert!(site.exists("sales.log.5"));
    site.finish();
}

#[test]
fn renamed_and_not_made_anew() {
    let mut site = Site::started(&["*.log"], "rotate 9\nnocreate");
    site.write(SOME);
    site.until_open();
    site.rotate();
    assert!(!site.exists("sales.log"));
    site.until_stored();
    site.rotate_often(3);
    site.finish();
}

#[test]
fn renamed_to_names_that_are_asked_for_too() {
    for directives in ["rotate 9\ncreate", "rotate 9\nnocreate"] {
        let mut site = Site::started(&["sales.log*"], directives);
        site.rotate_often(5);
        site.finish();
    }
}

#[test]
fn renamed_with_the_date() {
    for globs in ["*.log", "sales.log*"] {
        let directives = "rotate 9\ncreate\ndateext\ndateformat -%Y%m%d-%s";
        let mut site = Site::started(&[globs], directives);
        for _ in 0..3 {
            site.write(SOME);
            site.until_open();
            // The log's report is a second away: the next date is another.
            site.until_stored();
            site.rotate();
        }
        site.write(SOME);
        let names = fs::read_dir(site.home.logs()).expect("readable").count();
        assert_eq!(names, 4);
        site.finish();
    }
}

#[test]
fn copied_and_truncated() {
    let mut site = Site::started(&["*.log"], "rotate 9\ncopytruncate");
    // More each time: a size alone does not tell.
    for turn in 1..=4 {
        site.write(turn * SOME);
        site.until_stored();
        site.rotate();
        assert_eq!(fs::metadata(site.home.log()).expect("there").len(), 0);
    }
    site.write(SOME);
    site.finish();
}

#[test]
fn copied_and_truncated_while_the_agent_is_down() {
    for (before, after) in [(SOME, 2 * SOME), (SOME, SOME), (2 * SOME, SOME)] {
        let mut site = Site::started(&["*.log"], "rotate 9\ncopytruncate");
        site.write(before);
        site.until_stored();
        site.stop();
        site.rotate();
        site.write(after);
        site.start();
        site.finish();
    }
}

#[test]
fn compressed_one_rotation_later() {
    for globs in ["*.log", "sales.log*"] {
        let directives = "rotate 9\ncreate\ncompress\ndelaycompress";
        let mut site = Site::started(&[globs], directives);
        site.rotate_often(4);
        assert!(site.exists("sales.log.1") && site.exists("sales.log.4.gz"));
        site.finish();
    }
}

#[test]
fn compressed_at_once_after_it_was_read() {
    for globs in ["*.log", "sales.log*"] {
        let mut site = Site::started(&[globs], "rotate 9\ncreate\ncompress");
        for _ in 0..3 {
            site.write(SOME);
            site.until_stored();
            site.rotate();
        }
        assert!(site.exists("sales.log.3.gz") && !site.exists("sales.log.1"));
        site.write(SOME);
        site.until_stored();
        // Looks at what lies there, the compressed ones too, at its start and again.
        site.stop();
        site.start();
        site.write(SOME);
        site.finish();
    }
}

#[test]
fn compressed_at_once_while_it_is_read() {
    for globs in ["*.log", "sales.log*"] {
        let mut site = Site::started(&[globs], "rotate 9\ncreate\ncompress");
        for _ in 0..3 {
            site.write(20 * SOME);
            site.until_open();
            site.rotate();
        }
        site.finish();
    }
}

#[test]
fn compressed_at_once_while_the_agent_is_down() {
    for globs in ["*.log", "sales.log*"] {
        let mut site = Site::started(&[globs], "rotate 9\ncreate\ncompress");
        site.write(SOME);
        site.until_stored();
        site.stop();
        site.write(SOME);
        site.rotate();
        site.write(SOME);
        site.start();
        site.finish();
    }
}

#[test]
fn rotated_twice_between_two_looks() {
    for globs in ["*.log", "sales.log*"] {
        let mut site = Site::started(&[globs], "rotate 9\ncreate");
        site.write(SOME);
        site.until_stored();
        site.pause();
        for _ in 0..2 {
            site.write(SOME);
            site.rotate();
        }
        site.write(SOME);
        site.go_on();
        site.finish();
    }
}

#[test]
fn rotated_while_the_agent_is_down() {
    for (globs, times) in [("*.log", 1), ("sales.log*", 3)] {
        let mut site = Site::started(&[globs], "rotate 9\ncreate");
        site.write(SOME);
        site.until_stored();
        site.stop();
        for _ in 0..times {
            site.write(SOME);
            site.rotate();
        }
        site.write(SOME);
        site.start();
        site.finish();
    }
}

#[test]
fn written_to_after_its_rename() {
    for globs in ["*.log", "sales.log*"] {
        let mut site = Site::started(&[globs], "rotate 9\ncreate");
        site.write(SOME);
        site.until_open();
        let old = site.open();
        site.rotate();
        site.write(SOME);
        site.until_stored();
        site.write_to(&old, SOME);
        site.write(SOME);
        site.finish();
    }
}

#[test]
fn deleted_while_it_is_read() {
    let mut site = Site::started(&["*.log"], "rotate 0\ncreate");
    for _ in 0..3 {
        site.write(SOME);
        site.until_open();
        site.pause();
        site.write(20 * SOME);
        let old = site.open();
        site.rotate();
        assert_eq!(old.metadata().expect("open").nlink(), 0);
        site.write_to(&old, SOME);
        site.go_on();
    }
    site.finish();
}

#[test]
fn moved_to_another_directory() {
    for globs in [&["*.log"][..], &["*.log", "old/*"]] {
        let mut site = Site::started(globs, "rotate 9\ncreate\nolddir old\ncreateolddir 700");
        site.write(SOME);
        site.until_open();
        site.pause();
        site.write(SOME);
        site.rotate();
        assert!(site.exists("old/sales.log.1"));
        site.write(SOME);
        site.go_on();
        site.until_open();
        site.rotate_often(3);
        site.finish();
    }
}

#[test]
fn moved_to_another_directory_while_the_agent_is_down() {
    let directives = "rotate 9\ncreate\nolddir old\ncreateolddir 700";
    let mut site = Site::started(&["*.log", "old/*"], directives);
    site.write(SOME);
    site.until_stored();
    site.stop();
    site.write(SOME);
    site.rotate();
    site.write(SOME);
    site.start();
    site.finish();
}

/// More than the agent takes into its memory.
const MUCH: u64 = 60_000;

impl Site {
    /// An agent whose memory is full, and a sink that takes nothing.
    fn in_an_outage(globs: &[&str], directives: &str) -> Self {
        let mut site = Self::new(globs, directives);
        site.home.set_memory_limit("8MiB");
        let down = Rule::new(Action::ResetBefore).service(Service::Kinesis);
        let down = Faults::seeded(1).rule(down.on("PutRecords"));
        site.stand_in.fake.set_faults(down);
        site.write(MUCH);
        site.start();
        site.until_open();
        site
    }

    fn heal(&self) {
        assert_eq!(self.stand_in.fake.counters().records_stored, 0);
        self.stand_in.fake.set_faults(Faults::none());
    }
}

#[test]
fn rotated_away_and_deleted_during_an_outage() {
    for directives in ["rotate 2\ncreate", "rotate 2\nnocreate"] {
        for globs in ["*.log", "sales.log*"] {
            let mut site = Site::in_an_outage(&[globs], directives);
            for _ in 0..6 {
                site.rotate();
                site.write(SOME);
                site.until_open();
            }
            assert!(site.exists("sales.log.2") && !site.exists("sales.log.3"));
            site.heal();
            site.finish();
        }
    }
}

#[test]
fn compressed_during_an_outage() {
    for globs in ["*.log", "sales.log*"] {
        let mut site = Site::in_an_outage(&[globs], "rotate 9\ncreate\ncompress");
        for _ in 0..3 {
            site.rotate();
            site.write(SOME);
            site.until_open();
        }
        site.heal();
        site.finish();
    }
}

#[test]
fn rotated_during_an_outage_in_which_the_agent_is_killed() {
    let mut site = Site::in_an_outage(&["*.log"], "rotate 9\ncreate");
    for _ in 0..3 {
        site.rotate();
        site.write(SOME);
        site.until_open();
    }
    // What is open is saved next.
    let inode = fs::metadata(site.home.log()).expect("it is there").ino();
    let mut agent = site.agent.take().expect("started");
    agent.until("the last one is in the checkpoint", |_| {
        let inodes = site.home.inodes_saved();
        inodes.contains(&inode).then_some(())
    });
    agent.kill();
    site.rotate();
    site.write(SOME);
    site.start();
    site.heal();
    site.finish();
}
