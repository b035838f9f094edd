//! Lines that can be told apart: what another process writes, and what became of each.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use super::process::Running;

/// Line `number`, without its newline.
pub(crate) fn line(number: u64) -> String {
    format!(r#"{{"symbol":"AMZN","sales_price":187.21,"order_id":"order-{number}"}}"#)
}

/// Starts a process that appends lines, one write each.
pub(crate) fn append(file: &Path, numbers: RangeInclusive<u64>) -> Running {
    append_then(file, numbers, "")
}

/// The same, and then runs a shell command with the file as `$1`.
pub(crate) fn append_then(file: &Path, numbers: RangeInclusive<u64>, then: &str) -> Running {
    let line = line(0).replace('"', "\\\"").replace("order-0", "order-$i");
    let loop_ = format!(
        "i={}; while [ $i -le {} ]; do echo \"{line}\"; i=$((i+1)); done >> \"$1\"; {then}",
        numbers.start(),
        numbers.end()
    );
    let mut command = Command::new("sh");
    command.args(["-e", "-c", &loop_, "sh"]).arg(file);
    Running::start("the writer", &mut command)
}

/// How often each line came back.
#[derive(Debug)]
pub(crate) struct Arrived {
    counts: BTreeMap<u64, u64>,
    strange: Vec<String>,
}

impl Arrived {
    pub(crate) fn of(lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut arrived = Self {
            counts: BTreeMap::new(),
            strange: Vec::new(),
        };
        for text in lines {
            let text = String::from_utf8_lossy(text.as_ref());
            match number(&text) {
                Some(number) => *arrived.counts.entry(number).or_default() += 1,
                None => arrived.strange.push(text.into_owned()),
            }
        }
        arrived
    }

    /// Every line is there, and none that nobody wrote.
    pub(crate) fn expect_all(&self, numbers: RangeInclusive<u64>) {
        self.expect_only(numbers.clone());
        let is_missing = |number: &u64| !self.counts.contains_key(number);
        let missing: Vec<u64> = numbers.filter(is_missing).collect();
        assert!(
            missing.is_empty(),
            "{} lines are missing, the first is {:?}, the last {:?}",
            missing.len(),
            missing.first(),
            missing.last()
        );
    }

    /// The first so many lines are there, whatever else is.
    pub(crate) fn expect_first(&self, numbers: u64) {
        let missing: Vec<u64> = (1..=numbers).filter(|n| self.count(*n) == 0).collect();
        assert!(missing.is_empty(), "of {numbers} are missing: {missing:?}");
        assert!(
            self.strange.is_empty(),
            "nobody wrote {:?}",
            self.strange.first()
        );
    }

    /// No line that nobody wrote.
    pub(crate) fn expect_only(&self, numbers: RangeInclusive<u64>) {
        assert!(
            self.strange.is_empty(),
            "nobody wrote {:?}",
            self.strange.first()
        );
        let invented = self.counts.keys().find(|number| !numbers.contains(number));
        assert_eq!(invented, None, "nobody wrote this line");
    }

    pub(crate) fn count(&self, number: u64) -> u64 {
        self.counts.get(&number).copied().unwrap_or(0)
    }

    /// How many lines there are, doubles among them.
    pub(crate) fn copies(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many different lines there are.
    pub(crate) fn different(&self) -> u64 {
        self.counts.len() as u64
    }

    pub(crate) fn expect_no_doubles(&self) {
        let doubled = self.doubled();
        assert!(
            doubled.is_empty(),
            "{} lines are doubled: {doubled:?}",
            doubled.len()
        );
    }

    /// Lines that are there more than once.
    pub(crate) fn doubled(&self) -> Vec<u64> {
        let doubled = self.counts.iter().filter(|(_, count)| **count > 1);
        doubled.map(|(number, _)| *number).collect()
    }
}

fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("order-")?;
    let number = rest.strip_suffix("\"}")?.parse().ok()?;
    (line(number) == text).then_some(number)
}

/// Bytes of these lines in a file.
pub(crate) fn bytes(numbers: RangeInclusive<u64>) -> u64 {
    numbers.map(|number| line(number).len() as u64 + 1).sum()
}
