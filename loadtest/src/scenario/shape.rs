//! How long lines are, and under which partition keys they go.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A sequence number, a key, and a few bytes around them.
pub(crate) const LEAST_LINE: usize = 32;
/// Of a record in clear, and so of a line.
pub(crate) const LONGEST_LINE: usize = 1_000_000;

/// How long lines are, without their newlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "allowed: a whole number of bytes, { from = …, to = … } or { median = …, p99 = … }"
)]
pub(crate) enum Length {
    /// All of them.
    Fixed(usize),
    /// Each length as often.
    Between { from: usize, to: usize },
    /// Log-normal, as records of many systems are: half of them are longer than `median`, and one in a hundred is longer
    /// than `p99`. What would be too short or too long is as short or as long as may be.
    Spread { median: usize, p99: usize },
}

impl Length {
    /// What is wrong with it.
    pub(super) fn check(self) -> Result<(), String> {
        let (least, most) = match self {
            Self::Fixed(len) => (len, len),
            Self::Between { from, to } => (from, to),
            Self::Spread { median, p99 } => (median, p99),
        };
        match least <= most && (LEAST_LINE..=LONGEST_LINE).contains(&least) && most <= LONGEST_LINE
        {
            true => Ok(()),
            false => Err(format!(
                "line_bytes: allowed: a list of numbers from {LEAST_LINE} to {LONGEST_LINE}, of {{ from = …, to = … }} and of \
                 {{ median = …, p99 = … }} within these, the smaller first"
            )),
        }
    }

    /// Of the line of that number: always the same.
    pub(crate) fn of(self, number: u64) -> usize {
        match self {
            Self::Fixed(len) => len,
            Self::Between { from, to } => {
                let wide = (to - from + 1) as f64;
                from + (share(number, 0) * wide) as usize
            }
            Self::Spread { median, p99 } => {
                /// Standard deviations from the median to the 99th percentile.
                const TO_P99: f64 = 2.326_347_9;
                let sigma = (p99 as f64 / median as f64).ln() / TO_P99;
                // Box and Muller's; a share is below 1.
                let radius = (-2.0 * (1.0 - share(number, 1)).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * share(number, 2)).cos();
                let len = median as f64 * (sigma * normal).exp();
                (len as usize).clamp(LEAST_LINE, LONGEST_LINE)
            }
        }
    }

    /// Of many lines.
    pub(super) fn mean(self) -> usize {
        const MANY: u64 = 10_000;
        match self {
            Self::Fixed(len) => len,
            _ => (0..MANY).map(|number| self.of(number)).sum::<usize>() / MANY as usize,
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(len) => write!(f, "{len} B"),
            Self::Between { from, to } => write!(f, "{from} to {to} B"),
            Self::Spread { median, p99 } => write!(f, "{median} B (p99 {p99})"),
        }
    }
}

/// Under which partition keys lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Keys {
    /// None of their own: what the agent does where its configuration says nothing.
    #[default]
    Default,
    /// So many, each as often, which stand in the lines: the agent finds them there by `regex`; a program and a client of the
    /// KPL's protocol give them with each record.
    Many(u64),
    /// A word of the agent's configuration, like `hash`.
    Word(String),
    /// A table of it, like `{ json_pointer = "/user" }`.
    Rule(BTreeMap<String, String>),
}

impl Keys {
    /// Of keys in lines.
    pub(super) const MOST: u64 = 1_000_000;

    /// That which is the agent's default is no other than none.
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Word(word) if word == "random" => Self::Default,
            other => other,
        }
    }

    /// The key of that line, if there is one in it.
    pub(crate) fn of(&self, number: u64) -> Option<String> {
        let Self::Many(keys) = self else { return None };
        Some(format!("k{}", mixed(number, 3) % keys))
    }

    /// What the agent's configuration says.
    pub(crate) fn rule(&self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::Many(_) => Some(r"{ regex = '^\d+ (?<key>k\d+)' }".to_owned()),
            Self::Word(word) => Some(toml(word)),
            Self::Rule(table) => {
                let entries = table
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", toml(value)));
                Some(format!("{{ {} }}", entries.collect::<Vec<_>>().join(", ")))
            }
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::Many(keys) => write!(f, ", {keys} keys"),
            Self::Word(word) => write!(f, ", key {word}"),
            Self::Rule(_) => write!(f, ", key {}", self.rule().unwrap_or_default()),
        }
    }
}

/// In quotes. TOML has JSON's escapes, and takes one character less as it is.
fn toml(text: &str) -> String {
    let text = serde_json::to_string(text).expect("text");
    text.replace('\u{7f}', "\\u007f")
}

/// From 0 to below 1, the same for the same number.
fn share(number: u64, of: u64) -> f64 {
    (mixed(number, of) >> 11) as f64 / (1_u64 << 53) as f64
}

/// SplitMix64's, of Steele, Lea and Flood: numbers in a row give numbers that have nothing to do with one another.
fn mixed(number: u64, of: u64) -> u64 {
    let mut x = number
        .wrapping_mul(4)
        .wrapping_add(of + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_spread_as_they_say() {
        let sorted = |length: Length| {
            let mut lengths: Vec<_> = (0..20_000).map(|number| length.of(number)).collect();
            lengths.sort_unstable();
            lengths
        };
        let even = sorted(Length::Between { from: 100, to: 299 });
        assert_eq!((even[0], even[19_999]), (100, 299));
        assert!((195..205).contains(&even[10_000]), "{}", even[10_000]);

        let wide = Length::Spread {
            median: 300,
            p99: 4000,
        };
        let lengths = sorted(wide);
        let at = |q: f64| lengths[(q * 20_000.0) as usize] as f64;
        assert!((0.95..1.05).contains(&(at(0.5) / 300.0)), "{}", at(0.5));
        assert!((0.9..1.1).contains(&(at(0.99) / 4000.0)), "{}", at(0.99));
        // exp(sigma² / 2) above the median.
        assert!((520..600).contains(&wide.mean()), "{}", wide.mean());
    }

    #[test]
    fn keys_are_as_many_as_they_say_and_none_is_left_out() {
        let keys = Keys::Many(50);
        let all: std::collections::BTreeSet<_> = (0..2000).filter_map(|n| keys.of(n)).collect();
        assert_eq!(all.len(), 50);
        assert!(all.contains("k0") && all.contains("k49"));
        assert_eq!(Keys::Default.of(1), None);
    }
}
