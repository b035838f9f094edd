//! The faults file, as people write it.

use std::time::Duration;

use super::*;

#[test]
fn every_action_of_the_format_is_read() {
    let faults = Faults::from_toml(
        r#"
seed = 7
[[rule]]
service = "kinesis"
operation = "PutRecords"
shard = "shardId-000000000001"
every = 3
count = 2
do = "throttle"
entries = 3
[[rule]]
do = "internal_failure"
entries = "12.5%"
[[rule]]
service = "kms"
after = 10
percent = 50
do = "error"
code = "ThrottlingException"
status = 503
message = "slow down"
[[rule]]
do = "fewer_answers"
by = 2
[[rule]]
do = "latency"
delay = "50ms"
"#,
    )
    .unwrap();
    assert_eq!(faults.seed, 7);
    assert_eq!(
        faults.rules,
        [
            Rule::new(Action::Throttle(Entries::Count(3)))
                .service(Service::Kinesis)
                .on("PutRecords")
                .shard("shardId-000000000001")
                .every(3)
                .times(2),
            Rule::new(Action::FailEntries(Entries::Percent(12.5))),
            Rule::new(Action::Error(
                ApiError::new("ThrottlingException", "slow down").with_status(503)
            ))
            .service(Service::Kms)
            .after(10)
            .percent(50.0),
            Rule::new(Action::FewerAnswers(2)),
            Rule::new(Action::Latency(Duration::from_millis(50))),
        ]
    );
    for name in [
        "expired_token",
        "access_denied",
        "malformed",
        "truncated",
        "stall",
        "stall_after",
        "reset_before",
        "reset_after",
    ] {
        let faults = Faults::from_toml(&format!("[[rule]]\ndo = {name:?}")).unwrap();
        assert_eq!(faults.rules.len(), 1, "{name}");
    }
}

#[test]
fn every_mistake_is_named_with_its_line_and_key() {
    let error = Faults::from_toml(
        "seeed = 1\n[[rule]]\ndo = \"throtle\"\n[[rule]]\nevery = 0\ndo = \"stall\"\nshard = \"x\"\n\
         [[rule]]\ndo = \"error\"\n[[rule]]\ndo = \"latency\"\ndelay = 5\n[[rule]]\npercent = 101\ndo = \"stall\"\n\
         [[rule]]\nservice = \"s3\"\n",
    )
    .unwrap_err();
    let lines: Vec<&str> = error.mistakes().iter().map(String::as_str).collect();
    assert!(
        lines[0].starts_with("line 1: `seeed` is not known here"),
        "{lines:#?}"
    );
    assert!(
        lines[1].starts_with("line 3: `do` is throttle, "),
        "{lines:#?}"
    );
    assert!(lines[1].ends_with("found \"throtle\""), "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 7: `shard` is not known here")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 5: `every` counts from 1")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 8: `code` is required")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|l| l.starts_with("line 12: `delay`")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|l| l.starts_with("line 14: `percent`")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 16: `do` is missing")),
        "{lines:#?}"
    );
}

#[test]
fn a_rule_about_entries_is_refused_where_there_are_none() {
    for (rule, found, instead) in [
        (
            "do = 'throttle'\nservice = 'kms'",
            "kms",
            "ThrottlingException",
        ),
        (
            "do = 'throttle'\noperation = 'GenerateDataKey'",
            "GenerateDataKey",
            "ThrottlingException",
        ),
        (
            "do = 'internal_failure'\noperation = 'ListShards'",
            "ListShards",
            "InternalFailure",
        ),
        (
            "do = 'fewer_answers'\noperation = 'PutRecord'",
            "PutRecord",
            "InternalFailure",
        ),
        (
            "do = 'throttle'\nservice = 'kms'\noperation = 'PutRecords'",
            "kms",
            "ThrottlingException",
        ),
    ] {
        let error = Faults::from_toml(&format!("[[rule]]\n{rule}")).unwrap_err();
        let [line] = error.mistakes() else {
            panic!("{rule}: {error}");
        };
        assert!(
            line.starts_with("line 2: `do` is about the entries of PutRecords"),
            "{line}"
        );
        let rest = format!("and {found} has none: give do = \"error\" and code = \"{instead}\"");
        assert!(line.contains(&rest), "{line}");
    }
    for rule in [
        "do = 'throttle'",
        "do = 'throttle'\nservice = 'kinesis'\noperation = 'PutRecord'",
    ] {
        assert!(
            Faults::from_toml(&format!("[[rule]]\n{rule}")).is_ok(),
            "{rule}"
        );
    }
}

#[test]
fn broken_toml_names_its_line() {
    let error = Faults::from_toml("seed = 1\n[[rule]\n").unwrap_err();
    assert!(error.to_string().starts_with("line 2: "), "{error}");
}
