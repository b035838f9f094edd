//! Files that are closed while nothing comes, and those that are too old to be read.

use std::time::SystemTime;

use super::*;

fn closing(include: &[&str]) -> Rig {
    let mut rig = Rig::new(include);
    rig.settings.close_inactive = Duration::from_secs(1);
    rig.start();
    rig
}

impl Rig {
    fn open_files(&mut self) -> usize {
        let tailer = &self.run().tailer;
        let open = tailer.files.values().filter(|file| file.reader.is_open());
        let open = open.count();
        assert_eq!(tailer.open_files.len(), open);
        open
    }

    /// Read to its end, and closed.
    fn closed_after(&mut self, name: &str, text: &str) -> Vec<String> {
        self.append(name, text);
        let lines = self.deliver();
        assert_eq!(self.deliver(), NOTHING);
        assert_eq!(self.open_files(), 0);
        lines
    }

    fn age(&self, name: &str, by: Duration) {
        let file = fs::File::open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

#[test]
fn file_that_is_quiet_is_closed_and_read_on_once_it_grows() {
    let mut rig = closing(&["a.log"]);
    assert_eq!(rig.closed_after("a.log", "one\ntw"), ["one"]);
    rig.append("a.log", "o\n");
    assert_eq!(rig.deliver(), ["two"]);
    assert_eq!(rig.status(), [("a.log".to_owned(), 8, 8)]);
}

#[test]
fn closed_file_that_is_renamed_and_written_to_is_finished_before_its_successor() {
    for include in ["a.log", "a.log*"] {
        let mut rig = closing(&[include]);
        rig.closed_after("a.log", "1\n");
        rig.rename("a.log", "a.log.1");
        rig.append("a.log.1", "2\n");
        rig.append("a.log", "3\n");
        assert_eq!(rig.deliver(), ["2", "3"], "{include}");
    }
}

#[test]
fn closed_file_that_is_deleted_ends_with_what_was_held_of_it() {
    let mut rig = closing(&["a.log"]);
    rig.closed_after("a.log", "1\n2");
    fs::remove_file(rig.path("a.log")).unwrap();
    let mut lines = rig.deliver();
    lines.extend(rig.deliver());
    assert_eq!(lines, ["2"]);
    assert!(rig.status().is_empty());
    assert_eq!(rig.run().tailer.checkpoints.unclaimed().len(), 0);
}

#[test]
fn other_content_by_the_inode_of_a_closed_file_is_read_from_its_beginning() {
    let mut rig = closing(&["*.log"]);
    rig.closed_after("a.log", "1\n");
    // As if it were another file: as long, under another name.
    fs::write(rig.path("a.log"), "2\n").unwrap();
    rig.rename("a.log", "b.log");
    assert_eq!(rig.deliver(), ["2"]);
    rig.deliver();
    fs::write(rig.path("b.log"), "3\n4\n").unwrap();
    assert_eq!(rig.deliver(), ["3", "4"]);
    assert_eq!(rig.status(), [("b.log".to_owned(), 4, 4)]);
}

#[test]
fn no_more_files_are_open_than_may_be_and_every_line_comes() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.max_open_files = 3;
    rig.start();
    for round in 0..5 {
        let text = |n: usize| format!("{round} of {n}\n").repeat(if n == 7 { 50_000 } else { 2 });
        for n in 0..20 {
            rig.append(&format!("{n}.log"), &text(n));
        }
        let mut lines = rig.deliver();
        lines.sort();
        let mut want: Vec<String> = (0..20)
            .flat_map(|n| text(n).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        want.sort();
        assert!(
            lines == want,
            "round {round}: {} of {}",
            lines.len(),
            want.len()
        );
        assert!(rig.open_files() <= 3);
    }
}

#[test]
fn file_that_is_too_old_is_taken_up_at_its_end_also_over_a_restart() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.ignore_older = Some(Duration::from_secs(3600));
    rig.append("old.log", "old\n");
    rig.age("old.log", Duration::from_secs(7200));
    rig.append("new.log", "new\n");
    rig.start();
    assert_eq!(rig.deliver(), ["new"]);
    assert_eq!(rig.open_files(), 1);
    rig.append("late.log", "old as well\n");
    rig.age("late.log", Duration::from_secs(7200));
    assert_eq!(rig.deliver(), NOTHING);
    rig.append("late.log", "1\n");
    assert_eq!(rig.deliver(), ["1"]);
    rig.stop();
    rig.append("old.log", "2\n");
    rig.age("late.log", Duration::from_secs(7200));
    rig.start();
    assert_eq!(rig.deliver(), ["2"]);
    rig.append("late.log", "3\n");
    assert_eq!(rig.deliver(), ["3"]);
}

#[test]
fn old_file_that_the_checkpoint_knows_is_read_on() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    rig.deliver();
    rig.append("a.log", "2\n");
    rig.stop();
    rig.age("a.log", Duration::from_secs(7200));
    rig.settings.ignore_older = Some(Duration::from_secs(3600));
    rig.start();
    assert_eq!(rig.deliver(), ["2"]);
}

#[test]
fn a_renamed_file_is_read_for_as_long_as_rotate_wait_says() {
    let mut rig = Rig::new(&["a.log"]);
    rig.settings.rotate_wait = Duration::from_secs(60);
    rig.start();
    rig.append("a.log", "1\n");
    rig.deliver();
    rig.rename("a.log", "a.log.1");
    // Each look is ten seconds after the one before.
    for _ in 0..5 {
        assert_eq!(rig.deliver(), NOTHING);
    }
    rig.append("a.log.1", "2, by a writer that has not noticed\n");
    assert_eq!(rig.deliver(), ["2, by a writer that has not noticed"]);
    assert_eq!(rig.status().len(), 1);
    assert_eq!(rig.deliver(), NOTHING);
    assert_eq!(rig.status().len(), 0, "it is closed");
    rig.append("a.log.1", "3, too late\n");
    assert_eq!(rig.deliver(), NOTHING);
}
