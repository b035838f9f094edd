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
        lines[1].starts_with("line 3, rule 1: `do` is throttle, "),
        "{lines:#?}"
    );
    assert!(lines[1].ends_with("found \"throtle\""), "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 7, rule 2: `shard` is not known here")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 5, rule 2: `every` counts from 1")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 8, rule 3: `code` is required")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 12, rule 4: `delay`")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 14, rule 5: `percent`")),
        "{lines:#?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("line 16, rule 6: `do` is missing")),
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
            line.starts_with("line 2, rule 1: `do` is about the entries of PutRecords"),
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
fn a_rule_that_strikes_nothing_is_refused_and_told_what_would() {
    for (rule, told) in [
        (
            "operation = 'PutRecrods'",
            "`operation` is one of kinesis: PutRecords, PutRecord, GetShardIterator, ",
        ),
        (
            "operation = 'PutRecrods'",
            "; of kms: GenerateDataKey, GenerateDataKeyWithoutPlaintext, ",
        ),
        ("operation = 'PutRecrods'", "; found \"PutRecrods\""),
        (
            "service = 'kms'\noperation = 'PutRecords'",
            "`operation` is one of kms: GenerateDataKey, ",
        ),
        (
            "service = 'kinesis'\noperation = 'Decrypt'",
            "`operation` is one of kinesis: PutRecords, ",
        ),
        ("count = 0", "`count` counts from 1: "),
        ("every = 0", "`every` counts from 1: "),
        ("percent = 0", "`percent` is a number above 0, up to 100"),
    ] {
        refused(&format!("do = 'stall'\n{rule}"), told);
    }
    for (entries, told) in [
        ("entries = 0", "`entries` is a number from 1, "),
        ("entries = '0%'", "`entries` is a number from 1, "),
        (
            "shard = 'shard-1'",
            "`shard` is \"shardId-\" and twelve digits",
        ),
        ("shard = 'shardId-1'", "found \"shardId-1\""),
        ("operation = 'PutRecrods'", "found \"PutRecrods\""),
    ] {
        refused(&format!("do = 'throttle'\n{entries}"), told);
    }
    refused("do = 'fewer_answers'\nby = 0", "`by` counts from 1: ");
    refused(
        "do = 'latency'\ndelay = '0s'",
        "`delay` is a duration above 0",
    );
}

/// As the second rule of a file, for this reason alone.
fn refused(rule: &str, told: &str) {
    let error = Faults::from_toml(&format!("[[rule]]\ndo = 'stall'\n[[rule]]\n{rule}"));
    let error = error.expect_err(rule);
    assert!(
        error.mistakes().iter().all(|m| m.contains(", rule 2: `")),
        "{error}"
    );
    assert!(
        error.mistakes().iter().any(|m| m.contains(told)),
        "{rule}: {error}"
    );
}

/// A name that is missing there could be struck by no rule.
#[test]
fn operations_of_the_faults_file_are_those_that_are_answered() {
    for (service, source) in [
        (Service::Kinesis, include_str!("../kinesis/mod.rs")),
        (Service::Kms, include_str!("../kms/mod.rs")),
    ] {
        let answered: Vec<&str> = (source.lines())
            .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => self."))
            .map(|(operation, _)| operation)
            .collect();
        assert!(answered.len() > 10, "{answered:?}");
        assert_eq!(answered, service.operations());
    }
}

#[test]
fn broken_toml_names_its_line() {
    let error = Faults::from_toml("seed = 1\n[[rule]\n").unwrap_err();
    assert!(error.to_string().starts_with("line 2: "), "{error}");
}
