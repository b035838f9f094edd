//! The KPL's Java client, as far as the daemon sees it: its command line, its pipes and the order it opens them in, its
//! messages, and what it does with answers.

mod site;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kinseal::daemon::configuration::{Fields, LastFields};
use kinseal::daemon::message::{
    Answer, Credentials, MetricsRequest, MetricsResponse, PutRecord, PutRecordResult, Request,
    SetCredentials,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::agent::kinseal;
use super::process::{Ended, Running};
use super::servers::{Endpoints, REGION};
use super::until;
pub(crate) use site::{USUAL, code, expect_stored, put_lines, site, stored};

/// Which client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// 0.12 to 0.14, and 1.0.5 to 1.0.7: credentials on the command line.
    CredentialsAsArguments,
    /// 0.15 to 1.0.4: fields 32 and 33 are a text and a number.
    WithSts,
    /// 1.0.8: credentials come over the pipe, and only there.
    CredentialsOverThePipe,
    /// Late 2026: fields 32 and 33 are a number and a text.
    WithStrategies,
}

pub(crate) const GENERATIONS: [Generation; 4] = [
    Generation::CredentialsAsArguments,
    Generation::WithSts,
    Generation::CredentialsOverThePipe,
    Generation::WithStrategies,
];

/// A daemon that is to be started, and what its client says to it.
#[derive(Debug)]
pub(crate) struct Setup {
    dir: TempDir,
    generation: Generation,
    /// Its configuration.
    pub(crate) fields: Fields,
    envs: Vec<(String, String)>,
    /// What the daemon says at its loudest is not read, and its answers not before they are asked for.
    is_deaf: bool,
}

/// A client with its daemon.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) daemon: Running,
    to: Option<File>,
    answers: Arc<Mutex<Answers>>,
    listens: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
    _dir: TempDir,
}

#[derive(Debug, Default)]
struct Answers {
    results: BTreeMap<u64, PutRecordResult>,
    doubled: Vec<u64>,
    metrics: BTreeMap<u64, MetricsResponse>,
    strategies: Vec<String>,
    has_ended: bool,
}

impl Setup {
    /// Against plain-http servers, with all at its default but metrics, which are not uploaded.
    pub(crate) fn new(endpoints: &Endpoints, generation: Generation) -> Self {
        let mut setup = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            generation,
            fields: Fields {
                metrics_level: Some("none".to_owned()),
                region: Some(REGION.to_owned()),
                ..Fields::default()
            },
            envs: Vec::new(),
            is_deaf: false,
        };
        for (name, url) in [("KINESIS", &endpoints.kinesis), ("KMS", &endpoints.kms)] {
            let name = format!("AWS_ENDPOINT_URL_{name}");
            setup.envs.push((name, url.clone()));
        }
        setup
    }

    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.envs.retain(|(other, _)| other != name);
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn deaf(&mut self) -> &mut Self {
        self.is_deaf = true;
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn pipe(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The daemon's command line: `-o`, the pipe that it reads from, first.
    pub(crate) fn command(&self) -> Command {
        let mut command = kinseal();
        if self.is_deaf {
            let program = command.get_program().to_owned();
            let mut deaf = Command::new("bash");
            let unread = "exec \"$0\" \"$@\" 2> >(exec sleep 120)";
            deaf.args(["-c", unread]).arg(program);
            for (name, value) in command.get_envs() {
                deaf.envs(value.map(|value| (name, value)));
            }
            command = deaf;
        }
        for name in ["out", "in"] {
            let _ = mknodat(CWD, self.pipe(name), FileType::Fifo, Mode::from(0o600), 0);
        }
        let last = match self.generation {
            Generation::WithSts => LastFields::Sts {
                endpoint: "",
                port: 443,
            },
            Generation::WithStrategies => LastFields::Strategies {
                describe_interval: 300_000,
                default: "USER_PARTITION_KEY",
            },
            Generation::CredentialsAsArguments | Generation::CredentialsOverThePipe => {
                LastFields::None
            }
        };
        let configuration = Request::Configuration(self.fields.encode_with(last));
        command.arg("-o").arg(self.pipe("out"));
        command.arg("-i").arg(self.pipe("in"));
        command.args(["-c", &hex(&message(configuration, 0))]);
        let credentials = [Generation::CredentialsAsArguments, Generation::WithSts];
        if credentials.contains(&self.generation) {
            command.args([
                "-k",
                &hex(&message(credentials_for(false), i64::MAX as u64)),
            ]);
        }
        command.arg("-t");
        if credentials.contains(&self.generation) {
            command.args(["-w", &hex(&message(credentials_for(true), i64::MAX as u64))]);
        }
        command.args(["-l", if self.is_deaf { "trace" } else { "info" }]);
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Opens the pipes as Java does: the one it reads from first, which waits for the daemon.
    pub(crate) fn start(self) -> Client {
        let daemon = Running::start("the daemon", &mut self.command());
        let from = File::open(self.pipe("in")).expect("made");
        let to = File::options().write(true).open(self.pipe("out"));
        let answers: Arc<Mutex<Answers>> = Arc::default();
        let reading = Arc::clone(&answers);
        let listens: Arc<AtomicBool> = Arc::new(AtomicBool::new(!self.is_deaf));
        let listened = Arc::clone(&listens);
        Client {
            daemon,
            to: Some(to.expect("made")),
            answers,
            listens,
            reading: Some(std::thread::spawn(move || {
                while !listened.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                read(from, &reading);
            })),
            _dir: self.dir,
        }
    }
}

impl Client {
    /// As the client sends each: its length, and then itself.
    pub(crate) fn send(&mut self, request: Request, id: u64) {
        let mut frame = Vec::new();
        request.encode(id, &mut frame);
        self.send_bytes(&frame);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let to = self.to.as_mut().expect("not closed");
        to.write_all(bytes).expect("the daemon reads");
    }

    pub(crate) fn send_credentials(&mut self) {
        for for_metrics in [false, true] {
            self.send(credentials_for(for_metrics), i64::MAX as u64);
        }
    }

    pub(crate) fn put(&mut self, id: u64, stream: &str, key: &str, data: impl Into<Bytes>) {
        self.send(put(id, stream, Some(key), None, data), id);
    }

    pub(crate) fn flush(&mut self) {
        self.send(Request::Flush { stream: None }, 0);
    }

    pub(crate) fn ask_for_metrics(&mut self, id: u64, name: &str, seconds: Option<u64>) {
        let request = MetricsRequest {
            name: Some(name.to_owned()),
            seconds,
        };
        self.send(Request::Metrics { id, request }, id);
    }

    pub(crate) fn metrics(&mut self, id: u64) -> MetricsResponse {
        let answers = Arc::clone(&self.answers);
        self.daemon.until("metrics", |_| {
            answers.lock().expect("no panic").metrics.remove(&id)
        })
    }

    /// What became of so many records, once all of them are known.
    pub(crate) fn results(&mut self, records: usize) -> BTreeMap<u64, PutRecordResult> {
        let answers = Arc::clone(&self.answers);
        self.daemon.until("all results", |_| {
            let answers = answers.lock().expect("no panic");
            (answers.results.len() >= records).then_some(())
        });
        let answers = self.answers.lock().expect("no panic");
        assert!(
            answers.doubled.is_empty(),
            "answered twice: {:?}",
            answers.doubled
        );
        answers.results.clone()
    }

    /// What it was told of its streams' strategies.
    pub(crate) fn strategies(&self) -> Vec<String> {
        self.answers.lock().expect("no panic").strategies.clone()
    }

    pub(crate) fn results_so_far(&self) -> usize {
        self.answers.lock().expect("no panic").results.len()
    }

    pub(crate) fn ears(&self) -> Ears {
        Ears(Arc::clone(&self.listens))
    }

    /// As where the JVM exits, or is killed: the pipe ends.
    pub(crate) fn close_pipe(&mut self) {
        self.to = None;
    }

    /// Its pipe to the daemon, for a thread of its own.
    pub(crate) fn writer(&mut self) -> Writer {
        Writer(self.to.take().expect("not closed"))
    }

    /// It has ended, and the pipe from it.
    pub(crate) fn until_ended(&mut self) {
        let answers = Arc::clone(&self.answers);
        until("the pipe has ended", || {
            answers.lock().expect("no panic").has_ended.then_some(())
        });
    }

    /// kill -9. What it had answered by then.
    pub(crate) fn kill(self) -> BTreeMap<u64, PutRecordResult> {
        self.daemon.kill();
        if let Some(reading) = self.reading {
            until("the pipe has ended", || reading.is_finished().then_some(()));
        }
        let answers = self.answers.lock().expect("no panic");
        answers.results.clone()
    }

    /// The daemon has ended by itself.
    pub(crate) fn wait(mut self) -> (Ended, BTreeMap<u64, PutRecordResult>) {
        let ended = self.daemon.wait();
        let reading = self.reading.take().expect("once");
        until("the pipe has ended", || reading.is_finished().then_some(()));
        let answers = self.answers.lock().expect("no panic");
        (ended, answers.results.clone())
    }
}

/// Of a client that goes on.
#[derive(Debug)]
pub(crate) struct Writer(File);

impl Writer {
    /// Counts what it has `written`.
    pub(crate) fn write_until_it_is_gone(mut self, stream: &str, written: &AtomicU64) {
        for id in 1_u64.. {
            let mut frame = Vec::new();
            put(id, stream, Some("k"), None, vec![b'x'; 200]).encode(id, &mut frame);
            if self.0.write_all(&frame).is_err() {
                return;
            }
            written.store(id, Ordering::Relaxed);
        }
    }
}

/// Of a client that is deaf.
#[derive(Debug)]
pub(crate) struct Ears(Arc<AtomicBool>);

impl Ears {
    /// Answers are read from now on.
    pub(crate) fn listen(&self) {
        self.0.store(true, Ordering::Release);
    }
}

fn read(mut from: File, answers: &Mutex<Answers>) {
    loop {
        let mut length = [0; 4];
        if from.read_exact(&mut length).is_err() {
            answers.lock().expect("no panic").has_ended = true;
            return;
        }
        let length = u32::from_be_bytes(length) as usize;
        // Clients up to 1.0.5 die of others, in silence.
        assert!(length > 0 && length <= 8 << 20, "a frame of {length} bytes");
        let mut body = vec![0; length];
        from.read_exact(&mut body).expect("a whole frame");
        let answer = Answer::decode(&body).expect("a message");
        let mut answers = answers.lock().expect("no panic");
        if let Some(strategy) = answer.strategy {
            answers
                .strategies
                .push(strategy.record_distribution_strategy);
            continue;
        }
        let to = answer.to.expect("it says to what");
        if let Some(result) = answer.result
            && answers.results.insert(to, result).is_some()
        {
            answers.doubled.push(to);
        }
        if let Some(metrics) = answer.metrics {
            answers.metrics.insert(to, metrics);
        }
    }
}

pub(crate) fn put(
    id: u64,
    stream: &str,
    key: Option<&str>,
    explicit: Option<&str>,
    data: impl Into<Bytes>,
) -> Request {
    let record = PutRecord {
        stream_name: stream.to_owned(),
        partition_key: key.map(str::to_owned),
        explicit_hash_key: explicit.map(str::to_owned),
        data: data.into(),
    };
    Request::PutRecord { id, record }
}

fn credentials_for(for_metrics: bool) -> Request {
    Request::Credentials(SetCredentials {
        for_metrics: Some(for_metrics),
        credentials: Credentials {
            akid: "test".to_owned(),
            secret_key: "test".to_owned(),
            token: None,
        },
    })
}

/// Without its length.
fn message(request: Request, id: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    request.encode(id, &mut frame);
    frame.split_off(4)
}

/// In upper case, as Java writes it.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
