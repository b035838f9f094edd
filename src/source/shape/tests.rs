//! Tests: what is in an envelope, and that nothing is lost on the way into it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::transform::{CsvToJson, Fields, LogFormat, LogToJson, SingleLine};
use super::*;

const NOW: Duration = Duration::from_millis(1_790_149_408_123);

fn envelope() -> Envelope {
    Envelope {
        fields: vec![Field::Timestamp, Field::Host, Field::File, Field::Offset],
        labels: vec![("a".into(), "b\"".into()), ("c".into(), String::new())],
        message_key: Envelope::MESSAGE_KEY.into(),
        nest_json: false,
    }
}

fn shaper(transforms: Vec<Transform>, envelope: Option<Envelope>) -> Shaper {
    let shape = Shape {
        transforms,
        envelope,
    };
    let shaping = Shaping::new(&shape, "web1".to_owned());
    shaping.of(Path::new("/var/log/a.log")).unwrap()
}

fn line(bytes: &[u8], at: u64) -> Line {
    Line {
        bytes: Bytes::copy_from_slice(bytes),
        at,
        oversized: false,
    }
}

/// What these lines become; within the worst case.
fn shaped(shaper: &Shaper, lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let total = lines.iter().map(|line| line.len()).sum();
    let lines: Vec<Line> = (0..).zip(lines).map(|(at, text)| line(text, at)).collect();
    let records = shaper.shape(lines.clone(), SystemTime::UNIX_EPOCH + NOW);
    let lens = records.iter().map(|record| record.bytes.len());
    assert!(lens.sum::<usize>() <= shaper.worst_bytes(lines.len(), total));
    let ats = |lines: &[Line]| lines.iter().map(|line| line.at).collect::<Vec<_>>();
    assert_eq!(ats(&records), ats(&lines));
    records.iter().map(|record| record.bytes.to_vec()).collect()
}

fn one(shaper: &Shaper, line: &[u8]) -> Value {
    serde_json::from_slice(&shaped(shaper, &[line])[0]).unwrap()
}

fn csv() -> Transform {
    let fields = Fields::new(&["x", "y"]).unwrap();
    Transform::CsvToJson(CsvToJson::new(fields, ",").unwrap())
}

#[test]
fn an_envelope_has_what_was_asked_for_and_the_message() {
    let records = shaped(
        &shaper(vec![], Some(envelope())),
        &[b"one", b"\"two\"\t\0\xc3\xa9"],
    );
    let before = r#"{"timestamp":"2026-09-23T07:43:28.123Z","host":"web1","file":"/var/log/a.log","offset":"#;
    let labels = r#","labels":{"a":"b\"","c":""},"message":"#;
    let expected = [
        format!(r#"{before}0{labels}"one"}}"#),
        format!(r#"{before}1{labels}"\"two\"\t\u0000é"}}"#),
    ];
    let records = records
        .into_iter()
        .map(|record| String::from_utf8(record).unwrap());
    assert_eq!(records.collect::<Vec<_>>(), expected);
}

#[test]
fn only_what_was_asked_for_is_told() {
    let fields = vec![Field::Peer];
    let bare = Envelope {
        fields,
        labels: vec![],
        message_key: "log".into(),
        nest_json: false,
    };
    let shaper = shaper(vec![], Some(bare));
    assert_eq!(one(&shaper, b"a"), json!({ "log": "a" }));
    let peer = shaper.clone().sent_by(Some(7), 8, 9);
    let expected = json!({ "peer": { "pid": 7, "uid": 8, "gid": 9 }, "log": "a" });
    assert_eq!(one(&peer, b"a"), expected);
    let peer = shaper.sent_by(None, 8, 9);
    assert_eq!(
        one(&peer, b"a"),
        json!({ "peer": { "uid": 8, "gid": 9 }, "log": "a" })
    );
}

#[test]
fn what_is_not_utf_8_or_mostly_control_characters_is_in_base64() {
    let shaper = shaper(vec![], Some(envelope()));
    for (text, base64) in [
        (&b"\xff"[..], "/w=="),
        (b"caf\xe9", "Y2Fm6Q=="),
        (b"\x1b\x1b", "Gxs="),
    ] {
        let record = one(&shaper, text);
        assert_eq!(record["message_base64"], base64);
        assert_eq!(record.get("message"), None);
    }
    assert_eq!(one(&shaper, b"\x1b[0mred")["message"], "\u{1b}[0mred");
}

#[test]
fn an_object_is_nested_where_json_is_expected_and_what_is_none_is_a_string() {
    let nesting = Envelope {
        nest_json: true,
        ..envelope()
    };
    let shaper = shaper(vec![], Some(nesting));
    let text = br#" {"b":1.0, "a":[null],"a":"\ud800"}  "#;
    let record = shaped(&shaper, &[text]).remove(0);
    let record = String::from_utf8(record).unwrap();
    let message = record.split_once(r#""message":"#).unwrap().1;
    let text = std::str::from_utf8(text).unwrap();
    assert_eq!(message, format!("{text}}}"), "byte by byte");
    for text in ["{", "{} {}", "[1]", "7", "", "{'a':1}", "text"] {
        assert_eq!(one(&shaper, text.as_bytes())["message"], text);
    }
    let record = one(&shaper, b"{\"a\":\"\xff\"}");
    assert_eq!(record["message_base64"], "eyJhIjoi/yJ9");
}

#[test]
fn what_transforms_make_is_nested_and_what_they_cannot_take_is_a_string() {
    let common = Transform::LogToJson(LogToJson::new(LogFormat::CommonApacheLog));
    let shaper = shaper(vec![common], Some(envelope()));
    let matches = one(
        &shaper,
        br#"h - - [1/Jan/2026:00:00:00 +0000] "GET /" 200 5"#,
    );
    assert_eq!(matches["message"]["request"], "GET /");
    assert_eq!(one(&shaper, b"{\"a\":1}")["message"], "{\"a\":1}");
    assert_eq!(one(&shaper, b"\xff")["message_base64"], "/w==");
}

#[test]
fn line_that_a_transform_cannot_take_passes_as_it_was() {
    let single = Transform::SingleLine(SingleLine {
        trims: true,
        escapes: false,
    });
    let shaper = shaper(vec![single, csv()], None);
    let bells: &[u8] = &[&b"a"[..], &[7; 100], b"b"].concat();
    let lines: [&[u8]; 4] = [b" a \n ,b", b" \xff,b ", bells, b""];
    let expected: [&[u8]; 4] = [
        br#"{"x":"a","y":"b"}"#,
        b" \xff,b ",
        bells,
        br#"{"x":"","y":null}"#,
    ];
    assert_eq!(shaped(&shaper, &lines), expected);
    assert_eq!(shaper.shared.untaken.load(Ordering::Relaxed), 2);
}

#[test]
fn pieces_of_an_oversized_line_pass() {
    let shaper = shaper(vec![csv()], Some(envelope()));
    let piece = Line {
        oversized: true,
        ..line(b"a,b", 7)
    };
    let lines = vec![line(b"a,b", 3), piece.clone(), line(b"c,d", 11)];
    let records = shaper.shape(lines, SystemTime::UNIX_EPOCH + NOW);
    assert_eq!(records[1], piece);
    let last: Value = serde_json::from_slice(&records[2].bytes).unwrap();
    assert_eq!(last["message"], json!({ "x": "c", "y": "d" }));
    assert_eq!(last["offset"], 11);
}

proptest! {
    #[test]
    fn no_byte_is_lost_in_an_envelope_and_none_is_more_than_was_reserved(
        lines in prop::collection::vec(
            prop::collection::vec(prop_oneof![0u8..=255, Just(b'"'), Just(7u8), b' '..=b'~'], 0..50),
            1..20,
        ),
        nest_json in any::<bool>(),
    ) {
        let nesting = Envelope { nest_json, ..envelope() };
        let shaper = shaper(vec![], Some(nesting));
        let texts: Vec<&[u8]> = lines.iter().map(|line| &line[..]).collect();
        for (record, line) in shaped(&shaper, &texts).iter().zip(&lines) {
            let record: Value = serde_json::from_slice(record).unwrap();
            let message = match (&record["message"], &record["message_base64"]) {
                (Value::String(text), Value::Null) => text.clone().into_bytes(),
                (Value::Null, Value::String(text)) => {
                    base64_simd::STANDARD.decode_to_vec(text).unwrap()
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(&message, line);
        }
    }

    #[test]
    fn no_chain_makes_more_of_a_line_than_was_reserved(
        lines in prop::collection::vec("[a,\"\\\\\n\t\u{7}é]{0,40}", 1..10),
        chain in prop::collection::vec(0usize..4, 1..4),
        enveloped in any::<bool>(),
    ) {
        let common = LogToJson::matching(
            LogFormat::Syslog,
            r"(?s)((.)(.*))",
            Fields::new(&["1", "2", "3"]).unwrap(),
        );
        let metadata = serde_json::value::to_raw_value(&json!({ "\"": [1] })).unwrap();
        let all = [
            Transform::SingleLine(SingleLine { trims: false, escapes: true }),
            csv(),
            Transform::LogToJson(common.unwrap()),
            Transform::AddMetadata(transform::AddMetadata::new(&metadata, true)),
        ];
        let chain = chain.into_iter().map(|i| all[i].clone()).collect();
        let shaper = shaper(chain, enveloped.then(envelope));
        let texts: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        prop_assert_eq!(shaped(&shaper, &texts).len(), lines.len());
    }
}
