//! The agent's configuration for a case, as a user would write it: defaults, but for what the case says.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::scenario::{Cache, Case, Encryption, Protocol, Source};
use crate::sink;
use crate::target::Place;

pub(crate) struct Configuration<'a> {
    pub(crate) case: &'a Case,
    pub(crate) place: &'a Place,
    pub(crate) folder: &'a Path,
}

impl fmt::Display for Configuration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            case,
            place,
            folder,
        } = self;
        let at = |name: &str| format!("{:?}", folder.join(name).display().to_string());
        writeln!(f, "state_dir = {}", at("state"))?;
        if let Some(limit) = &case.memory_limit {
            writeln!(f, "memory_limit = {limit:?}")?;
        }
        writeln!(f, "[aws]")?;
        if place.is_stand_in {
            writeln!(f, "region = {:?}", kinseal::fake::DEFAULT_REGION)?;
        }
        if let Some(url) = &place.kinesis_url {
            writeln!(f, "kinesis_endpoint_url = {url:?}")?;
        }
        if let Some(url) = &place.kms_url {
            writeln!(f, "kms_endpoint_url = {url:?}")?;
        }
        if case.source == Source::File {
            for n in 0..case.streams {
                let (stream, log) = (sink::nth(&place.stream, n), at(&self.glob(n)));
                writeln!(f, "[[source]]\nstream = {stream:?}\ntype = \"file\"")?;
                writeln!(f, "include = [{log}]\nstart_position = \"beginning\"")?;
                self.keys(f)?;
            }
        } else {
            writeln!(f, "[[source]]\nstream = {:?}", place.stream)?;
        }
        match case.source {
            Source::File => {}
            // A stream needs a source, which the library does not have; that of the others nobody reads.
            Source::Library
            | Source::Bare
            | Source::Python
            | Source::FluentBit
            | Source::Vector => {
                writeln!(f, "type = \"stdin\"")?;
            }
            Source::Socket => {
                writeln!(f, "type = \"unix\"\npath = {}", at("socket"))?;
                self.keys(f)?;
            }
            Source::Kpl => writeln!(
                f,
                "type = \"unix\"\npath = {}\nframing = \"kpl\"",
                at("socket")
            )?,
        }
        self.encryption(f)?;
        writeln!(f, "[aggregation]\nenabled = {}", case.aggregation)?;
        if let Some(ms) = case.linger_ms {
            writeln!(f, "linger = \"{ms}ms\"")?;
        }
        // The quota of shards, which a stand-in does not have, unless what failing entries or those quotas cost is the question.
        let is_limited = !place.is_stand_in || case.is_throttled();
        if !is_limited || case.protocol != Protocol::Json {
            writeln!(f, "[delivery]")?;
        }
        if !is_limited {
            writeln!(f, "rate_limit = 1000000")?;
        }
        match case.protocol {
            Protocol::Json => Ok(()),
            Protocol::Cbor => writeln!(f, "protocol = \"cbor\""),
        }
    }
}

impl Configuration<'_> {
    /// Of lines, to one of which each goes in turn. The first ones are each another stream's.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let name = |n| match self.case.files {
            1 => "lines.log".to_owned(),
            _ => format!("lines-{}-{n}.log", n % self.case.streams),
        };
        (0..self.case.files)
            .map(|n| self.folder.join(name(n)))
            .collect()
    }

    /// What finds the files of the `n`th stream.
    fn glob(&self, n: usize) -> String {
        match self.case.files {
            1 => "lines.log".to_owned(),
            _ => format!("lines-{n}-*.log"),
        }
    }

    fn keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.case.keys.rule() {
            None => Ok(()),
            Some(rule) => writeln!(f, "partition_key = {rule}"),
        }
    }

    fn encryption(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = self.case;
        let scope = match case.encryption {
            Encryption::Off => return writeln!(f, "[encryption]\nscope = \"off\""),
            Encryption::Record => "record",
            Encryption::Block | Encryption::BlockZstd => "block",
        };
        writeln!(f, "[encryption]\nscope = {scope:?}")?;
        if let Some(key) = &self.place.kms_key {
            writeln!(f, "kms_key = {key:?}")?;
        }
        writeln!(f, "context = {{ app = \"loadtest\" }}")?;
        writeln!(f, "suite = {:?}\nbackend = {:?}", case.suite, case.backend)?;
        if let Some(lanes) = &case.lanes {
            writeln!(f, "lanes = {lanes:?}")?;
        }
        if let Cache::Messages(messages) = case.cache {
            writeln!(f, "cache = {{ max_messages = {messages} }}")?;
        }
        if case.encryption == Encryption::BlockZstd {
            writeln!(f, "[encryption.block]\ncompression = \"zstd\"")?;
        }
        Ok(())
    }
}
