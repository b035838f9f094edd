//! One run: a folder, lines, a sink, an agent, and what came of it.

use std::fs;
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, anyhow, ensure};
use serde::{Deserialize, Serialize};

use crate::agent::{self, Running, Work};
use crate::bare;
use crate::cleanup::Folder;
use crate::configuration::Configuration;
use crate::curve::Curve;
use crate::invariants::{self, Violation};
use crate::kpl::{self, Frames};
use crate::lines::{Due, Lines};
use crate::python;
use crate::reader::{self, Read};
use crate::scenario::{Case, Pace, Source};
use crate::shipper;
use crate::sink::{Arrived, Sink};
use crate::target::{Place, Target};

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) agent: Work,
    /// None: it is not ours, and what arrived there is not known.
    pub(crate) sink: Option<Arrived>,
    pub(crate) log_bytes: u64,
    /// How many times smaller zstd makes 48 KiB of the lines, at level 1.
    pub(crate) zstd_ratio: f64,
    /// Kinesis records that arrived beyond those acknowledged.
    pub(crate) duplicates: Option<u64>,
    /// At a steady pace: from when a line was due until its request had arrived.
    pub(crate) due_to_arrived: Option<Curve>,
    pub(crate) read_back: Option<ReadBack>,
    pub(crate) violations: Vec<Violation>,
}

/// The reader's half, in a run of its own whose sink keeps records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReadBack {
    pub(crate) log_bytes: u64,
    pub(crate) read: Read,
}

/// Bytes of lines that are read back: what the sink keeps is in memory.
const READ_BACK: u64 = 40_000_000;
/// Of a path: unix(7).
const LONGEST_SOCKET: usize = 107;
/// Takes whole lines.
type Taken = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// `told` hears how many of all lines are stored. `python` is what runs a script, if the case needs that; `hdr_log` is where
/// latencies go, if anywhere.
pub(crate) fn run(
    case: &Case,
    target: &Target,
    python: Option<&Path>,
    hdr_log: Option<&Path>,
    told: impl FnMut(agent::Sample),
) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(case, target, python, case.sink_keeps())?;
    let (agent, due) = stage.send(case, hdr_log, told)?;
    let sink = stage.sink.as_mut().map(Sink::arrived).transpose()?;
    let saved = stage.saved(case)?;
    let mut violations = invariants::check(case, &agent, sink.as_ref(), stage.log_bytes, &saved);
    let entries = sink.as_ref().map(|sink| sink.entries);
    let mut outcome = Outcome {
        duplicates: entries.map(|entries| entries.saturating_sub(agent.counts.entries_stored)),
        agent,
        sink,
        log_bytes: stage.log_bytes,
        zstd_ratio: stage.lines.zstd_ratio(),
        due_to_arrived: None,
        read_back: None,
        violations: Vec::new(),
    };
    if let (Some(due), Some(sink)) = (due, &mut stage.sink) {
        outcome.due_to_arrived = Some(sink.latencies(due, hdr_log)?);
    }
    if stage.sink.is_some() && case.sink_keeps() {
        let read = stage.read_back(case.source.is_shipper())?;
        let sum = stage.lines.sum(case.lines);
        violations.extend(invariants::check_read(case, &read.read, sum));
        outcome.read_back = case.keep.then_some(read);
    } else if case.read_back {
        drop(stage);
        let few = READ_BACK / (case.line_bytes as u64 + 1);
        let case = Case {
            lines: case.lines.min(few).max(1),
            ..case.clone()
        };
        let mut stage = Stage::set(&case, target, python, true)?;
        stage.send(&case, None, |_| {})?;
        let read = stage.read_back(false)?;
        let sum = stage.lines.sum(case.lines);
        violations.extend(invariants::check_read(&case, &read.read, sum));
        outcome.read_back = Some(read);
    }
    outcome.violations = violations;
    Ok(outcome)
}

/// Everything that an agent needs. The folder goes with it, and with that the file, the state and the certificate.
struct Stage<'a> {
    folder: Folder,
    place: Place,
    /// Where `place` is ours.
    sink: Option<Sink>,
    lines: Lines,
    log_bytes: u64,
    ca: Option<PathBuf>,
    python: Option<&'a Path>,
}

impl<'a> Stage<'a> {
    fn set(
        case: &Case,
        target: &Target,
        python: Option<&'a Path>,
        keep: bool,
    ) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let has_socket = matches!(case.source, Source::Socket | Source::Kpl);
        ensure!(
            !has_socket || folder.path().join("socket").as_os_str().len() <= LONGEST_SOCKET,
            "{} is too long for the path of a socket in it; TMPDIR names another folder",
            std::env::temp_dir().display()
        );
        fs::create_dir(folder.path().join("state"))?;
        let (place, sink, ca) = match target {
            Target::StandIn => {
                let ca = case.tls.then(|| folder.path().join("ca.pem"));
                let (place, sink) = Sink::start(case, keep, ca.as_deref())?;
                (place, Some(sink), ca)
            }
            Target::Named(place) => (place.clone(), None, None),
        };
        Ok(Self {
            place,
            sink,
            lines: Lines::of(case)?,
            log_bytes: 0,
            ca,
            python,
            folder,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs an agent until it has stored all lines. Where they came at a pace, also when they were due.
    fn send(
        &mut self,
        case: &Case,
        hdr_log: Option<&Path>,
        told: impl FnMut(agent::Sample),
    ) -> anyhow::Result<(Work, Option<Due>)> {
        let sent = self.try_send(case, hdr_log, told);
        sent.map_err(|why| self.blame(why))
    }

    fn try_send(
        &mut self,
        case: &Case,
        hdr_log: Option<&Path>,
        told: impl FnMut(agent::Sample),
    ) -> anyhow::Result<(Work, Option<Due>)> {
        let config = self.at("agent.toml");
        let configuration = Configuration {
            case,
            place: &self.place,
            folder: self.folder.path(),
        };
        fs::write(&config, configuration.to_string())?;
        let log = self.at("lines.log");
        let is_caught_up_with = case.source.is_file();
        let is_there_before = is_caught_up_with && case.pace == Pace::AsFastAsItGoes;
        if is_there_before {
            // Just written, so it is in the page cache: the disk is not what is measured.
            let logs = configuration.files();
            let written = self.lines.write(&logs, case.lines);
            self.log_bytes = written.with_context(|| cannot_write(self.folder.path()))?;
        } else if case.source == Source::File {
            fs::write(&log, b"")?;
        }
        if case.source == Source::Bare {
            let due = Due::from_now_on(case.pace);
            let work = bare::run(case, &self.place, due, &log, self.ca.as_deref())?;
            self.log_bytes = fs::metadata(&log)?.len();
            return Ok((work, Some(due)));
        }
        if case.source == Source::Python {
            let python = self.python.context("no interpreter for a Python program")?;
            let work = python::run(python, case, &self.place, &log, self.ca.as_deref())?;
            return Ok((work, None));
        }
        if let (true, Some(sink), Some(ca)) = (case.source.is_shipper(), &mut self.sink, &self.ca) {
            let work = shipper::run(case, &self.place, &log, ca, sink, told)?;
            return Ok((work, None));
        }
        let agent = Running::start(&config, case, &self.place, self.ca.as_deref(), hdr_log)?;
        let is_paced = case.pace != Pace::AsFastAsItGoes;
        if agent.due.is_none() && !is_there_before {
            let (work, due) = self.feed(agent, case, told)?;
            return Ok((work, is_paced.then_some(due)));
        }
        let due = agent.due.filter(|_| is_paced);
        let work = agent.work(told, || look_at(&mut self.sink))?;
        if !is_there_before {
            self.log_bytes = work.made_bytes;
        }
        Ok((work, due))
    }

    /// Why a run has failed: a sink that does not answer any more goes before what others say of it.
    fn blame(&mut self, why: anyhow::Error) -> anyhow::Error {
        match self.sink.as_mut().map(Sink::arrived) {
            Some(Err(of_sink)) if of_sink.to_string() != why.to_string() => of_sink.context(why),
            _ => why,
        }
    }

    /// Hands lines to a running agent, and reads its answers where there are any.
    fn feed(
        &mut self,
        mut agent: Running,
        case: &Case,
        told: impl FnMut(agent::Sample),
    ) -> anyhow::Result<(Work, Due)> {
        let due = Due::from_now_on(case.pace);
        let mut answering = None;
        let mut taken: Taken = match case.source {
            Source::File => {
                let mut log = fs::OpenOptions::new()
                    .append(true)
                    .open(self.at("lines.log"))?;
                Box::new(move |lines| log.write_all(lines))
            }
            Source::Kpl => {
                let socket = UnixStream::connect(self.at("socket"))?;
                answering = Some(BufReader::new(socket.try_clone()?));
                let mut frames = Frames::new(&self.place.stream, case.keys.clone(), socket);
                Box::new(move |lines| frames.send(lines))
            }
            _ => {
                let mut socket = UnixStream::connect(self.at("socket"))?;
                Box::new(move |lines| socket.write_all(lines))
            }
        };
        let (lines, line_count, sink) = (&mut self.lines, case.lines, &mut self.sink);
        let no_more = match case.source {
            Source::File => cannot_write(self.folder.path()),
            _ => "cannot hand over the lines".to_owned(),
        };
        let answered = agent.answered();
        let told_answered = || (&answered).write_all(b"\n");
        let is_over = AtomicBool::new(false);
        let (work, written, answers) = std::thread::scope(|scope| {
            let (wrote, written) = mpsc::channel();
            let is_over = &is_over;
            let unless_over = move |lines: &[u8]| match is_over.load(Ordering::Relaxed) {
                false => taken(lines),
                true => Err(io::Error::other("the run is over")),
            };
            scope.spawn(move || wrote.send(lines.hand_over(unless_over, line_count, due)));
            let answers = answering
                .map(|frames| scope.spawn(move || kpl::answers(frames, line_count, told_answered)));
            let mut bytes = None;
            let work = agent.work(told, || {
                if let Ok(written) = written.try_recv() {
                    bytes = Some(written.with_context(|| no_more.clone())?);
                }
                look_at(sink)
            });
            is_over.store(true, Ordering::Relaxed);
            let written = match bytes {
                Some(bytes) => Some(Ok(bytes)),
                None => written.recv().ok(),
            };
            (work, written, answers.map(|reading| reading.join()))
        });
        let mut work = work?;
        if let Some(answers) = answers {
            let answers = answers.map_err(|_| anyhow!("the reader of answers panicked"))?;
            work.answers = Some(answers?);
        }
        let written = written.context("the writer of lines panicked")?;
        self.log_bytes = written.context(no_more)?;
        Ok((work, due))
    }

    /// `joined`: a record may be several lines.
    fn read_back(&self, joined: bool) -> anyhow::Result<ReadBack> {
        Ok(ReadBack {
            log_bytes: self.log_bytes,
            read: reader::run(&self.place, self.ca.as_deref(), joined)?,
        })
    }

    /// The checkpoint that the agent left, if there was one.
    fn saved(&self, case: &Case) -> anyhow::Result<String> {
        if !case.source.has_agent() || case.source == Source::Library {
            return Ok(String::new());
        }
        let saved = fs::read_to_string(self.at("state/checkpoint.json"));
        saved.context("the agent left no checkpoint")
    }
}

fn look_at(sink: &mut Option<Sink>) -> anyhow::Result<()> {
    sink.as_mut().map_or(Ok(()), Sink::look)
}

fn cannot_write(folder: &Path) -> String {
    let folder = folder.display();
    format!("cannot write the lines to {folder}; TMPDIR names another place")
}
