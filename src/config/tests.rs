//! A text becomes settings, or mistakes.

mod hostile;
mod mistakes;

use std::collections::BTreeMap;

use super::environment::tests::Fixed;
use std::path::PathBuf;

use super::*;
use crate::record::StreamName;
use crate::seal::{CacheSettings, KeyChoice, Scope, message};
use crate::source::tail;
use crate::{deadletter, seal, send};

const AGENT: &str = include_str!("../../config/agent.toml");
const DAEMON: &str = include_str!("../../config/kpl-daemon.toml");
const DEMO: &str = include_str!("../../config/demo.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");

/// A source and an encryption, so that a test can be about something else. 6 lines.
const GOOD: &str = "\
[[source]]
type = 'stdin'
stream = 's'
[encryption]
scope = 'record'
kms_key = 'alias/shop'
";

pub(super) fn good(text: &str) -> Settings {
    match parse("f", text, &Fixed(&[("A", "1")])) {
        Ok(settings) => settings,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

pub(super) fn mistakes(text: &str) -> Vec<String> {
    let mistakes = parse("f", text, &Fixed(&[("A", "1"), ("WORD", "x")])).unwrap_err();
    mistakes.to_string().lines().map(str::to_owned).collect()
}

fn defaults() -> Settings {
    let name = StreamName::new("shop-logs").unwrap();
    let kind = SourceKind::File(tail::Settings {
        include: vec!["/var/log/shop/*.log".into()],
        ..tail::Settings::default()
    });
    let encryption = seal::Settings {
        scope: Scope::Record(KeyChoice::Kms(vec!["alias/shop".into()])),
        context: BTreeMap::new(),
        cache: CacheSettings::default(),
        message: message::Settings::default(),
    };
    let aws = aws::Settings::default();
    Settings::for_one(
        name,
        kind,
        encryption,
        aws,
        crate::statedir::OF_THE_SYSTEM.into(),
    )
}

#[test]
fn the_annotated_file_says_exactly_the_defaults() {
    assert_eq!(good(AGENT), defaults());
}

#[test]
fn the_daemons_file_says_the_defaults_and_how_records_are_encrypted() {
    let encryption = defaults().streams.remove(0).encryption;
    let settings = DaemonSettings::parse("f", DAEMON, &Fixed(&[])).unwrap();
    let expected = DaemonSettings {
        encryption,
        ..DaemonSettings::of_no_file()
    };
    assert_eq!(settings, expected);
    // As it would be without its comments.
    let uncommented = DAEMON
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with('[') || key.contains(" = ") && !key.contains("  ") => key,
            _ => line,
        })
        .filter(|line| !line.starts_with("sync_interval"))
        .collect::<Vec<_>>();
    let settings = DaemonSettings::parse("f", &uncommented.join("\n"), &Fixed(&[])).unwrap();
    let spool = settings.spool.unwrap();
    let default =
        crate::spool::Settings::under(std::path::Path::new("/var/lib/kinseal/kpl-daemon"));
    assert_eq!(spool.spool, default.clone());
    assert_eq!(spool.dead_letter, deadletter::Settings::default());
    assert_eq!(
        settings.memory_limit,
        Some(crate::daemon::Start::MEMORY_LIMIT)
    );
    assert!(settings.admin.is_some());
}

#[test]
fn the_minimal_file_means_the_same() {
    assert_eq!(good(MINIMAL), defaults());
}

#[test]
fn the_demo_file_points_at_the_stand_ins() {
    let settings = good(DEMO);
    let url = Some("http://127.0.0.1:4567".to_owned());
    assert_eq!(settings.aws.kinesis_endpoint_url, url);
    assert_eq!(settings.aws.kms_endpoint_url, url);
    assert_eq!(settings.state_dir, PathBuf::from("/tmp/kinseal-demo/state"));
    assert_eq!(settings.streams[0].encryption.context["app"], "shop");
}

#[test]
fn dead_letters_have_a_cap_and_block_at_it_unless_told_to_drop() {
    assert_eq!(good(GOOD).dead_letter, deadletter::Settings::default());
    let own = good(&format!(
        "{GOOD}\n[dead_letter]\nmax_file_size = '1MiB'\nmax_total_size = '2MiB'\nwhen_full = 'drop_oldest'"
    ));
    let expected = deadletter::Settings {
        max_file_size: 1 << 20,
        max_total_size: 2 << 20,
        when_full: deadletter::WhenFull::DropOldest,
    };
    assert_eq!(own.dead_letter, expected);
    let said = mistakes(
        "[dead_letter]\nmax_file_size = '2GiB'\nwhen_full = 'drop'\n[encryption]\nscope = 'off'",
    );
    let expected = [
        "f:2: dead_letter.max_file_size: found 2GiB; allowed: up to dead_letter.max_total_size, which is 1GiB",
        "f:3: dead_letter.when_full: found \"drop\"; allowed: \"block\" or \"drop_oldest\"",
    ];
    for expected in expected {
        assert!(said.iter().any(|said| said == expected), "{said:#?}");
    }
}

#[test]
fn core_dumps_are_off_unless_the_file_says_otherwise() {
    assert!(!good(GOOD).core_dumps);
    assert!(good(&format!("core_dumps = true\n{GOOD}")).core_dumps);
    let said = mistakes(&format!("core_dumps = 'maybe'\n{GOOD}"));
    let expected = "f:1: core_dumps: found \"maybe\"; allowed: true or false";
    assert_eq!(said, [expected]);
}

#[test]
fn a_key_in_the_place_of_its_file_is_not_shown() {
    let key = "9f3ab5d2c8e17460a1b2c3d4e5f60718";
    let said = mistakes(&GOOD.replace(
        "kms_key = 'alias/shop'",
        &format!("wrapping_key_file = '{key}'"),
    ));
    let expected = "f:6: encryption.wrapping_key_file: found what looks like a key; allowed: ";
    assert!(said[0].starts_with(expected), "{said:?}");
    assert!(!said.concat().contains(&key[..8]), "{said:?}");
}

#[test]
fn every_commented_key_of_the_annotated_file_is_known() {
    // Uncommented one at a time: some exclude one another. What is wrong then is never the key itself.
    let agent = ["[spool]", "[admin]"]
        .into_iter()
        .fold(AGENT.to_owned(), |agent, table| {
            agent.replace(&format!("# {table}"), table)
        });
    for (i, line) in agent.lines().enumerate() {
        let Some(bare) = line.strip_prefix("# ") else {
            continue;
        };
        if !bare
            .split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        {
            continue;
        }
        let text: Vec<&str> = agent
            .lines()
            .enumerate()
            .map(|(j, line)| if i == j { bare } else { line })
            .collect();
        if let Err(mistakes) = parse("f", &text.join("\n"), &Fixed(&[])) {
            let mistakes = mistakes.to_string();
            let of_another_kind = [
                "path = ",
                "name = ",
                "kms_key = \"alias/audit",
                "ordering = \"part",
            ];
            let elsewhere = of_another_kind.iter().any(|start| bare.starts_with(start));
            assert!(
                elsewhere || !mistakes.contains("unknown key"),
                "{bare}\n{mistakes}"
            );
        }
    }
}

#[test]
fn a_streams_own_table_is_laid_over_the_others_key_by_key() {
    let settings = good(
        "
        [[source]]
        type = 'stdin'
        stream = 'a'
        [[source]]
        type = 'unix'
        path = '/run/x'
        stream = 'b'
        partition_key = { constant = 'k' }
        [encryption]
        scope = 'record'
        kms_key = 'alias/shop'
        context = { app = 'shop', a = '${A}' }
        cache = { max_messages = 7 }
        [delivery]
        retry.max = '3s'
        [[stream]]
        name = 'b'
        encryption.wrapping_key_file = '/etc/key'
        encryption.cache.max_age = '1h'
        [stream.delivery]
        ordering = 'partition_key'
        record_ttl = '5m'
        retry = { initial = '2s' }
        [stream.encryption.context]
        app = 'other'
        [stream.batch]
        max_bytes = '10MiB'
        ",
    );
    let [a, b] = &settings.streams[..] else {
        panic!("two streams")
    };
    assert_eq!(
        a.encryption.scope,
        Scope::Record(KeyChoice::Kms(vec!["alias/shop".into()]))
    );
    assert_eq!(a.encryption.context.len(), 2);
    assert_eq!(a.encryption.cache.max_age, Duration::from_secs(300));
    assert_eq!(
        (a.delivery.ordering, a.delivery.record_ttl),
        (send::Ordering::None, None)
    );

    assert_eq!(
        b.encryption.scope,
        Scope::Record(KeyChoice::WrappingKeyFile("/etc/key".into()))
    );
    assert_eq!(
        b.encryption.context,
        BTreeMap::from([("app".into(), "other".into())])
    );
    assert_eq!(b.encryption.cache.max_age, Duration::from_secs(3600));
    assert_eq!(b.encryption.cache.max_messages, 7);
    assert_eq!(b.delivery.ordering, send::Ordering::PartitionKey);
    assert_eq!(b.delivery.record_ttl, Some(Duration::from_secs(300)));
    assert_eq!(b.delivery.retry.initial, Duration::from_secs(2));
    assert_eq!(b.delivery.retry.max, Duration::from_secs(3));
    assert_eq!(
        (a.batch.max_bytes, b.batch.max_bytes),
        (None, Some(10 << 20))
    );
    let constant = crate::record::PartitionKey::new("k").unwrap();
    assert_eq!(
        settings.sources[1].partition_key,
        PartitionKeyRule::Constant(constant)
    );
}

#[test]
fn encryption_may_be_said_for_each_stream_alone() {
    let settings =
        good("[[source]]\ntype='stdin'\nstream='s'\n[[stream]]\nname='s'\nencryption.scope='off'");
    assert_eq!(settings.streams[0].encryption.scope, Scope::Off);
}

#[test]
fn the_spool_is_what_the_annotated_configuration_says_once_its_table_is_there() {
    assert_eq!(good(AGENT).spool, None);
    let (before, rest) = AGENT.split_once("# [spool]").expect("the table");
    let (table, after) = rest.split_once("\n\n").expect("its end");
    let keys = ["path", "max_bytes", "sync", "mode"];
    let given = |line: &&str| {
        keys.iter()
            .any(|key| line.starts_with(&format!("# {key} =")))
    };
    let given: Vec<_> = table.lines().filter(given).map(|line| &line[2..]).collect();
    let settings = good(&format!("{before}[spool]\n{}\n{after}", given.join("\n")));
    let state_dir = settings.state_dir.clone();
    assert_eq!(
        settings.spool,
        Some(crate::spool::Settings::under(&state_dir))
    );
    assert_eq!(good(&format!("{GOOD}[spool]")).spool, settings.spool);

    let interval = "[spool]\nsync = 'interval'\nsync_interval = '200ms'\nmode = 'memory_first'";
    let spool = good(&format!("{GOOD}{interval}")).spool.unwrap();
    assert_eq!(
        spool.sync,
        crate::spool::Sync::Interval(Duration::from_millis(200))
    );
    assert_eq!(spool.mode, crate::spool::Mode::MemoryFirst);
    assert_eq!(
        mistakes(&format!(
            "{GOOD}[spool]\nsync_interval = '1s'\nmax_bytes = '1MiB'"
        ))[..2],
        [
            "f:8: spool.sync_interval: found without sync = \"interval\"; allowed: together with it",
            "f:9: spool.max_bytes: found \"1MiB\"; allowed: a number of bytes, like 65536 or \"64KiB\", \
             from 32MiB to 1024TiB",
        ]
    );
}
