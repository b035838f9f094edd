use proptest::prelude::*;

use super::*;
use crate::source::frame::Framer;

fn multiline(rule: Rule) -> Multiline {
    Multiline {
        rule,
        timeout: Multiline::TIMEOUT,
        max_lines: None,
        max_bytes: Multiline::MAX_BYTES,
    }
}

fn start(pattern: &str) -> Rule {
    Rule::Start(LinePattern::new(pattern).unwrap())
}

fn joiner(multiline: &Multiline) -> Joiner {
    let join = Join::Lines(Arc::new(multiline.clone()));
    let rules = LineRules {
        join,
        ..LineRules::default()
    };
    Joiner::new(&rules, 0).unwrap()
}

/// The records of `text`, read in pieces of these sizes; each with where it begins.
fn records(multiline: &Multiline, text: &[u8], reads: &[usize]) -> (Vec<Vec<u8>>, u64) {
    let mut joiner = joiner(multiline);
    let mut framer = Framer::new(0, 1 << 20);
    let (mut out, mut rest) = (Vec::new(), text);
    for size in reads.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (read, later) = rest.split_at(rest.len().min(*size));
        rest = later;
        framer.fill(read.len(), |held| held.extend_from_slice(read));
        loop {
            let Some(line) = framer.next_line() else {
                break;
            };
            joiner.take(line, &mut out);
            let given: usize = out.iter().map(|record| record.bytes.len() + 1).sum();
            assert_eq!(
                joiner.since(),
                Some(given as u64),
                "where a restart goes on"
            );
            assert_eq!(given + joiner.held_bytes() + 1, framer.at() as usize);
        }
        joiner.detach();
    }
    if let Some(line) = framer.finish() {
        joiner.take(line, &mut out);
    }
    joiner.flush(&mut out);
    assert_eq!((joiner.since(), joiner.held_records()), (None, 0));
    for record in &out {
        assert_eq!(
            text[record.at as usize..][..record.bytes.len()],
            record.bytes
        );
    }
    let records = out.iter().map(|record| record.bytes.to_vec()).collect();
    (records, joiner.take_oddities().cuts)
}

/// As a person reads it: one `|` line per record in `marked` begins it.
pub(super) fn expect(rule: Rule, marked: &str) {
    let mut expected: Vec<String> = Vec::new();
    for line in marked.lines() {
        match (line.strip_prefix('>'), expected.last_mut()) {
            (Some(first), _) => expected.push(first.to_owned()),
            (None, Some(record)) => {
                record.push('\n');
                record.push_str(line.strip_prefix('-').expect("a mark"));
            }
            (None, None) => panic!("a record before the first line"),
        }
    }
    let text = expected.join("\n");
    let (got, cuts) = records(&multiline(rule), text.as_bytes(), &[7]);
    let got: Vec<String> = got
        .into_iter()
        .map(|r| String::from_utf8(r).unwrap())
        .collect();
    assert_eq!((got, cuts), (expected, 0));
}

#[test]
fn a_line_that_matches_start_begins_a_record() {
    expect(
        start(r"^\d{4}-"),
        ">of before\n>2026-11-25 one\n- more\n-\n- and more\n>2026-11-25 two",
    );
}

#[test]
fn a_line_that_matches_continue_belongs_to_the_record_before_it() {
    let rule = Rule::Continue(LinePattern::new(r"^\s").unwrap());
    expect(rule, "> the first has none before\n>one\n- more\n>\n>two");
}

#[test]
fn what_is_not_utf_8_passes_and_can_be_matched() {
    let rule = start(r"(?-u)^\xff");
    let (got, _) = records(&multiline(rule), b"\xffa\r\n\0\xfe\r\n\xffb", &[100]);
    assert_eq!(got, [&b"\xffa\r\n\0\xfe\r"[..], b"\xffb"]);
}

#[test]
fn what_exceeds_a_cap_is_a_record_of_its_own_and_counted() {
    let text = b"S\nab\ncd\nef\nlonger than all\nS";
    let by_bytes = Multiline {
        max_bytes: 7,
        ..multiline(start("^S"))
    };
    let (got, cuts) = records(&by_bytes, text, &[100]);
    let expected: [&[u8]; 4] = [b"S\nab\ncd", b"ef", b"longer than all", b"S"];
    assert_eq!((got, cuts), (expected.map(<[u8]>::to_vec).to_vec(), 2));
    let by_lines = Multiline {
        max_lines: Some(2),
        ..multiline(start("^S"))
    };
    let (got, cuts) = records(&by_lines, text, &[100]);
    let expected: [&[u8]; 4] = [b"S\nab", b"cd\nef", b"longer than all", b"S"];
    assert_eq!((got, cuts), (expected.map(<[u8]>::to_vec).to_vec(), 2));
}

#[test]
fn pieces_of_an_oversized_line_are_joined_to_nothing() {
    let mut joiner = joiner(&multiline(start("^S")));
    let line = |bytes: &'static [u8], at, oversized| Line {
        bytes: Bytes::from_static(bytes),
        at,
        oversized,
    };
    let mut out = Vec::new();
    joiner.take(line(b"S", 0, false), &mut out);
    joiner.take(line(b"x", 2, true), &mut out);
    assert_eq!(joiner.since(), None);
    joiner.take(line(b"y", 3, true), &mut out);
    let expected = [
        line(b"S", 0, false),
        line(b"x", 2, true),
        line(b"y", 3, true),
    ];
    assert_eq!(out, expected);
}

#[test]
fn what_is_held_does_not_pin_its_read() {
    let mut joiner = joiner(&multiline(start("^S")));
    let read = Bytes::from(b"S and a lot more".to_vec());
    let line = Line {
        bytes: read.slice(..1),
        at: 0,
        oversized: false,
    };
    joiner.take(line, &mut Vec::new());
    assert!(!read.is_unique());
    joiner.detach();
    assert!(read.is_unique());
    let mut out = Vec::new();
    joiner.cut(&mut out);
    assert_eq!(
        (&out[0].bytes[..], joiner.take_oddities().cuts),
        (&b"S"[..], 1)
    );
}

#[test]
fn a_pattern_that_is_none_is_refused_with_the_reason() {
    let error = LinePattern::new("^(").unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a regular expression: unclosed group"
    );
}

#[test]
fn lines_of_a_header_are_skipped_at_the_beginning_only() {
    let rules = LineRules {
        skip_header_lines: 2,
        ..LineRules::default()
    };
    assert!(Joiner::new(&rules, 7).is_none());
    let mut joiner = Joiner::new(&rules, 0).unwrap();
    let skipped = [true, false, false, true].map(|is_end| (joiner.since(), joiner.skips(is_end)));
    assert_eq!(skipped, [(Some(0), true); 4], "the second comes in pieces");
    assert_eq!((joiner.since(), joiner.skips(true)), (None, false));
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        Just(start("^S")),
        Just(Rule::Continue(LinePattern::new("^ ").unwrap())),
        Just(Rule::Stack(Language::Java)),
        Just(Rule::Stack(Language::Python)),
        Just(Rule::Stack(Language::Go)),
    ]
}

fn lines() -> impl Strategy<Value = Vec<&'static [u8]>> {
    let lines: &[&[u8]] = &[
        b"",
        b"S",
        b" x",
        b"\xff\0\r",
        b"java.lang.Error: x",
        b"\tat a.b(c)",
        b"Caused by: x",
        b"Traceback (most recent call last):",
        b"  File \"x\", line 1",
        b"ValueError: x",
        b"During handling of the above exception, another exception occurred:",
        b"panic: x",
        b"goroutine 1 [running]:",
        b"main.main()",
    ];
    prop::collection::vec(prop::sample::select(lines), 0..40)
}

proptest! {
    #[test]
    fn any_split_into_reads_gives_the_same_records_and_no_byte_is_lost(
        rule in rules(),
        lines in lines(),
        ended in any::<bool>(),
        reads in prop::collection::vec(1usize..30, 1..20),
        max_bytes in 1usize..100,
        max_lines in prop::option::of(1usize..5),
    ) {
        let mut text = lines.join(&b'\n');
        if ended || text.is_empty() || text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let multiline = Multiline { max_bytes, max_lines, ..multiline(rule) };
        let whole = records(&multiline, &text, &[usize::MAX]);
        prop_assert_eq!(&records(&multiline, &text, &reads), &whole);
        let mut rebuilt = whole.0.join(&b'\n');
        if text.ends_with(b"\n") {
            rebuilt.push(b'\n');
        }
        prop_assert_eq!(rebuilt, text);
        for record in whole.0 {
            let lines = record.split(|byte| *byte == b'\n').count();
            prop_assert!(lines == 1 || record.len() <= max_bytes);
            prop_assert!(lines <= max_lines.unwrap_or(usize::MAX));
        }
    }
}
