//! Real files, a clock of our own, and a pipeline that settles when it is told to.

mod closing;
mod damaged;
mod followed;
mod joined;
mod model;
mod overlong;
mod packed;
mod rotated;
mod unfinished;
mod waiting;
mod written_over;

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::*;
use crate::checkpoint::Checkpoints;
use crate::delivery::{Delivery, MemoryBudget, Ticket};
use crate::record::StreamName;
use crate::shutdown::{self, Stop};
use crate::source::keying::Keying;
use crate::source::tail::UNFINISHED_KEPT;
use crate::source::tail::reader::BLOCK;
use crate::source::{Chunk, Costs, Intake};

struct Rig {
    dir: TempDir,
    include: Vec<String>,
    settings: Settings,
    /// For unfinished lines.
    kept: usize,
    runtime: Runtime,
    now: Instant,
    run: Option<Run>,
    /// Read, not settled.
    held: Vec<Ticket>,
}

/// From a start of the agent to its end.
struct Run {
    tailer: Tailer,
    chunks: mpsc::Receiver<Chunk>,
    checkpoints: Checkpoints,
    budget: MemoryBudget,
    stop: Stop,
}

impl Rig {
    fn new(include: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let log = dir.path().join("log").display().to_string();
        Self {
            include: include.iter().map(|g| format!("{log}/{g}")).collect(),
            settings: Settings {
                start_position: StartPosition::Beginning,
                ..Settings::default()
            },
            kept: UNFINISHED_KEPT,
            runtime: Runtime::new().unwrap(),
            now: Instant::now(),
            run: None,
            held: Vec::new(),
            dir,
        }
    }

    fn started(include: &[&str]) -> Self {
        let mut rig = Self::new(include);
        rig.start();
        rig
    }

    fn start(&mut self) {
        let settings = Settings {
            include: self.include.clone(),
            ..self.settings.clone()
        };
        let checkpoints = Checkpoints::open(&self.dir.path().join("state")).unwrap();
        self.run = Some(self.run_on(&settings, "logs", checkpoints));
    }

    /// A source of `stream`.
    fn run_on(&self, settings: &Settings, stream: &str, checkpoints: Checkpoints) -> Run {
        let globs = Globs::new(&settings.include, &[]).unwrap();
        let (to, chunks) = mpsc::channel(10_000);
        let budget = MemoryBudget::new(1 << 30);
        let (stop, shutdown) = shutdown::channel();
        let costs = Costs::new(100, true);
        let outlet = Outlet {
            runtime: self.runtime.handle().clone(),
            intake: Intake::new(to, budget.clone(), costs),
            making: Keying::RANDOM.into(),
            rules: settings.rules.clone(),
            max_line: settings.max_line_bytes,
            unfinished: MemoryBudget::new(self.kept),
            shutdown,
            newcomers: RefCell::default(),
        };
        let stream = StreamName::new(stream).unwrap();
        let ours = checkpoints.of_source(&stream, &settings.include.join(", "));
        let watch = Watch::polling();
        Run {
            tailer: Tailer::new(settings, globs, ours, outlet, watch, self.now),
            chunks,
            checkpoints,
            budget,
            stop,
        }
    }

    /// What files hold between turns.
    fn kept(&mut self) -> usize {
        let files = &self.run().tailer.files;
        files.values().map(|file| file.reader.kept_bytes()).sum()
    }

    /// Another source, beside the first, for as long as that runs.
    fn beside(&mut self, include: &str, stream: &str) -> Run {
        let settings = Settings {
            include: vec![self.path(include).display().to_string()],
            ..self.settings.clone()
        };
        let checkpoints = self.run().checkpoints.clone();
        self.run_on(&settings, stream, checkpoints)
    }

    /// Ends the agent, with all that is settled saved and all else abandoned.
    fn stop(&mut self) {
        self.run().checkpoints.save_if_moved().unwrap();
        self.kill();
    }

    fn kill(&mut self) {
        self.run = None;
        self.held.clear();
    }

    fn run(&mut self) -> &mut Run {
        self.run.as_mut().expect("started")
    }

    /// Ten seconds later: whatever is there is found, and read to its end. The lines read, not yet settled.
    fn read(&mut self) -> Vec<String> {
        self.now += Duration::from_secs(10);
        let now = self.now;
        let run = self.run.as_mut().expect("started");
        let (lines, tickets) = run.read(now);
        self.held.extend(tickets);
        lines
    }

    fn settle(&mut self) {
        self.held
            .drain(..)
            .for_each(|ticket| ticket.settle(&STORED()));
    }

    /// Reads, and everything is stored at once.
    fn deliver(&mut self) -> Vec<String> {
        let lines = self.read();
        self.settle();
        lines
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn status(&mut self) -> Vec<(String, u64, u64)> {
        let live = self.run().tailer.live();
        let live = live.lock().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut status: Vec<_> = (live.values().map(|known| known.ledger.status()))
            .map(|s| (name(s.path), s.read, s.settled))
            .collect();
        status.sort();
        status
    }
}

impl Run {
    fn read(&mut self, now: Instant) -> (Vec<String>, Vec<Ticket>) {
        while self.tailer.poll_once(now).unwrap() {}
        let (mut lines, mut tickets) = (Vec::new(), Vec::new());
        while let Ok(chunk) = self.chunks.try_recv() {
            for record in chunk.records {
                lines.push(String::from_utf8(record.data.to_vec()).unwrap());
                tickets.push(record.ticket);
            }
        }
        (lines, tickets)
    }
}

const STORED: fn() -> Delivery = || Delivery::Stored {
    shard: "shardId-000000000000".into(),
    sequence: "1".into(),
    attempts: 1,
};

const NOTHING: [&str; 0] = [];
