//! `data_processing`: what the Kinesis Agent calls so, under its names.
//!
//! | | a line becomes |
//! |---|---|
//! | `SINGLELINE` | its lines in one, each without the white space around it |
//! | `CSVTOJSON` | an object of its columns |
//! | `LOGTOJSON` | an object of the parts of an Apache or syslog line |
//! | `ADDMETADATA` | an object of metadata and the line |
//!
//! What they make of a line that they can take is what that agent makes of it, but for the newline that it appends. It
//! drops a line that `LOGTOJSON` does not match, and writes U+FFFD for what is not UTF-8; here both pass as they were.
//! <https://docs.aws.amazon.com/streams/latest/dev/writing-with-agents.html>

mod csv;
mod fields;
mod log;
mod metadata;
mod single;

use std::fmt;

pub use self::csv::{CsvToJson, DelimiterError};
pub use self::fields::{Fields, FieldsError};
pub use self::log::{LogFormat, LogToJson, MatchPatternError};
pub use self::metadata::AddMetadata;
pub use self::single::SingleLine;
use super::Work;

/// Why a pattern is none: of the several lines of a syntax error, the last one.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// One of `data_processing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transform {
    SingleLine(SingleLine),
    CsvToJson(CsvToJson),
    LogToJson(LogToJson),
    AddMetadata(AddMetadata),
}

impl Transform {
    /// Appends what `line`, read at `time`, becomes. False if it cannot be taken: then `out` does not count.
    fn apply(&self, line: &[u8], time: &str, out: &mut Vec<u8>) -> bool {
        if let Self::SingleLine(single) = self {
            single.apply(line, out);
            return true;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        match self {
            Self::SingleLine(_) => unreachable!("returned above"),
            Self::CsvToJson(csv) => csv.apply(line, out),
            Self::LogToJson(log) => return log.apply(line, out),
            Self::AddMetadata(add) => add.apply(line, time, out),
        }
        true
    }

    fn gives_json(&self) -> bool {
        !matches!(self, Self::SingleLine(_))
    }

    fn growth(&self) -> Growth {
        match self {
            Self::SingleLine(single) => single.growth(),
            Self::CsvToJson(csv) => Growth::json(csv.fixed()),
            Self::LogToJson(log) => Growth::json(log.fixed()),
            Self::AddMetadata(add) => Growth::json(add.fixed()),
        }
    }
}

/// As a person names it.
impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SingleLine(_) => "SINGLELINE",
            Self::CsvToJson(_) => "CSVTOJSON",
            Self::LogToJson(_) => "LOGTOJSON",
            Self::AddMetadata(_) => "ADDMETADATA",
        })
    }
}

/// What text becomes at most: so many times its length, and so much for each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) factor: usize,
    pub(super) fixed: usize,
}

impl Growth {
    const NONE: Self = Self {
        factor: 1,
        fixed: 0,
    };

    /// Of text in strings: what is escaped is twice as long, but for control characters. What has more of those than a
    /// fifth is not taken, so that memory for six times as much need not be kept free for every line.
    fn json(fixed: usize) -> Self {
        Self { factor: 2, fixed }
    }

    pub(super) fn of(self, records: usize, bytes: usize) -> usize {
        self.factor * bytes + records * self.fixed
    }

    pub(super) fn then(self, next: Self) -> Self {
        Self {
            factor: self.factor * next.factor,
            fixed: self.fixed * next.factor + next.fixed,
        }
    }
}

/// Transforms, one after the other.
#[derive(Debug)]
pub(super) struct Chain(Vec<Transform>);

impl Chain {
    pub(super) fn new(transforms: Vec<Transform>) -> Self {
        Self(transforms)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What comes out is a JSON object.
    pub(super) fn gives_json(&self) -> bool {
        self.0.last().is_some_and(Transform::gives_json)
    }

    pub(super) fn growth(&self) -> Growth {
        let each = self.0.iter().map(Transform::growth);
        each.fold(Growth::NONE, Growth::then)
    }

    /// Leaves what becomes of `line` in `work.text`. False if one of them cannot take it.
    pub(super) fn apply(&self, line: &[u8], work: &mut Work) -> bool {
        let mut is_first = true;
        for transform in &self.0 {
            let text = if is_first { line } else { &work.text };
            work.next.clear();
            let taken = transform.apply(text, &work.time, &mut work.next);
            if !taken || work.next.len() > transform.growth().of(1, text.len()) {
                return false;
            }
            is_first = false;
            std::mem::swap(&mut work.text, &mut work.next);
        }
        true
    }
}

/// As a person reads it in a log.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, transform) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{transform}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
