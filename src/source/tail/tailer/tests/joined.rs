//! Several lines that become one record.

use proptest::prelude::*;

use super::*;
use crate::source::join::{Format, Join, LinePattern, Multiline, Rule};

fn joining() -> Rig {
    let multiline = Multiline {
        rule: Rule::Start(LinePattern::new("^S").unwrap()),
        timeout: Duration::from_secs(1),
        max_lines: None,
        max_bytes: Multiline::MAX_BYTES,
    };
    joined_by(Join::Lines(Arc::new(multiline)))
}

fn joined_by(join: Join) -> Rig {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.rules.join = join;
    rig.start();
    rig
}

/// All that is there now, without waiting for what is open.
fn read_now(rig: &mut Rig) -> Vec<String> {
    let now = rig.now;
    let (lines, tickets) = rig.run().read(now);
    rig.held.extend(tickets);
    lines
}

fn settled(rig: &mut Rig) -> u64 {
    rig.status()[0].2
}

#[test]
fn open_record_is_read_again_from_its_first_line_after_a_crash() {
    let mut rig = joining();
    rig.append("a.log", "S1\n a\n b\nS2\n c\n d");
    assert_eq!(rig.deliver(), ["S1\n a\n b"]);
    assert_eq!(settled(&mut rig), 9, "before the record that is open");
    rig.stop();
    rig.start();
    rig.append("a.log", "d\n e\nS3\n");
    assert_eq!(rig.deliver(), ["S2\n c\n dd\n e"]);
    assert_eq!(rig.deliver(), ["S3"], "once its time is over");
    assert_eq!(settled(&mut rig), 25);
    rig.stop();
    rig.start();
    assert_eq!(rig.deliver(), NOTHING);
}

#[test]
fn open_record_is_complete_when_no_line_has_come_for_its_timeout() {
    let mut rig = joining();
    rig.append("a.log", "S1\n a\n");
    assert_eq!(rig.read(), NOTHING);
    for part in [" b\n", " c\n"] {
        rig.now += Duration::from_millis(600);
        rig.append("a.log", part);
        assert_eq!(read_now(&mut rig), NOTHING);
    }
    rig.now += Duration::from_millis(999);
    assert_eq!(read_now(&mut rig), NOTHING);
    rig.now += Duration::from_secs(1);
    assert_eq!(read_now(&mut rig), ["S1\n a\n b\n c"]);
    rig.settle();
    assert_eq!((rig.kept(), rig.run().budget.in_use()), (0, 0));
    rig.append("a.log", " late\nS2\n");
    assert_eq!(rig.read(), [" late"]);
}

#[test]
fn open_record_is_complete_at_the_end_of_its_file() {
    let mut rig = joining();
    rig.append("a.log", "S1\n a");
    assert_eq!(read_now(&mut rig), NOTHING);
    fs::write(rig.path("a.log"), "S2\n").unwrap();
    assert_eq!(rig.read(), ["S1\n a"], "truncated");
    rig.append("a.log", " b\n c");
    fs::remove_file(rig.path("a.log")).unwrap();
    assert_eq!(rig.read(), NOTHING);
    rig.run().tailer.rotate_wait = Duration::from_millis(1);
    rig.now += Duration::from_millis(10);
    let mut rest = read_now(&mut rig);
    rest.extend(rig.read());
    assert_eq!(rest.join("\n"), "S2\n b\n c");
    assert_eq!(rig.kept(), 0);
}

#[test]
fn record_that_there_is_no_memory_to_hold_is_sent_in_parts() {
    let mut rig = joining();
    rig.stop();
    rig.kept = 10;
    rig.start();
    rig.append("a.log", "S1\n a\n");
    assert_eq!(read_now(&mut rig), NOTHING);
    assert_eq!(rig.kept(), 5);
    rig.append("b.log", "S2\n b and more\n");
    rig.run().tailer.scan_wanted = true;
    rig.now += Duration::from_millis(900);
    assert_eq!(read_now(&mut rig), ["S2\n b and more"], "beside the other");
    rig.settle();
    assert_eq!(rig.status()[1], ("b.log".to_owned(), 15, 15));
    rig.append("b.log", " and again\n");
    let mut rest = rig.read();
    rest.extend(rig.read());
    rest.sort();
    assert_eq!(rest, [" and again", "S1\n a"]);
}

#[test]
fn records_over_the_borders_of_reads_and_chunks_come_whole() {
    let mut rig = joining();
    // Of many reads, and of more lines than a chunk has.
    let record = |i: usize| format!("S{i}\n{}", " x\n".repeat(i % 2_000));
    let text: String = (0..2_000).map(record).collect();
    rig.append("a.log", &text);
    let mut records = rig.deliver();
    assert_eq!(records.len(), 1_999);
    records.extend(rig.deliver());
    let whole: Vec<String> = (0..2_000)
        .map(|i| record(i).trim_end().to_owned())
        .collect();
    assert!(records == whole);
    assert_eq!(settled(&mut rig), text.len() as u64);
    assert_eq!((rig.kept(), rig.run().budget.in_use()), (0, 0));
}

#[test]
fn many_files_with_open_records_keep_bounded_memory() {
    let mut rig = joining();
    for file in 0..200 {
        rig.append(
            &format!("{file}.log"),
            &format!("S\n{}\n", "x".repeat(60_000)),
        );
    }
    let mut records = read_now(&mut rig);
    assert!(rig.kept() <= UNFINISHED_KEPT, "{}", rig.kept());
    records.extend(rig.read());
    assert_eq!(records.len(), 200, "those without room at once");
    rig.settle();
    assert_eq!((rig.kept(), rig.run().budget.in_use()), (0, 0));
}

#[test]
fn header_is_skipped_once_whatever_it_takes_to_come() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.rules.skip_header_lines = 2;
    rig.start();
    rig.append("a.log", "name,");
    assert_eq!(rig.deliver(), NOTHING);
    rig.append("a.log", "price\n");
    assert_eq!(rig.deliver(), NOTHING);
    assert_eq!(settled(&mut rig), 0, "a restart skips both");
    rig.stop();
    rig.start();
    rig.append("a.log", "----\n");
    assert_eq!(rig.deliver(), NOTHING);
    assert_eq!(settled(&mut rig), 16, "nothing to wait for");
    rig.append("a.log", "a,1\n");
    assert_eq!(rig.deliver(), ["a,1"]);
    rig.stop();
    rig.start();
    rig.append("a.log", "b,2\n");
    rig.append("b.log", "1\n2\n3\n");
    let mut lines = rig.deliver();
    lines.sort();
    assert_eq!(lines, ["3", "b,2"]);
    fs::write(rig.path("b.log"), "4\n5\n6").unwrap();
    assert_eq!(rig.deliver(), NOTHING, "truncated, it begins anew");
    rig.append("b.log", "\n");
    assert_eq!(rig.deliver(), ["6"]);
}

#[test]
fn last_line_without_its_newline_is_a_record_when_it_has_not_grown() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.rules.partial_timeout = Some(Duration::from_secs(5));
    rig.start();
    rig.append("a.log", "1\ntw");
    assert_eq!(rig.read(), ["1"]);
    rig.append("a.log", "o");
    assert_eq!(rig.read(), NOTHING, "it has grown");
    assert_eq!(rig.read(), ["two"]);
    rig.settle();
    assert_eq!((settled(&mut rig), rig.kept()), (5, 0));
    rig.append("a.log", "\n");
    assert_eq!(rig.deliver(), NOTHING, "its newline makes no line");
    assert_eq!(settled(&mut rig), 6);
    let long = "x".repeat(100_000);
    rig.append("a.log", &long);
    assert_eq!(rig.deliver(), NOTHING);
    assert!(rig.deliver() == [long], "and it was not kept");
    rig.stop();
    rig.start();
    rig.append("a.log", "\nthree\n");
    assert_eq!(rig.deliver(), ["three"], "also after a restart");
}

#[test]
fn parts_of_a_containers_line_are_read_again_after_a_crash_and_the_others_stay_whole() {
    let mut rig = joined_by(Join::Parts(Format::Cri));
    let line = |stream: &str, tag: &str, text: &str| {
        format!("2026-11-25T10:00:00.000000000Z {stream} {tag} {text}\n")
    };
    let first = line("stdout", "F", "first");
    rig.append("a.log", &first);
    rig.append("a.log", &line("stdout", "P", "one "));
    rig.append("a.log", &line("stderr", "P", "two "));
    rig.append("a.log", &line("stdout", "F", "whole"));
    rig.append("a.log", "strange\n");
    assert_eq!(rig.deliver(), ["first", "one whole", "strange"]);
    // A reader that started at the second stream's part would meet the first one's in its middle.
    assert_eq!(settled(&mut rig), first.len() as u64);
    rig.stop();
    rig.start();
    rig.append("a.log", &line("stderr", "F", "whole"));
    assert_eq!(rig.deliver(), ["one whole", "strange", "two whole"]);
    let end = fs::metadata(rig.path("a.log")).unwrap().len();
    assert_eq!(settled(&mut rig), end);
    rig.append("a.log", &line("stderr", "P", "cut off"));
    assert_eq!(rig.deliver(), NOTHING);
    fs::remove_file(rig.path("a.log")).unwrap();
    rig.deliver();
    assert_eq!(rig.deliver(), ["cut off"], "its file has ended");
}

#[derive(Debug, Clone)]
enum Step {
    Append(String),
    /// All that is there, without waiting for what is open.
    Look,
    /// After every time has passed.
    Wait,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => "(S|x|\n){1,8}".prop_map(Step::Append),
        2 => Just(Step::Look),
        1 => Just(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_with_their_newlines_are_the_file_whatever_restarts_come_between(
        steps in prop::collection::vec(step(), 1..30),
        kept in prop::sample::select(vec![3, UNFINISHED_KEPT]),
    ) {
        let mut rig = joining();
        rig.stop();
        rig.kept = kept;
        rig.append("a.log", "");
        rig.start();
        let (mut records, mut text) = (Vec::new(), String::new());
        for step in steps.into_iter().chain([Step::Append("\nS\n".into()), Step::Look, Step::Wait]) {
            match step {
                Step::Append(more) => {
                    rig.append("a.log", &more);
                    text.push_str(&more);
                }
                Step::Look => {
                    rig.now += SWEEP_POLLING;
                    records.extend(read_now(&mut rig));
                    rig.settle();
                }
                Step::Wait => {
                    records.extend(rig.deliver());
                    records.extend(rig.deliver());
                }
                Step::Restart => {
                    rig.stop();
                    rig.start();
                }
            }
        }
        let rebuilt: String = records.iter().map(|record| format!("{record}\n")).collect();
        prop_assert_eq!(rebuilt, text.clone());
        prop_assert_eq!(settled(&mut rig), text.len() as u64);
    }
}

/// As a container's runtime writes it.
fn cri(stream: &str, text: &str) -> String {
    format!("2016-10-06T00:17:09Z {stream} F {text}\n")
}

fn containers(timeout: Duration) -> Rig {
    let multiline = Multiline {
        rule: Rule::Start(LinePattern::new("^S").unwrap()),
        timeout,
        max_lines: None,
        max_bytes: Multiline::MAX_BYTES,
    };
    joined_by(Join::PartsAndLines(Format::Cri, Arc::new(multiline)))
}

#[test]
fn place_moves_while_both_streams_of_a_container_write_line_by_line() {
    let mut rig = containers(Duration::from_secs(60));
    let mut before = 0;
    for turn in 0..20 {
        let stream = ["stdout", "stderr"][turn % 2];
        rig.append("a.log", &cri(stream, &format!("S{turn}")));
        let expected: Vec<String> = turn
            .checked_sub(2)
            .map(|n| format!("S{n}"))
            .into_iter()
            .collect();
        rig.now += Duration::from_secs(1);
        assert_eq!(read_now(&mut rig), expected);
        rig.settle();
        let line = cri(stream, "S0").len() as u64;
        if turn > 2 {
            assert!(settled(&mut rig) > before, "turn {turn}");
            assert!(settled(&mut rig) >= (turn as u64 - 1) * line);
        }
        before = settled(&mut rig);
    }
}

#[test]
fn trace_of_a_container_is_whole_across_a_crash_within_it() {
    let mut rig = containers(Multiline::TIMEOUT);
    let text = [
        cri("stderr", "S trace"),
        cri("stdout", "S line"),
        cri("stderr", " at a"),
        cri("stdout", "S next"),
    ];
    rig.append("a.log", &text.concat());
    assert_eq!(rig.deliver(), ["S line"]);
    assert_eq!(settled(&mut rig), 0, "the trace may go on");
    rig.stop();
    rig.start();
    rig.append("a.log", &cri("stderr", " at b"));
    rig.append("a.log", &cri("stderr", "S other"));
    assert_eq!(rig.deliver(), ["S line", "S trace\n at a\n at b"]);
    rig.now += Duration::from_secs(5);
    let mut rest = rig.deliver();
    rest.sort();
    assert_eq!(rest, ["S next", "S other"]);
}
