//! Which line begins a record, and which belongs to the one before it.

use regex::bytes::Regex;

use super::stack::{Language, Next, State};

/// `start_pattern`, `continue_pattern` or `preset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A line that matches begins a record; any other belongs to the one before it.
    Start(LinePattern),
    /// A line that matches belongs to the record before it; any other begins one.
    Continue(LinePattern),
    /// Stack traces.
    Stack(Language),
}

impl Rule {
    /// After the first line of a record.
    pub(super) fn begin(&self, line: &[u8]) -> State {
        match self {
            Self::Start(_) | Self::Continue(_) => State::Plain,
            Self::Stack(language) => language.begin(line),
        }
    }

    /// The line after one that left `state`.
    pub(super) fn next(&self, state: State, line: &[u8]) -> Next {
        let continues = match self {
            Self::Start(pattern) => !pattern.matches(line),
            Self::Continue(pattern) => pattern.matches(line),
            Self::Stack(language) => return language.next(state, line),
        };
        if continues {
            Next::Continues(State::Plain)
        } else {
            Next::Begins
        }
    }
}

/// A regular expression that a line matches or not. The `regex` crate's, on bytes: linear in the line, and what is
/// not UTF-8 passes.
#[derive(Debug, Clone)]
pub struct LinePattern(Regex);

/// Two that are written alike are alike.
impl PartialEq for LinePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for LinePattern {}

impl LinePattern {
    pub fn new(pattern: &str) -> Result<Self, LinePatternError> {
        let regex = Regex::new(pattern).map_err(|error| {
            // Of the several lines of a syntax error, the last has the reason.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            LinePatternError(last.trim_start_matches("error: ").to_owned())
        })?;
        Ok(Self(regex))
    }

    fn matches(&self, line: &[u8]) -> bool {
        self.0.is_match(line)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a regular expression: {0}")]
pub struct LinePatternError(String);
