//! What happens to files while the thread waits for room: nobody reads then.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::*;

/// How long a test waits for what has to come.
const LIMIT: Duration = Duration::from_secs(20);

/// The logs, as others see them meanwhile.
struct Meanwhile<'a> {
    dir: &'a Path,
    stop: &'a Stop,
}

impl Meanwhile<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(name)
    }

    fn write(&self, name: &str, text: &str) {
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

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Waits until this process has the file open.
    fn until_held(&self, name: &str) {
        let inode = self.path(name).metadata().unwrap().ino();
        until(|| held_files(self.dir).contains(&inode));
    }

    /// Waits until a start after a crash would know the file.
    fn until_saved(&self, name: &str) {
        let inode = self.path(name).metadata().unwrap().ino();
        until(|| {
            let saved = fs::read(self.dir.join("state/checkpoint.json")).unwrap();
            let saved: serde_json::Value = serde_json::from_slice(&saved).unwrap();
            let files = saved["files"].as_array().unwrap();
            files.iter().any(|file| file["inode"] == inode)
        });
    }
}

/// Inodes of what this process has open on the file system of `dir`.
fn held_files(dir: &Path) -> Vec<u64> {
    let device = dir.metadata().unwrap().dev();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter_map(|entry| entry.ok()?.path().metadata().ok())
        .filter(|meta| meta.dev() == device && meta.is_file())
        .map(|meta| meta.ino())
        .collect()
}

fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "it does not come");
        std::thread::yield_now();
    }
}

impl Rig {
    /// One look, in which `file` has to be read, without room for it until `meanwhile` is over.
    fn look_without_room(
        &mut self,
        file: &str,
        meanwhile: impl FnOnce(&Meanwhile<'_>),
    ) -> Result<bool, Ended> {
        self.now += Duration::from_secs(10);
        let now = self.now;
        let dir = self.dir.path();
        let run = self.run.as_mut().expect("started");
        let all = run.budget.try_reserve(run.budget.limit());
        let all = all.expect("nothing is under way");
        let (tailer, stop) = (&mut run.tailer, &run.stop);
        if let Some(newcomers) = &mut *tailer.outlet.newcomers.borrow_mut() {
            newcomers.look_every(Duration::from_millis(1));
        }
        std::thread::scope(|scope| {
            let look = scope.spawn(|| tailer.poll_once(now));
            // Also if this panics, the look comes to an end.
            let _all = all;
            let logs = Meanwhile { dir, stop };
            logs.until_held(file);
            meanwhile(&logs);
            drop(_all);
            look.join().unwrap()
        })
    }
}

#[test]
fn files_that_come_and_go_while_there_is_no_room_are_read_in_their_order() {
    for include in ["a.log", "a.log*"] {
        let mut rig = Rig::started(&[include]);
        rig.append("a.log", "1\n");
        let looked = rig.look_without_room("a.log", |meanwhile| {
            for n in 2..=5 {
                if n > 2 {
                    meanwhile.remove("a.log.1");
                }
                meanwhile.rename("a.log", "a.log.1");
                meanwhile.write("a.log", &format!("{n}\n"));
                meanwhile.until_held("a.log");
                meanwhile.write("a.log", &format!("{n}, late\n"));
            }
            meanwhile.remove("a.log");
            meanwhile.remove("a.log.1");
        });
        assert_eq!(looked, Ok(true));
        let mut want = vec!["1".to_owned()];
        want.extend((2..=5).flat_map(|n| [format!("{n}"), format!("{n}, late")]));
        assert_eq!(rig.deliver(), want, "{include}");
        assert_eq!(rig.deliver(), NOTHING);
        assert_eq!(rig.deliver(), NOTHING);
        assert!(rig.status().is_empty(), "let go");
    }
}

#[test]
fn file_that_came_while_there_was_no_room_goes_on_under_its_name_and_under_another() {
    let mut rig = Rig::started(&["*.log"]);
    rig.append("a.log", "1\n");
    let looked = rig.look_without_room("a.log", |meanwhile| {
        meanwhile.write("b.log", "2\n");
        meanwhile.until_held("b.log");
        meanwhile.write("c.log", "3\n");
        meanwhile.until_held("c.log");
        meanwhile.rename("c.log", "d.log");
    });
    assert_eq!(looked, Ok(true));
    assert_eq!(rig.deliver(), ["1", "2", "3"]);
    rig.append("b.log", "4\n");
    rig.append("d.log", "5\n");
    let mut lines = rig.deliver();
    lines.sort();
    assert_eq!(lines, ["4", "5"]);
    let names = ["a.log", "b.log", "d.log"].map(str::to_owned);
    assert!(rig.status().into_iter().map(|(name, ..)| name).eq(names));
}

#[test]
fn file_that_came_while_there_was_no_room_is_found_after_a_crash_whatever_its_name_is() {
    let mut rig = Rig::started(&["a.log"]);
    rig.append("a.log", "1\n");
    let looked = rig.look_without_room("a.log", |meanwhile| {
        meanwhile.rename("a.log", "a.log.1");
        meanwhile.write("a.log", "2\n");
        meanwhile.until_saved("a.log");
        meanwhile.rename("a.log.1", "a.log.2");
        meanwhile.rename("a.log", "a.log.1");
        meanwhile.stop.stop();
    });
    assert_eq!(looked, Err(Ended::Stopped));
    rig.kill();
    rig.append("a.log", "3\n");
    rig.start();
    let mut lines = rig.deliver();
    assert_eq!(lines.pop().as_deref(), Some("3"), "the newest comes last");
    lines.sort();
    assert_eq!(lines, ["1", "2"]);
}

#[test]
fn closed_file_that_is_written_to_and_deleted_while_there_is_no_room_is_read() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.close_inactive = Duration::from_secs(1);
    rig.start();
    rig.append("a.log", "1\n");
    rig.append("b.log", "2\n");
    assert_eq!(rig.deliver(), ["1", "2"]);
    assert_eq!(rig.deliver(), NOTHING);
    assert!(
        !rig.run()
            .tailer
            .files
            .values()
            .any(|file| file.reader.is_open())
    );
    rig.append("b.log", "3\n");
    let looked = rig.look_without_room("b.log", |meanwhile| {
        meanwhile.write("a.log", "4\n");
        meanwhile.until_held("a.log");
        meanwhile.remove("a.log");
        meanwhile.write("a.log", "5\n");
        meanwhile.until_held("a.log");
        meanwhile.remove("a.log");
    });
    assert_eq!(looked, Ok(true));
    assert_eq!(rig.deliver(), ["3", "4", "5"]);
}

#[test]
fn file_is_as_old_as_it_was_when_it_was_met_however_long_there_is_no_room() {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.ignore_older = Some(HOUR);
    rig.start();
    rig.append("a.log", "1\n");
    let looked = rig.look_without_room("a.log", |meanwhile| {
        let age = |name: &str| {
            let file = fs::File::open(meanwhile.path(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
        };
        meanwhile.write("young.log", "2\n");
        meanwhile.until_held("young.log");
        age("young.log");
        meanwhile.write("old", "long ago\n");
        age("old");
        meanwhile.rename("old", "old.log");
        meanwhile.until_held("old.log");
        meanwhile.write("old.log", "3\n");
        meanwhile.remove("old.log");
    });
    assert_eq!(looked, Ok(true));
    assert_eq!(rig.deliver(), ["1", "2", "3"]);
}

#[test]
fn no_more_files_are_held_than_may_be_while_there_is_no_room() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.max_open_files = 16;
    rig.start();
    rig.append("a.log", "00\n");
    let looked = rig.look_without_room("a.log", |meanwhile| {
        let name = |n| format!("{n:02}.log");
        let held = || -> usize {
            let open = held_files(meanwhile.dir);
            let is_open = |n: &u32| {
                let meta = meanwhile.path(&name(*n)).metadata().unwrap();
                open.contains(&meta.ino())
            };
            (1..=40).filter(is_open).count()
        };
        (1..=40).for_each(|n| meanwhile.write(&name(n), &format!("{n:02}\n")));
        until(|| {
            assert!(held() <= 15, "beside the one that was open before");
            held() == 15
        });
    });
    assert_eq!(looked, Ok(true));
    let mut lines = rig.deliver();
    lines.sort();
    assert!(lines.into_iter().eq((0..=40).map(|n| format!("{n:02}"))));
}
