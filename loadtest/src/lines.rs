//! The input: lines, each with its number, that are there before the agent starts or come at a steady pace.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use kinseal::aggregate::format::Layout;
use kinseal::record::PartitionKey;
use kinseal::seal::block::Packing;

use serde::{Deserialize, Serialize};

use crate::reader::digest;
use crate::sample::Sample;
use crate::scenario::{Case, Keys, Length, Pace, Text};

/// Makes lines, the same ones each time, if they are asked for in their order.
pub(crate) struct Lines {
    text: Made,
    length: Length,
    keys: Keys,
}

/// What they are made of.
enum Made {
    Letters(Letters),
    /// Of a program's log, one piece after the other.
    Log {
        pieces: Vec<Vec<u8>>,
        next: usize,
    },
    /// As they are, or each behind its number.
    Sample {
        lines: Vec<Vec<u8>>,
        is_numbered: bool,
    },
}

/// Digits of a line's number, and a space.
const NUMBER: usize = 13;
/// Bytes that are handed over together, about.
const AT_ONCE: usize = 64 << 10;
/// Bytes of a block, whose ratio is told.
const BLOCK: usize = 48 << 10;

impl Lines {
    pub(crate) fn of(case: &Case) -> anyhow::Result<Self> {
        Ok(Self {
            text: match &case.text {
                Text::Random => Made::Letters(Letters(0x9e37_79b9_7f4a_7c15)),
                Text::Log => Made::Log {
                    pieces: Sample::log().lines,
                    next: 0,
                },
                Text::Sample(path) => Made::Sample {
                    lines: Sample::of(path)?.lines,
                    is_numbered: case.pace != Pace::AsFastAsItGoes,
                },
            },
            length: case.length(),
            keys: case.keys.clone(),
        })
    }

    /// Appends the line of that number, newline included.
    pub(crate) fn append(&mut self, number: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        if self.are_unlike() {
            write!(out, "{number:012} ").expect("a Vec takes every write");
        }
        if let Some(key) = self.keys.of(number) {
            write!(out, "{key} ").expect("a Vec takes every write");
        }
        let end = begin + self.length.of(number);
        match &mut self.text {
            Made::Letters(letters) => letters.append(end - out.len(), out),
            Made::Log { pieces, next } => {
                while out.len() < end {
                    out.extend_from_slice(&pieces[*next]);
                    out.push(b' ');
                    *next = (*next + 1) % pieces.len();
                }
                out.truncate(end);
            }
            Made::Sample { lines, .. } => {
                out.extend_from_slice(&lines[number as usize % lines.len()]);
            }
        }
        out.push(b'\n');
    }

    /// Whether no line is like another one.
    pub(crate) fn are_unlike(&self) -> bool {
        match &self.text {
            Made::Sample { is_numbered, .. } => *is_numbered,
            Made::Letters(_) | Made::Log { .. } => true,
        }
    }

    /// Of the digests of so many lines, where some may be alike: each of the sample's comes in turn.
    pub(crate) fn sum(&self, lines: u64) -> Option<u128> {
        let Made::Sample {
            lines: sample,
            is_numbered: false,
        } = &self.text
        else {
            return None;
        };
        let (rounds, more) = (lines / sample.len() as u64, lines % sample.len() as u64);
        let of_line = |(at, line): (usize, &Vec<u8>)| {
            let times = rounds + u64::from((at as u64) < more);
            digest(line).wrapping_mul(times.into())
        };
        let sums = sample.iter().enumerate().map(of_line);
        Some(sums.fold(0, u128::wrapping_add))
    }

    /// How many times smaller zstd makes a block of them, at level 1.
    pub(crate) fn zstd_ratio(&mut self) -> f64 {
        let key = PartitionKey::new("k").expect("a valid key");
        let (mut layout, mut lines, mut line) = (Layout::new(), Vec::new(), Vec::new());
        let mut number = 0;
        loop {
            line.clear();
            self.append(number, &mut line);
            line.pop();
            if !lines.is_empty() && layout.wire_len_with(&key, None, line.len()) > BLOCK {
                break;
            }
            layout.add(&key, None, line.len());
            lines.push(line.clone());
            number += 1;
        }
        let packed =
            |packing: Packing| packing.pack(&layout, lines.iter().map(Vec::as_slice)).len();
        packed(Packing::Kpl) as f64 / packed(Packing::KplZstd { level: 1 }) as f64
    }

    /// Writes so many, to one file after the other in turn, and says how many bytes that were.
    pub(crate) fn write(&mut self, paths: &[PathBuf], lines: u64) -> io::Result<u64> {
        let buffer = (1 << 24) / paths.len();
        let open = |path| {
            Ok(BufWriter::with_capacity(
                buffer.min(1 << 20),
                File::create(path)?,
            ))
        };
        let mut files = paths.iter().map(open).collect::<io::Result<Vec<_>>>()?;
        let (mut line, mut bytes) = (Vec::new(), 0);
        for number in 0..lines {
            line.clear();
            self.append(number, &mut line);
            bytes += line.len() as u64;
            files[number as usize % paths.len()].write_all(&line)?;
        }
        for file in files {
            file.into_inner()?.sync_all()?;
        }
        Ok(bytes)
    }

    /// Hands over each when it is due, or as soon after that as it is taken: so many a second from `start` on. `taken` has
    /// whole lines each time, with their newlines. How many bytes that were.
    pub(crate) fn hand_over(
        &mut self,
        mut taken: impl FnMut(&[u8]) -> io::Result<()>,
        lines: u64,
        pace: Due,
    ) -> io::Result<u64> {
        let (mut pending, mut bytes, mut number) = (Vec::new(), 0, 0);
        while number < lines {
            let now = SystemTime::now();
            pending.clear();
            while number < lines && pending.len() < AT_ONCE && pace.at(number) <= now {
                self.append(number, &mut pending);
                number += 1;
            }
            if pending.is_empty() {
                let wait = pace.at(number).duration_since(now).unwrap_or_default();
                std::thread::sleep(wait.min(Duration::from_millis(100)));
                continue;
            }
            bytes += pending.len() as u64;
            taken(&pending)?;
        }
        Ok(bytes)
    }
}

/// When a line is due, at a steady pace.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Due {
    pub(crate) start: SystemTime,
    pub(crate) per_second: u64,
}

impl Due {
    /// Before the first line of a pace is due.
    const LEAD: Duration = Duration::from_millis(300);

    /// Without a pace: all of them now.
    pub(crate) fn from_now_on(pace: Pace) -> Self {
        let now = SystemTime::now();
        match pace {
            Pace::LinesPerSecond(per_second) => Self {
                start: now + Self::LEAD,
                per_second,
            },
            Pace::AsFastAsItGoes => Self {
                start: now,
                per_second: u64::MAX,
            },
        }
    }

    pub(crate) fn at(self, number: u64) -> SystemTime {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_second);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The number that a line begins with.
pub(crate) fn number_of(line: &[u8]) -> Option<u64> {
    let digits = line.get(..NUMBER - 1)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Letters from xorshift64: fast, and the same on each run.
pub(crate) struct Letters(u64);

impl Letters {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 =";

    fn append(&mut self, len: usize, out: &mut Vec<u8>) {
        let begin = out.len();
        out.resize(begin + len, 0);
        // Ten letters of six bits from each step.
        for piece in out[begin..].chunks_mut(10) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let mut bits = self.0;
            for byte in piece {
                *byte = Self::LETTERS[(bits & 63) as usize];
                bits >>= 6;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::scenario::Scenario;

    fn lines(text: Text, line_bytes: usize) -> Lines {
        let case = &Scenario::smoke().cases(None)[0];
        let case = Case {
            text,
            line_bytes,
            ..case.clone()
        };
        Lines::of(&case).unwrap()
    }

    #[test]
    fn every_line_has_its_number_and_its_length() {
        for (text, len) in [(Text::Random, 64), (Text::Log, 64), (Text::Log, 5000)] {
            let mut out = Vec::new();
            let mut lines = lines(text, len);
            (0..100).for_each(|number| lines.append(number, &mut out));
            assert_eq!(out.len(), 100 * (len + 1));
            for (number, line) in out.split(|b| *b == b'\n').take(100).enumerate() {
                assert_eq!(line.len(), len);
                assert_eq!(number_of(line), Some(number as u64));
            }
        }
    }

    #[test]
    fn a_line_has_its_key_where_the_agents_rule_finds_it() {
        let text = "encryption = ['off']\nline_bytes = [{ from = 40, to = 90 }]\nlines = 9\npartition_key = [7]";
        let case = Scenario::parse("s", text).unwrap().cases(None).remove(0);
        let mut lines = Lines::of(&case).unwrap();
        let (mut line, mut lengths) = (Vec::new(), HashSet::new());
        for number in 0..200 {
            line.clear();
            lines.append(number, &mut line);
            let key = case.keys.of(number).unwrap();
            let expected = format!("{number:012} {key} ");
            assert!(line.starts_with(expected.as_bytes()), "{expected}");
            lengths.insert(line.len() - 1);
        }
        assert!(lengths.iter().all(|len| (40..=90).contains(len)) && lengths.len() > 40);
    }

    #[test]
    fn a_sample_has_its_lines_as_they_are_and_behind_a_number_only_where_each_is_timed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\nanother\n").unwrap();
        let of = |more: &str| {
            let text = format!(
                "encryption = ['off']\ntext = {{ sample = {:?} }}\n{more}",
                file.path()
            );
            let case = Scenario::parse("s", &text).unwrap().cases(None).remove(0);
            let (mut lines, mut out) = (Lines::of(&case).unwrap(), Vec::new());
            (0..3).for_each(|number| lines.append(number, &mut out));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of("lines = 3"), "one\nanother\none\n");
        assert_eq!(
            of("rate = [10]\nseconds = 1"),
            "000000000000 one\n000000000001 another\n000000000002 one\n"
        );
    }

    #[test]
    fn what_is_handed_over_at_a_pace_is_what_is_written_at_once_and_not_before_it_is_due() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        lines(Text::Log, 64).write(&[path], 50).unwrap();
        let start = SystemTime::now() + Duration::from_millis(20);
        let (mut out, per_second) = (Vec::new(), 1000);
        let pace = Due { start, per_second };
        let taken = |lines: &[u8]| out.write_all(lines);
        let bytes = lines(Text::Log, 64).hand_over(taken, 50, pace).unwrap();
        assert!(SystemTime::now() >= pace.at(49));
        assert_eq!(bytes, out.len() as u64);
        assert_eq!(out, std::fs::read(file.path()).unwrap());
    }

    #[test]
    fn a_log_shrinks_as_logs_do_however_long_its_lines_and_letters_at_random_hardly() {
        for len in [200, 1024, 10_240, 102_400] {
            let [log, random] = [Text::Log, Text::Random].map(|text| lines(text, len).zstd_ratio());
            assert!(random < 2.0, "{len}: {random}");
            assert!((5.0..=8.0).contains(&log), "{len}: {log}");
        }
    }
}
