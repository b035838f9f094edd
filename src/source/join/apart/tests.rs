//! Tests: each stream's records come whole, and a reader may start again wherever it is told.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::source::join::{LinePattern, Rule};

fn apart() -> Apart {
    let multiline = Multiline {
        rule: Rule::Start(LinePattern::new("^S").unwrap()),
        timeout: Multiline::TIMEOUT,
        max_lines: None,
        max_bytes: Multiline::MAX_BYTES,
    };
    Apart::new(Format::Cri, &Arc::new(multiline))
}

/// Lines of a file: of the first or second stream, whole or not.
fn lines(written: &[(usize, bool, &str)]) -> Vec<Line> {
    let mut at = 0;
    let line = |(stream, is_last, text): &(usize, bool, &str)| {
        let (stream, tag) = (
            ["stdout", "stderr"][*stream],
            if *is_last { "F" } else { "P" },
        );
        let bytes = Bytes::from(format!("2016-10-06T00:17:09Z {stream} {tag} {text}"));
        let line = Line {
            at,
            oversized: false,
            bytes,
        };
        at += line.bytes.len() as u64 + 1;
        line
    };
    written.iter().map(line).collect()
}

fn texts(records: &[Line]) -> Vec<&str> {
    let text = |record| std::str::from_utf8(record).unwrap();
    records
        .iter()
        .map(|record| text(&record.bytes[..]))
        .collect()
}

#[test]
fn records_of_two_streams_are_joined_apart_after_their_parts() {
    let (mut apart, mut out) = (apart(), Vec::new());
    for line in lines(&[
        (0, true, "S out"),
        (1, false, "S e"),
        (0, true, " more"),
        (1, true, "rr"),
        (1, true, " its more"),
        (0, false, " a"),
        (1, true, "S err 2"),
        (0, true, "nd more"),
    ]) {
        apart.take(line, &mut out);
    }
    assert_eq!(texts(&out), ["S err\n its more"]);
    apart.flush(&mut out);
    let expected = ["S err\n its more", "S out\n more\n and more", "S err 2"];
    assert_eq!(texts(&out), expected);
    assert_eq!((apart.since(), apart.held_records()), (None, 0));
}

#[test]
fn a_record_of_a_silent_stream_is_complete_once_it_is_stale() {
    let (mut apart, mut out) = (apart(), Vec::new());
    let written = lines(&[
        (0, true, "S1"),
        (1, true, "S2"),
        (1, true, "S3"),
        (0, false, "S4"),
    ]);
    let ats: Vec<u64> = written.iter().map(|line| line.at).collect();
    let mut written = written.into_iter();
    let mut take =
        |apart: &mut Apart, out: &mut Vec<Line>| apart.take(written.next().unwrap(), out);
    take(&mut apart, &mut out);
    take(&mut apart, &mut out);
    apart.flush_stale(&mut out);
    assert_eq!(texts(&out), [""; 0], "both are fresh");
    take(&mut apart, &mut out);
    apart.flush_stale(&mut out);
    assert_eq!(texts(&out), ["S2", "S1"]);
    assert_eq!(apart.since(), Some(ats[2]));
    take(&mut apart, &mut out);
    apart.flush_stale(&mut out);
    assert_eq!(texts(&out), ["S2", "S1", "S3"]);
    assert_eq!(apart.since(), Some(ats[3]), "a part waits for the last one");
}

#[test]
fn place_follows_two_streams_that_never_rest() {
    let written: Vec<_> = (0..100).map(|n| (n % 2, true, "S")).collect();
    let (mut apart, mut out) = (apart(), Vec::new());
    let mut before = 0;
    for line in lines(&written) {
        let at = line.at;
        apart.take(line, &mut out);
        assert!(
            apart.since().unwrap() >= before,
            "the line before this one is held at most"
        );
        before = at;
    }
}

proptest! {
    #[test]
    fn a_reader_that_starts_again_meets_no_record_in_its_middle_and_misses_none(
        written in prop::collection::vec((0usize..2, prop::bool::weighted(0.7), 0usize..3), 1..40),
    ) {
        let text = |(stream, is_last, kind): &(usize, bool, usize)| (*stream, *is_last, ["S", "a", ""][*kind]);
        let written = lines(&written.iter().map(text).collect::<Vec<_>>());
        let run = |from: u64| {
            let (mut apart, mut out) = (apart(), Vec::new());
            for line in written.iter().filter(|line| line.at >= from) {
                apart.take(line.clone(), &mut out);
            }
            apart.flush(&mut out);
            out
        };
        let all = run(0);
        let (mut apart, mut out) = (apart(), Vec::new());
        for line in &written {
            apart.take(line.clone(), &mut out);
            let Some(since) = apart.since() else { continue };
            prop_assert!(since <= line.at);
            let again = run(since);
            for record in &again {
                prop_assert!(all.contains(record), "{record:?} is a part");
            }
            for record in &all {
                prop_assert!(out.contains(record) || again.contains(record), "{record:?} is missed");
            }
        }
    }

    #[test]
    fn spans_are_apart_and_in_order_whatever_they_are(
        spans in prop::collection::vec((0u64..60, 0u64..8), 1..30),
    ) {
        let mut known = Spans::default();
        for (first, len) in &spans {
            known.add(*first, first + len);
        }
        for pair in known.0.windows(2) {
            prop_assert!(pair[0].1 < pair[1].0);
        }
        for held in 0..70 {
            let start = known.start_for(held);
            for (first, len) in &spans {
                prop_assert!(!(*first < start && start <= first + len), "{start} cuts {first}+{len}");
            }
        }
    }
}
