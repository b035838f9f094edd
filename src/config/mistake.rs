//! What is wrong with a configuration, each thing in one line.

use std::fmt;

/// Everything that is wrong with one file. Prints one line each, in the file's order:
/// `FILE:LINE: KEY: what was found; what is allowed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// From 1; 0 where the file itself is the mistake.
    pub line: usize,
    /// As in `aggregation.linger`; empty where no key can be named.
    pub key: String,
    pub text: String,
}

impl Mistakes {
    /// `list` holds at least one. What several streams have inherited is said once.
    pub(super) fn new(file: impl Into<String>, mut list: Vec<Mistake>) -> Self {
        debug_assert!(!list.is_empty());
        list.sort();
        list.dedup();
        Self {
            file: file.into(),
            list,
        }
    }

    /// The file as a whole cannot be used.
    pub(super) fn whole_file(file: impl Into<String>, text: String) -> Self {
        let mistake = Mistake {
            line: 0,
            key: String::new(),
            text,
        };
        Self::new(file, vec![mistake])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file)?;
            if mistake.line > 0 {
                write!(f, "{}:", mistake.line)?;
            }
            if !mistake.key.is_empty() {
                write!(f, " {}:", mistake.key)?;
            }
            write!(f, " {}", mistake.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The word of `known` that `found` was most likely meant to be.
pub(super) fn nearest<'a>(
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (distance(found, word), word))
        // A third of the letters wrong is another word.
        .filter(|(d, word)| *d <= (word.chars().count() / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, word)| word)
}

pub(super) fn did_you_mean(near: Option<&str>, quote: char) -> String {
    near.map_or_else(String::new, |near| {
        format!("; did you mean {quote}{near}{quote}?")
    })
}

/// Letters to add, drop, change, or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let change = last[j] + usize::from(a[i] != b[j]);
            let mut best = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_a_swap_as_one() {
        assert_eq!(distance("linger", "linger"), 0);
        assert_eq!(distance("lingre", "linger"), 1);
        assert_eq!(distance("lnger", "linger"), 1);
        assert_eq!(distance("", "linger"), 6);
        assert_eq!(distance("include", "exclude"), 2);
    }

    #[test]
    fn nearest_does_not_guess_wildly() {
        let known = ["enabled", "max_size", "linger"];
        assert_eq!(nearest("lingr", known), Some("linger"));
        assert_eq!(nearest("maxsize", known), Some("max_size"));
        assert_eq!(nearest("compression", known), None);
    }
}
