//! The faults file: TOML → [`Faults`], every mistake named with its line and key.

mod strikes;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use toml_edit::{Document, Item, Table, Value};

use super::{Action, Entries, Faults, Rule};
use crate::fake::protocol::{ApiError, Service};

const TOP_KEYS: &[&str] = &["seed", "rule"];
const ACTIONS: &str = "throttle, internal_failure, error, expired_token, access_denied, malformed, truncated, \
                       fewer_answers, stall, stall_after, reset_before, reset_after or latency";

/// All mistakes of a faults file, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FaultsFileError {
    mistakes: Vec<String>,
}

impl FaultsFileError {
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }
}

impl fmt::Display for FaultsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistakes.join("\n"))
    }
}

pub(super) fn read(text: &str) -> Result<Faults, FaultsFileError> {
    let document = Document::parse(text).map_err(|error| FaultsFileError {
        mistakes: vec![format!(
            "line {}: {}",
            line_of(text, error.span()),
            error.message()
        )],
    })?;
    let mut reader = Reader {
        text,
        mistakes: Vec::new(),
        rule: None,
    };
    let top = Keys::of(document.as_table());
    reader.refuse_others(&top, TOP_KEYS);
    let seed = reader.number(&top, "seed").unwrap_or(0);
    let rules = match document.get("rule") {
        None => Vec::new(),
        Some(Item::ArrayOfTables(rules)) => {
            let numbered = (1..).zip(rules.iter());
            numbered
                .filter_map(|(number, rule)| reader.numbered(number, rule))
                .collect()
        }
        Some(other) => {
            reader.mistake(other.span(), "rule", "is written as [[rule]] tables");
            Vec::new()
        }
    };
    if reader.mistakes.is_empty() {
        Ok(Faults { seed, rules })
    } else {
        Err(FaultsFileError {
            mistakes: reader.mistakes,
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<String>,
    /// The one that is being read, counted from 1.
    rule: Option<usize>,
}

/// A table and where it stands.
struct Keys<'a> {
    table: &'a Table,
    span: Option<Range<usize>>,
}

impl<'a> Keys<'a> {
    fn of(table: &'a Table) -> Self {
        Self {
            table,
            span: table.span(),
        }
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key)?.as_value()
    }
}

impl Reader<'_> {
    fn numbered(&mut self, number: usize, table: &Table) -> Option<Rule> {
        self.rule = Some(number);
        let rule = self.rule(table);
        self.rule = None;
        rule
    }

    fn rule(&mut self, table: &Table) -> Option<Rule> {
        let keys = Keys::of(table);
        let before = self.mistakes.len();
        let (action, own_keys) = self.action(&keys)?;
        let common = [
            "do",
            "service",
            "operation",
            "after",
            "every",
            "percent",
            "count",
        ];
        self.refuse_others(&keys, &[&common[..], own_keys].concat());
        let mut rule = Rule::new(action);
        rule.service = self.service(&keys);
        rule.operation = self.text(&keys, "operation");
        self.refuse_unanswered(&keys, &rule);
        rule.shard = self.shard(&keys);
        rule.after = self.number(&keys, "after").unwrap_or(0);
        rule.count = self.counted(&keys, "count", "leave it out to strike without an end");
        let every = self.counted(&keys, "every", "every = 1 strikes each call");
        rule.every = every.unwrap_or(1);
        if let Some(percent) = self.percent(&keys) {
            rule.percent = percent;
        }
        (self.mistakes.len() == before).then_some(rule)
    }

    /// The action, and the keys that belong to it alone.
    fn action(&mut self, keys: &Keys<'_>) -> Option<(Action, &'static [&'static str])> {
        let Some(name) = self.text(keys, "do") else {
            if keys.value("do").is_none() {
                self.mistake(
                    keys.span.clone(),
                    "do",
                    &format!("is missing: it is {ACTIONS}"),
                );
            }
            return None;
        };
        let no_keys: &[&str] = &[];
        Some(match name.as_str() {
            "throttle" => (Action::Throttle(self.entries(keys)?), &["entries", "shard"]),
            "internal_failure" => (
                Action::FailEntries(self.entries(keys)?),
                &["entries", "shard"],
            ),
            "error" => (self.error(keys)?, &["code", "status", "message"]),
            "expired_token" => (Action::expired_token(), no_keys),
            "access_denied" => (Action::access_denied(), no_keys),
            "malformed" => (Action::Malformed, no_keys),
            "truncated" => (Action::Truncated, no_keys),
            "fewer_answers" => {
                let by = self.counted(keys, "by", "so many answers are missing");
                let by = by.unwrap_or(1);
                (
                    Action::FewerAnswers(usize::try_from(by).unwrap_or(usize::MAX)),
                    &["by"],
                )
            }
            "stall" => (Action::Stall, no_keys),
            "stall_after" => (Action::StallAfter, no_keys),
            "reset_before" => (Action::ResetBefore, no_keys),
            "reset_after" => (Action::ResetAfter, no_keys),
            "latency" => (Action::Latency(self.delay(keys)?), &["delay"]),
            other => {
                self.mistake_at(keys, "do", &format!("is {ACTIONS}, found {other:?}"));
                return None;
            }
        })
    }

    fn error(&mut self, keys: &Keys<'_>) -> Option<Action> {
        let Some(code) = self.text(keys, "code") else {
            self.mistake_at(
                keys,
                "code",
                "is required with do = \"error\", such as \"ThrottlingException\"",
            );
            return None;
        };
        let message = self
            .text(keys, "message")
            .unwrap_or_else(|| format!("{code} by a fault rule"));
        let status = self.number(keys, "status").unwrap_or(400);
        let Some(status) = u16::try_from(status)
            .ok()
            .filter(|s| (400..600).contains(s))
        else {
            self.mistake_at(keys, "status", &format!("is 400 to 599, found {status}"));
            return None;
        };
        Some(Action::Error(
            ApiError::new(code, message).with_status(status),
        ))
    }

    fn entries(&mut self, keys: &Keys<'_>) -> Option<Entries> {
        let entries = match keys.value("entries") {
            None => Some(Entries::All),
            Some(Value::Integer(n)) => (usize::try_from(*n.value()).ok())
                .filter(|n| *n > 0)
                .map(Entries::Count),
            Some(Value::String(s)) => match s.value().as_str() {
                "all" => Some(Entries::All),
                text => text
                    .strip_suffix('%')
                    .and_then(|percent| percent.trim().parse().ok())
                    .filter(|percent| is_share(*percent))
                    .map(Entries::Percent),
            },
            Some(_) => None,
        };
        if entries.is_none() {
            self.mistake_at(
                keys,
                "entries",
                "is a number from 1, a share above \"0%\" such as \"10%\", or \"all\"",
            );
        }
        entries
    }

    fn delay(&mut self, keys: &Keys<'_>) -> Option<Duration> {
        let delay = self.text(keys, "delay").as_deref().and_then(parse_delay);
        let delay = delay.filter(|delay| !delay.is_zero());
        if delay.is_none() {
            self.mistake_at(
                keys,
                "delay",
                "is a duration above 0 such as \"50ms\" or \"2s\"",
            );
        }
        delay
    }

    fn service(&mut self, keys: &Keys<'_>) -> Option<Service> {
        match self.text(keys, "service")?.as_str() {
            "kinesis" => Some(Service::Kinesis),
            "kms" => Some(Service::Kms),
            other => {
                self.mistake_at(
                    keys,
                    "service",
                    &format!("is \"kinesis\" or \"kms\", found {other:?}"),
                );
                None
            }
        }
    }

    fn percent(&mut self, keys: &Keys<'_>) -> Option<f64> {
        let value = keys.value("percent")?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "what is lost is far outside 0 to 100"
        )]
        let percent = value
            .as_float()
            .or_else(|| value.as_integer().map(|n| n as f64));
        let percent = percent.filter(|percent| is_share(*percent));
        if percent.is_none() {
            self.mistake_at(keys, "percent", "is a number above 0, up to 100");
        }
        percent
    }

    fn text(&mut self, keys: &Keys<'_>, key: &str) -> Option<String> {
        let item = keys.table.get(key)?;
        let text = item.as_str().map(str::to_owned);
        if text.is_none() {
            self.mistake_at(keys, key, "is a string in quotes");
        }
        text
    }

    fn number(&mut self, keys: &Keys<'_>, key: &str) -> Option<u64> {
        let item = keys.table.get(key)?;
        let number = item.as_integer().and_then(|n| u64::try_from(n).ok());
        if number.is_none() {
            self.mistake_at(keys, key, "is a whole number, not below 0");
        }
        number
    }

    fn refuse_others(&mut self, keys: &Keys<'_>, allowed: &[&str]) {
        for (key, _) in keys.table {
            if !allowed.contains(&key) {
                self.mistake_at(
                    keys,
                    key,
                    &format!("is not known here; known are {}", allowed.join(", ")),
                );
            }
        }
    }

    /// Names the line of `key`, or that of its table where the key is missing.
    fn mistake_at(&mut self, keys: &Keys<'_>, key: &str, what: &str) {
        let span = keys
            .table
            .get_key_value(key)
            .and_then(|(key, item)| key.span().or_else(|| item.span()));
        self.mistake(span.or_else(|| keys.span.clone()), key, what);
    }

    fn mistake(&mut self, span: Option<Range<usize>>, key: &str, what: &str) {
        let line = line_of(self.text, span);
        let rule = self.rule.map(|rule| format!(", rule {rule}"));
        let rule = rule.unwrap_or_default();
        self.mistakes
            .push(format!("line {line}{rule}: `{key}` {what}"));
    }
}

/// Of what is struck: none would be no rule.
fn is_share(percent: f64) -> bool {
    percent > 0.0 && percent <= 100.0
}

fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    1 + text.as_bytes()[..start]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
}

fn parse_delay(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim_start() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}
