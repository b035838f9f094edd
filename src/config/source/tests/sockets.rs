//! Sources that are sockets.

use super::*;

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
    // Whatever else is wrong with the source, and by its line.
    let said = mistakes(&kpl("max_connections = 0\nack = 'spooled'", ""));
    assert!(
        said.iter().any(|said| said.contains("max_connections")),
        "{said:?}"
    );
    assert!(
        said.iter()
            .any(|said| said.contains(":7: source.ack: found \"spooled\"")),
        "{said:?}"
    );
    let said = mistakes(&kpl("ack = 'stored'", "").replace("'kpl'", "'newline'"));
    assert!(
        said[0].contains("ack: found without framing = \"kpl\""),
        "{said:?}"
    );
}
