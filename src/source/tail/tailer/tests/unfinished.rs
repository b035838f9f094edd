//! A last line that has no newline yet.

use super::*;

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
