//! What to run: a scenario is a small TOML file, and its lists are the axes of a matrix.

mod axes;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use self::axes::Axes;
pub(crate) use self::shape::{Keys, Length};

/// A matrix of runs, or several.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    matrices: Vec<Axes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encryption {
    Off,
    Record,
    Block,
    /// Blocks, compressed before they are encrypted.
    BlockZstd,
}

/// What lines are made of, behind their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Text {
    /// Letters at random: six bits of each byte cannot be compressed away.
    Random,
    /// What a program logs.
    Log,
    /// A user's own lines, each as long as it is.
    Sample(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    File,
    Socket,
    /// Frames of the KPL's on a socket, each of which is answered.
    Kpl,
    /// The library's producer in a program, which waits for each receipt.
    Library,
    /// No agent: each line is sent by a call of its own.
    Bare,
    /// No agent: a Python program catches up with the file.
    Python,
    /// No agent: another shipper catches up with the file, where its program is on the PATH.
    FluentBit,
    Vector,
}

/// How many messages one data key seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "axes::CacheWord", into = "axes::CacheWord")]
pub(crate) enum Cache {
    Default,
    /// 1: no cache.
    Messages(u64),
}

/// How lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// All are there before the agent starts, or come as fast as they are taken.
    AsFastAsItGoes,
    /// So many lines a second, whatever the agent does: each line's latency counts from when it was due.
    LinesPerSecond(u64),
}

/// How requests are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    #[default]
    Json,
    Cbor,
}

/// Before there were more.
fn one() -> usize {
    1
}

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) encryption: Encryption,
    pub(crate) aggregation: bool,
    /// Of a sample, or where they differ: the mean.
    pub(crate) line_bytes: usize,
    /// Where they differ, and are no sample's.
    #[serde(default)]
    pub(crate) lengths: Option<Length>,
    #[serde(default)]
    pub(crate) keys: Keys,
    pub(crate) text: Text,
    pub(crate) lines: u64,
    /// Whether the scenario says how many lines, and not how many bytes.
    pub(crate) is_counted: bool,
    /// Whether another run is like this one, but for how many lines it has.
    #[serde(default)]
    pub(crate) is_sized: bool,
    pub(crate) source: Source,
    pub(crate) pace: Pace,
    pub(crate) linger_ms: Option<u64>,
    pub(crate) suite: String,
    pub(crate) backend: String,
    /// As in a configuration file; none is the default.
    #[serde(default)]
    pub(crate) lanes: Option<String>,
    pub(crate) cache: Cache,
    pub(crate) kms_ms: u64,
    pub(crate) sink_ms: u64,
    pub(crate) shards: usize,
    /// Over which the lines are spread in turn.
    #[serde(default = "one")]
    pub(crate) files: usize,
    /// To which those go, each to one.
    #[serde(default = "one")]
    pub(crate) streams: usize,
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// As in a configuration file; none is the default.
    #[serde(default)]
    pub(crate) memory_limit: Option<String>,
    /// Percent of the entries of each call that the sink refuses as throttled, at random. It keeps what it takes then
    /// and counts each line, and the agent's configuration is the default.
    pub(crate) failing: Option<u32>,
    /// Whether shards take what they take at AWS, and no more. The agent's configuration is the default then.
    #[serde(default)]
    pub(crate) shard_limits: bool,
    /// Whether what was stored is read back and opened, in a run of its own.
    pub(crate) read_back: bool,
    /// Whether the sink keeps what it takes, in the run that is measured, and all of it is read back.
    #[serde(default)]
    pub(crate) keep: bool,
    pub(crate) tls: bool,
}

impl Scenario {
    pub(crate) fn quick() -> Self {
        Self::parse("quick", include_str!("../scenarios/quick.toml")).expect("tested")
    }

    pub(crate) fn smoke() -> Self {
        Self::parse("smoke", include_str!("../scenarios/smoke.toml")).expect("tested")
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &text).with_context(|| format!("scenario {shown}"))
    }

    pub(crate) fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            matrices: axes::matrices(text)?,
        })
    }

    /// The runs whose name contains `only`, each once. Those without encryption come before what is compared with them.
    pub(crate) fn cases(&self, only: Option<&str>) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for matrix in &self.matrices {
            let mut of_matrix = matrix.cases();
            of_matrix.sort_by_key(|case| (case.line_bytes, !case.aggregation));
            for case in of_matrix {
                if !cases.contains(&case) {
                    cases.push(case);
                }
            }
        }
        // Each made once: they are compared each with each.
        let of_no_length = |case: &Case| Case {
            lines: 0,
            ..case.without_encryption()
        };
        let alike: Vec<_> = cases.iter().map(|c| (of_no_length(c), c.lines)).collect();
        for (case, (plain, _)) in cases.iter_mut().zip(&alike) {
            let is_longer = |(other, lines): &(Case, u64)| *lines != case.lines && other == plain;
            case.is_sized = alike.iter().any(is_longer);
        }
        // Stable: the plain run of a place comes first, all else as the scenario has it.
        let plains: Vec<_> = cases.iter().map(Case::without_encryption).collect();
        let first_of_place = |plain| plains.iter().position(|other| other == plain);
        let places: Vec<_> = plains.iter().map(first_of_place).collect();
        let mut placed: Vec<_> = places.into_iter().zip(cases).collect();
        placed.sort_by_key(|(place, case)| (*place, case.encryption != Encryption::Off));
        let mut cases: Vec<Case> = placed.into_iter().map(|(_, case)| case).collect();
        cases.retain(|case| only.is_none_or(|only| case.to_string().contains(only)));
        cases
    }
}

impl Source {
    /// Whether who puts a line is told what became of it.
    pub(crate) fn is_answered(self) -> bool {
        matches!(self, Self::Kpl | Self::Library)
    }

    /// Whether it is kinseal that sends.
    pub(crate) fn has_agent(self) -> bool {
        !matches!(self, Self::Bare | Self::Python) && !self.is_shipper()
    }

    /// Whether it is another shipper that sends.
    pub(crate) fn is_shipper(self) -> bool {
        matches!(self, Self::FluentBit | Self::Vector)
    }

    /// Whether all lines are in a file before anybody starts, unless they come at a pace.
    pub(crate) fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Python) || self.is_shipper()
    }
}

impl Encryption {
    pub(crate) fn is_block(self) -> bool {
        matches!(self, Self::Block | Self::BlockZstd)
    }
}

impl Case {
    /// Whether `self` is `other` without faults.
    pub(crate) fn is_like_but_failing(&self, other: &Self) -> bool {
        let without = Self {
            failing: Some(0),
            ..self.clone()
        };
        self.failing.is_some_and(|failing| failing > 0) && *other == without
    }

    /// The run of kinseal's on the same file, if it is another program that this one is of.
    pub(crate) fn by_kinseal(&self) -> Option<Self> {
        let ours = Self {
            source: Source::File,
            ..self.clone()
        };
        let is_other = self.source == Source::Python || self.source.is_shipper();
        is_other.then_some(ours)
    }

    /// The run that this one is compared with, if it is not itself that.
    pub(crate) fn without_encryption(&self) -> Self {
        Self {
            encryption: Encryption::Off,
            suite: axes::SUITE.to_owned(),
            backend: axes::BACKEND.to_owned(),
            lanes: None,
            cache: Cache::Default,
            kms_ms: 0,
            ..self.clone()
        }
    }

    pub(crate) fn length(&self) -> Length {
        self.lengths.unwrap_or(Length::Fixed(self.line_bytes))
    }

    /// Whether the sink may refuse entries.
    pub(crate) fn is_throttled(&self) -> bool {
        self.failing.is_some() || self.shard_limits
    }

    /// What a sink that keeps records holds of them in memory, at most: a message's overhead, in every suite.
    pub(crate) fn kept_bytes(&self) -> u64 {
        const OF_A_MESSAGE: u64 = 1000;
        let overhead = match self.encryption {
            Encryption::Record => OF_A_MESSAGE,
            _ => 100,
        };
        let kept = self.lines.saturating_mul(self.line_bytes as u64 + overhead);
        match self.sink_keeps() {
            true => kept,
            false => 0,
        }
    }

    /// Whether records are kept, each with its time, instead of only counted.
    pub(crate) fn sink_keeps(&self) -> bool {
        self.keep || self.is_throttled() || matches!(self.pace, Pace::LinesPerSecond(_))
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Record => "record",
            Self::Block => "block",
            Self::BlockZstd => "block + zstd",
        })
    }
}

/// What is the default is not said.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aggregation = if self.source == Source::Bare {
            "no agent"
        } else if self.aggregation {
            "aggregated"
        } else {
            "single"
        };
        write!(f, "{}, {aggregation}, {}", self.encryption, self.length())?;
        match &self.text {
            Text::Random => {}
            Text::Log => write!(f, " of log")?,
            Text::Sample(path) => write!(f, " of {}", path.display())?,
        }
        match self.source {
            Source::File | Source::Bare => {}
            Source::Socket => write!(f, ", socket")?,
            Source::Kpl => write!(f, ", kpl")?,
            Source::Library => write!(f, ", library")?,
            Source::Python => write!(f, ", python")?,
            Source::FluentBit => write!(f, ", fluent-bit")?,
            Source::Vector => write!(f, ", Vector")?,
        }
        if let Pace::LinesPerSecond(lines) = self.pace {
            write!(f, ", {lines}/s")?;
        }
        write!(f, "{}", self.keys)?;
        if let Some(ms) = self.linger_ms {
            write!(f, ", linger {ms} ms")?;
        }
        if self.suite != axes::SUITE {
            write!(f, ", suite {}", self.suite)?;
        }
        if self.backend != axes::BACKEND {
            write!(f, ", {}", self.backend)?;
        }
        if let Some(lanes) = &self.lanes {
            write!(f, ", lanes {lanes}")?;
        }
        match self.cache {
            Cache::Default => {}
            Cache::Messages(1) => write!(f, ", no key cache")?,
            Cache::Messages(messages) => write!(f, ", {messages} a key")?,
        }
        if self.shards > 1 {
            write!(f, ", {} shards", self.shards)?;
        }
        if self.files > 1 {
            write!(f, ", {} files", self.files)?;
        }
        if self.streams > 1 {
            write!(f, ", {} streams", self.streams)?;
        }
        if self.protocol == Protocol::Cbor {
            write!(f, ", cbor")?;
        }
        if let Some(limit) = &self.memory_limit {
            write!(f, ", {limit}")?;
        }
        if let Some(failing) = self.failing {
            write!(f, ", {failing} %")?;
        }
        if self.shard_limits {
            write!(f, ", shard limits")?;
        }
        for (ms, whose) in [(self.kms_ms, "KMS"), (self.sink_ms, "sink")] {
            if ms > 0 {
                write!(f, ", {whose} {ms} ms")?;
            }
        }
        for (is_so, word) in [(!self.tls, "no TLS"), (self.keep, "kept")] {
            if is_so {
                write!(f, ", {word}")?;
            }
        }
        match self.is_counted || self.is_sized {
            true => write!(f, ", {} lines", self.lines),
            false => Ok(()),
        }
    }
}
