//! Lines that are longer than a record may be.

use super::*;
use crate::delivery::FailReason;
use crate::source::frame::MAX_LINE;

impl Rig {
    /// What was read since the last settling: bytes, limit and what is cut of those that are doomed.
    fn dooms(&self) -> Vec<Option<(u64, usize, u64)>> {
        let doom = |ticket: &Ticket| match ticket.doom() {
            Some(FailReason::LineTooLong { bytes, limit, cut }) => Some((*bytes, *limit, *cut)),
            _ => None,
        };
        self.held.iter().map(doom).collect()
    }
}

#[test]
fn line_over_its_limit_is_doomed_whole_and_in_its_place() {
    let mut rig = Rig::new(&["a"]);
    rig.settings.max_line_bytes = Some(5);
    rig.start();
    rig.append("a", "1\n12345\n123456\n2\n1234567\n\n");
    let lines = rig.read();
    assert_eq!(lines, ["1", "12345", "123456", "2", "1234567", ""]);
    let doomed = [None, None, Some((6, 5, 0)), None, Some((7, 5, 0)), None];
    assert_eq!(rig.dooms(), doomed);
    for settled in 0..lines.len() {
        assert_eq!(rig.status(), [("a".to_owned(), 26, 0)], "{settled}");
        rig.held.pop().unwrap().settle(&STORED());
    }
    assert_eq!(rig.status(), [("a".to_owned(), 26, 26)]);
    assert_eq!(rig.run().budget.in_use(), 0);
}

#[test]
fn line_longer_than_there_is_memory_for_is_cut_and_what_follows_comes_whole() {
    const LEN: usize = 3 * MAX_LINE;
    for joined in [false, true] {
        let mut rig = Rig::new(&["a"]);
        if joined {
            rig.settings.rules.skip_header_lines = 1;
            rig.append("a", "header\n");
        }
        let header = if joined { 7 } else { 0 };
        rig.start();
        rig.append("a", "before\n");
        rig.append("a", &"x".repeat(LEN - 1));
        assert_eq!(rig.deliver(), ["before"]);
        assert_eq!(rig.kept(), 0);
        rig.append("a", "y\nshort\nrest");
        let lines = rig.read();
        assert_eq!((lines[0].len(), &lines[1][..]), (MAX_LINE, "short"));
        let cut = (LEN - MAX_LINE) as u64;
        assert_eq!(rig.dooms(), [Some((LEN as u64, MAX_LINE, cut)), None]);
        let end = header + 7 + LEN as u64 + 1;
        rig.held.remove(0).settle(&STORED());
        assert_eq!(rig.status()[0].2, end);
        rig.stop();
        rig.start();
        assert_eq!(rig.deliver(), ["short"]);
        rig.append("a", "\n");
        assert_eq!(rig.deliver(), ["rest"]);
    }
}

#[test]
fn overlong_line_without_its_newline_is_cut_when_its_file_ends() {
    const LEN: usize = 2 * MAX_LINE;
    let mut rig = Rig::started(&["a"]);
    rig.append("a", &"x".repeat(LEN));
    assert_eq!(rig.read(), NOTHING);
    fs::remove_file(rig.path("a")).unwrap();
    assert_eq!(rig.read(), NOTHING);
    assert_eq!(rig.read().concat().len(), MAX_LINE);
    let cut = (LEN - MAX_LINE) as u64;
    assert_eq!(rig.dooms(), [Some((LEN as u64, MAX_LINE, cut))]);
    rig.settle();
    assert!(rig.status().is_empty());
    assert_eq!(rig.run().tailer.checkpoints.unclaimed().len(), 0);
}

#[test]
fn overlong_line_in_the_header_is_skipped_with_it() {
    let mut rig = Rig::new(&["a"]);
    rig.settings.rules.skip_header_lines = 2;
    rig.start();
    rig.append(
        "a",
        &format!("{}\nsecond\nthird\n", "x".repeat(2 * MAX_LINE)),
    );
    assert_eq!(rig.deliver(), ["third"]);
    let end = 2 * MAX_LINE as u64 + 14;
    assert_eq!(rig.status(), [("a".to_owned(), end, end)]);
}
