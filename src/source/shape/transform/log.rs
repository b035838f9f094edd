//! `LOGTOJSON`.
//!
//! A line that the Kinesis Agent takes gives the same fields here. It also drops some that are well-formed: hosts in
//! IPv6, quotes within quotes (`\"`), Apache's own messages, which have no client. These are taken too.

use std::sync::LazyLock;

use regex::Regex;

use super::fields::Fields;

/// `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    CommonApacheLog,
    CombinedApacheLog,
    ApacheErrorLog,
    Syslog,
    Rfc3339Syslog,
}

/// A line's parts, as an object.
#[derive(Debug, Clone)]
pub struct LogToJson {
    fields: Fields,
    pattern: Regex,
    /// A part that is only this is null.
    dash_is_null: bool,
}

/// Two that are written alike are alike.
impl PartialEq for LogToJson {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
            && self.pattern.as_str() == other.pattern.as_str()
            && self.dash_is_null == other.dash_is_null
    }
}

impl Eq for LogToJson {}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatchPatternError {
    #[error("not a regular expression: {0}")]
    Syntax(String),
    #[error("{groups} groups for {names} names; each group needs one")]
    OtherCount { groups: usize, names: usize },
}

impl LogToJson {
    /// One of the formats, under its own names.
    pub fn new(format: LogFormat) -> Self {
        let fields = Fields::new(format.fields()).expect("names, none twice");
        Self::of(format, format.pattern().clone(), fields)
    }

    /// The same under other names: as many as there are.
    pub fn named(format: LogFormat, fields: Fields) -> Result<Self, MatchPatternError> {
        Self::checked(format, format.pattern().clone(), fields)
    }

    /// By another pattern, which has to match all of a line. Of the format only remains what a `-` means.
    pub fn matching(
        format: LogFormat,
        pattern: &str,
        fields: Fields,
    ) -> Result<Self, MatchPatternError> {
        let syntax = |error| MatchPatternError::Syntax(super::reason(&error));
        // First alone: a mistake in it is told as it was written.
        Regex::new(pattern).map_err(syntax)?;
        let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(syntax)?;
        Self::checked(format, whole, fields)
    }

    fn checked(
        format: LogFormat,
        pattern: Regex,
        fields: Fields,
    ) -> Result<Self, MatchPatternError> {
        let (groups, names) = (pattern.captures_len() - 1, fields.count());
        if groups != names {
            return Err(MatchPatternError::OtherCount { groups, names });
        }
        Ok(Self::of(format, pattern, fields))
    }

    fn of(format: LogFormat, pattern: Regex, fields: Fields) -> Self {
        let is_syslog = matches!(format, LogFormat::Syslog | LogFormat::Rfc3339Syslog);
        Self {
            fields,
            pattern,
            dash_is_null: !is_syslog,
        }
    }

    /// False if the line does not match.
    pub(super) fn apply(&self, line: &str, out: &mut Vec<u8>) -> bool {
        let Some(found) = self.pattern.captures(line) else {
            return false;
        };
        let is_there = |text: &&str| !(self.dash_is_null && *text == "-");
        let parts = found.iter().skip(1);
        let parts = parts.map(|part| part.map(|part| part.as_str()).filter(is_there));
        self.fields.write(parts, out);
        true
    }

    pub(super) fn fixed(&self) -> usize {
        self.fields.fixed()
    }
}

impl LogFormat {
    fn fields(self) -> &'static [&'static str] {
        const APACHE: [&str; 9] = [
            "host", "ident", "authuser", "datetime", "request", "response", "bytes", "referer",
            "agent",
        ];
        match self {
            Self::CommonApacheLog => &APACHE[..7],
            Self::CombinedApacheLog => &APACHE,
            Self::ApacheErrorLog => &[
                "timestamp",
                "module",
                "severity",
                "processid",
                "threadid",
                "client",
                "message",
            ],
            Self::Syslog | Self::Rfc3339Syslog => {
                &["timestamp", "hostname", "program", "processid", "message"]
            }
        }
    }

    /// Compiled once.
    fn pattern(self) -> &'static Regex {
        match self {
            Self::CommonApacheLog => &COMMON,
            Self::CombinedApacheLog => &COMBINED,
            Self::ApacheErrorLog => &ERROR,
            Self::Syslog => &SYSLOG,
            Self::Rfc3339Syslog => &RFC3339_SYSLOG,
        }
    }
}

/// `%h %l %u %t "%r" %>s %b`: <https://httpd.apache.org/docs/2.4/logs.html#common>
const ACCESS: &str = r#"^(\S+) (\S+) (\S+) \[([0-9]{1,2}/[A-Za-z]+/[0-9]+:[0-9:.,]+\s[+-]?[0-9]+)\] "((?:[^"\\]|\\.)*)" ([+-]?[0-9]+|-) ([+-]?[0-9]+|-)"#;
/// What a program calls itself, with its process, and what it says.
const SAID: &str = r"(?:<[0-9]+.[0-9]+> )?(\S+) ([^\s\[:]+)(?:\[([1-9][0-9]*)\])?: (.*)$";

// Whatever follows is left out, as the agent whose format it is does.
static COMMON: LazyLock<Regex> = LazyLock::new(|| regex(ACCESS));
static COMBINED: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = r#" "((?:[^"\\]|\\.)*)""#;
    regex(&format!("{ACCESS}{quoted}{quoted}"))
});
/// Apache 2.4's: `[time] [module:level] [pid N:tid N] [client HOST:PORT] message`
static ERROR: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^\[([A-Za-z]+\s+[A-Za-z]+\s+[0-9]{1,2}\s+[0-9:.,]+\s+[0-9]+)\] \[(?:(\w+):)?(\w+)\] \[pid ([0-9]+)(?::tid ([0-9]+))?\] (?:\[client ([^\]]+)\] )?(.*)$",
    )
});
/// As `/var/log/syslog` has it by tradition: RFC 3164's time.
static SYSLOG: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r"^([A-Z][a-z]+\s+[0-9]{{1,2}}\s+[0-9:.,]+) {SAID}"
    ))
});
static RFC3339_SYSLOG: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r"^([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?(?:Z|[-+][0-9]{{2}}:[0-9]{{2}})) {SAID}"
    ))
});

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of ours")
}
