//! Tests: what the Kinesis Agent's own tests and documentation expect of each, and where this differs on purpose.

use std::time::SystemTime;

use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;

/// What a line becomes; none if it passes as it was.
fn made(transform: &Transform, line: &str) -> Option<String> {
    let mut work = Work::new(SystemTime::UNIX_EPOCH);
    let chain = Chain::new(vec![transform.clone()]);
    let taken = chain.apply(line.as_bytes(), &mut work);
    taken.then(|| String::from_utf8(work.text).unwrap())
}

fn csv(names: &[&str], delimiter: &str) -> Transform {
    let fields = Fields::new(names).unwrap();
    Transform::CsvToJson(CsvToJson::new(fields, delimiter).unwrap())
}

fn log(format: LogFormat) -> Transform {
    Transform::LogToJson(LogToJson::new(format))
}

fn single(trims: bool, escapes: bool) -> Transform {
    Transform::SingleLine(SingleLine { trims, escapes })
}

fn expect(transform: &Transform, line: &str, expected: &str) {
    assert_eq!(made(transform, line).as_deref(), Some(expected), "{line}");
}

#[test]
fn singleline_joins_trimmed_lines() {
    let text = "{\n   \"a\": {\n           \"b\": 1,\n           \"c\": null,\n           \"d\": true\n    },\n   \
                \"e\": \"f\",\n   \"g\": 2\n     }\n";
    let joined = r#"{"a": {"b": 1,"c": null,"d": true},"e": "f","g": 2}"#;
    expect(&single(true, false), text, joined);
    let escaped = r#"{\\n"a": {\\n"b": 1,\\n"c": null,\\n"d": true\\n},\\n"e": "f",\\n"g": 2\\n}"#;
    expect(&single(true, true), text, escaped);
    expect(&single(false, false), " a\t\n b \n\n", " a\t b ");
    expect(&single(true, false), "\u{a0}a\u{3000}\r", "\u{a0}a\u{3000}");
    expect(&single(true, true), "\n\n", "");
}

#[test]
fn singleline_takes_what_is_not_utf_8() {
    let mut work = Work::new(SystemTime::UNIX_EPOCH);
    let chain = Chain::new(vec![single(true, false)]);
    assert!(chain.apply(b" \xff \n\xfe", &mut work));
    assert_eq!(work.text, b"\xff\xfe");
}

#[test]
fn csvtojson_names_columns_in_their_order() {
    let four = csv(&["column1", "column2", "column3", "column4"], ",");
    expect(
        &four,
        "value1, value2,valu\ne3,    value4",
        r#"{"column1":"value1","column2":" value2","column3":"valu\ne3","column4":"    value4"}"#,
    );
    expect(
        &four,
        "value1, value2,value3",
        r#"{"column1":"value1","column2":" value2","column3":"value3","column4":null}"#,
    );
    expect(
        &four,
        "value1,value2,value3,value4,value5",
        r#"{"column1":"value1","column2":"value2","column3":"value3","column4":"value4"}"#,
    );
    expect(
        &csv(&["column1", "column2", "column3", "column4"], r"\t"),
        "value1\t value2\tvalue3\t    value4",
        r#"{"column1":"value1","column2":" value2","column3":"value3","column4":"    value4"}"#,
    );
}

#[test]
fn csvtojson_has_null_for_empty_columns_at_the_end_only() {
    // As Java's `split`, which that agent uses: what is empty at the end is not there.
    let three = csv(&["a", "b", "c"], ",");
    for (line, expected) in [
        (",x,", r#"{"a":"","b":"x","c":null}"#),
        ("x,,y", r#"{"a":"x","b":"","c":"y"}"#),
        (",,", r#"{"a":null,"b":null,"c":null}"#),
        ("", r#"{"a":"","b":null,"c":null}"#),
        ("\"x,y\"", r#"{"a":"\"x","b":"y\"","c":null}"#),
    ] {
        expect(&three, line, expected);
    }
}

#[test]
fn csvtojson_refuses_a_delimiter_that_splits_everywhere() {
    let of = |delimiter| CsvToJson::new(Fields::new(&["a"]).unwrap(), delimiter).unwrap_err();
    assert_eq!(of("|"), DelimiterError::MatchesNothing);
    let unclosed = "not a regular expression: unclosed group";
    assert_eq!(of("(").to_string(), unclosed);
    expect(&csv(&["a", "b"], r"\|"), "1|2", r#"{"a":"1","b":"2"}"#);
}

#[test]
fn names_are_there_and_none_is_there_twice() {
    assert_eq!(Fields::new::<&str>(&[]), Err(FieldsError::Empty));
    let twice = Fields::new(&["a", "b", "a"]);
    assert_eq!(twice, Err(FieldsError::Twice("a".into())));
}

#[test]
fn logtojson_reads_combined_access_logs() {
    expect(
        &log(LogFormat::CombinedApacheLog),
        r#"123.45.67.89 - - [27/Oct/2000:09:27:09 -0400] "GET /java/javaResources.html HTTP/1.0" 200 10450 "-" "Mozilla/4.6 [en] (X11; U; OpenBSD 2.8 i386; Nav)" "ANY_RANDOM_DATA""#,
        r#"{"host":"123.45.67.89","ident":null,"authuser":null,"datetime":"27/Oct/2000:09:27:09 -0400","request":"GET /java/javaResources.html HTTP/1.0","response":"200","bytes":"10450","referer":null,"agent":"Mozilla/4.6 [en] (X11; U; OpenBSD 2.8 i386; Nav)"}"#,
    );
}

#[test]
fn logtojson_reads_common_access_logs() {
    let common = log(LogFormat::CommonApacheLog);
    let expected = |host: &str| {
        format!(
            r#"{{"host":"{host}","ident":null,"authuser":null,"datetime":"27/Oct/2000:09:27:09 -0400","request":"GET /java/javaResources.html HTTP/1.0","response":"200","bytes":"10450"}}"#
        )
    };
    let rest =
        r#" - - [27/Oct/2000:09:27:09 -0400] "GET /java/javaResources.html HTTP/1.0" 200 10450"#;
    // IPv6 is more than that agent takes.
    for host in ["123.45.67.89", "lj1036.inktomisearch.com", "2001:db8::1"] {
        expect(&common, &format!("{host}{rest}"), &expected(host));
        let more =
            format!(r#"{host}{rest} "-" "Mozilla/4.6 [en] (X11; U; OpenBSD 2.8 i386; Nav)""#);
        expect(&common, &more, &expected(host));
    }
    let quoted = r#"h - u [27/Oct/2000:09:27:09 -0400] "GET /\"a\" HTTP/1.0" 200 -"#;
    let fields: Value = serde_json::from_str(&made(&common, quoted).unwrap()).unwrap();
    assert_eq!(fields["request"], r#"GET /\"a\" HTTP/1.0"#);
    assert_eq!(
        (&fields["authuser"], &fields["bytes"]),
        (&json!("u"), &Value::Null)
    );
}

#[test]
fn logtojson_reads_apache_error_logs() {
    let error = log(LogFormat::ApacheErrorLog);
    let message = "File does not exist: /usr/local/apache2/htdocs/favicon.ico";
    let expected = |time: &str, module: &str, thread: &str, client: &str| {
        format!(
            r#"{{"timestamp":"Fri Sep 09 10:42:29{time} 2011","module":{module},"severity":"error","processid":"35708","threadid":{thread},"client":{client},"message":"{message}"}}"#
        )
    };
    let (thread, client) = (r#""4328636416""#, r#""72.15.99.187""#);
    for (line, expected) in [
        (
            "[Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 35708:tid 4328636416] [client 72.15.99.187] ",
            expected(".902022", "\"core\"", thread, client),
        ),
        (
            "[Fri Sep 09 10:42:29 2011] [core:error] [pid 35708] [client 72.15.99.187] ",
            expected("", "\"core\"", "null", client),
        ),
        (
            "[Fri Sep 09 10:42:29.902022 2011] [error] [pid 35708:tid 4328636416] [client 72.15.99.187:12345] ",
            expected(".902022", "null", thread, r#""72.15.99.187:12345""#),
        ),
        // What that agent does not take.
        (
            "[Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 35708:tid 4328636416] ",
            expected(".902022", "\"core\"", thread, "null"),
        ),
    ] {
        expect(&error, &format!("{line}{message}"), &expected);
    }
}

#[test]
fn logtojson_reads_syslog() {
    let syslog = log(LogFormat::Syslog);
    expect(
        &syslog,
        "Mar 12 12:00:08 server2 rcd[308]: Loaded 12 packages in 'ximian-red-carpet|351' (0.01878 seconds) ",
        r#"{"timestamp":"Mar 12 12:00:08","hostname":"server2","program":"rcd","processid":"308","message":"Loaded 12 packages in 'ximian-red-carpet|351' (0.01878 seconds) "}"#,
    );
    expect(
        &syslog,
        "Mar  2 12:01:02 server4 snort: Ports to decode telnet on: 21 23 25 119",
        r#"{"timestamp":"Mar  2 12:01:02","hostname":"server4","program":"snort","processid":null,"message":"Ports to decode telnet on: 21 23 25 119"}"#,
    );
    expect(
        &syslog,
        "Mar 12 12:01:02 <4.6> h postfix/smtpd[7]: -",
        r#"{"timestamp":"Mar 12 12:01:02","hostname":"h","program":"postfix/smtpd","processid":"7","message":"-"}"#,
    );
    let line = "2026-11-25T07:43:28.123+01:00 h p[1]: m";
    expect(
        &log(LogFormat::Rfc3339Syslog),
        line,
        r#"{"timestamp":"2026-11-25T07:43:28.123+01:00","hostname":"h","program":"p","processid":"1","message":"m"}"#,
    );
    assert_eq!(made(&syslog, line), None);
}

#[test]
fn logtojson_leaves_what_does_not_match_as_it_is() {
    // That agent drops it.
    let line = r#"123.45.67.89 - - [27/Oct/2000:09:27:09 -0400] "GET /java/javaResources.html HTTP/1.0" 200"#;
    assert_eq!(made(&log(LogFormat::CommonApacheLog), line), None);
}

#[test]
fn logtojson_takes_names_and_patterns_of_the_users_own() {
    let names = [
        "column1", "column2", "column3", "column4", "column5", "column6", "column7",
    ];
    let format = LogFormat::CommonApacheLog;
    let seven = LogToJson::named(format, Fields::new(&names).unwrap()).unwrap();
    let line = r#"123.45.67.89 - - [27/Oct/2000:09:27:09 -0400] "GET /java/javaResources.html HTTP/1.0" 200"#;
    let six = r#"{"column1":"123.45.67.89","column2":null,"column3":null,"column4":"27/Oct/2000:09:27:09 -0400","column5":"GET /java/javaResources.html HTTP/1.0","column6":"200""#;
    let expected = format!(r#"{six},"column7":"10450"}}"#);
    expect(
        &Transform::LogToJson(seven),
        &format!("{line} 10450"),
        &expected,
    );

    let pattern = r#"^([\d.]+) (\S+) (\S+) \[([\w:/]+\s[+\-]\d{4})\] "(.+?)" (\d{3})"#;
    let fields = || Fields::new(&names[..6]).unwrap();
    let own = LogToJson::matching(format, pattern, fields()).unwrap();
    let own = Transform::LogToJson(own);
    expect(&own, line, &format!("{six}}}"));
    assert_eq!(
        made(&own, &format!("{line} more")),
        None,
        "all of the line, or nothing"
    );

    let error = LogToJson::named(format, fields()).unwrap_err();
    let expected = "7 groups for 6 names; each group needs one";
    assert_eq!(error.to_string(), expected);
    let error = LogToJson::matching(format, "(a)(", fields()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a regular expression: unclosed group"
    );
}

#[test]
fn addmetadata_puts_metadata_beside_the_line() {
    let metadata = to_raw_value(&json!({ "key": "value", "foo": { "bar": "bas" } })).unwrap();
    let add = Transform::AddMetadata(AddMetadata::new(&metadata, false));
    let made_of = |add| made(add, "This is \"data\"").unwrap();
    let made: Value = serde_json::from_str(&made_of(&add)).unwrap();
    let expected = json!({
        "metadata": { "foo": { "bar": "bas" }, "key": "value" },
        "data": "This is \"data\"",
    });
    assert_eq!(made, expected);
    let add = Transform::AddMetadata(AddMetadata::new(&to_raw_value(&1).unwrap(), true));
    assert_eq!(
        made_of(&add),
        r#"{"ts":"1970-01-01T00:00:00.000Z","metadata":1,"data":"This is \"data\""}"#
    );
}
