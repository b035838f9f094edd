//! What the runs came to: kept as JSON, and shown as a table, as a page, and beside an earlier one.

mod answer;
mod compare;
mod cost;
mod page;
mod plot;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Instant, SystemTime};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) use self::compare::Comparison;
pub(crate) use self::cost::{PUT_UNIT, Prices};
pub(crate) use self::table::Table;
use crate::run::Outcome;
use crate::scenario::{Case, Encryption, Pace};
use crate::target::Target;

/// The runs so far, and what they were run on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Of this format.
    version: u32,
    scenario: String,
    /// The stream, where it is not a stand-in's.
    #[serde(default)]
    target: Option<String>,
    /// RFC 3339, UTC.
    made: String,
    machine: Machine,
    /// A debug build's figures mean nothing.
    optimized: bool,
    prices: Prices,
    pub(crate) runs: Vec<Run>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    /// Whether keys are derived and aggregates hashed in lanes of 512 bits.
    avx512: bool,
    kinseal: String,
    /// SHA-256 of one core, in MB/s: what the signature of each request demands of whoever sends it, and what figures of
    /// two machines may be set beside.
    #[serde(default)]
    sha256_mb_per_s: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) case: Case,
    pub(crate) outcome: Outcome,
}

const VERSION: u32 = 1;

impl Report {
    pub(crate) fn begin(scenario: &str, target: &Target, prices: Prices) -> Self {
        Self {
            version: VERSION,
            scenario: scenario.to_owned(),
            target: match target {
                Target::StandIn => None,
                Target::Named(place) => Some(place.to_string()),
            },
            made: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            machine: Machine::this(),
            optimized: !cfg!(debug_assertions),
            prices,
            runs: Vec::new(),
        }
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let report: Self = serde_json::from_str(&text).with_context(|| {
            format!("{shown} is no report of this program (give what --json wrote)")
        })?;
        anyhow::ensure!(
            report.version == VERSION,
            "{shown} has version {}, this program knows {VERSION}; run it again",
            report.version
        );
        anyhow::ensure!(
            !report.runs.is_empty(),
            "{shown} has no run to compare with"
        );
        anyhow::ensure!(
            report.is_plausible(),
            "{shown} is no report of this program: it has figures below zero, or text that is none; run it again"
        );
        Ok(report)
    }

    /// What is shown of it goes to somebody's terminal.
    fn is_plausible(&self) -> bool {
        let machine = [&self.machine.processor, &self.machine.kernel];
        let texts = [&self.made, &self.scenario].into_iter().chain(machine);
        let mut texts = texts.chain(self.runs.iter().map(|run| &run.name));
        let is_sound = |run: &Run| {
            let agent = &run.outcome.agent;
            agent.seconds >= 0.0 && agent.cpu_seconds >= 0.0
        };
        texts.all(|text| !text.contains(char::is_control)) && self.runs.iter().all(is_sound)
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        write_whole(path, &(serde_json::to_string_pretty(self)? + "\n"))
    }

    /// As one page that needs nothing else.
    pub(crate) fn save_page(&self, path: &Path, old: Option<&Self>) -> io::Result<()> {
        write_whole(path, &page::page(self, old))
    }

    pub(crate) fn add(&mut self, case: Case, outcome: Outcome) -> &Run {
        self.runs.push(Run {
            name: case.to_string(),
            case,
            outcome,
        });
        self.runs.last().expect("one was added")
    }

    /// The run that an encrypted one is compared with.
    fn plain_like(&self, case: &Case) -> Option<&Run> {
        let plain = case.without_encryption();
        let like = self.runs.iter().find(|run| run.case == plain);
        like.filter(|_| case.encryption != Encryption::Off)
    }

    /// What holds where no invariant is violated.
    fn verdict(&self) -> &'static str {
        match self.target {
            None => "none lost, none pending, none twice",
            Some(_) => "none lost, none pending, by the agent's own account (sink: not ours)",
        }
    }

    /// What is to be known of the figures of short runs, if there are any.
    fn roughness(&self) -> Option<String> {
        let rough = |run: &&Run| run.is_rough() && !run.is_paced();
        let rough = self.runs.iter().filter(rough).count();
        let of = self.runs.len();
        (rough > 0).then(|| {
            format!(
                "{rough} of {of} runs took less than half a second of CPU: what is said of theirs is rough. \
                 More megabytes, or lines, make it surer."
            )
        })
    }

    fn violations(&self) -> usize {
        self.runs.iter().map(|r| r.outcome.violations.len()).sum()
    }
}

/// Whoever reads it sees all of it, or all of what was there before. What is no file, like a pipe, is written to.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return fs::write(path, text);
    }
    let mut file = beside(path)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// A file without a name yet, in the folder of that one.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

/// Whether two names are one file's, there or not yet. What is no file, like /dev/null, takes both.
pub(crate) fn is_one_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let of_folder = |folder: &Path| match folder.as_os_str().is_empty() {
            true => fs::canonicalize("."),
            false => fs::canonicalize(folder),
        };
        let whole = fs::canonicalize(path).ok();
        whole.or_else(|| Some(of_folder(path.parent()?).ok()?.join(path.file_name()?)))
    };
    fs::metadata(one).map_or(true, |there| there.is_file()) && place(one) == place(other)
}

/// Whether something can be written there, found before there is something to write.
pub(crate) fn may_write(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => Ok(()),
        _ => beside(path).map(drop),
    }
}

impl Run {
    fn lines(&self) -> f64 {
        self.case.lines as f64
    }

    fn megabytes(&self) -> f64 {
        self.outcome.log_bytes as f64 / 1e6
    }

    fn lines_per_second(&self) -> f64 {
        self.lines() / self.outcome.agent.seconds
    }

    fn lines_per_cpu_second(&self) -> f64 {
        self.lines() / self.outcome.agent.cpu_seconds
    }

    fn bytes_per_line(&self) -> f64 {
        self.outcome.agent.counts.bytes_stored as f64 / self.lines()
    }

    fn entries_per_line(&self) -> f64 {
        self.outcome.agent.counts.entries_stored as f64 / self.lines()
    }

    fn cpu_per_megabyte(&self) -> f64 {
        self.outcome.agent.cpu_seconds / self.megabytes()
    }

    /// Seconds.
    fn sink_cpu(&self) -> String {
        match &self.outcome.sink {
            Some(sink) => format!("{:.2}", sink.cpu_seconds),
            None => "–".to_owned(),
        }
    }

    /// Whether its CPU is so little that the steps in which it is told, of 10 ms, and what else the machine does are seen in it.
    fn is_rough(&self) -> bool {
        /// Seconds.
        const LITTLE: f64 = 0.5;
        self.outcome.agent.cpu_seconds < LITTLE
    }

    fn is_paced(&self) -> bool {
        matches!(self.case.pace, Pace::LinesPerSecond(_))
    }

    /// Milliseconds: at a steady pace from when a line was due to its arrival, else from when it was read to its answer, which
    /// other programs do not tell.
    fn latency(&self, q: f64) -> Option<f64> {
        let mut of_agent = self.outcome.agent.latencies.iter();
        let whole = || of_agent.find(|curve| curve.stage == "line to stored");
        let curve = self.outcome.due_to_arrived.as_ref().or_else(whole)?;
        Some(curve.at(q))
    }

    fn latency_shown(&self, q: f64) -> String {
        let shown = |ms| format!("{ms:.1}");
        self.latency(q).map_or_else(|| "–".to_owned(), shown)
    }
}

impl Machine {
    fn this() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            avx512: field("flags").is_some_and(|flags| flags.contains("avx512f")),
            kinseal: env!("CARGO_PKG_VERSION").to_owned(),
            sha256_mb_per_s: sha256_mb_per_s(),
        }
    }
}

/// The best of some short tries: what others do on the machine only takes away.
fn sha256_mb_per_s() -> f64 {
    let data = vec![0x5a_u8; 4 << 20];
    let speed = |_| {
        let began = Instant::now();
        std::hint::black_box(Sha256::digest(std::hint::black_box(&data)));
        data.len() as f64 / 1e6 / began.elapsed().as_secs_f64()
    };
    (0..10).map(speed).fold(0.0, f64::max)
}
