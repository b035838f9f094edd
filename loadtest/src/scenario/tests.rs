use super::*;

#[test]
fn what_is_compiled_in_and_what_lies_beside_it_parses() {
    assert_eq!(Scenario::smoke().cases(None).len(), 15);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for file in std::fs::read_dir(folder).unwrap() {
        let scenario = Scenario::load(&file.unwrap().path()).unwrap();
        let mut names: Vec<_> = scenario.cases(None).iter().map(Case::to_string).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), scenario.cases(None).len(), "{}", scenario.name);
    }
}

/// Each way to encrypt, by each source that an agent has.
fn sources() -> Scenario {
    let text = "encryption = ['block', 'off']\nline_bytes = [200]\nlines = 10\nsource = ['file', 'socket', 'kpl', 'library']";
    Scenario::parse("s", text).unwrap()
}

#[test]
fn a_runs_name_says_where_its_lines_come_from_unless_it_is_a_file() {
    let cases = sources().cases(Some("off"));
    let names: Vec<_> = cases.iter().map(Case::to_string).collect();
    let lines = |source: &str| format!("off, aggregated, 200 B{source}, 10 lines");
    assert_eq!(names, ["", ", socket", ", kpl", ", library"].map(lines));
}

#[test]
fn each_encrypted_run_follows_the_one_it_is_compared_with() {
    for scenario in [Scenario::quick(), sources()] {
        let cases = scenario.cases(None);
        let mut plain = None;
        for case in &cases {
            if case.encryption == Encryption::Off {
                plain = Some(case.clone());
            }
            assert_eq!(plain.as_ref(), Some(&case.without_encryption()), "{case}");
        }
    }
    let only = Scenario::quick().cases(Some("record, single"));
    assert!(!only.is_empty() && only.iter().all(|case| !case.aggregation));
}

#[test]
fn what_only_encryption_has_makes_no_further_runs_without_it() {
    let text = "encryption = ['off', 'record']\nline_bytes = [200]\nlines = 10\nsuite = ['0478', '0578']\n\
                backend = ['aws-lc', 'aes-gcm']\ncache = ['off', 100, 'default']\nkms_latency = '20ms'";
    let cases = Scenario::parse("s", text).unwrap().cases(None);
    assert_eq!(cases.len(), 1 + 2 * 2 * 3);
    assert_eq!(cases[0].kms_ms, 0);
    let names: Vec<_> = cases.iter().map(Case::to_string).collect();
    assert_eq!(names[0], "off, aggregated, 200 B, 10 lines");
    assert!(
        names.contains(
            &"record, aggregated, 200 B, suite 0578, aws-lc, no key cache, KMS 20 ms, 10 lines"
                .to_owned()
        )
    );
}

#[test]
fn a_table_of_runs_has_the_keys_before_it_but_for_its_own() {
    let text = "encryption = ['off']\nline_bytes = [200, 300]\nmegabytes = 1\ntls = false\n\
                [[runs]]\n[[runs]]\nline_bytes = [400]\nrate = [1000]\nseconds = 3\nlinger = ['0s']";
    let cases = Scenario::parse("s", text).unwrap().cases(None);
    assert_eq!(cases.len(), 3);
    assert!(cases.iter().all(|case| !case.tls));
    let timed = cases.iter().find(|case| case.line_bytes == 400).unwrap();
    assert_eq!((timed.lines, timed.linger_ms), (3000, Some(0)));
    assert_eq!(timed.pace, Pace::LinesPerSecond(1000));
}

#[test]
fn mistakes_name_the_key_and_what_is_allowed() {
    let good = include_str!("../../scenarios/smoke.toml");
    for (from, to, told) in [
        ("megabytes = 1", "megabytes = 0", "allowed: more than 0"),
        ("megabytes = 1", "", "one of them says"),
        ("\"off\"", "\"of\"", "unknown variant `of`"),
        ("tls =", "tsl =", "unknown field `tsl`"),
        ("[200]", "[20]", "line_bytes: allowed"),
        ("[200]", "[]", "line_bytes: allowed"),
        (
            "tls =",
            "failing_percent = [91]\ntls =",
            "failing_percent: allowed",
        ),
        ("tls =", "shards = [0]\ntls =", "shards: allowed"),
        ("tls =", "files = [0]\ntls =", "files: allowed"),
        (
            "tls =",
            "memory_limit = [\"much\"]\ntls =",
            "memory_limit: ",
        ),
        (
            "tls =",
            "protocol = [\"xml\"]\ntls =",
            "unknown variant `xml`",
        ),
        (
            "tls =",
            "files = [2]\nsource = [\"socket\"]\ntls =",
            "files, streams: allowed: with source = [\"file\"]",
        ),
        ("tls =", "streams = [2]\ntls =", "without read_back"),
        ("tls =", "cache = [\"no\"]\ntls =", "how many messages"),
        ("tls =", "kms_latency = \"soon\"\ntls =", "kms_latency: "),
        (
            "megabytes = 1",
            "megabytes = 5000\nkeep = true",
            "keeps what it takes",
        ),
        (
            "tls =",
            "sink_latency = \"6s\"\ntls =",
            "allowed: up to 5 s",
        ),
        (
            "tls =",
            "linger = [\"1m\"]\ntls =",
            "linger: allowed: up to 30 s",
        ),
        ("megabytes = 1", "seconds = 1", "with rate"),
        (
            "megabytes = 1",
            "megabytes = inf",
            "no more than a terabyte",
        ),
        (
            "megabytes = 1",
            "megabytes = nan",
            "no more than a terabyte",
        ),
        (
            "megabytes = 1",
            "rate = [1000000000]\nseconds = 9223372036854775807",
            "no more than a terabyte",
        ),
        ("[200]", "[{ from = 300, to = 200 }]", "the smaller first"),
        ("[200]", "[{ median = 300, p99 = 2000000 }]", "1000000"),
        ("[200]", "[{ median = 300 }]", "{ median = …, p99 = … }"),
        ("[200]", "[1e3]", "a whole number of bytes"),
        (
            "read_back = true",
            "streams = [10000]",
            "streams: allowed: as many as",
        ),
        (
            "tls =",
            "partition_key = [0]\ntls =",
            "a number of keys: allowed: 1",
        ),
        (
            "tls =",
            "partition_key = [\"colour\"]\nsource = [\"file\"]\ntls =",
            "partition_key: found \"colour\"",
        ),
        (
            "tls =",
            "suite = [\"9999\"]\ntls =",
            "encryption.suite: found \"9999\"",
        ),
        (
            "tls =",
            "backend = [\"rot13\"]\ntls =",
            "encryption.backend: found \"rot13\"",
        ),
        ("tls =", "memory_limit = [\"1KiB\"]\ntls =", "memory_limit"),
    ] {
        let error = Scenario::parse("s", &good.replace(from, to)).unwrap_err();
        assert!(format!("{error:#}").contains(told), "{to}: {error:#}");
    }
}

#[test]
fn lists_that_nobody_waits_for_are_refused_before_they_are_multiplied() {
    let hundred: Vec<_> = (100..200).map(|n| n.to_string()).collect();
    let hundred = hundred.join(", ");
    let text = format!(
        "encryption = ['off']\nlines = 1\nline_bytes = [{hundred}]\nshards = [{hundred}]\nfiles = [{hundred}]"
    );
    let error = Scenario::parse("s", &text).unwrap_err().to_string();
    assert!(error.contains("more than 2000 runs"), "{error}");
}

#[test]
fn runs_that_differ_in_their_length_alone_say_it() {
    let text = "encryption = ['off', 'record']\nline_bytes = [99]\n[[runs]]\nmegabytes = 1\n[[runs]]\nmegabytes = 2\n\
                [[runs]]\nencryption = ['off']\nline_bytes = [199]\nmegabytes = 2";
    let cases = Scenario::parse("s", text).unwrap().cases(None);
    let names: Vec<_> = cases.iter().map(Case::to_string).collect();
    assert_eq!(
        names,
        [
            "off, aggregated, 99 B, 10000 lines",
            "record, aggregated, 99 B, 10000 lines",
            "off, aggregated, 99 B, 20000 lines",
            "record, aggregated, 99 B, 20000 lines",
            "off, aggregated, 199 B",
        ]
    );
    assert_eq!(cases[3].without_encryption(), cases[2]);
}

#[test]
fn a_sample_with_a_line_that_no_record_takes_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "x".repeat(1_000_001)).unwrap();
    let sample = file.path();
    let text = format!("encryption = ['off']\nlines = 1\ntext = {{ sample = {sample:?} }}");
    let error = format!("{:#}", Scenario::parse("s", &text).unwrap_err());
    assert!(error.contains("has a line of 1000001 bytes"), "{error}");
}

#[test]
fn a_rule_for_keys_comes_to_the_agent_as_it_was_written() {
    let rule = r#"{ regex = "\u007f(?<key>\\d+)\t" }"#;
    let text = format!(
        "encryption = ['off']\nline_bytes = [200]\nlines = 10\nsource = ['socket']\npartition_key = [{rule}]"
    );
    let cases = Scenario::parse("s", &text).unwrap().cases(None);
    assert_eq!(cases[0].keys.rule().unwrap(), rule);
}

#[test]
fn a_runs_name_says_whatever_is_not_the_default() {
    let text = "encryption = ['record']\nline_bytes = [{ from = 100, to = 300 }, { median = 300, p99 = 2000 }]\n\
                lines = 10\npartition_key = ['random', 1000, 'hash', { json_pointer = '/user' }]\n\
                kms_latency = '20ms'\nsink_latency = '5ms'\ntls = false\nkeep = true\nshard_limits = true";
    let cases = Scenario::parse("s", text).unwrap().cases(None);
    assert_eq!(cases.len(), 8);
    let rest = "shard limits, KMS 20 ms, sink 5 ms, no TLS, kept, 10 lines";
    let names = cases.iter().map(Case::to_string).collect::<Vec<_>>();
    for (length, keys) in [
        ("100 to 300 B", ""),
        ("100 to 300 B", ", 1000 keys"),
        ("300 B (p99 2000)", ", key hash"),
        ("300 B (p99 2000)", r#", key { json_pointer = "/user" }"#),
    ] {
        let name = format!("record, aggregated, {length}{keys}, {rest}");
        assert!(names.contains(&name), "{name} in {names:#?}");
    }
    assert!((198..=202).contains(&cases[0].line_bytes), "the mean");
}

#[test]
fn a_python_program_is_asked_for_nothing_that_it_does_not_do() {
    let python = |keys: &str| {
        let text = format!("line_bytes = [200]\nlines = 10\nsource = ['file', 'python']\n{keys}");
        Scenario::parse("s", &text)
    };
    for (keys, told) in [
        ("encryption = ['off', 'block']", "[\"off\", \"record\"]"),
        ("encryption = ['block_zstd']", "[\"off\", \"record\"]"),
        ("encryption = ['off']\nrate = [10]", "without rate"),
        (
            "encryption = ['off']\nlinger = ['0s']",
            "without rate and linger",
        ),
        ("encryption = ['off']\nsuite = ['0578']", "its own suite"),
        (
            "encryption = ['off']\nbackend = ['aws-lc']",
            "its own suite and backend",
        ),
    ] {
        let error = python(keys).unwrap_err().to_string();
        assert!(error.contains(told), "{keys}: {error}");
    }
    assert!(python("encryption = ['off', 'record']\ncache = [100]").is_ok());
}

#[test]
fn another_shipper_is_asked_for_nothing_that_it_does_not_do_and_is_counted_line_by_line() {
    let shippers = |sources: &str, keys: &str| {
        let text = format!("line_bytes = [200]\nlines = 10\nsource = [{sources}]\n{keys}");
        Scenario::parse("s", &text)
    };
    let fluent_bit = "'file', 'fluent_bit'";
    for (sources, keys, told) in [
        (
            fluent_bit,
            "encryption = ['off', 'record']\nkeep = true",
            "do not encrypt",
        ),
        (fluent_bit, "encryption = ['off']", "allowed: keep = true"),
        (
            fluent_bit,
            "encryption = ['off']\nkeep = true\ntls = false",
            "over TLS",
        ),
        (
            fluent_bit,
            "encryption = ['off']\nkeep = true\nrate = [10]",
            "without rate",
        ),
        (
            fluent_bit,
            "encryption = ['off']\nkeep = true\npartition_key = [3]",
            "\"fluent_bit\"",
        ),
        (
            "'vector'",
            "encryption = ['off']\nkeep = true",
            "does not aggregate",
        ),
    ] {
        let error = format!("{:#}", shippers(sources, keys).unwrap_err());
        assert!(error.contains(told), "{keys}: {error}");
    }
    let cases = shippers(fluent_bit, "encryption = ['off']\nkeep = true")
        .unwrap()
        .cases(None);
    assert_eq!(cases[1].by_kinseal().as_ref(), Some(&cases[0]));
}

#[test]
fn what_a_rival_is_set_beside_is_kinseal_on_the_same_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/rivals.toml");
    let cases = Scenario::load(&path).unwrap().cases(None);
    let (ours, rivals): (Vec<_>, Vec<_>) =
        (cases.iter()).partition(|case| case.source == Source::File);
    assert!(!ours.is_empty() && ours.iter().all(|case| case.by_kinseal().is_none()));
    assert_eq!(rivals.len(), ours.len());
    for rival in rivals {
        assert!(ours.contains(&&rival.by_kinseal().unwrap()), "{rival}");
        assert!(rival.sink_keeps());
    }
}

#[test]
fn the_readme_has_every_key_in_its_tables() {
    let why = format!("{:#}", Scenario::parse("s", "nonsense = 1").unwrap_err());
    let (_, keys) = why.split_once("expected one of ").expect("serde's list");
    let keys: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
    assert!(keys.len() > 20, "{keys:?}");
    let readme = include_str!("../../../README.md");
    let (_, readme) = readme.split_once("### What a scenario says").unwrap();
    let (tables, _) = readme.split_once("Of `source`").unwrap();
    for key in keys {
        let is_there = |row: &str| row.contains(&format!("`{key}`"));
        let first_cells = tables.lines().filter_map(|row| row.split('|').nth(1));
        assert!(first_cells.clone().any(is_there), "{key}");
    }
}
