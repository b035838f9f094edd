//! Rotated files that are compressed.

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::source::frame::MAX_LINE;
use crate::source::tail::packed::PATIENCE;

pub(super) fn gz(text: &str) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    gz.finish().unwrap()
}

fn zst(text: &str) -> Vec<u8> {
    zstd::bulk::compress(text.as_bytes(), 1).unwrap()
}

pub(super) type Pack = fn(&str) -> Vec<u8>;
pub(super) const PACKINGS: [(&str, Pack); 2] = [("gz", gz), ("zst", zst)];

/// Lines that do not compress to nothing.
pub(super) fn numbers(range: std::ops::Range<u32>) -> String {
    let line = |n: u32| format!("{n} {:x}\n", n.wrapping_mul(2_654_435_761));
    range.map(line).collect()
}

pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

impl Rig {
    pub(super) fn pack(&self, name: &str, packed: &str, pack: Pack) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        fs::write(self.path(packed), pack(&text)).unwrap();
    }

    pub(super) fn compress(&self, name: &str, packed: &str, pack: Pack) {
        self.pack(name, packed, pack);
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Time passes, and nothing comes.
    pub(super) fn expect_nothing(&mut self) {
        for _ in 0..4 {
            assert_eq!(self.deliver(), NOTHING);
        }
    }
}

#[test]
fn compressed_file_is_read_with_a_last_line_that_has_no_newline() {
    for (end, pack) in PACKINGS {
        let mut rig = Rig::started(&["*"]);
        let text = numbers(0..50_000);
        fs::write(
            rig.path(&format!("a.{end}")),
            pack(&(text.clone() + "rest")),
        )
        .unwrap();
        let mut want = lines(&text);
        want.push("rest".to_owned());
        assert!(rig.deliver() == want, "{end}");
        rig.stop();
        rig.start();
        rig.expect_nothing();
    }
}

#[test]
fn file_that_is_read_and_then_compressed_is_not_sent_again() {
    for (end, pack) in PACKINGS {
        for text in [numbers(0..3), numbers(0..5000)] {
            let mut rig = Rig::started(&["a.log*"]);
            rig.append("a.log", &text);
            assert_eq!(rig.deliver(), lines(&text));
            rig.rename("a.log", "a.log.1");
            rig.append("a.log", "next\n");
            assert_eq!(rig.deliver(), ["next"]);
            let packed = format!("a.log.1.{end}");
            // As it is while the compressor has not yet removed what it has read.
            rig.pack("a.log.1", &packed, pack);
            rig.expect_nothing();
            fs::remove_file(rig.path("a.log.1")).unwrap();
            rig.expect_nothing();
            rig.rename(&packed, &format!("a.log.2.{end}"));
            rig.expect_nothing();
            rig.stop();
            rig.start();
            rig.expect_nothing();
        }
    }
}

/// The look that finds the copy comes before the first that finds something in the file.
#[test]
fn file_that_was_met_empty_and_is_compressed_before_it_is_read_comes_once() {
    for (end, pack) in PACKINGS {
        for (is_closed, is_removed) in [(false, false), (false, true), (true, false)] {
            let mut rig = Rig::new(&["a.log*"]);
            if is_closed {
                rig.settings.close_inactive = Duration::from_secs(1);
            }
            rig.start();
            rig.append("a.log", "");
            rig.expect_nothing();
            let text = numbers(0..5000);
            rig.append("a.log", &text);
            rig.rename("a.log", "a.log.1");
            rig.pack("a.log.1", &format!("a.log.1.{end}"), pack);
            if is_removed {
                fs::remove_file(rig.path("a.log.1")).unwrap();
            }
            assert!(
                rig.deliver() == lines(&text),
                "{end}, {is_closed}, {is_removed}"
            );
            rig.expect_nothing();
        }
    }
}

#[test]
fn file_and_its_copy_that_are_met_together_come_once_in_whatever_order_they_are_asked_for() {
    for (end, pack) in PACKINGS {
        for include in [["a.log*", "old/*"], ["old/*", "a.log*"]] {
            let mut rig = Rig::new(&include);
            fs::create_dir(rig.path("old")).unwrap();
            let text = numbers(0..5000);
            rig.append("a.log.1", &text);
            rig.pack("a.log.1", &format!("old/a.log.1.{end}"), pack);
            rig.start();
            assert!(rig.deliver() == lines(&text), "{end}, {include:?}");
            rig.expect_nothing();
        }
    }
}

/// A file system gives the number of one that is gone to the next.
#[test]
fn compressed_file_with_the_inode_of_another_is_known_by_what_it_holds() {
    let mut rig = Rig::started(&["*.log*"]);
    let [a, b, c] = [0..1000, 1000..2000, 2000..3000].map(numbers);
    for (name, text) in [("a.log", &a), ("b.log", &b), ("c.log", &c)] {
        rig.append(name, text);
        assert_eq!(rig.deliver(), lines(text));
    }
    rig.stop();
    // Over what is there, so that the inode stays: each other's content.
    let over = |name: &str, text: &str, packed: &str| {
        fs::write(rig.path(name), gz(text)).unwrap();
        rig.rename(name, packed);
    };
    over("b.log", &a, "a.log.1.gz");
    over("a.log", &b, "b.log.1.gz");
    let d = numbers(3000..4000);
    over("c.log", &d, "d.log.1.gz");
    rig.start();
    // One is unpacked at a time.
    let came: Vec<String> = (0..4).flat_map(|_| rig.deliver()).collect();
    assert!(came == lines(&d));
    rig.expect_nothing();
    // Nor is what was in the third forgotten.
    fs::write(rig.path("c.log.1.gz"), gz(&c)).unwrap();
    rig.expect_nothing();
}

#[test]
fn new_compressed_file_with_the_inode_of_one_that_was_left_out_is_read() {
    let mut rig = Rig::new(&["*"]);
    rig.settings.start_position = StartPosition::End;
    fs::write(rig.path("a.gz"), gz("long ago\n")).unwrap();
    rig.start();
    rig.expect_nothing();
    rig.stop();
    fs::write(rig.path("a.gz"), gz("new\n")).unwrap();
    rig.rename("a.gz", "b.gz");
    rig.start();
    assert_eq!(rig.deliver(), ["new"]);
    rig.expect_nothing();
}

#[test]
fn file_that_was_half_read_is_finished_from_its_compressed_copy() {
    for (end, pack) in PACKINGS {
        for include in ["a.log*", "a.log"] {
            let mut rig = Rig::started(&[include]);
            rig.append("a.log", &numbers(0..3000));
            rig.deliver();
            rig.stop();
            rig.append("a.log", &numbers(3000..6000));
            rig.compress("a.log", &format!("a.log.1.{end}"), pack);
            rig.append("a.log", "next\n");
            rig.start();
            let mut came = rig.deliver();
            came.extend(rig.deliver());
            came.sort();
            let mut want = lines(&numbers(3000..6000));
            want.push("next".to_owned());
            want.sort();
            assert!(came == want, "{include} {end}: {} lines", came.len());
            rig.expect_nothing();
            rig.stop();
            rig.start();
            rig.expect_nothing();
        }
    }
}

#[test]
fn compressed_file_that_was_half_read_goes_on_after_a_restart() {
    for (end, pack) in PACKINGS {
        let mut rig = Rig::started(&["*"]);
        let text = numbers(0..50_000);
        fs::write(rig.path(&format!("a.{end}")), pack(&text)).unwrap();
        let first = rig.read();
        assert!(first == lines(&text));
        let half = rig.held.split_off(20_000);
        rig.settle();
        drop(half);
        rig.stop();
        rig.start();
        let rest = rig.deliver();
        assert!(
            rest.len() >= 30_000 && rest.len() < 32_000,
            "{}",
            rest.len()
        );
        assert!(first.ends_with(&rest));
        rig.expect_nothing();
    }
}

#[test]
fn compressed_file_that_is_still_written_is_waited_for() {
    for (end, pack) in PACKINGS {
        let mut rig = Rig::started(&["*"]);
        let text = numbers(0..100_000);
        let packed = pack(&text);
        let name = format!("a.{end}");
        fs::write(rig.path(&name), "").unwrap();
        rig.expect_nothing();
        let mut came = Vec::new();
        for part in packed.chunks(packed.len() / 5 + 1) {
            let mut file = OpenOptions::new()
                .append(true)
                .open(rig.path(&name))
                .unwrap();
            file.write_all(part).unwrap();
            came.extend(rig.deliver());
            rig.append("b", "another\n");
            assert_eq!(rig.deliver(), ["another"]);
        }
        assert!(came == lines(&text), "{end}: {} lines", came.len());
        rig.expect_nothing();
    }
}

#[test]
fn of_a_damaged_file_comes_what_can_be_unpacked_and_others_go_on() {
    for (end, pack) in PACKINGS {
        for is_cut in [true, false] {
            let mut rig = Rig::started(&["*"]);
            let text = numbers(0..200_000);
            let mut packed = pack(&text);
            let middle = packed.len() / 2;
            if is_cut {
                packed.truncate(middle);
            } else {
                packed[middle..middle + 1000].fill(0xff);
            }
            fs::write(rig.path(&format!("a.{end}")), packed).unwrap();
            fs::write(rig.path(&format!("b.{end}")), pack("b\n")).unwrap();
            let mut came = rig.deliver();
            for _ in 0..PATIENCE.as_secs() / 10 + 2 {
                came.extend(rig.deliver());
            }
            let b = came.iter().position(|line| line == "b").unwrap();
            came.remove(b);
            // Behind the damage a checksum may be all that tells.
            assert!(came.len() > 20_000, "{end}: {}", came.len());
            assert!(came[..20_000] == lines(&text)[..20_000], "{end} {is_cut}");
            assert!(!is_cut || lines(&text).starts_with(&came), "{end}");
            rig.append("c", "c\n");
            assert_eq!(rig.deliver(), ["c"]);
            rig.expect_nothing();
        }
    }
}

#[test]
fn what_unpacks_to_far_more_than_it_is_takes_no_more_memory() {
    for (end, pack) in PACKINGS {
        let mut rig = Rig::started(&["*"]);
        let bomb = "x".repeat(4 * MAX_LINE) + "\nbehind\n";
        let packed = pack(&bomb);
        assert!(packed.len() < MAX_LINE / 10);
        fs::write(rig.path(&format!("a.{end}")), packed).unwrap();
        let came = rig.deliver();
        assert_eq!((came[0].len(), &came[1][..]), (MAX_LINE, "behind"));
        assert!(rig.kept() <= UNFINISHED_KEPT);
    }
}

#[test]
fn content_that_was_copied_away_before_its_file_was_truncated_is_known_again() {
    let mut rig = Rig::started(&["a.log*"]);
    rig.append("a.log", &numbers(0..1000));
    rig.deliver();
    rig.pack("a.log", "a.log.1.gz", gz);
    fs::write(rig.path("a.log"), "new\n").unwrap();
    assert_eq!(rig.deliver(), ["new"]);
    rig.expect_nothing();
    rig.stop();
    rig.start();
    rig.expect_nothing();
}

#[test]
fn compressed_files_that_were_there_before_are_left_out_if_it_starts_at_the_end() {
    let mut rig = Rig::new(&["*"]);
    rig.settings.start_position = StartPosition::End;
    fs::write(rig.path("old.gz"), gz(&numbers(0..1000))).unwrap();
    rig.start();
    rig.expect_nothing();
    fs::write(rig.path("new.gz"), gz("new\n")).unwrap();
    assert_eq!(rig.deliver(), ["new"]);
    rig.stop();
    rig.start();
    rig.expect_nothing();
}

#[test]
fn file_that_is_read_is_known_in_its_copy_however_little_of_that_is_written_at_first() {
    for (end, pack) in PACKINGS {
        for text in [numbers(0..10), numbers(0..5000)] {
            let mut rig = Rig::started(&["a.log*"]);
            rig.append("a.log", &text);
            assert_eq!(rig.deliver(), lines(&text));
            rig.rename("a.log", "a.log.1");
            let name = format!("a.log.1.{end}");
            let packed = pack(&text);
            for part in [0, 1, packed.len() / 2, packed.len() - 1, packed.len()] {
                fs::write(rig.path(&name), &packed[..part]).unwrap();
                rig.expect_nothing();
            }
            fs::remove_file(rig.path("a.log.1")).unwrap();
            rig.expect_nothing();
        }
    }
}
