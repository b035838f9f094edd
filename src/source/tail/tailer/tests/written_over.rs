//! Files that are truncated, or refilled.

use super::*;

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
