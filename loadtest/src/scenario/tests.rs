use super::*;

#[test]
fn what_is_compiled_in_and_what_lies_beside_it_parses() {
    assert_eq!(Scenario::smoke().cases(None).len(), 13);
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
    assert!(names.contains(
        &"record, aggregated, 200 B, suite 0578, aws-lc, no key cache, 10 lines".to_owned()
    ));
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
            "failing_percent = [100]\ntls =",
            "failing_percent: allowed",
        ),
        ("tls =", "shards = [0]\ntls =", "shards: allowed"),
        ("tls =", "files = [0]\ntls =", "files: allowed"),
        (
            "tls =",
            "memory_limit = [\"much\"]\ntls =",
            "memory_limit: a number of bytes",
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
        ("megabytes = 1", "seconds = 1", "with rate"),
    ] {
        let error = Scenario::parse("s", &good.replace(from, to)).unwrap_err();
        assert!(format!("{error:#}").contains(told), "{to}: {error:#}");
    }
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
