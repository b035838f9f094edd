//! What to run: a scenario is a small TOML file, and its lists are the axes of a matrix.

use std::fmt;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use toml_edit::{DocumentMut, Item, Value};

/// A matrix of runs.
#[derive(Debug)]
pub(crate) struct Scenario {
    encryption: Vec<Encryption>,
    aggregation: Vec<bool>,
    line_bytes: Vec<usize>,
    /// Percent of the entries of each call that the sink refuses as throttled, at random. With this axis, the
    /// sink keeps what it takes and counts each line, and the agent's configuration is the default.
    failing: Option<Vec<u32>>,
    shards: Vec<usize>,
    /// For each run, newlines included.
    megabytes: usize,
    tls: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encryption {
    Off,
    Record,
}

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) encryption: Encryption,
    pub(crate) aggregation: bool,
    pub(crate) line_bytes: usize,
    pub(crate) lines: u64,
    pub(crate) shards: usize,
    pub(crate) failing: Option<u32>,
    pub(crate) tls: bool,
}

impl Scenario {
    pub(crate) fn quick() -> Self {
        Self::parse(include_str!("../scenarios/quick.toml")).expect("tested")
    }

    pub(crate) fn smoke() -> Self {
        Self::parse(include_str!("../scenarios/smoke.toml")).expect("tested")
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        Self::parse(&text).with_context(|| format!("scenario {name}"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        const KEYS: [&str; 7] = [
            "encryption",
            "aggregation",
            "line_bytes",
            "failing_percent",
            "shards",
            "megabytes",
            "tls",
        ];
        let document: DocumentMut = text.parse()?;
        if let Some((key, _)) = document.iter().find(|(key, _)| !KEYS.contains(key)) {
            bail!("unknown key {key}; allowed: {}", KEYS.join(", "));
        }
        let at = |key| document.get(key).unwrap_or(&Item::None);
        Ok(Self {
            encryption: list(at("encryption"), Encryption::of)
                .ok_or_else(|| anyhow!("encryption: allowed: a list of \"off\" and \"record\""))?,
            aggregation: list(at("aggregation"), Value::as_bool)
                .ok_or_else(|| anyhow!("aggregation: allowed: a list of true and false"))?,
            line_bytes: list(at("line_bytes"), |v| number(v.as_integer(), LEAST_LINE)).ok_or_else(
                || anyhow!("line_bytes: allowed: a list of numbers from {LEAST_LINE}"),
            )?,
            failing: optional(at("failing_percent"), |v| {
                u32::try_from(v.as_integer()?).ok().filter(|n| *n < 100)
            })
            .ok_or_else(|| anyhow!("failing_percent: allowed: a list of numbers from 0 to 99"))?,
            shards: optional(at("shards"), |v| number(v.as_integer(), 1))
                .ok_or_else(|| anyhow!("shards: allowed: a list of numbers from 1"))?
                .unwrap_or_else(|| vec![1]),
            megabytes: number(at("megabytes").as_integer(), 1)
                .ok_or_else(|| anyhow!("megabytes: allowed: a number from 1"))?,
            tls: at("tls")
                .as_bool()
                .ok_or_else(|| anyhow!("tls: allowed: true or false"))?,
        })
    }

    /// The runs whose name contains `only`. Those without encryption come before what is compared with them.
    pub(crate) fn cases(&self, only: Option<&str>) -> Vec<Case> {
        let failing = match &self.failing {
            Some(percents) => percents.iter().copied().map(Some).collect(),
            None => vec![None],
        };
        let mut cases = Vec::new();
        for &line_bytes in &self.line_bytes {
            let lines = self.megabytes * 1_000_000 / (line_bytes + 1);
            for &aggregation in &self.aggregation {
                for &shards in &self.shards {
                    for &failing in &failing {
                        for &encryption in &self.encryption {
                            cases.push(Case {
                                encryption,
                                aggregation,
                                line_bytes,
                                lines: lines.max(1) as u64,
                                shards,
                                failing,
                                tls: self.tls,
                            });
                        }
                    }
                }
            }
        }
        cases.sort_by_key(|case| case.encryption != Encryption::Off);
        let place = |case: &Case| {
            (
                case.line_bytes,
                !case.aggregation,
                case.shards,
                case.failing,
            )
        };
        cases.sort_by_key(place);
        cases.retain(|case| only.is_none_or(|only| case.to_string().contains(only)));
        cases
    }
}

/// A sequence number and a few bytes around it.
const LEAST_LINE: usize = 32;

fn list<T>(item: &Item, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    let values = item.as_array()?;
    let read: Option<Vec<T>> = values.iter().map(read).collect();
    read.filter(|values| !values.is_empty())
}

/// An axis that may be left out: `Some(None)`.
fn optional<T>(item: &Item, read: impl Fn(&Value) -> Option<T>) -> Option<Option<Vec<T>>> {
    match item {
        Item::None => Some(None),
        given => list(given, read).map(Some),
    }
}

fn number(value: Option<i64>, least: usize) -> Option<usize> {
    usize::try_from(value?).ok().filter(|n| *n >= least)
}

impl Encryption {
    fn of(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "off" => Some(Self::Off),
            "record" => Some(Self::Record),
            _ => None,
        }
    }
}

impl Case {
    /// Whether `self` is `other` without faults.
    pub(crate) fn is_like_but_failing(&self, other: &Self) -> bool {
        self.failing.is_some_and(|failing| failing > 0)
            && *other
                == Self {
                    failing: Some(0),
                    ..self.clone()
                }
    }

    /// Whether `self` is `other` but for its encryption.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let encryption = other.encryption;
        Self {
            encryption,
            ..self.clone()
        } == *other
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encryption = match self.encryption {
            Encryption::Off => "off",
            Encryption::Record => "record",
        };
        let aggregation = if self.aggregation {
            "aggregated"
        } else {
            "single"
        };
        write!(f, "{encryption}, {aggregation}, {} B", self.line_bytes)?;
        match self.failing {
            Some(failing) => write!(f, ", {} shards, {failing} %", self.shards),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_in_and_what_lies_beside_it_parses() {
        assert_eq!(Scenario::quick().cases(None).len(), 8);
        assert_eq!(Scenario::smoke().cases(None).len(), 4);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for file in std::fs::read_dir(folder).unwrap() {
            Scenario::load(&file.unwrap().path()).unwrap();
        }
    }

    #[test]
    fn each_encrypted_run_follows_the_one_it_is_compared_with() {
        let cases = Scenario::quick().cases(None);
        for pair in cases.chunks(2) {
            assert_eq!(pair[0].encryption, Encryption::Off);
            assert!(pair[1].is_like(&pair[0]));
        }
        let only = Scenario::quick().cases(Some("record, single"));
        assert_eq!(only.len(), 2);
    }

    #[test]
    fn mistakes_name_the_key_and_what_is_allowed() {
        let good = include_str!("../scenarios/smoke.toml");
        for (from, to, told) in [
            ("megabytes = 1", "megabytes = 0", "megabytes: allowed"),
            ("\"off\"", "\"of\"", "encryption: allowed"),
            ("tls =", "tsl =", "unknown key tsl"),
            ("[200]", "[20]", "line_bytes: allowed"),
            ("tls = true", "", "tls: allowed"),
            (
                "tls =",
                "failing_percent = [100]\ntls =",
                "failing_percent: allowed",
            ),
            ("tls =", "shards = [0]\ntls =", "shards: allowed"),
        ] {
            let error = Scenario::parse(&good.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
