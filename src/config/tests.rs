use std::collections::BTreeMap;

use proptest::prelude::*;

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
    assert_eq!(settings.streams[0].encryption.context["host"], "box");
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
fn every_mistake_is_reported_at_once() {
    let text = "\
memory_limt = '64MiB'
state_dir = 'state'
[aws]
region = 'Ireland'
[[source]]
type = 'file'
include = [
  '/var/log/*.log',
  'relative/*.log',
]
path = '/run/x'
[encryption]
scope = 'block'
[aggregation]
linger = 100
[delivery]
retry = { initial = '1m', max = '1s' }
";
    assert_eq!(
        mistakes(text),
        [
            "f:1: memory_limt: unknown key; did you mean `memory_limit`?",
            "f:2: state_dir: found \"state\"; allowed: an absolute path, like \"/var/lib/kinseal\"",
            "f:4: aws.region: found \"Ireland\"; allowed: the code of a region, like \"eu-west-1\"",
            "f:5: source.stream: not given; allowed: the name or ARN of the stream that the records go to",
            "f:9: source.include: found \"relative/*.log\"; allowed: an absolute glob, like \"/var/log/shop/*.log\"",
            "f:11: source.path: not a key of this table; it belongs in a [[source]] of type = \"unix\" or \"unix_datagram\"",
            "f:13: encryption.kms_key: not given; allowed: kms_key or wrapping_key_file, which scope = \"block\" needs",
            "f:15: aggregation.linger: found 100; allowed: a time with its unit, like \"100ms\" or \"5m\", from 0ms to 1h",
            "f:17: delivery.retry.initial: found 1m; allowed: up to delivery.retry.max, which is 1s",
        ]
    );
}

/// What is wrong, after [`GOOD`], and the one line that says so. `GOOD` has six lines.
const AFTER_GOOD: &[(&str, &str)] = &[
    (
        "[aggregation]\nlingr = '1s'",
        "f:8: aggregation.lingr: unknown key; did you mean `linger`?",
    ),
    (
        "[agregation]",
        "f:7: agregation: unknown key; did you mean `aggregation`?",
    ),
    (
        "[aws]\nmemory_limit = 1",
        "f:8: aws.memory_limit: not a key of this table; it belongs at the top, before the first [table]",
    ),
    (
        "[delivery]\nlinger = '1s'",
        "f:8: delivery.linger: not a key of this table; it belongs in [aggregation]",
    ),
    (
        "[metrics]\n\"a\\nb\" = 1",
        "f:8: metrics.\"a\\nb\": unknown key; allowed here: log_interval",
    ),
    (
        "[aggregation]\nenabled = 'yes'",
        "f:8: aggregation.enabled: found \"yes\"; allowed: true or false",
    ),
    (
        "[aggregation]\nmax_size = '2MiB'",
        "f:8: aggregation.max_size: found 2MiB; allowed: up to batch.max_record_bytes, which is 1MiB",
    ),
    (
        "[aggregation]\nmax_size = 1.5",
        "f:8: aggregation.max_size: found 1.5; allowed: a number of bytes, like 65536 or \"64KiB\", from 64B to 10MiB",
    ),
    (
        "[aggregation]\nmax_size = -1",
        "f:8: aggregation.max_size: found -1; allowed: a number of bytes, like 65536 or \"64KiB\", from 64B to 10MiB",
    ),
    (
        "[aggregation]\nmax_count = 0",
        "f:8: aggregation.max_count: found 0; allowed: a whole number from 1 to 131072",
    ),
    (
        "[aggregation]\ncontainer_key = 'a'",
        "f:8: aggregation.container_key: found \"a\"; allowed: \"spread\" or \"kpl\"",
    ),
    (
        "[batch]\nmax_records = 501",
        "f:8: batch.max_records: found 501; allowed: a whole number from 1 to 500",
    ),
    ("[batch]\nmax_records = '5'", ""),
    (
        "[batch]\nmax_records = 'x${A}'",
        "f:8: batch.max_records: found \"x1\" (from \"x${A}\"); allowed: a whole number from 1 to 500",
    ),
    (
        "[batch]\nmax_bytes = '11MiB'",
        "f:8: batch.max_bytes: found \"11MiB\"; allowed: a number of bytes, like 65536 or \"64KiB\", from 1KiB to 10MiB",
    ),
    (
        "[batch]\nmax_bytes = '512KiB'",
        "f:8: batch.max_bytes: found 512KiB; allowed: at least batch.max_record_bytes, which is 1MiB",
    ),
    (
        "[batch]\nmax_record_bytes = '40KiB'",
        "f:8: batch.max_record_bytes: found 40KiB; allowed: at least aggregation.max_size, which is 50KiB",
    ),
    (
        "[batch]\nmax_record_bytes = '40KiB'\n[aggregation]\nenabled = false",
        "",
    ),
    (
        "[batch]\nmax_bytes = '10MiB'\nmax_record_bytes = '10MiB'",
        "",
    ),
    (
        "[delivery]\nmax_in_flight = 0",
        "f:8: delivery.max_in_flight: found 0; allowed: a whole number from 1 to 1024",
    ),
    (
        "[delivery]\nrate_limit = 0",
        "f:8: delivery.rate_limit: found 0; allowed: a whole number from 1 to 1000000",
    ),
    (
        "[delivery]\nrate_limit = 1000001",
        "f:8: delivery.rate_limit: found 1000001; allowed: a whole number from 1 to 1000000",
    ),
    ("[delivery]\nrate_limit = 1000000", ""),
    (
        "[delivery]\nordering = 'partition-key'",
        "f:8: delivery.ordering: found \"partition-key\"; allowed: \"none\" or \"partition_key\"; did you mean \"partition_key\"?",
    ),
    (
        "[delivery]\nrequest_timeout = 'none'",
        "f:8: delivery.request_timeout: found \"none\"; allowed: a time with its unit, like \"100ms\" or \"5m\", from 100ms to 10m",
    ),
    (
        "[delivery]\nrecord_ttl = 'never'",
        "f:8: delivery.record_ttl: found \"never\"; allowed: \"none\", or a time with its unit, like \"100ms\" or \"5m\", from 100ms to 365d",
    ),
    (
        "[delivery]\nrecord_ttl = '1s'\n[aggregation]\nlinger = '2s'",
        "f:10: aggregation.linger: found 2s; allowed: up to delivery.record_ttl, which is 1s",
    ),
    (
        "[metrics]\nlog_interval = '${NO}'",
        "f:8: metrics.log_interval: found ${NO}, which the environment does not have; set it, or give a default: ${NO:-…}",
    ),
    (
        "metrics = 5",
        "f:7: encryption.metrics: unknown key; allowed here: preset, scope, kms_key, wrapping_key_file, context, cache, suite, frame_length, encoding, backend, lanes, compatibility, block",
    ),
    (
        "[aws]\nendpoint_url = '127.0.0.1:4567'",
        "f:8: aws.endpoint_url: found \"127.0.0.1:4567\"; allowed: http:// or https:// with a host, like \"http://127.0.0.1:4567\"",
    ),
    (
        "[aws]\nendpoint_url = 'http://a'\nkms_endpoint_url = 'http://b'",
        "f:9: aws.kms_endpoint_url: found beside endpoint_url; allowed: endpoint_url for both services, or one URL for each",
    ),
    (
        "[aws]\nexternal_id = 'abc'",
        "f:8: aws.external_id: found without assume_role_arn; allowed: together with it",
    ),
    (
        "[aws]\nassume_role_arn = 'arn:aws:iam::1:role/x'",
        "f:8: aws.assume_role_arn: found \"arn:aws:iam::1:role/x\"; allowed: the ARN of a role, like \"arn:aws:iam::111122223333:role/NAME\"",
    ),
    (
        "[[source]]\ntype = 'stdin'\nstream = 's'",
        "f:7: source: found standard input again, as on line 1; allowed: one source",
    ),
    (
        "[[source]]\ntype = 'fiel'\nstream = 's'",
        "f:8: source.type: found \"fiel\"; allowed: \"file\" or \"unix\" or \"unix_datagram\" or \"stdin\"; did you mean \"file\"?",
    ),
    (
        "[[source]]\ntype = 'file'\nstream = 's'\ninclude = '/x'",
        "f:10: source.include: found \"/x\"; allowed: a list of absolute globs, like [\"/var/log/shop/*.log\"]",
    ),
    (
        "[[source]]\ntype = 'file'\nstream = 's'\ninclude = []",
        "f:10: source.include: found an empty list; allowed: a list of absolute globs, like [\"/var/log/shop/*.log\"]",
    ),
    (
        "[[source]]\ntype = 'file'\nstream = 's'\ninclude = ['/x[']",
        "f:10: source.include: found \"/x[\"; allowed: an absolute glob, and in this one there is an unclosed character class; missing ']'",
    ),
    (
        "[[source]]\ntype = 'unix'\nstream = 's'",
        "f:7: source.path: not given; allowed: the absolute path of a socket, like \"/run/kinseal/shop.sock\", or a name without a file, like \"@shop\", up to 107 bytes; or \"systemd:NAME\"",
    ),
    (
        "[[source]]\ntype = 'unix'\nstrem = 's'\npath = '/x'",
        "f:9: source.strem: unknown key; did you mean `stream`?",
    ),
    (
        "[[source]]\ntype = 'unix'\nstream = 'a b'\npath = '/x'",
        "f:9: source.stream: found \"a b\"; allowed: a stream's name of 1 to 128 letters, digits, '_', '.' or '-', or its ARN, like \"arn:aws:kinesis:eu-west-1:111122223333:stream/NAME\"",
    ),
    (
        "[aws]\nregion = 'eu-west-1'\n[[source]]\ntype = 'unix'\npath = '/x'\nstream = 'arn:aws:kinesis:eu-west-2:111122223333:stream/x'",
        "f:12: source.stream: found a stream in \"eu-west-2\"; allowed: streams in aws.region, which is \"eu-west-1\"",
    ),
    (
        "[[stream]]\nname = 't'",
        "f:8: stream.name: found \"t\", which no [[source]] sends to; allowed: \"s\"",
    ),
    (
        "[[stream]]\nname = 's'\n[[stream]]\nname = 's'",
        "f:10: stream.name: found \"s\" again, as on line 8; allowed: one [[stream]] each",
    ),
    (
        "[[stream]]\nbatch.max_records = 7",
        "f:7: stream.name: not given; allowed: the name or ARN of a stream, as a [[source]] has it",
    ),
    (
        "[[stream]]\nname = 's'\naggregation.max_size = '2MiB'",
        "f:9: stream.aggregation.max_size: found 2MiB; allowed: up to batch.max_record_bytes, which is 1MiB",
    ),
    (
        "[aggregation]\nmax_size = '500KiB'\n[[stream]]\nname = 's'\nbatch.max_record_bytes = '400KiB'",
        "f:11: stream.batch.max_record_bytes: found 400KiB; allowed: at least aggregation.max_size, which is 500KiB",
    ),
    (
        "[[stream]]\nname = 's'\n[stream.aws]\nregion = 'eu-west-1'",
        "f:9: stream.aws: unknown key; allowed here: name, encryption, aggregation, batch, delivery",
    ),
];

#[test]
fn each_mistake_has_its_line() {
    for (text, expected) in AFTER_GOOD {
        let text = format!("{GOOD}{text}");
        match parse("f", &text, &Fixed(&[("A", "1")])) {
            Ok(_) => assert_eq!(*expected, "", "{text}"),
            Err(mistakes) => assert_eq!(mistakes.to_string(), *expected, "{text}"),
        }
    }
}

/// Whole files, and what is wrong with them.
const WHOLE: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "f:1: encryption: not given; allowed: an [encryption] table; plaintext is only sent when scope = \"off\" says so",
            "f:1: source: not given; allowed: one [[source]] or more, each with type, stream, and what its type needs",
        ],
    ),
    (
        "[encryption]\nscope = 'off'\n\n[source]\n",
        &["f:4: source: found a table; allowed: tables, [[source]]"],
    ),
    (
        "source = []\nencryption.scope = 'off'",
        &["f:1: source: found an empty list; allowed: one [[source]] or more"],
    ),
    (
        "source = [{ type = 'stdin', stream = 's' }]\nencryption.scope = 'off'",
        &[],
    ),
    (
        "source = [1]\nencryption.scope = 'off'",
        &["f:1: source: found a list; allowed: tables, [[source]]"],
    ),
    (
        "[[source]]\ntype = 'stdin'\nstream = 's'\n[encrption]\nscope = 'off'",
        &["f:4: encrption: unknown key; did you mean `encryption`?"],
    ),
    (
        "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\n",
        &[
            "f:4: encryption.scope: not given; allowed: \"record\", \"block\" or \"off\"; plaintext is only sent when scope = \"off\" says so",
        ],
    ),
    (
        "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\nscope = 'record'",
        &[
            "f:5: encryption.kms_key: not given; allowed: kms_key or wrapping_key_file, which scope = \"record\" needs",
        ],
    ),
    (
        "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\nscope = 'record'\nkms_kye = 'alias/x'",
        &["f:6: encryption.kms_kye: unknown key; did you mean `kms_key`?"],
    ),
    (
        "a = 1\nb = = 2",
        &["f:2: not TOML: extra `=`, expected nothing"],
    ),
    (
        "a = 1\n[aws]\na = 'x\n",
        &["f:3: not TOML: invalid literal string, expected `'`"],
    ),
    ("a = 1\na = 2", &["f:2: not TOML: duplicate key"]),
];

#[test]
fn whole_files_are_judged() {
    for (text, expected) in WHOLE {
        let found = match parse("f", text, &Fixed(&[])) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
        };
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn encryption_is_checked_with_care() {
    let long = "x".repeat(65_000);
    for (rest, expected) in [
        (
            "kms_key = 'shop'".to_owned(),
            "f:6: encryption.kms_key: found \"shop\"; allowed: a key of KMS by id, ARN or alias, like \"alias/shop\" or \"arn:aws:kms:eu-west-1:111122223333:key/…\"; did you mean \"alias/shop\"?",
        ),
        (
            "kms_key = 'alias/a'\nwrapping_key_file = '/k'".into(),
            "f:7: encryption.wrapping_key_file: found beside kms_key; allowed: one of the two",
        ),
        (
            "kms_key = 'alias/a'\ncache.max_messages = 4294967297".into(),
            "f:7: encryption.cache.max_messages: found 4294967297; allowed: a whole number from 1 to 4294967296",
        ),
        (
            "kms_key = 'alias/a'\ncache.max_bytes = 1024".into(),
            "f:7: encryption.cache.max_bytes: found 1KiB; allowed: at least batch.max_record_bytes, which is 1MiB",
        ),
        (
            "kms_key = 'alias/a'\ncontext = { aws-crypto-x = '' }".into(),
            "f:7: encryption.context.aws-crypto-x: found the key \"aws-crypto-x\"; allowed: keys of at least 1 character that do not begin with \"aws-crypto-\" or \"kinseal-\"",
        ),
        (
            "kms_key = 'alias/a'\ncontext.n = 5".into(),
            "f:7: encryption.context.n: found 5; allowed: strings by name, like { app = \"shop\" }",
        ),
        (
            format!("kms_key = 'alias/a'\ncontext = {{ a = '{long}', b = '{long}' }}"),
            "f:7: encryption.context: found 130012 bytes; allowed: up to 65535 bytes with their lengths",
        ),
    ] {
        let text = format!(
            "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\nscope = 'record'\n{rest}"
        );
        assert_eq!(mistakes(&text), [expected], "{rest}");
    }
}

#[test]
fn memory_holds_the_largest_record_at_its_worst() {
    let text = format!("memory_limit = '1MiB'\n{GOOD}");
    let [line] = &mistakes(&text)[..] else {
        panic!("one line")
    };
    assert!(
        line.starts_with("f:1: memory_limit: found 1MiB; allowed: at least 8MiB, because"),
        "{line}"
    );
    let text = format!(
        "memory_limit = '32MiB'\n{GOOD}[batch]\nmax_bytes = '10MiB'\nmax_record_bytes = '10MiB'"
    );
    let [line] = &mistakes(&text)[..] else {
        panic!("one line")
    };
    assert!(
        line.starts_with("f:1: memory_limit: found 32MiB; allowed: at least 40MiB"),
        "{line}"
    );
}

#[test]
fn what_two_streams_inherit_is_said_once() {
    let text = format!(
        "{GOOD}[[source]]\ntype='unix'\npath='/x'\nstream='t'\n[aggregation]\nmax_size='2MiB'"
    );
    assert_eq!(mistakes(&text).len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no.toml");
    let error = load(&path, &Fixed(&[])).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}: cannot be read: ", path.display())),
        "{error}"
    );
    assert!(
        error.ends_with("; give the path of a configuration that exists"),
        "{error}"
    );
    std::fs::write(&path, b"\xff").unwrap();
    let error = load(&path, &Fixed(&[])).unwrap_err().to_string();
    assert!(
        error.ends_with("is not UTF-8; a configuration is a TOML file"),
        "{error}"
    );
}

/// Lines of the annotated file that set a key or open a table, from 1.
fn lines_with_keys() -> Vec<usize> {
    let has_key =
        |line: &str| line.starts_with('[') || line.starts_with(|c: char| c.is_ascii_lowercase());
    AGENT
        .lines()
        .enumerate()
        .filter(|(_, line)| has_key(line))
        .map(|(i, _)| i + 1)
        .collect()
}

proptest! {
    #[test]
    fn a_misspelt_key_is_reported_with_its_line(
        line in prop::sample::select(lines_with_keys()),
        at in any::<prop::sample::Index>(),
        letter in "[a-z]",
        replace in any::<bool>(),
    ) {
        let mut lines: Vec<String> = AGENT.lines().map(str::to_owned).collect();
        let text = &mut lines[line - 1];
        let start = text.len() - text.trim_start_matches('[').len();
        let end = text.find([' ', ']']).unwrap();
        let at = start + at.index(end - start);
        let before = text.clone();
        text.replace_range(at..at + usize::from(replace), &letter);
        prop_assume!(*text != before);
        let mistakes = parse("f", &lines.join("\n"), &Fixed(&[])).unwrap_err();
        prop_assert!(mistakes.iter().any(|m| m.line == line && m.text.contains("key")), "{mistakes}");
    }

    #[test]
    fn arbitrary_text_is_an_answer_in_lines(text in "(?s).{0,200}") {
        one_line_each(&text)?;
    }

    #[test]
    fn a_damaged_file_is_an_answer_in_lines(
        from in any::<prop::sample::Index>(),
        len in 0usize..40,
        instead in "(?s)[\\[\\]{}=,.'\"#\n a-z0-9$]{0,12}",
    ) {
        let chars: Vec<char> = AGENT.chars().collect();
        let from = from.index(chars.len());
        let to = (from + len).min(chars.len());
        let text: String = chars[..from].iter().copied().chain(instead.chars()).chain(chars[to..].iter().copied()).collect();
        one_line_each(&text)?;
    }
}

fn one_line_each(text: &str) -> Result<(), TestCaseError> {
    if let Err(mistakes) = parse("f", text, &Fixed(&[])) {
        prop_assert!(mistakes.iter().count() > 0);
        prop_assert_eq!(
            mistakes.to_string().lines().count(),
            mistakes.iter().count()
        );
    }
    Ok(())
}

/// One that goes on for ever was once read for ever.
#[test]
fn only_a_regular_file_of_some_size_is_a_configuration() {
    for path in ["/dev/zero", "/tmp"] {
        let error = load(Path::new(path), &Fixed(&[])).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len(LARGEST_FILE + 1).unwrap();
    let error = load(large.path(), &Fixed(&[])).unwrap_err().to_string();
    assert!(error.contains("no configuration"), "{error}");
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
