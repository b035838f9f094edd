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

/// What a socket is of which only its path is said.
fn socket() -> unix::Settings {
    unix::Settings {
        path: Address::File("/run/x".into()),
        access: None,
        allow: None,
        max_connections: 1024,
        acknowledged: None,
        framing: Framing::Newline,
        multiline: None,
        when_full: WhenFull::Block,
    }
}

#[test]
fn a_socket_may_have_a_name_instead_of_a_file() {
    let named = unix::Settings {
        path: Address::Abstract("shop".into()),
        ..socket()
    };
    let said = source("type = 'unix', path = '@shop'");
    assert_eq!(said, Ok(SourceKind::Unix(named)));
    let handed_over = unix::Settings {
        path: Address::HandedOver("shop.socket".into()),
        ..socket()
    };
    let said = source("type = 'unix', path = 'systemd:shop.socket'");
    assert_eq!(said, Ok(SourceKind::Unix(handed_over)));
    let too_long = format!("@{}", "x".repeat(107));
    for path in [
        "@",
        "shop",
        "run/shop",
        "systemd:",
        "systemd:a:b",
        &too_long,
    ] {
        let said = source(&format!("type = 'unix', path = '{path}'")).unwrap_err();
        let expected = "allowed: the absolute path of a socket, like \"/run/kinseal/shop.sock\", or a name without a \
                        file, like \"@shop\", up to 107 bytes; or \"systemd:NAME\"";
        assert!(said.contains(expected), "{said}");
    }
    let text = "source = [{ type = 'unix', path = '@a', stream = 's' }, { type = 'unix', path = '@a', stream = 't' }]\n\
                encryption.scope = 'off'";
    let said = parse("f", text, &Fixed(&[])).unwrap_err().to_string();
    assert!(said.contains("found the socket @a again"), "{said}");
}

#[test]
fn a_sockets_file_may_have_a_mode_an_owner_and_a_group() {
    let access = |owner, group| unix::Settings {
        access: Some(Access {
            mode: 0o660,
            owner,
            group,
        }),
        ..socket()
    };
    let name = |name: &str| Some(Account::Name(name.into()));
    for (said, meant) in [
        ("mode = '0660'", access(None, None)),
        (
            "mode = '660', owner = 7",
            access(Some(Account::Id(7)), None),
        ),
        (
            "mode = '0660', owner = 'shop', group = '12'",
            access(name("shop"), Some(Account::Id(12))),
        ),
    ] {
        let said = source(&format!("type = 'unix', path = '/run/x', {said}"));
        assert_eq!(said, Ok(SourceKind::Unix(meant)));
    }
    let mode = "allowed: an octal mode in quotes, like \"0660\", up to \"0777\"";
    let without = "found without mode; allowed: together with it, like mode = \"0660\"";
    let no_file = "found for a name without a file of the agent's; allowed: for the path of a file";
    let user = "allowed: a user's name or number, like \"kinseal\" or 1000";
    for (said, key, expected) in [
        (
            "path = '/x', mode = 660",
            "mode",
            format!("found 660; {mode}"),
        ),
        (
            "path = '/x', mode = '1777'",
            "mode",
            format!("found \"1777\"; {mode}"),
        ),
        (
            "path = '/x', mode = '0668'",
            "mode",
            format!("found \"0668\"; {mode}"),
        ),
        (
            "path = '/x', mode = '+660'",
            "mode",
            format!("found \"+660\"; {mode}"),
        ),
        ("path = '/x', owner = 'a'", "owner", without.into()),
        ("path = '/x', group = 'a'", "group", without.into()),
        (
            "path = '/x', owner = -1, mode = '0600'",
            "owner",
            format!("found -1; {user}"),
        ),
        (
            "path = '/x', owner = '4294967295', mode = '0600'",
            "owner",
            format!("found \"4294967295\"; {user}"),
        ),
        ("path = '@x', mode = '0600'", "mode", no_file.into()),
    ] {
        let said = source(&format!("type = 'unix', {said}"));
        assert_eq!(said, Err(format!("f:1: source.{key}: {expected}")));
    }
}

#[test]
fn a_stream_socket_may_say_who_is_let_in_and_how_many_at_once() {
    let some = unix::Settings {
        allow: Some(Allow {
            uids: vec![Account::Name("shop".into()), Account::Id(7)],
            gids: vec![Account::Id(8)],
        }),
        max_connections: 3,
        ..socket()
    };
    let said = "type = 'unix', path = '/run/x', allow = { uids = ['shop', 7], gids = ['8'] }, max_connections = 3";
    assert_eq!(source(said), Ok(SourceKind::Unix(some)));
    let nobody =
        ": found a list of nobody; allowed: { uids = […], gids = […] }, of which one has an entry";
    let group = "a group's name or number, like \"adm\" or 1000";
    for (said, expected) in [
        ("{}", nobody.to_owned()),
        ("{ uids = [] }", nobody.to_owned()),
        (
            "{ gids = 'adm' }",
            format!(".gids: found \"adm\"; allowed: a list, each {group}"),
        ),
        (
            "{ gids = [-1] }",
            format!(".gids: found -1; allowed: {group}"),
        ),
        (
            "{ users = ['a'], uids = [1] }",
            ".users: unknown key; allowed here: uids, gids".to_owned(),
        ),
    ] {
        let said = source(&format!("type = 'unix', path = '/x', allow = {said}"));
        let said = said.unwrap_err();
        assert!(
            said.starts_with(&format!("f:1: source.allow{expected}")),
            "{said}"
        );
    }
}

#[test]
fn a_datagram_socket_has_no_clients_and_no_framing() {
    let datagrams = unix::DatagramSettings {
        path: Address::File("/run/x".into()),
        access: Some(Access {
            mode: 0o600,
            owner: None,
            group: None,
        }),
        when_full: WhenFull::DropNewest,
    };
    let said = "type = 'unix_datagram', path = '/run/x', mode = '0600', when_full = 'drop_newest'";
    assert_eq!(source(said), Ok(SourceKind::UnixDatagram(datagrams)));
    for (key, value) in [
        ("framing", "'newline'"),
        ("allow", "{ uids = [0] }"),
        ("max_connections", "1"),
    ] {
        let said = source(&format!(
            "type = 'unix_datagram', path = '/run/x', {key} = {value}"
        ));
        let expected = format!(
            "f:1: source.{key}: not a key of this table; it belongs in a [[source]] of type = \"unix\""
        );
        assert_eq!(said, Err(expected));
    }
}

#[test]
fn every_framing_can_be_said_of_a_stream_socket() {
    for (said, framing) in [
        ("newline", Framing::Newline),
        ("length_prefixed", Framing::LengthPrefixed),
        ("octet_counted", Framing::OctetCounted),
    ] {
        let unix = unix::Settings {
            framing,
            ..socket()
        };
        let said = source(&format!(
            "type = 'unix', path = '/run/x', framing = '{said}'"
        ));
        assert_eq!(said, Ok(SourceKind::Unix(unix)));
    }
    let said = source("type = 'stdin', framing = 'newline'");
    let expected = "f:1: source.framing: not a key of this table; it belongs in a [[source]] of type = \"unix\"";
    assert_eq!(said, Err(expected.to_owned()));
}

#[test]
fn what_cannot_be_read_again_waits_for_room_unless_it_is_told_to_drop() {
    for (said, when_full) in [
        ("", WhenFull::Block),
        (", when_full = 'block'", WhenFull::Block),
        (", when_full = 'drop_newest'", WhenFull::DropNewest),
    ] {
        let stdin = SourceKind::Stdin(stdin::Settings {
            multiline: None,
            when_full,
        });
        assert_eq!(source(&format!("type = 'stdin'{said}")), Ok(stdin));
        let unix = SourceKind::Unix(unix::Settings {
            when_full,
            ..socket()
        });
        let said = format!("type = 'unix', path = '/run/x'{said}");
        assert_eq!(source(&said), Ok(unix));
    }
    let said = source("type = 'stdin', when_full = 'drop_oldest'");
    let expected =
        "f:1: source.when_full: found \"drop_oldest\"; allowed: \"block\" or \"drop_newest\"";
    assert!(said.unwrap_err().starts_with(expected));
}

#[test]
fn a_file_that_is_told_to_drop_is_a_mistake_since_it_can_wait() {
    for word in ["block", "drop_newest"] {
        let said = source(&format!(
            "type = 'file', include = ['/a'], when_full = '{word}'"
        ));
        let expected = "f:1: source.when_full: found for a file; allowed: with a socket or type = \"stdin\"; \
             a file can wait, and nothing of it is dropped";
        assert_eq!(said, Err(expected.to_owned()));
    }
}

#[test]
fn an_acknowledged_socket_says_when_it_answers_and_drops_nothing() {
    use crate::config::tests::{good, mistakes};
    let kpl = |more: &str, after: &str| {
        format!(
            "[[source]]\ntype = 'unix'\npath = '/s'\nstream = 's'\nframing = 'kpl'\n{more}\n\
             [encryption]\nscope = 'off'\n{after}"
        )
    };
    let acknowledged = |text: &str| match &good(text).sources[0].kind {
        SourceKind::Unix(settings) => settings.acknowledged,
        _ => None,
    };
    assert_eq!(acknowledged(&kpl("", "")), Some(unix::Ack::Stored));
    let spooled = kpl("ack = 'spooled'", "[spool]");
    assert_eq!(acknowledged(&spooled), Some(unix::Ack::Spooled));

    let said = mistakes(&kpl("ack = 'spooled'\nwhen_full = 'drop_newest'", ""));
    assert!(
        said[0].contains("ack: found \"spooled\" without a table [spool]"),
        "{said:?}"
    );
    assert!(
        said[1].contains("when_full: found \"drop_newest\" beside framing = \"kpl\""),
        "{said:?}"
    );
    let said = mistakes(&kpl("ack = 'stored'", "").replace("'kpl'", "'newline'"));
    assert!(
        said[0].contains("ack: found without framing = \"kpl\""),
        "{said:?}"
    );
}
