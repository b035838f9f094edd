use std::time::Duration;

use crate::config::environment::tests::Fixed;
use crate::config::{PartitionKeyRule, SourceKind, parse};
use crate::record::PartitionKey;
use crate::source::framing::Framing;
use crate::source::join::{Format, Join, Language, LinePattern, LineRules, Multiline, Rule};
use crate::source::keying::{Field, Form, JsonPointer, KeyPattern};
use crate::source::unix::{self, Access, Account, Address, Allow};
use crate::source::{WhenFull, stdin, tail};

mod shape;
mod sockets;

const AGENT: &str = include_str!("../../../config/agent.toml");

/// The rule, or what is wrong with it, of a source that says so on its one line.
fn rule(partition_key: &str) -> Result<PartitionKeyRule, String> {
    let text = format!(
        "source = [{{ type = 'stdin', stream = 's', partition_key = {partition_key} }}]\n\
         encryption.scope = 'off'"
    );
    match parse("f", &text, &Fixed(&[])) {
        Ok(mut settings) => Ok(settings.sources.remove(0).partition_key),
        Err(mistakes) => Err(mistakes.to_string().trim_end().to_owned()),
    }
}

fn pointer(text: &str) -> Field {
    Field::JsonPointer(JsonPointer::new(text).unwrap())
}

#[test]
fn old_files_open_files_and_long_lines_are_as_the_source_says() {
    let words = "ignore_older = '7d'\nclose_inactive = '1m'\nrotate_wait = '9s'\nmax_open_files = 7\nmax_line_bytes = '1KiB'";
    let source = "[[source]]\ntype = 'file'\ninclude = ['/var/log/*.log']\nstream = 's'";
    let text = format!("{source}\n{words}\n[encryption]\nscope = 'off'");
    let settings = parse("f", &text, &Fixed(&[])).unwrap();
    let SourceKind::File(file) = &settings.sources[0].kind else {
        panic!("{:?}", settings.sources[0].kind);
    };
    assert_eq!(file.ignore_older, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(file.close_inactive, Duration::from_secs(60));
    assert_eq!(file.rotate_wait, Duration::from_secs(9));
    assert_eq!((file.max_open_files, file.max_line_bytes), (7, Some(1024)));
}

#[test]
fn every_rule_can_be_said() {
    let constant = PartitionKey::new("k").unwrap();
    let user = KeyPattern::new(r"user=(?<key>\S+)").unwrap();
    let key_file = "/etc/key.hmac".into();
    for (said, meant) in [
        ("'random'", PartitionKeyRule::Random),
        ("'hash'", PartitionKeyRule::Hash),
        ("'file'", PartitionKeyRule::File),
        ("'host'", PartitionKeyRule::Host),
        ("{ constant = 'k' }", PartitionKeyRule::Constant(constant)),
        (
            "{ json_pointer = '/a~1b/0' }",
            PartitionKeyRule::Field(pointer("/a~1b/0"), Form::Value),
        ),
        (
            r"{ regex = 'user=(?<key>\S+)' }",
            PartitionKeyRule::Field(Field::Regex(user), Form::Value),
        ),
        (
            "{ json_pointer = '/u', hmac_key_file = '/etc/key.hmac' }",
            PartitionKeyRule::Field(pointer("/u"), Form::Hmac { key_file }),
        ),
        (
            "{ explicit_hash_key = { json_pointer = '/s' } }",
            PartitionKeyRule::Field(pointer("/s"), Form::HashKey),
        ),
    ] {
        assert_eq!(rule(said), Ok(meant), "{said}");
    }
}

#[test]
fn every_example_of_the_annotated_file_is_a_rule() {
    let examples = AGENT
        .lines()
        .filter_map(|line| line.strip_prefix("# partition_key = "));
    let mut some = 0;
    for example in examples {
        rule(example).unwrap_or_else(|mistake| panic!("{mistake}"));
        some += 1;
    }
    assert!(some >= 5, "the file shows {some}");
}

#[test]
fn a_rule_that_cannot_be_followed_is_refused_with_the_reason() {
    let field = "a JSON pointer like \"/order/id\", or regex, with a group named key";
    let group =
        "allowed: a regular expression with a group named key, like \"user=(?<key>\\\\S+)\"";
    for (said, expected) in [
        (
            "'hmac'",
            "found \"hmac\"; allowed: \"random\", \"hash\", \"file\", \"host\", { constant = \"…\" }, \
             { json_pointer = \"/order/id\" } or { regex = \"user=(?<key>…)\" }"
                .to_owned(),
        ),
        ("{}", format!(".json_pointer: not given; allowed: {field}")),
        (
            "{ constant = '' }",
            ".constant: found \"\"; allowed: a string of 1 to 256 characters".to_owned(),
        ),
        (
            "{ json_pointer = 'order.id' }",
            ".json_pointer: found \"order.id\"; allowed: a JSON pointer like \"/order/id\", \
             with ~ in a name written ~0 and / written ~1"
                .to_owned(),
        ),
        (
            "{ json_ponter = '/a' }",
            ".json_ponter: unknown key; did you mean `json_pointer`?".to_owned(),
        ),
        (
            "{ regex = 'user=(' }",
            format!(".regex: found \"user=(\"; {group}; not a regular expression: unclosed group"),
        ),
        (
            "{ regex = '(?<user>.)' }",
            format!(
                ".regex: found \"(?<user>.)\"; {group}; the pattern has no group named key, but one named \"user\""
            ),
        ),
        (
            "{ json_pointer = '/a', regex = '(?<key>.)' }",
            ".regex: found beside json_pointer; allowed: json_pointer or regex".to_owned(),
        ),
        (
            "{ constant = 'k', json_pointer = '/a' }",
            ": found several sources of one key; allowed: one of constant, json_pointer, regex and \
             explicit_hash_key"
                .to_owned(),
        ),
        (
            "{ constant = 'k', hmac_key_file = '/k' }",
            ".hmac_key_file: found without a field; allowed: together with json_pointer or regex".to_owned(),
        ),
        (
            "{ json_pointer = '/a', hmac_key_file = 'k' }",
            ".hmac_key_file: found \"k\"; allowed: an absolute path, like \"/var/lib/kinseal\"".to_owned(),
        ),
        (
            "{ explicit_hash_key = {} }",
            format!(".explicit_hash_key.json_pointer: not given; allowed: {field}"),
        ),
    ] {
        let at = "f:1: source.partition_key";
        let separator = if expected.starts_with("found") { ": " } else { "" };
        assert_eq!(rule(said), Err(format!("{at}{separator}{expected}")), "{said}");
    }
}

#[test]
fn a_key_in_the_place_of_its_file_is_not_shown() {
    let key = "9f3ab5d2c8e17460a1b2c3d4e5f607189f3ab5d2c8e17460a1b2c3d4e5f60718";
    let said = rule(&format!(
        "{{ json_pointer = '/a', hmac_key_file = '{key}' }}"
    ));
    let said = said.unwrap_err();
    assert!(said.contains("found what looks like a key"), "{said}");
    assert!(!said.contains(&key[..8]), "{said}");
}

/// How lines are joined, or what is wrong with that.
fn multiline(keys: &str) -> Result<Multiline, String> {
    let said = format!("type = 'file', include = ['/a'], multiline = {{ {keys} }}");
    match source(&said)? {
        SourceKind::File(settings) => match settings.rules.join {
            Join::Lines(multiline) => Ok((*multiline).clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn format_is_lines_unless_it_is_a_containers() {
    let file = |more: &str| source(&format!("type = 'file', include = ['/a']{more}"));
    for (said, join) in [
        ("", Join::Nothing),
        (", format = 'lines'", Join::Nothing),
        (", format = 'cri'", Join::Parts(Format::Cri)),
        (", format = 'docker'", Join::Parts(Format::Docker)),
    ] {
        let Ok(SourceKind::File(settings)) = file(said) else {
            panic!("{said}");
        };
        let rules = LineRules {
            join,
            ..LineRules::default()
        };
        assert_eq!(settings.rules, rules, "{said}");
    }
    let Ok(SourceKind::File(settings)) = file(", skip_header_lines = 2, partial_timeout = '5s'")
    else {
        panic!("both are keys");
    };
    assert_eq!(settings.rules.skip_header_lines, 2);
    assert_eq!(settings.rules.partial_timeout, Some(Duration::from_secs(5)));
    let said = file(", format = 'yaml'").unwrap_err();
    let expected = "f:1: source.format: found \"yaml\"; allowed: \"lines\" or \"json\" or \"cri\" or \"docker\"";
    assert_eq!(said, expected);
    let said = source("type = 'stdin', format = 'cri'").unwrap_err();
    let expected = "f:1: source.format: found \"cri\"; allowed: \"lines\" or \"json\"";
    assert_eq!(said, expected);
    let both = file(", format = 'cri', multiline = { preset = 'go' }");
    let Ok(SourceKind::File(tail::Settings { rules, .. })) = both else {
        panic!("they go together");
    };
    let Join::PartsAndLines(Format::Cri, multiline) = rules.join else {
        panic!("{rules:?}");
    };
    assert_eq!(multiline.rule, Rule::Stack(Language::Go));
}

#[test]
fn lines_are_joined_by_one_rule() {
    let pattern = LinePattern::new("^S").unwrap();
    for (said, rule) in [
        ("start_pattern = '^S'", Rule::Start(pattern.clone())),
        ("continue_pattern = '^S'", Rule::Continue(pattern)),
        ("preset = 'java'", Rule::Stack(Language::Java)),
        ("preset = 'python'", Rule::Stack(Language::Python)),
        ("preset = 'go'", Rule::Stack(Language::Go)),
    ] {
        let meant = Multiline {
            rule,
            timeout: Duration::from_secs(1),
            max_lines: None,
            max_bytes: 1_024_000,
        };
        assert_eq!(multiline(said), Ok(meant.clone()), "{said}");
        let said = format!("{said}, timeout = '5s', max_lines = 7, max_bytes = '64KiB'");
        let meant = Multiline {
            timeout: Duration::from_secs(5),
            max_lines: Some(7),
            max_bytes: 65_536,
            ..meant
        };
        assert_eq!(multiline(&said), Ok(meant), "{said}");
    }
}

#[test]
fn lines_of_sockets_and_of_standard_input_are_joined_too_but_no_frames() {
    let go = "multiline = { preset = 'go' }";
    let Ok(SourceKind::Stdin(stdin)) = source(&format!("type = 'stdin', {go}")) else {
        panic!("it is a key");
    };
    let unix = |more: &str| source(&format!("type = 'unix', path = '/s', {go}{more}"));
    let Ok(SourceKind::Unix(settings)) = unix("") else {
        panic!("it is a key");
    };
    assert_eq!(settings.multiline, stdin.multiline);
    let rule = settings.multiline.map(|multiline| multiline.rule.clone());
    assert_eq!(rule, Some(Rule::Stack(Language::Go)));
    let said = unix(", framing = 'octet_counted'").unwrap_err();
    let expected = "f:1: source.multiline: found beside framing, by which a record may hold newlines; allowed: with \
                    framing = \"newline\"";
    assert_eq!(said, expected);
    let said = source(&format!("type = 'unix_datagram', path = '/s', {go}")).unwrap_err();
    let expected = "f:1: source.multiline: not a key of this table; it belongs in a [[source]] of type = \"file\" or \
                    \"unix\" or \"stdin\"";
    assert_eq!(said, expected);
}

#[test]
fn lines_that_cannot_be_joined_so_are_refused_with_the_reason() {
    let rules = "one of start_pattern, continue_pattern and preset";
    for (said, expected) in [
        ("", format!(".start_pattern: not given; allowed: {rules}")),
        (
            "start_pattern = 'a', preset = 'go'",
            format!(".preset: found beside another rule; allowed: {rules}"),
        ),
        (
            "continue_pattern = '('",
            ".continue_pattern: found \"(\"; allowed: a regular expression, like '^\\d{4}-'; \
             not a regular expression: unclosed group"
                .to_owned(),
        ),
        (
            "preset = 'jawa'",
            ".preset: found \"jawa\"; allowed: \"java\" or \"python\" or \"go\"; did you mean \"java\"?"
                .to_owned(),
        ),
        (
            "preset = 'go', start_patern = 'a'",
            ".start_patern: unknown key; did you mean `start_pattern`?".to_owned(),
        ),
        (
            "preset = 'go', max_bytes = '1GiB'",
            ".max_bytes: found \"1GiB\"; allowed: a number of bytes, like 65536 or \"64KiB\", from 1KiB to 4MiB"
                .to_owned(),
        ),
    ] {
        assert_eq!(
            multiline(said),
            Err(format!("f:1: source.multiline{expected}")),
            "{said}"
        );
    }
}

#[test]
fn every_way_to_join_lines_in_the_annotated_file_is_one() {
    let examples = AGENT
        .lines()
        .filter_map(|line| line.strip_prefix("# multiline = {")?.strip_suffix('}'));
    let mut some = 0;
    for example in examples {
        multiline(example).unwrap_or_else(|mistake| panic!("{mistake}"));
        some += 1;
    }
    assert_eq!(some, 3);
}

fn source(keys: &str) -> Result<SourceKind, String> {
    let text = format!("source = [{{ stream = 's', {keys} }}]\nencryption.scope = 'off'");
    match parse("f", &text, &Fixed(&[])) {
        Ok(mut settings) => Ok(settings.sources.remove(0).kind),
        Err(mistakes) => Err(mistakes.to_string().trim_end().to_owned()),
    }
}
