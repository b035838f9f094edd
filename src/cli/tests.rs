use std::path::Path;
use std::time::Duration;

use super::agent::AgentArgs;
use super::consume::ConsumeArgs;
use super::*;
use crate::config::{Environment, Settings, SourceKind};
use crate::record::StreamName;
use crate::seal::{self, CacheSettings, EncryptionContext, KeyChoice, Scope, block, message};
use crate::source::stdin;
use crate::source::tail::{self, StartPosition};
use crate::{aws, batch};

struct Nothing;

impl Environment for Nothing {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn hostname(&self) -> Option<String> {
        Some("box".into())
    }
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("kinseal").chain(line.split_whitespace());
    Cli::parse_args(words.map(OsString::from))
}

fn agent(line: &str) -> AgentArgs {
    match parse(line).unwrap_or_else(|e| panic!("{e}")).command {
        Command::Agent(args) => args,
        other => panic!("{other:?}"),
    }
}

fn consume(line: &str) -> ConsumeArgs {
    match parse(line).unwrap_or_else(|e| panic!("{e}")).command {
        Command::Consume(args) => args,
        other => panic!("{other:?}"),
    }
}

fn config_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_definition_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn core_dumps_are_allowed_by_the_flag_or_by_the_configuration() {
    let silent = agent("agent --stream s --stdin --encryption off").core_dumps;
    let asked = agent("agent --config f --core-dumps").core_dumps;
    assert!(!silent.or(false).allowed);
    assert!(silent.or(true).allowed && asked.or(false).allowed);
    assert!(
        consume("consume --stream s --core-dumps")
            .core_dumps
            .allowed
    );
}

#[test]
fn the_agents_flags_are_a_configuration() {
    let settings = agent(
        "agent --stream shop-logs --stdin --kms-key alias/shop --context app=shop --context eq=a=b
         --region eu-west-1 --profile p --endpoint-url http://127.0.0.1:4567 --state-dir /state",
    )
    .settings(&Nothing)
    .unwrap();
    let stream = StreamName::new("shop-logs").unwrap();
    let encryption = seal::Settings {
        scope: Scope::Record(KeyChoice::Kms(vec!["alias/shop".into()])),
        context: EncryptionContext::from([
            ("app".into(), "shop".into()),
            ("eq".into(), "a=b".into()),
        ]),
        cache: CacheSettings::default(),
        message: message::Settings::default(),
    };
    let url = Some("http://127.0.0.1:4567".to_owned());
    let aws = aws::Settings {
        region: Some("eu-west-1".into()),
        profile: Some("p".into()),
        kinesis_endpoint_url: url.clone(),
        kms_endpoint_url: url,
        ..aws::Settings::default()
    };
    let expected = Settings::for_one(
        stream,
        SourceKind::Stdin(stdin::Settings::default()),
        encryption,
        aws,
        "/state".into(),
    );
    assert_eq!(settings, expected);
    assert_eq!(settings.streams[0].batch, batch::Settings::default());
}

#[test]
fn a_preset_and_several_keys_fit_on_a_command_line() {
    let line = "agent --stream s --stdin --kms-key alias/a --kms-key alias/b --preset compact";
    let settings = agent(line).settings(&Nothing).unwrap();
    let keys = KeyChoice::Kms(vec!["alias/a".into(), "alias/b".into()]);
    assert_eq!(
        settings.streams[0].encryption.scope,
        Scope::Block(keys, block::Settings::compact())
    );
    let line = "agent --stream s --stdin --kms-key alias/a --kms-key alias/a";
    assert_eq!(
        agent(line).settings(&Nothing).unwrap_err().to_string(),
        "--kms-key: found \"alias/a\" twice; allowed: each key once"
    );
}

#[test]
fn kms_may_answer_elsewhere() {
    let line = "agent --stream s --stdin --encryption off --endpoint-url http://a --kms-endpoint-url http://b";
    let aws = agent(line).settings(&Nothing).unwrap().aws;
    assert_eq!(aws.kinesis_endpoint_url.as_deref(), Some("http://a"));
    assert_eq!(aws.kms_endpoint_url.as_deref(), Some("http://b"));
}

#[test]
fn files_are_meant_by_name_and_others_are_globs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    std::fs::write(format!("{dir}/a[1].log"), "").unwrap();
    let line = format!(
        "agent --stream s --encryption off --start-position beginning --file {dir}/a[1].log {dir}/*.txt"
    );
    let settings = agent(&line).settings(&Nothing).unwrap();
    let SourceKind::File(tail::Settings {
        include,
        start_position,
        ..
    }) = &settings.sources[0].kind
    else {
        panic!("{settings:?}")
    };
    assert_eq!(
        *include,
        [format!("{dir}/a[[]1[]].log"), format!("{dir}/*.txt")]
    );
    assert_eq!(*start_position, StartPosition::Beginning);
    assert_eq!(settings.streams[0].encryption.scope, Scope::Off);
}

#[test]
fn relative_paths_are_from_the_working_directory() {
    let here = std::env::current_dir().unwrap();
    let line = "agent --stream s --wrapping-key key.bin --file src/*.nothing --state-dir state";
    let settings = agent(line).settings(&Nothing).unwrap();
    let SourceKind::File(files) = &settings.sources[0].kind else {
        panic!("{settings:?}")
    };
    let here_as_glob = globset::escape(here.to_str().unwrap());
    assert_eq!(files.include, [format!("{here_as_glob}/src/*.nothing")]);
    assert_eq!(settings.state_dir, here.join("state"));
    let key = KeyChoice::WrappingKeyFile(here.join("key.bin"));
    assert_eq!(settings.streams[0].encryption.scope, Scope::Record(key));
}

#[test]
fn a_file_that_is_not_there_is_said_at_the_start() {
    for (file, expected) in [
        (
            "/no/such.log",
            "--file /no/such.log: no such file; make it first, or give a quoted glob that will match it",
        ),
        (
            "/",
            "--file /: a directory; give the files in it, like --file '/*.log'",
        ),
    ] {
        let args = agent(&format!("agent --stream s --encryption off --file {file}"));
        assert_eq!(args.settings(&Nothing).unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_agent_takes_a_file_instead() {
    let args = agent(&format!(
        "agent --config {} --grace 5s",
        config_file("minimal.toml")
    ));
    assert_eq!(args.grace, Duration::from_secs(5));
    let settings = args.settings(&Nothing).unwrap();
    assert_eq!(settings.streams[0].name.name(), "shop-logs");
    let error = agent("agent --config /no/such.toml")
        .settings(&Nothing)
        .unwrap_err();
    assert!(error.downcast_ref::<Mistakes>().is_some());
}

#[test]
fn the_grace_period_has_a_default() {
    assert_eq!(agent("agent --config x").grace, Duration::from_secs(30));
}

#[test]
fn a_reader_takes_its_keys_from_both() {
    let file = config_file("demo.toml");
    let line = format!(
        "consume --stream shop-logs --config {file} --kms-key alias/old --context app=other --region eu-west-2"
    );
    let request = consume(&line).request(&Nothing).unwrap();
    assert_eq!(
        request.keys,
        [
            KeyChoice::Kms(vec!["alias/shop".into()]),
            KeyChoice::Kms(vec!["alias/old".into()])
        ]
    );
    assert_eq!(request.context["app"], "other");
    assert_eq!(request.aws.region.as_deref(), Some("eu-west-2"));
    assert_eq!(
        request.aws.kinesis_endpoint_url.as_deref(),
        Some("http://127.0.0.1:4567")
    );

    let error = consume(&format!("consume --stream t --config {file}"))
        .request(&Nothing)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("sends to t; give one of: shop-logs"),
        "{error}"
    );
}

/// What is wrong with a command line: its first line.
const BAD: &[(&str, &str)] = &[
    (
        "agnet",
        "unrecognized subcommand 'agnet'; a similar subcommand exists: 'agent'",
    ),
    (
        "agent",
        "the following required arguments were not provided: <--config <FILE>|--stream <STREAM>>",
    ),
    (
        "agent --stream s --stdin",
        "the following required arguments were not provided: <--kms-key <KEY>|--wrapping-key <FILE>|--encryption <off>>",
    ),
    (
        "consume --stream s --limit 0",
        "invalid value '0' for '--limit <NUMBER>': 0 is not in 1..18446744073709551615",
    ),
    (
        "agent --stream s --encryption off",
        "the following required arguments were not provided: <--file <PATH>...|--stdin>",
    ),
    (
        "agent --stream s --stdin --encryption on",
        "invalid value 'on' for '--encryption <off>'",
    ),
    (
        "agent --config f --stream s",
        "the argument '--config <FILE>' cannot be used with '--stream <STREAM>': with a configuration, it stands in that file",
    ),
    (
        "agent --config f --region eu-west-1",
        "the argument '--config <FILE>' cannot be used with '--region <REGION>': with a configuration, it stands in that file",
    ),
    (
        "agent --stream s --stdin --kms-key alias/a --encryption off",
        "the argument '--kms-key <KEY>' cannot be used with '--encryption <off>'",
    ),
    (
        "agent --stream s --stdin --file f --encryption off",
        "the argument '--stdin' cannot be used with '--file <PATH>...'",
    ),
    (
        "agent --stream a,b --stdin --encryption off",
        "invalid value 'a,b' for '--stream <STREAM>': allowed: a name of 1 to 128 letters, digits, '_', '.' or '-', or an ARN like arn:aws:kinesis:eu-west-1:111122223333:stream/NAME",
    ),
    (
        "agent --stream s --stdin --kms-key shop",
        "invalid value 'shop' for '--kms-key <KEY>': allowed: a key of KMS by id, ARN or alias, like \"alias/shop\" or \"arn:aws:kms:eu-west-1:111122223333:key/…\"; did you mean \"alias/shop\"?",
    ),
    (
        "agent --stream s --stdin --kms-key alias/a --context app",
        "invalid value 'app' for '--context <NAME=VALUE>': allowed: NAME=VALUE, like app=shop",
    ),
    (
        "agent --stream s --stdin --encryption off --context a=b",
        "the argument '--encryption <off>' cannot be used with '--context <NAME=VALUE>'",
    ),
    (
        "agent --stream s --stdin --kms-key alias/a --context kinseal-block=kpl",
        "invalid value 'kinseal-block=kpl' for '--context <NAME=VALUE>': allowed: keys of at least 1 character that do not begin with \"aws-crypto-\" or \"kinseal-\"",
    ),
    (
        "agent --stream s --stdin --encryption off --preset compact",
        "the argument '--encryption <off>' cannot be used with '--preset <compact>'",
    ),
    (
        "agent --stream s --stdin --kms-key alias/a --preset tiny",
        "invalid value 'tiny' for '--preset <compact>'",
    ),
    (
        "agent --config f --preset compact",
        "the argument '--config <FILE>' cannot be used with '--preset <compact>': with a configuration, it stands in that file",
    ),
    (
        "consume --config f --raw",
        "the argument '--config <FILE>' cannot be used with '--raw[=<ENCODING>]'",
    ),
    (
        "agent --config f --grace 30",
        "invalid value '30' for '--grace <TIME>': allowed: a time with its unit, like \"100ms\", \"6s\", \"5m\" or \"1h\"",
    ),
    (
        "agent --stream s --stdin --encryption off --region Ireland",
        "invalid value 'Ireland' for '--region <REGION>': allowed: the code of a region, like \"eu-west-1\"",
    ),
    (
        "consume --kms-key alias/a",
        "the following required arguments were not provided: --stream <STREAM>",
    ),
    (
        "consume --stream s --raw --kms-key alias/a",
        "the argument '--raw[=<ENCODING>]' cannot be used with '--kms-key <KEY>'",
    ),
    (
        "encrypt --suite 0478",
        "the following required arguments were not provided: <--kms-key <KEY>|--wrapping-key <FILE>>",
    ),
    (
        "encrypt --wrapping-key k --suite 0078",
        "invalid value '0078' for '--suite <SUITE>': allowed: 0478, 0578, 0178, 0378 or 0114",
    ),
    (
        "encrypt --wrapping-key k --frame-length 100",
        "invalid value '100' for '--frame-length <BYTES>': allowed: a multiple of 128 from 128 to 2147483520, like 4096",
    ),
    (
        "decrypt --wrapping-key k --policy require",
        "invalid value 'require' for '--policy <POLICY>'",
    ),
    (
        "decrypt --wrapping-key k --max-encrypted-data-keys 0",
        "invalid value '0' for '--max-encrypted-data-keys <NUMBER>'",
    ),
    (
        "size --kms-key alias/a 1.5MiB",
        "invalid value '1.5MiB' for '[BYTES]...': allowed: a number of bytes",
    ),
    (
        "key new",
        "the following required arguments were not provided: <FILE>",
    ),
    (
        "key new f --bits 64",
        "invalid value '64' for '--bits <BITS>': allowed: 128, 192 or 256",
    ),
    (
        "config check",
        "the following required arguments were not provided: <FILE>",
    ),
    (
        "config check f --log loud",
        "invalid value 'loud' for '--log <LEVEL>': allowed: error, warn, info, debug, trace, off, or directives like kinseal=debug",
    ),
];

#[test]
fn a_mistake_on_the_command_line_is_two_lines_and_64() {
    for (line, expected) in BAD {
        let error = parse(line).expect_err(line);
        let rendered = usage_lines(&error.render().to_string());
        let mut lines = rendered.lines();
        let first = lines.next().unwrap_or_default();
        assert!(
            first.starts_with(&format!("kinseal: {expected}")),
            "{line}\n{first}\n{expected}"
        );
        assert!(lines.count() <= 1, "{rendered}");
    }
}

#[cfg(feature = "fake")]
#[test]
fn stand_ins_are_asked_for_by_stream_and_port() {
    let Command::Local(args) = parse("local --stream a:4 --stream b --kms-port 4566")
        .unwrap()
        .command
    else {
        panic!("local")
    };
    let streams: Vec<(&str, u32)> = args
        .streams
        .iter()
        .map(|(name, shards)| (name.name(), *shards))
        .collect();
    assert_eq!(streams, [("a", 4), ("b", 1)]);
    assert_eq!((args.port, args.kms_port), (4567, Some(4566)));
    for bad in [
        "local --stream a:0",
        "local --stream :4",
        "local --stream a:x",
        "demo --records 0",
        "demo --shards 0",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
