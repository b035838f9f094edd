//! Compressed files that are cut short or damaged, and the whole copies that come in their place.

use std::os::unix::fs::MetadataExt;

use super::packed::{PACKINGS, gz, lines, numbers};
use super::*;
use crate::checkpoint::{RealDisk, SavedFile, Store};
use crate::source::join::{Join, LinePattern, Multiline, Rule};
use crate::source::tail::packed::PATIENCE;
use crate::source::tail::{Settable, Standing};

/// How a whole copy comes to lie where the damaged file was.
const REPLACED: [fn(&Rig, &str, &[u8]); 2] = [
    |rig, name, whole| fs::write(rig.path(name), whole).unwrap(),
    |rig, name, whole| {
        fs::write(rig.path("copy"), whole).unwrap();
        rig.rename("copy", name);
    },
];

impl Rig {
    /// What comes until a file that lacks its end is given up.
    fn deliver_patiently(&mut self) -> Vec<String> {
        let looks = PATIENCE.as_secs() / 10 + 2;
        (0..looks).flat_map(|_| self.deliver()).collect()
    }

    fn checkpoint(&self) -> Vec<SavedFile> {
        let store = Store::new(self.dir.path().join("state"), Box::new(RealDisk));
        store.load().unwrap().unwrap().files
    }

    /// How the file stands to those who ask from outside, and whether it is stored.
    fn standing(&mut self, name: &str) -> (Standing, bool) {
        if let Some(run) = &self.run {
            run.checkpoints.save_if_moved().unwrap();
        }
        let inode = self.path(name).metadata().unwrap().ino();
        let saved = self.checkpoint();
        let saved = saved.iter().find(|file| file.inode == inode).unwrap();
        let standing = Standing::of(saved).unwrap();
        let is_stored = standing.is_stored(saved);
        (standing, is_stored)
    }

    fn expect_damaged(&mut self, name: &str) {
        let (standing, is_stored) = self.standing(name);
        let is_damaged = matches!(standing, Standing::Damaged { .. });
        assert!(is_damaged && !is_stored, "{standing:?}");
    }

    fn expect_stored(&mut self, name: &str) {
        let (standing, is_stored) = self.standing(name);
        let is_present = matches!(standing, Standing::Present { .. });
        assert!(is_present && is_stored, "{standing:?}");
    }

    /// Nothing that the checkpoint knows is told as damaged.
    fn expect_no_damage(&mut self) {
        self.run().checkpoints.save_if_moved().unwrap();
        let saved = self.checkpoint();
        assert!(saved.iter().all(|file| !file.damaged), "{saved:?}");
    }
}

#[test]
fn line_at_a_cut_comes_whole_from_the_whole_copy_and_until_then_the_file_is_told_as_damaged() {
    for (end, pack) in PACKINGS {
        for replace in REPLACED {
            for is_down in [false, true] {
                let name = format!("a.{end}");
                let mut rig = Rig::started(&["a.*"]);
                let text = numbers(0..30_000);
                let whole = pack(&text);
                fs::write(rig.path(&name), &whole[..whole.len() / 2]).unwrap();
                let mut came = rig.deliver();
                // It may be yet to be written.
                let (standing, is_stored) = rig.standing(&name);
                let is_open = matches!(standing, Standing::Unended { .. });
                assert!(is_open && !is_stored, "{standing:?}");
                came.extend(rig.deliver_patiently());
                assert!(!came.is_empty() && lines(&text).starts_with(&came));
                rig.expect_damaged(&name);
                rig.stop();
                rig.expect_damaged(&name);
                if !is_down {
                    rig.start();
                    rig.expect_nothing();
                    rig.expect_damaged(&name);
                }
                replace(&rig, &name, &whole);
                if is_down {
                    rig.start();
                }
                came.extend(rig.deliver_patiently());
                assert!(came == lines(&text), "{end} {is_down}: {}", came.len());
                rig.expect_stored(&name);
                rig.expect_no_damage();
                rig.stop();
                rig.start();
                rig.expect_nothing();
                rig.expect_stored(&name);
            }
        }
    }
}

/// As `rsync --inplace` does; that the size is the same tells nothing.
#[test]
fn whole_copy_of_the_same_size_is_read() {
    for is_down in [false, true] {
        let mut rig = Rig::started(&["a.*"]);
        let text = numbers(0..60_000);
        // Its checksum tells of any damage.
        let whole = gz(&text);
        let mut packed = whole.clone();
        let middle = packed.len() / 2;
        packed[middle..middle + 1000].fill(0xff);
        fs::write(rig.path("a.gz"), &packed).unwrap();
        let mut came = rig.deliver();
        came.extend(rig.deliver());
        rig.expect_damaged("a.gz");
        if is_down {
            rig.stop();
        }
        fs::write(rig.path("a.gz"), &whole).unwrap();
        let (standing, is_stored) = rig.standing("a.gz");
        assert!(!is_stored, "{standing:?}");
        if is_down {
            rig.start();
        }
        came.extend(rig.deliver());
        // What was unpacked last before the damage may have been none of it: then all is read again.
        assert!(came.ends_with(&lines(&text)[50_000..]));
        rig.expect_stored("a.gz");
        rig.expect_no_damage();
    }
}

#[test]
fn file_that_is_not_compressed_at_all_is_damaged_and_its_whole_copy_is_read() {
    for (end, pack) in PACKINGS {
        for replace in REPLACED {
            let name = format!("a.{end}");
            let mut rig = Rig::started(&["a.*"]);
            fs::write(rig.path(&name), "not packed at all\n".repeat(100)).unwrap();
            rig.expect_nothing();
            rig.expect_damaged(&name);
            rig.stop();
            rig.start();
            rig.expect_nothing();
            rig.expect_damaged(&name);
            replace(&rig, &name, &pack("one\ntwo"));
            assert_eq!(rig.deliver(), ["one", "two"]);
            rig.expect_stored(&name);
            rig.expect_no_damage();
        }
    }
}

#[test]
fn rest_is_read_from_a_whole_copy_beside_the_damaged_file() {
    let (end, pack) = PACKINGS[0];
    let [cut, copy] = ["a.1", "a.2"].map(|name| format!("{name}.{end}"));
    let mut rig = Rig::started(&["a.*"]);
    let text = numbers(0..30_000);
    let whole = pack(&text);
    fs::write(rig.path(&cut), &whole[..whole.len() / 2]).unwrap();
    let mut came = rig.deliver_patiently();
    fs::write(rig.path(&copy), &whole).unwrap();
    came.extend(rig.deliver());
    came.extend(rig.deliver());
    assert!(came == lines(&text), "{}", came.len());
    rig.expect_stored(&copy);
    rig.expect_damaged(&cut);
}

/// It is looked for in the directory only, and let go of soon.
#[test]
fn line_at_the_cut_of_a_copy_that_no_glob_asks_for_is_not_sent() {
    for (end, pack) in PACKINGS {
        let mut rig = Rig::started(&["a.log"]);
        let text = numbers(0..30_000);
        rig.append("a.log", &numbers(0..1000));
        let mut came = rig.deliver();
        rig.stop();
        let whole = pack(&text);
        fs::write(
            rig.path(&format!("a.log.1.{end}")),
            &whole[..whole.len() / 2],
        )
        .unwrap();
        fs::remove_file(rig.path("a.log")).unwrap();
        rig.start();
        came.extend(rig.deliver_patiently());
        assert!(came.len() > 5_000 && lines(&text).starts_with(&came));
        assert!(rig.status().is_empty(), "let go");
    }
}

#[test]
fn joined_record_at_a_cut_comes_whole_and_waits_for_no_timeout() {
    for (end, pack) in PACKINGS {
        let name = format!("a.{end}");
        let mut rig = Rig::new(&["a.*"]);
        let multiline = Multiline {
            rule: Rule::Start(LinePattern::new("^[0-9]").unwrap()),
            timeout: Duration::from_secs(1),
            max_lines: None,
            max_bytes: Multiline::MAX_BYTES,
        };
        rig.settings.rules.join = Join::Lines(Arc::new(multiline));
        rig.settings.rules.partial_timeout = Some(Duration::from_secs(1));
        rig.start();
        let record = |n: u32| format!("{n} {:x}\n  at {n}\n  at", n.wrapping_mul(2_654_435_761));
        let want: Vec<String> = (0..20_000).map(record).collect();
        let whole = pack(&want.join("\n"));
        fs::write(rig.path(&name), &whole[..whole.len() / 2]).unwrap();
        let mut came = rig.deliver_patiently();
        assert!(!came.is_empty() && want.starts_with(&came));
        rig.expect_damaged(&name);
        fs::write(rig.path(&name), &whole).unwrap();
        came.extend(rig.deliver());
        assert!(came == want, "{end}: {}", came.len());
        rig.expect_stored(&name);
    }
}

#[test]
fn damaged_file_that_is_set_to_its_end_is_left_as_it_is() {
    for (end, pack) in PACKINGS {
        let name = format!("a.{end}");
        let mut rig = Rig::started(&["a.*"]);
        let whole = pack(&numbers(0..30_000));
        fs::write(rig.path(&name), &whole[..whole.len() / 2]).unwrap();
        rig.deliver_patiently();
        rig.stop();
        let file = Settable::open(&rig.path(&name)).unwrap();
        let stream = StreamName::new("logs").unwrap();
        let saved = file.saved_at(&stream, file.size()).unwrap();
        let standing = Standing::of(&saved).unwrap();
        assert!(standing.is_stored(&saved), "{standing:?}");
        let store = Store::new(rig.dir.path().join("state"), Box::new(RealDisk));
        let mut all = store.load().unwrap().unwrap();
        all.files = vec![saved];
        store.save(&all).unwrap();
        rig.start();
        assert_eq!(rig.deliver_patiently(), NOTHING);
        rig.expect_stored(&name);
    }
}
