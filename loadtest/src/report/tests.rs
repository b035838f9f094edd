use super::*;
use crate::agent::{Counts, Sample, Work};
use crate::curve::Curve;
use crate::reader::Read;
use crate::run::ReadBack;
use crate::scenario::{Scenario, Source};
use crate::sink::Arrived;

/// A report of the quick scenario, of made-up figures: encryption is `slower` times the CPU.
fn report(slower: f64) -> Report {
    let mut report = Report::begin("quick", &Target::StandIn, Prices::load(None).unwrap());
    for case in Scenario::quick().cases(None) {
        let times = match case.encryption {
            Encryption::Off => 1.0,
            _ => slower,
        };
        let outcome = outcome(&case, times);
        report.add(case, outcome);
    }
    report
}

pub(crate) fn outcome(case: &Case, times: f64) -> Outcome {
    let curve = |stage: &str| Curve {
        stage: stage.to_owned(),
        count: 1000,
        points: vec![
            (0.0, 1.0),
            (0.5, 2.0 * times),
            (0.99, 5.0 * times),
            (1.0, 9.0 * times),
        ],
    };
    let sample = |n: u32| Sample {
        seconds: f64::from(n) * 0.2,
        stored: u64::from(n) * case.lines / 5,
        cpu_seconds: f64::from(n) * 0.1,
        memory: 50 << 20,
    };
    let counts = Counts {
        accepted: case.lines,
        stored: case.lines,
        dead_lettered: 0,
        failed: 0,
        dropped: 0,
        abandoned: 0,
        pending: 0,
        bytes_stored: (case.lines as f64 * 208.0 * times) as u64,
        entries_stored: case.lines / 100,
        entries_retried: 0,
        calls: 7,
        calls_failed: 0,
        calls_unknown: 0,
        data_keys: u64::from(case.encryption != Encryption::Off),
    };
    Outcome {
        agent: Work {
            seconds: 1.0,
            cpu_seconds: times,
            cpu_by_thread: [("seal".to_owned(), times - 0.5), ("tail".to_owned(), 0.2)].into(),
            peak_memory: 60 << 20,
            p50_ms: 2.0,
            p99_ms: 5.0,
            latencies: vec![curve("line to stored")],
            counts,
            samples: (0..=5).map(sample).collect(),
            answers: None,
            made_bytes: 0,
        },
        sink: Some(Arrived {
            entries: case.lines / 100,
            put_records_calls: 7,
            kms_calls: 1,
            bytes_stored: 1,
            body_bytes: 1,
            cpu_seconds: 0.1,
        }),
        log_bytes: case.lines * (case.line_bytes as u64 + 1),
        zstd_ratio: 5.0,
        duplicates: Some(0),
        due_to_arrived: matches!(case.pace, Pace::LinesPerSecond(_))
            .then(|| curve("due to arrived")),
        read_back: Some(ReadBack {
            log_bytes: 1_000_000,
            read: Read {
                sum: 0,
                lines: 1000,
                copies: 0,
                unreadable: 0,
                kms_calls: 1,
                seconds: 1.0,
                cpu_seconds: 0.01,
            },
        }),
        violations: Vec::new(),
    }
}

#[test]
fn the_answer_is_what_encryption_adds_to_the_same_lines_in_clear() {
    let report = report(1.5);
    let answers = report.answers();
    assert_eq!(answers.len(), 3);
    for answer in &answers {
        assert!((answer.cpu - 50.0).abs() < 0.01, "{answer:?}");
        assert!((answer.bytes - 50.0).abs() < 0.01, "{answer:?}");
        assert!((answer.p99_ms.unwrap() - 2.5).abs() < 0.01, "{answer:?}");
        // 100,000 lines a second of 208 and 312 bytes.
        assert_eq!(answer.shards, 30.0 - 20.0);
        assert!(answer.dollars > 10.0 * 0.015 * 730.0, "{answer:?}");
    }
    let said = answers[0].to_string();
    assert!(
        said.starts_with("Each record encrypted, lines of 200 B: CPU +50 %, bytes +50 %, p99 +2.5 ms, shards +10, +$"),
        "{said}"
    );
}

#[test]
fn a_rival_is_set_beside_kinseal_and_is_no_answer_of_ours() {
    let text = "encryption = ['off', 'record']\nline_bytes = [200]\nlines = 1000\nsource = ['python', 'file']";
    let mut report = Report::begin("s", &Target::StandIn, Prices::load(None).unwrap());
    for case in Scenario::parse("s", text).unwrap().cases(None) {
        let is_rival = case.source == Source::Python;
        let mut outcome = outcome(&case, if is_rival { 40.0 } else { 2.0 });
        if is_rival {
            outcome.agent.latencies.clear();
            outcome.agent.samples.clear();
        }
        report.add(case, outcome);
    }
    let said = std::cell::RefCell::new(String::new());
    let print = |line: String| *said.borrow_mut() += &(line + "\n");
    let table = Table::begin(&report, &[], print);
    let rival = |run: &&Run| run.case.source == Source::Python;
    let rival = report.runs.iter().find(rival).unwrap();
    table.row(rival, &report);
    let said = said.borrow();
    assert!(said.contains("against kinseal: CPU × 20.0"), "{said}");
    assert!(said.contains(" – "), "no latency is told of it: {said}");
    let ours = |answer: &answer::Answer<'_>| answer.encrypted.case.source == Source::File;
    assert!(report.answers().iter().all(ours) && !report.answers().is_empty());
    let page = page::page(&report, None);
    assert!(page.contains(&page::escaped(&rival.name)));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn a_report_comes_back_from_its_file_and_is_compared_with_another_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    report(1.5).save(file.path()).unwrap();
    let (old, new) = (Report::load(file.path()).unwrap(), report(3.0));
    let comparison = Comparison::of(&old, &new);
    assert_eq!(comparison.rows.len(), new.runs.len());
    assert!(comparison.only_old.is_empty() && comparison.only_new.is_empty());
    let said = std::cell::RefCell::new(String::new());
    comparison.print(|line| *said.borrow_mut() += &(line + "\n"));
    let said = said.into_inner();
    assert!(said.contains("(−50 %)") && said.contains("(0 %)"), "{said}");
}

#[test]
fn runs_of_one_name_are_compared_in_their_order_and_a_report_that_tells_nothing_is_told_as_that() {
    let twice = |cpu_seconds: f64| {
        let mut report = report(cpu_seconds);
        let mut second = report.runs[0].clone();
        second.outcome.agent.cpu_seconds = 8.0;
        report.runs.push(second);
        report
    };
    let (mut old, new) = (twice(1.0), twice(2.0));
    let seconds = |run: &Run| run.outcome.agent.cpu_seconds;
    let comparison = Comparison::of(&old, &new);
    let both = |(old, new): &(&Run, &Run)| [seconds(old), seconds(new)];
    let (first, last) = (&comparison.rows[0], comparison.rows.last().unwrap());
    assert_eq!(both(last), [8.0, 8.0], "the second beside the second");
    assert!(!both(first).contains(&8.0));
    assert!(comparison.warnings.is_empty() || cfg!(debug_assertions));

    (old.optimized, old.machine.cores) = (false, 1000);
    let warnings = Comparison::of(&old, &new).warnings.join("; ");
    assert!(
        warnings.contains("debug build") && warnings.contains("1000 cores"),
        "{warnings}"
    );
    let page = page::page(&new, Some(&old));
    assert!(page.contains("of a debug build"));
    assert_eq!(compare::change(0.0, 1.0), "–");
    assert_eq!(compare::change(1.0, f64::INFINITY), "–");
}

#[test]
fn what_no_run_can_have_come_to_is_no_report() {
    let refused = |spoil: fn(&mut Report)| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut report = report(1.0);
        spoil(&mut report);
        report.save(file.path()).unwrap();
        Report::load(file.path()).unwrap_err().to_string()
    };
    for spoil in [
        (|report: &mut Report| report.runs[1].outcome.agent.cpu_seconds = -1.0) as fn(&mut Report),
        |report| report.made = "\u{1b}]0;title\u{7}".to_owned(),
        |report| report.runs[0].name.push('\u{1b}'),
    ] {
        let why = refused(spoil);
        assert!(why.contains("is no report of this program"), "{why}");
    }
}

#[test]
fn one_file_is_seen_by_whatever_names_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    let around = folder
        .path()
        .join("..")
        .join(folder.path().file_name().unwrap());
    assert!(is_one_file(&file, &around.join("a.json")));
    assert!(!is_one_file(&file, &around.join("b.json")));
    assert!(is_one_file(Path::new("x"), Path::new("./x")));
}

#[test]
fn what_has_no_run_in_common_is_not_compared_and_that_is_said_before_anything_runs() {
    let (old, cases) = (report(1.0), Scenario::quick().cases(None));
    Comparison::check(&old, &cases[3..]).unwrap();
    let text = "encryption = ['off']\nline_bytes = [77]\nlines = 9";
    let others = Scenario::parse("s", text).unwrap().cases(None);
    let why = Comparison::check(&old, &others).unwrap_err().to_string();
    assert!(why.contains("77 B"), "{why}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut empty = report(1.0);
    empty.runs.clear();
    empty.save(file.path()).unwrap();
    let why = Report::load(file.path()).unwrap_err().to_string();
    assert!(why.contains("has no run"), "{why}");
}

#[test]
fn two_names_of_one_file_are_told_from_two_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(is_one_file(&at("a"), &at("a")));
    assert!(!is_one_file(&at("a"), &at("b")));
    fs::write(at("a"), "").unwrap();
    std::os::unix::fs::symlink(at("a"), at("b")).unwrap();
    assert!(is_one_file(&at("a"), &at("b")));
    let nowhere = Path::new("/dev/null");
    assert!(!is_one_file(nowhere, nowhere));
}

#[test]
fn what_is_said_of_short_runs_is_called_rough() {
    let mut report = report(1.0);
    assert_eq!(report.roughness(), None);
    report.runs[0].outcome.agent.cpu_seconds = 0.02;
    let told = report.roughness().unwrap();
    assert!(told.starts_with("1 of "), "{told}");
    assert!(page::page(&report, None).contains(&told));
}

#[test]
fn a_run_that_was_looked_at_once_is_seen_in_the_plots() {
    let mut report = report(1.0);
    for run in &mut report.runs {
        run.outcome.agent.samples.drain(..5);
    }
    let page = page::page(&report, None);
    assert!(page.contains("<circle class=\"line off\""));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn what_is_no_report_is_told_from_one_of_another_version() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{}").unwrap();
    let error = format!("{:#}", Report::load(file.path()).unwrap_err());
    assert!(error.contains("no report of this program"), "{error}");
    let mut later = report(1.0);
    later.version += 1;
    later.save(file.path()).unwrap();
    let error = format!("{:#}", Report::load(file.path()).unwrap_err());
    assert!(error.contains("run it again"), "{error}");
}

#[test]
fn the_page_needs_nothing_else_and_shows_each_run() {
    let report = report(2.0);
    let page = page::page(&report, Some(&report));
    assert!(
        !page.contains("http") && !page.contains("src=") && !page.contains("<script"),
        "a link"
    );
    for run in &report.runs {
        assert!(page.contains(&page::escaped(&run.name)), "{}", run.name);
    }
    for title in [
        "Latency by percentile",
        "Throughput over time",
        "Memory over time",
        "CPU per MB by stage",
        "Bytes per line",
        "Reading it back",
        "What that is in money",
        "Beside an earlier report",
    ] {
        assert!(page.contains(title), "{title}");
    }
    assert!(
        !page.contains("NaN") && !page.contains("inf"),
        "a figure that is none"
    );
}

#[test]
fn a_report_of_a_sink_that_is_not_ours_says_so_and_claims_nothing_of_it() {
    let mut report = report(2.0);
    report.target = Some("stream s at <here>".to_owned());
    for run in &mut report.runs {
        (run.outcome.sink, run.outcome.duplicates) = (None, None);
        run.outcome.due_to_arrived = None;
    }
    let said = std::cell::RefCell::new(String::new());
    let print = |line: String| *said.borrow_mut() += &(line + "\n");
    let table = Table::begin(&report, &[], print);
    table.row(&report.runs[0], &report);
    assert!(table.end(&report));
    let said = said.borrow();
    assert!(
        said.contains("To stream s at <here>. Sink: not ours"),
        "{said}"
    );
    assert!(!said.contains("none twice"), "{said}");

    let page = page::page(&report, None);
    assert!(page.contains("to stream s at &lt;here&gt;"));
    assert!(!page.contains("Latency by percentile"));
    let answers = report.answers();
    assert!(answers.iter().all(|answer| answer.p99_ms.is_none()));
    assert!(page.contains("(sink: not ours)") && !page.contains("none twice"));
    let file = tempfile::NamedTempFile::new().unwrap();
    report.save(file.path()).unwrap();
    assert!(
        Report::load(file.path()).unwrap().runs[0]
            .outcome
            .sink
            .is_none()
    );
}
