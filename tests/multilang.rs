//! Between the KCL's MultiLangDaemon, which is played here, and a record processor on AWS's own amazon_kclpy.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64_simd::STANDARD as BASE64;
use kinseal::aggregate::format::deaggregate;
use kinseal::fake::{Action, Faults, Rule, StoredRecord};
use serde_json::{Value, json};

use crate::support::agent::{Home, STREAM, kinseal};
use crate::support::lines::{append, line};
use crate::support::peers;
use crate::support::process::{Running, run};
use crate::support::servers::StandIn;

/// The daemon's side of a process that it started for a shard.
struct Daemon {
    process: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
    /// What was checkpointed, in the KCL's numbers, and how many records the processor had noted by then.
    checkpoints: Vec<((Value, Value), usize)>,
    notes: PathBuf,
}

impl Daemon {
    fn start(mut command: Command, notes: &Path) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("kinseal");
        let to = process.stdin.take().expect("piped");
        let from = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self {
            process,
            to,
            from,
            checkpoints: Vec::new(),
            notes: notes.to_owned(),
        }
    }

    /// Sends a message and answers checkpoints until the processor has done with it, as the daemon does.
    fn ask(&mut self, message: &Value) {
        writeln!(self.to, "{message}").expect("it reads");
        let answer = self.answer_checkpoints(usize::MAX).expect("its word");
        assert_eq!(answer["responseFor"], message["action"]);
    }

    /// So many, or until the processor says that it has done with what it was told.
    fn answer_checkpoints(&mut self, most: usize) -> Option<Value> {
        let mut left = most;
        while left > 0 {
            let line = self.from.next().expect("it goes on").expect("UTF-8");
            // The library's lines are set off by empty ones.
            if line.trim().is_empty() {
                continue;
            }
            let answer: Value = serde_json::from_str(&line).expect("JSON");
            match answer["action"].as_str() {
                Some("checkpoint") => {
                    let at = (
                        answer["sequenceNumber"].clone(),
                        answer["subSequenceNumber"].clone(),
                    );
                    let mut stored = answer;
                    stored["error"] = Value::Null;
                    writeln!(self.to, "{stored}").expect("it reads");
                    self.checkpoints.push((at, lines_in(&self.notes).len()));
                    left -= 1;
                }
                Some("status") => return Some(answer),
                _ => panic!("{answer}"),
            }
        }
        None
    }

    /// Hangs up; how it ended, and what it said.
    fn end(self) -> (Option<i32>, String) {
        drop(self.to);
        let ended = self.process.wait_with_output().expect("our own child");
        (
            ended.status.code(),
            String::from_utf8_lossy(&ended.stderr).into_owned(),
        )
    }
}

/// As the KCL hands them over: taken apart, with sub-sequence numbers.
fn records(stored: &[StoredRecord]) -> Vec<Value> {
    let mut all = Vec::new();
    for record in stored {
        let members = match deaggregate(&record.data) {
            Some(members) => members
                .into_iter()
                .map(|m| (m.partition_key.to_string(), m.data))
                .collect(),
            None => vec![(record.partition_key.clone(), record.data.clone())],
        };
        for (sub_sequence, (key, data)) in members.into_iter().enumerate() {
            all.push(json!({
                "action": "record",
                "data": BASE64.encode_to_string(&data),
                "partitionKey": key,
                "sequenceNumber": record.sequence,
                "subSequenceNumber": sub_sequence,
                "approximateArrivalTimestamp": 1_764_460_800_123_u64,
            }));
        }
    }
    all
}

fn initialize() -> Value {
    json!({
        "action": "initialize", "shardId": "shardId-000000000000",
        "sequenceNumber": "TRIM_HORIZON", "subSequenceNumber": 0,
    })
}

fn process(records: &[Value]) -> Value {
    json!({"action": "processRecords", "millisBehindLatest": 0, "records": records})
}

fn multilang(key: &Path, more: &[&str], notes: &Path) -> Command {
    let mut command = kinseal();
    command
        .arg("multilang")
        .arg("--wrapping-key")
        .arg(key)
        .args(more)
        .arg("--");
    let processor = peers::script("kcl_processor.py");
    command
        .arg(processor.get_program())
        .args(processor.get_args())
        .arg(notes);
    command
}

/// A key, and lines that an agent has sealed under it.
fn sealed(dir: &Path, scope: &str, lines: u64) -> (StandIn, PathBuf) {
    let key = dir.join("key.toml");
    let made = kinseal().args(["key", "new"]).arg(&key).status();
    assert!(made.expect("kinseal").success());
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let encryption = format!(
        "scope = \"{scope}\"\nwrapping_key_file = \"{}\"",
        key.display()
    );
    let home = Home::new(
        &site.endpoints,
        &encryption,
        "[aggregation]\nlinger = \"20ms\"\n",
    );
    let mut agent = home.start_agent();
    let mut written = 0;
    // Several blocks, several Kinesis records.
    while written < lines {
        append(&home.log(), written + 1..=written + 5).wait();
        written += 5;
        home.until_settled(&mut agent, &home.log());
    }
    (site, key)
}

fn lines_in(notes: &Path) -> Vec<String> {
    let text = fs::read_to_string(notes).expect("UTF-8");
    let records = text
        .lines()
        .filter_map(|note| note.splitn(3, ' ').nth(2).map(str::to_owned));
    records.filter(|data| data.contains("order-")).collect()
}

#[test]
fn a_processor_of_amazon_kclpy_has_each_record_in_clear_and_its_checkpoints_are_the_kcls() {
    for scope in ["record", "block"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (site, key) = sealed(dir.path(), scope, 20);
        let notes = dir.path().join("notes");
        let all = records(&site.fake.records(STREAM).expect("it is there"));
        let mut daemon = Daemon::start(multilang(&key, &[], &notes), &notes);
        daemon.ask(&initialize());
        // Two calls, as a shard's pages come.
        let (first, second) = all.split_at(all.len() / 2);
        daemon.ask(&process(first));
        daemon.ask(&process(second));
        daemon.ask(&json!({"action": "shardEnded"}));
        let expected: Vec<String> = (1..=20).map(line).collect();
        assert_eq!(lines_in(&notes), expected, "{scope}");
        // Each of the KCL's records once wholly passed, in its numbers and order.
        let known: Vec<_> = all
            .iter()
            .map(|r| (r["sequenceNumber"].clone(), r["subSequenceNumber"].clone()))
            .collect();
        let mut reached: Vec<_> = daemon
            .checkpoints
            .iter()
            .map(|(at, _)| at.clone())
            .collect();
        assert_eq!(
            reached.pop(),
            Some((Value::Null, Value::Null)),
            "the end of the shard"
        );
        reached.dedup();
        assert_eq!(reached, known, "{scope}");
        assert_eq!(daemon.end(), (Some(0), String::new()), "{scope}");
    }
}

/// kill -9 at any checkpoint: a restart there repeats one block at most, and leaves nothing out.
#[test]
fn from_every_checkpoint_on_nothing_is_missing_and_one_block_at_most_is_repeated() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (site, key) = sealed(dir.path(), "block", 15);
    let all = records(&site.fake.records(STREAM).expect("it is there"));
    let notes = dir.path().join("notes");
    let mut daemon = Daemon::start(multilang(&key, &[], &notes), &notes);
    daemon.ask(&initialize());
    daemon.ask(&process(&all));
    let place = |sequence: &str, sub_sequence: u64| {
        let is_it =
            |r: &Value| r["sequenceNumber"] == sequence && r["subSequenceNumber"] == sub_sequence;
        all.iter().position(is_it).expect("one of the KCL's")
    };
    // Of each line, in which of the KCL's records it came: the processor's numbers are those, shifted.
    let noted = fs::read_to_string(&notes).expect("UTF-8");
    let came_in: Vec<usize> = noted
        .lines()
        .filter(|note| note.contains("order-"))
        .map(|note| {
            let words: Vec<&str> = note.splitn(3, ' ').collect();
            place(words[0], words[1].parse::<u64>().expect("a number") >> 20)
        })
        .collect();
    assert_eq!(came_in.len(), 15);
    assert!(!daemon.checkpoints.is_empty());
    for ((sequence, sub_sequence), had) in &daemon.checkpoints {
        let stored = place(
            sequence.as_str().expect("one"),
            sub_sequence.as_u64().expect("one"),
        );
        let covered = came_in.iter().filter(|at| **at <= stored).count();
        assert!(
            covered <= *had,
            "{covered} of {had} would not be read again"
        );
        assert!(
            came_in[had - 1] <= stored + 1,
            "more than the block at hand is read again"
        );
    }
    assert_eq!(daemon.checkpoints.last().map(|(_, had)| *had), Some(15));
    daemon.end();
}

#[test]
fn a_record_that_cannot_be_opened_stops_the_shard_or_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (site, key) = sealed(dir.path(), "record", 5);
    let mut all = records(&site.fake.records(STREAM).expect("it is there"));
    let foreign = json!({
        "action": "record", "data": BASE64.encode_to_string(b"in clear"), "partitionKey": "k",
        "sequenceNumber": "49", "subSequenceNumber": 0,
    });
    all.insert(2, foreign);
    let notes = dir.path().join("notes");
    let mut daemon = Daemon::start(multilang(&key, &[], &notes), &notes);
    daemon.ask(&initialize());
    writeln!(daemon.to, "{}", process(&all)).expect("it reads");
    assert_eq!(daemon.answer_checkpoints(2), None);
    // The shard stands still, until the lease is another's: that all of it was seen to is not so, and not said.
    daemon.ask(&json!({"action": "leaseLost"}));
    let (checkpoints, before) = (daemon.checkpoints.clone(), &all[..2]);
    let (code, said) = daemon.end();
    assert_eq!(code, Some(1));
    assert!(
        said.contains("record 49") && said.contains("not encrypted"),
        "{said}"
    );
    let expected: Vec<String> = (1..=2).map(line).collect();
    assert_eq!(lines_in(&notes), expected, "what lies before it");
    let at = |record: &Value| {
        let of = |key: &str| record[key].clone();
        (of("sequenceNumber"), of("subSequenceNumber"))
    };
    let checkpoints: Vec<_> = checkpoints.into_iter().map(|(at, _)| at).collect();
    assert_eq!(checkpoints, before.iter().map(at).collect::<Vec<_>>());
    fs::remove_file(&notes).expect("made");

    let letters = dir.path().join("letters");
    let more = ["--dead-letter", letters.to_str().expect("UTF-8")];
    let mut daemon = Daemon::start(multilang(&key, &more, &notes), &notes);
    daemon.ask(&initialize());
    daemon.ask(&process(&all));
    assert_eq!(daemon.end().0, Some(0));
    assert_eq!(lines_in(&notes).len(), 5);
    let letter: Value =
        serde_json::from_str(&fs::read_to_string(&letters).expect("made")).expect("one line");
    assert_eq!(
        (&letter["sequence"], &letter["shard"]),
        (&"49".into(), &"shardId-000000000000".into())
    );
}

/// One that is sealed under the key.
fn record_under(site: &StandIn, key: &str) -> Value {
    let mut encrypt = kinseal();
    encrypt.args(["encrypt", "--kms-key", key]);
    encrypt.args(["--kms-endpoint-url", &site.endpoints.kms]);
    let sealed = run("kinseal encrypt", &mut encrypt, b"order").expect_success();
    json!({
        "action": "record", "data": BASE64.encode_to_string(&sealed.stdout), "partitionKey": "k",
        "sequenceNumber": "49", "subSequenceNumber": 0,
    })
}

/// Until the daemon hangs up, as is `told`; the processor has heard of the end then, and of no record.
fn expect_to_wait(record: &Value, key: &str, kms: &str, told: &str) {
    let mut command = kinseal();
    command.args(["multilang", "--kms-endpoint-url", kms]);
    command.args(["--kms-key", key, "--", "sh", "-c", "cat; exit 7"]);
    let mut multilang = Running::start("kinseal multilang", command.stdin(Stdio::piped()));
    let mut to = multilang.stdin();
    let page = process(std::slice::from_ref(record));
    write!(to, "{}\n{page}\n", initialize()).expect("it reads");
    multilang.until("the records wait", |multilang| {
        multilang.stderr().contains(told).then_some(())
    });
    drop(to);
    let ended = multilang.wait();
    assert_eq!(ended.status.code(), Some(7), "{}", ended.stderr);
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        format!("{}\n", initialize())
    );
}

/// It once waited for KMS for as long as that was out of reach, whoever had hung up.
#[test]
fn a_daemon_that_hangs_up_while_kms_is_out_of_reach_is_not_outlived() {
    let site = StandIn::start();
    let key = site.endpoints.create_key();
    let record = record_under(&site, &key);
    // Nobody listens there.
    expect_to_wait(&record, &key, "http://127.0.0.1:1", "can not be opened now");
}

/// Somebody has to put that right, and nothing is lost meanwhile.
#[test]
fn while_kms_refuses_the_key_records_wait() {
    let site = StandIn::start();
    let key = site.endpoints.create_key();
    let record = record_under(&site, &key);
    let denied = Rule::new(Action::access_denied()).on("Decrypt");
    site.fake.set_faults(Faults::seeded(1).rule(denied));
    expect_to_wait(&record, &key, &site.endpoints.kms, "wait: ");
}

/// Its own handler decides what becomes of it, as without a program between, from its first moment on.
#[test]
fn a_signal_is_the_processors() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("key.toml");
    let made = kinseal().args(["key", "new"]).arg(&key).status();
    assert!(made.expect("kinseal").success());
    let processor =
        "trap 'echo stopped; exit 7' TERM; kill -TERM $PPID; while :; do sleep 0.01; done";
    let mut command = kinseal();
    command.arg("multilang").arg("--wrapping-key").arg(&key);
    command.args(["--", "sh", "-c", processor]);
    let multilang = Running::start("kinseal multilang", command.stdin(Stdio::piped()));
    let ended = multilang.wait();
    assert_eq!(ended.status.code(), Some(7), "{}", ended.stderr);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "stopped\n");
}

/// Messages of other kinds and of the KCL's first version, empty lines, and the processor's exit code.
#[test]
fn what_is_not_about_records_passes_as_it_is() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = dir.path().join("key.toml");
    assert!(
        kinseal()
            .args(["key", "new"])
            .arg(&key)
            .status()
            .expect("kinseal")
            .success()
    );
    let mut command = kinseal();
    command.arg("multilang").arg("--wrapping-key").arg(&key);
    command.args(["--", "sh", "-c", "cat; exit 7"]);
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("kinseal");
    let said = "{\"action\":\"shutdown\",  \"reason\":\"ZOMBIE\"}\n\n{\"action\":\"invented\",\"records\":1}\n{\"action\":null}\n";
    let mut to = process.stdin.take().expect("piped");
    to.write_all(said.as_bytes()).expect("it reads");
    drop(to);
    let ended = process.wait_with_output().expect("our own child");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), said);
    assert_eq!(ended.status.code(), Some(7));

    let mut nobody = kinseal();
    nobody
        .arg("multilang")
        .arg("--wrapping-key")
        .arg(&key)
        .args(["--", "/no/such/program"]);
    let ended = nobody.stdin(Stdio::null()).output().expect("kinseal");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        !ended.status.success() && said.contains("cannot start /no/such/program"),
        "{said}"
    );
}

#[test]
fn what_is_no_message_stops_it_and_is_not_handed_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let notes = dir.path().join("notes");
    let (_site, key) = sealed(dir.path(), "record", 1);
    for line in [
        // A lone surrogate, which other readers of JSON let pass.
        r#"{"action":"processRecords","records":[{"data":"cGxhaW4=","partitionKey":"\ud800"}]}"#,
        r#"{"action":"processRecords","records":[],"millisBehindLatest":NaN}"#,
        r#"{"action":"processRecords","records":{"data":"cGxhaW4="}}"#,
        r#"{"action":"processRecords"}"#,
        r#"{"action":"processRecords","records":[1,null]}"#,
        r#"{"action":"processRecords","records":[{"data":null,"sequenceNumber":"1"}]}"#,
        r#"{"action":"processRecords","records":[{"data":"%","sequenceNumber":"1"}]}"#,
        "[]",
        "processRecords",
    ] {
        let mut command = multilang(&key, &[], &notes);
        let ended = run("multilang", &mut command, format!("{line}\n").as_bytes());
        assert_eq!(ended.status.code(), Some(1), "{line}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("no message of its protocol"),
            "{line}: {}",
            ended.stderr
        );
        let noted = fs::read_to_string(&notes).unwrap_or_default();
        assert_eq!(noted, "", "{line}: nothing was handed on");
    }
}
