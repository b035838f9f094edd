use proptest::prelude::*;

use super::*;
use crate::source::join::{Join, Joiner, LineRules};

fn line(text: &[u8], at: u64) -> Line {
    Line {
        bytes: Bytes::copy_from_slice(text),
        at,
        oversized: false,
    }
}

/// The records of these lines, each line read apart; and how many were strange.
fn records(format: Format, lines: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
    let rules = LineRules {
        join: Join::Parts(format),
        ..LineRules::default()
    };
    let mut joiner = Joiner::new(&rules, 0).unwrap();
    let (mut out, mut at) = (Vec::new(), 0);
    for line in lines {
        joiner.take(self::line(line, at), &mut out);
        joiner.detach();
        assert_eq!(joiner.since().is_some(), joiner.held_records() > 0);
        at += line.len() as u64 + 1;
    }
    joiner.flush(&mut out);
    let records = out.iter().map(|line| line.bytes.to_vec()).collect();
    (records, joiner.take_oddities().strange)
}

fn expect(format: Format, lines: &[&str], expected: &[&str], strange: u64) {
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let (got, count) = records(format, &lines);
    let got: Vec<&str> = got
        .iter()
        .map(|r| std::str::from_utf8(r).unwrap())
        .collect();
    assert_eq!((&got[..], count), (expected, strange));
}

#[test]
fn cri_parts_are_joined_for_each_stream_apart() {
    expect(
        Format::Cri,
        &[
            "2016-10-06T00:17:09.669794202Z stdout P out  1 ",
            "2016-10-06T00:17:09.669794203Z stderr P err 1 ",
            "2016-10-06T00:17:10+02:00 stderr F whole",
            "2016-10-06T00:17:10.113242941Z stdout P:tag ",
            "2016-10-06T00:17:10.113242941Z stdout F:tag:b end",
            "2016-10-06T00:17:10.113242941Z stdout F ",
            "2016-10-06T00:17:10.113242941Z stderr F",
            "2016-10-06T00:17:10.113242941Z stdout P last",
        ],
        &["err 1 whole", "out  1 end", "", "", "last"],
        0,
    );
}

#[test]
fn docker_parts_are_joined_until_a_newline() {
    expect(
        Format::Docker,
        &[
            r#"{"log":"out \u00e9\t","stream":"stdout","time":"2026-11-25T10:00:00Z"}"#,
            r#"{"log":"err\n","stream":"stderr","attrs":{"a":"b"},"time":"2026-11-25T10:00:00Z"}"#,
            r#"{"log":"end\r\n","stream":"stdout","time":"2026-11-25T10:00:00Z"}"#,
            r#"{"log":"\n","stream":"stdout","time":"2026-11-25T10:00:00Z"}"#,
            r#"{"log":"last","stream":"stdout","time":"2026-11-25T10:00:00Z"}"#,
        ],
        &["err", "out é\tend\r", "", "last"],
        0,
    );
}

#[test]
fn line_that_is_not_of_the_format_passes_as_it_is() {
    let cri = [
        "",
        "2016-10-06T00:17:09Z stdout X text",
        "2016-10-06T00:17:09Z stdin F text",
        "yesterday around noon stdout F text",
        "2016-10-06 stdout F text",
        r#"{"log":"text\n","stream":"stdout","time":"2026-11-25T10:00:00Z"}"#,
    ];
    expect(Format::Cri, &cri, &cri, 6);
    let docker = [
        "",
        r#"{"log":"text\n","stream":"stdin"}"#,
        r#"{"log":"text\n"}"#,
        r#"{"log":7,"stream":"stdout"}"#,
        r#"{"log":"text\n","stream":"stdout""#,
    ];
    expect(Format::Docker, &docker, &docker, 5);
    assert_eq!(records(Format::Cri, &[b"\xff\0"]).0, [b"\xff\0"]);
}

#[test]
fn line_of_too_many_parts_is_cut_and_counted() {
    let mut parts = Parts::new(Format::Cri, 5);
    let mut out = Vec::new();
    for text in ["abc", "de", "fgh", "longer than all", "z"] {
        let line = format!("2016-10-06T00:17:09Z stdout P {text}");
        parts.take(self::line(line.as_bytes(), 0), &mut out);
    }
    parts.flush(&mut out);
    let expected = ["abcde", "fgh", "longer than all", "z"];
    assert_eq!(out, expected.map(|text| line(text.as_bytes(), 0)));
    assert_eq!(parts.take_oddities().cuts, 3);
}

proptest! {
    #[test]
    fn what_each_stream_wrote_comes_whole_and_in_order(
        written in prop::collection::vec(
            (0usize..2, prop::collection::vec("[a-zé\"\\\\\t]{0,4}", 1..4)),
            0..20,
        ),
        order in prop::collection::vec(0usize..2, 0..60),
        format in prop::sample::select(vec![Format::Cri, Format::Docker]),
    ) {
        let names = ["stdout", "stderr"];
        // The parts of each stream, in an order between the streams that is anybody's guess.
        let mut queues = [Vec::new(), Vec::new()];
        for (stream, parts) in &written {
            for (i, text) in parts.iter().enumerate() {
                let is_last = i + 1 == parts.len();
                queues[*stream].push(match format {
                    Format::Cri => {
                        let tag = if is_last { 'F' } else { 'P' };
                        format!("2016-10-06T00:17:09Z {} {tag} {text}", names[*stream])
                    }
                    Format::Docker => {
                        let log = format!("{text}{}", if is_last { "\n" } else { "" });
                        serde_json::json!({ "log": log, "stream": names[*stream] }).to_string()
                    }
                });
            }
        }
        let mut queues = queues.map(Vec::into_iter);
        let mut lines: Vec<String> = Vec::new();
        for stream in order {
            lines.extend(queues[stream].next());
        }
        lines.extend(queues.into_iter().flatten());
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let (mut got, strange) = records(format, &lines);
        let mut expected: Vec<Vec<u8>> =
            written.iter().map(|(_, parts)| parts.concat().into_bytes()).collect();
        got.sort();
        expected.sort();
        prop_assert_eq!((got, strange), (expected, 0));
    }
}
