//! A regular expression whose group `key` is a record's key.
//!
//! The `regex` crate's: linear in the line whatever the pattern is, so no line can hold a source up.

use regex::bytes::{CaptureLocations, Regex};

/// Compiled, with a group named `key`.
#[derive(Debug, Clone)]
pub struct KeyPattern {
    regex: Regex,
    group: usize,
}

/// Two that are written alike are alike.
impl PartialEq for KeyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for KeyPattern {}

impl KeyPattern {
    pub const GROUP: &str = "key";

    pub fn new(pattern: &str) -> Result<Self, KeyPatternError> {
        let regex = Regex::new(pattern).map_err(|e| KeyPatternError::Syntax(reason(&e)))?;
        let group = regex
            .capture_names()
            .position(|name| name == Some(Self::GROUP));
        let Some(group) = group else {
            let others = regex.capture_names().flatten();
            return Err(match others.map(|name| format!("{name:?}")).next() {
                None => KeyPatternError::NoGroup,
                Some(other) => KeyPatternError::OtherGroup(other),
            });
        };
        Ok(Self { regex, group })
    }

    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Room to search with, for any number of lines.
    pub(super) fn room(&self) -> CaptureLocations {
        self.regex.capture_locations()
    }

    /// The group's bytes in the first match. `None`: no match, or one without the group.
    pub(super) fn find<'l>(&self, line: &'l [u8], room: &mut CaptureLocations) -> Option<&'l [u8]> {
        self.regex.captures_read(room, line)?;
        let (start, end) = room.get(self.group)?;
        Some(&line[start..end])
    }
}

/// Of the several lines of a syntax error, the last has the reason.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyPatternError {
    #[error("not a regular expression: {0}")]
    Syntax(String),
    #[error("the pattern has no group named key, like (?<key>…)")]
    NoGroup,
    #[error("the pattern has no group named key, but one named {0}")]
    OtherGroup(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'l>(pattern: &str, line: &'l [u8]) -> Option<&'l [u8]> {
        let pattern = KeyPattern::new(pattern).unwrap();
        pattern.find(line, &mut pattern.room())
    }

    #[test]
    fn the_group_of_the_first_match_is_found() {
        let pattern = r"user=(?<key>\S+)";
        let line = b"a user=ann b user=bob";
        assert_eq!(found(pattern, line), Some(&b"ann"[..]));
        assert_eq!(found(pattern, b"user= x"), None);
        assert_eq!(found("(?P<key>b)|c", b"xc"), None, "without the group");
        assert_eq!(
            found(r"(a)(?<key>(?-u:\xff))", b"\0a\xff"),
            Some(&b"\xff"[..])
        );
    }

    #[test]
    fn a_pattern_without_the_group_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("user=(", "not a regular expression: unclosed group"),
            (
                "user=.*",
                "the pattern has no group named key, like (?<key>…)",
            ),
            (
                "(?<user>.)",
                "the pattern has no group named key, but one named \"user\"",
            ),
        ] {
            let error = KeyPattern::new(pattern).unwrap_err();
            assert_eq!(error.to_string(), reason);
        }
        let huge = KeyPattern::new("(?<key>((.{100}){100}){100})").unwrap_err();
        assert!(huge.to_string().contains("size limit"), "{huge}");
    }
}
