//! What is wrong with a file is said, all at once and with its line.

use super::*;

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
        "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\nscope = 'recrd'",
        &[
            "f:5: encryption.scope: found \"recrd\"; allowed: \"record\" or \"block\" or \"off\"; did you mean \"record\"?",
        ],
    ),
    (
        "[[source]]\ntype = 'stdin'\nstream = 's'\n[encryption]\n",
        &[
            "f:4: encryption.scope: not given; allowed: \"record\" or \"block\" or \"off\"; plaintext is only sent when scope = \"off\" says so",
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
