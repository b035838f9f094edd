//! Tests: `labels`, `envelope` and `data_processing`, and what cannot be meant by them.

use serde_json::json;
use serde_json::value::to_raw_value;

use crate::config::environment::tests::Fixed;
use crate::config::parse;
use crate::source::shape::transform::{
    AddMetadata, CsvToJson, Fields, LogFormat, LogToJson, SingleLine, Transform,
};
use crate::source::shape::{Envelope, Field, Shape};

/// What this source says of its records, or what is wrong with it.
fn shape(source: &str) -> Result<Shape, String> {
    let text = format!("source = [{{ stream = 's', {source} }}]\nencryption.scope = 'off'");
    match parse("f", &text, &Fixed(&[("TEAM", "shop")])) {
        Ok(mut settings) => Ok(settings.sources.remove(0).shape),
        Err(mistakes) => Err(mistakes.to_string().trim_end().to_owned()),
    }
}

fn stdin(more: &str) -> Result<Shape, String> {
    shape(&format!("type = 'stdin', {more}"))
}

fn enveloped(fields: &[Field]) -> Envelope {
    Envelope {
        fields: fields.to_vec(),
        labels: Vec::new(),
        message_key: "message".into(),
        nest_json: false,
    }
}

#[test]
fn an_envelope_tells_what_is_known_of_the_sources_records() {
    use Field::{File, Host, Offset, Peer, Timestamp};
    for (source, fields) in [
        (
            "type = 'file', include = ['/a']",
            &[Timestamp, Host, File, Offset][..],
        ),
        ("type = 'unix', path = '/s'", &[Timestamp, Host]),
        ("type = 'unix_datagram', path = '/s'", &[Timestamp, Host]),
        ("type = 'stdin'", &[Timestamp, Host]),
    ] {
        let of = |more: &str| shape(&format!("{source}{more}")).unwrap().envelope;
        assert_eq!(of(", envelope = true"), Some(enveloped(fields)), "{source}");
        assert_eq!(of(", envelope = {}"), Some(enveloped(fields)), "{source}");
        assert_eq!((of(""), of(", envelope = false")), (None, None), "{source}");
    }
    let parts = "labels = { team = '${TEAM}', 'a b' = '' }, format = 'json', \
                 envelope = { fields = ['peer', 'host'], message_key = 'log' }";
    let expected = Envelope {
        labels: vec![
            ("team".into(), "shop".into()),
            ("a b".into(), String::new()),
        ],
        message_key: "log".into(),
        nest_json: true,
        ..enveloped(&[Peer, Host])
    };
    let unix = shape(&format!("type = 'unix', path = '/s', {parts}")).unwrap();
    assert_eq!(unix.envelope, Some(expected));
    let cri = "type = 'file', include = ['/a'], format = 'cri', envelope = { parse_json = true }";
    assert!(shape(cri).unwrap().envelope.unwrap().nest_json);
}

#[test]
fn an_envelope_that_cannot_be_is_refused_with_the_reason() {
    let long = "x".repeat(4096);
    for (said, expected) in [
        (
            "labels = { a = 'b' }",
            "labels: found without an envelope to be in; allowed: together with envelope = true".to_owned(),
        ),
        (
            "labels = { a = 'b' }, envelope = false",
            "labels: found without an envelope to be in; allowed: together with envelope = true".to_owned(),
        ),
        (
            &format!("envelope = true, labels = {{ a = '{long}' }}"),
            "labels: found 4097 bytes; allowed: up to 4096 in all".to_owned(),
        ),
        (
            "envelope = true, labels = { a = 1 }",
            "labels.a: found 1; allowed: a string, like labels.service = \"shop\"".to_owned(),
        ),
        (
            "envelope = 1",
            "envelope: found 1; allowed: true, false, or a table of fields, message_key and parse_json".to_owned(),
        ),
        (
            "envelope = { fields = ['offset'] }",
            "envelope.fields: found \"offset\"; allowed: a list of what is known of these records: \"timestamp\", \"host\""
                .to_owned(),
        ),
        (
            "envelope = { message_key = 'host' }",
            "envelope.message_key: found \"host\"; allowed: a name that no other field of an envelope has".to_owned(),
        ),
    ] {
        assert_eq!(stdin(said), Err(format!("f:1: source.{expected}")), "{said}");
    }
}

#[test]
fn every_kind_of_data_processing_can_be_said() {
    let fields = |names: &[&str]| Fields::new(names).unwrap();
    let said = r"data_processing = [
        { option_name = 'SINGLELINE' },
        { option_name = 'SINGLELINE', parse_options = ['NO_TRIM', 'ESCAPE_NEW_LINE'] },
        { option_name = 'CSVTOJSON', custom_field_names = ['a', 'b'], delimiter = '\t' },
        { option_name = 'ADDMETADATA', metadata = { b = [1, 1.5, true, '${TEAM}'], a = {} }, timestamp = true },
    ]";
    let metadata = r#"{"b":[1,1.5,true,"shop"],"a":{}}"#;
    let metadata = serde_json::value::RawValue::from_string(metadata.into()).unwrap();
    let single = |trims, escapes| Transform::SingleLine(SingleLine { trims, escapes });
    let expected = [
        single(true, false),
        single(false, true),
        Transform::CsvToJson(CsvToJson::new(fields(&["a", "b"]), r"\t").unwrap()),
        Transform::AddMetadata(AddMetadata::new(&metadata, true)),
    ];
    assert_eq!(stdin(said).unwrap().transforms, expected);

    let said = r"data_processing = [
        { option_name = 'LOGTOJSON', log_format = 'SYSLOG' },
        { option_name = 'LOGTOJSON', log_format = 'COMMONAPACHELOG', custom_field_names = ['1', '2', '3', '4', '5', '6', '7'] },
        { option_name = 'LOGTOJSON', log_format = 'SYSLOG', match_pattern = '(.)(.*)', custom_field_names = ['a', 'b'] },
        { option_name = 'ADDMETADATA' },
    ]";
    let seven = fields(&["1", "2", "3", "4", "5", "6", "7"]);
    let matching = LogToJson::matching(LogFormat::Syslog, "(.)(.*)", fields(&["a", "b"]));
    let expected = [
        Transform::LogToJson(LogToJson::new(LogFormat::Syslog)),
        Transform::LogToJson(LogToJson::named(LogFormat::CommonApacheLog, seven).unwrap()),
        Transform::LogToJson(matching.unwrap()),
        Transform::AddMetadata(AddMetadata::new(
            &to_raw_value(&json!(null)).unwrap(),
            false,
        )),
    ];
    assert_eq!(stdin(said).unwrap().transforms, expected);
}

#[test]
fn data_processing_that_cannot_be_is_refused_with_the_reason() {
    let names = "a list of names, one at least and none twice";
    for (said, expected) in [
        (
            "option_name = 'CSVTOJSON'",
            format!(".custom_field_names: not given; allowed: {names}"),
        ),
        (
            "option_name = 'CSVTOJSON', custom_field_names = ['a', 'a']",
            format!(".custom_field_names: found a list; allowed: {names}; \"a\" is there twice"),
        ),
        (
            "option_name = 'CSVTOJSON', custom_field_names = ['a'], delimiter = '|'",
            ".delimiter: found \"|\"; allowed: a regular expression; it matches where there is nothing; a | that is \
             meant as itself is written \\|"
                .to_owned(),
        ),
        (
            "option_name = 'LOGTOJSON', log_format = 'SYSLOG', match_pattern = '(a)'",
            format!(".custom_field_names: not given; allowed: {names}: one for each group of match_pattern"),
        ),
        (
            "option_name = 'LOGTOJSON', log_format = 'SYSLOG', custom_field_names = ['a']",
            ".custom_field_names: found what cannot match; allowed: a regular expression with a name for each of its \
             groups; 5 groups for 1 names; each group needs one"
                .to_owned(),
        ),
        (
            "option_name = 'ADDMETADATA', metadata = inf",
            ".metadata: found inf; allowed: a table, or any other value that JSON has".to_owned(),
        ),
        (
            "option_name = 'SINGLELINE', delimiter = ','",
            ": not a key of this table; it belongs in [[source.data_processing]]".to_owned(),
        ),
        ("", ".option_name: not given".to_owned()),
    ] {
        let error = stdin(&format!("data_processing = [{{ {said} }}]")).unwrap_err();
        let expected = match expected.strip_prefix(": ") {
            Some(text) => format!("f:1: source.data_processing.delimiter: {text}"),
            None => format!("f:1: source.data_processing{expected}"),
        };
        assert!(error.starts_with(&expected), "{said}: {error}");
    }
    let five = "{ option_name = 'SINGLELINE' },".repeat(5);
    let error = stdin(&format!("data_processing = [{five}]")).unwrap_err();
    assert!(error.ends_with("found 5; allowed: up to 4"), "{error}");
}
