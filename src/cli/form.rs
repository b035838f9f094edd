//! What goes through `encrypt` and `decrypt`: whole inputs, lines, and the forms that a message has as text.
//!
//! A single message is held in memory, since nothing of it is given out before its end is verified.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::config::words;

/// A file, or standard input.
#[derive(Debug)]
pub(super) struct Input {
    name: String,
    file: File,
}

impl Input {
    /// Standard input where there is no path, or `-`.
    pub(super) fn open(path: Option<&PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            let file = io::stdin().as_fd().try_clone_to_owned()?.into();
            return Ok(Self {
                name: "standard input".into(),
                file,
            });
        };
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| name.clone())?;
        Ok(Self { name, file })
    }

    /// Refuses more than `most` bytes.
    pub(super) fn whole(self, most: u64) -> anyhow::Result<Vec<u8>> {
        let too_long = || {
            let most = words::show_bytes(most);
            format!(
                "{}: more than {most}, and a message is held in memory: split it, or give --format lines",
                self.name
            )
        };
        // Of a pipe it is 0.
        let expected = self.file.metadata().map_or(0, |metadata| metadata.len());
        if expected > most {
            bail!(too_long());
        }
        let mut bytes = Vec::new();
        (&self.file)
            .take(most + 1)
            .read_to_end(&mut bytes)
            .with_context(|| self.name.clone())?;
        if bytes.len() as u64 > most {
            bail!(too_long());
        }
        Ok(bytes)
    }

    pub(super) fn lines(self) -> Lines {
        Lines {
            name: self.name,
            reader: BufReader::with_capacity(64 << 10, self.file),
            number: 0,
        }
    }
}

/// Lines without their newline; the last one may have none.
#[derive(Debug)]
pub(super) struct Lines {
    name: String,
    reader: BufReader<File>,
    number: u64,
}

/// Far above what a record may be, in base64 too.
const LONGEST_LINE: u64 = 64 << 20;

pub(super) type Line = Result<Vec<u8>, TooLong>;

/// One that no record of a stream could be.
#[derive(Debug, thiserror::Error)]
#[error(
    "longer than {}; no record of a stream is",
    words::show_bytes(LONGEST_LINE)
)]
pub(super) struct TooLong;

impl Lines {
    /// Its number, from 1, and the line.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
        let Some((number, line)) = self.next_even_if_too_long()? else {
            return Ok(None);
        };
        let place = || format!("{}, line {number}", self.name);
        Ok(Some((number, line.with_context(place)?)))
    }

    /// The same, for those who can go on behind a line that is too long.
    pub(super) fn next_even_if_too_long(&mut self) -> anyhow::Result<Option<(u64, Line)>> {
        let mut line = Vec::new();
        let most = LONGEST_LINE + 1;
        let read = self.reader.by_ref().take(most).read_until(b'\n', &mut line);
        if read.with_context(|| self.name.clone())? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == most {
            drop(line);
            let skipped = self.reader.skip_until(b'\n');
            skipped.with_context(|| self.name.clone())?;
            return Ok(Some((self.number, Err(TooLong))));
        }
        Ok(Some((self.number, Ok(line))))
    }

    /// Whether the next line may have to be waited for.
    pub(super) fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }
}

/// Standard output, buffered.
pub(super) type Output = io::BufWriter<File>;

/// Not [`std::io::Stdout`], which looks for the last line's end in whatever is written.
pub(super) fn stdout() -> io::Result<Output> {
    let file: File = io::stdout().as_fd().try_clone_to_owned()?.into();
    Ok(io::BufWriter::with_capacity(64 << 10, file))
}

pub(super) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whoever reads our output may have enough: `head` for one.
pub(super) fn unless_closed(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("standard output"),
    }
}

/// One line on standard error.
pub(super) fn say(line: impl std::fmt::Display) {
    let line: String = one_line(&line.to_string());
    // It may be closed: the exit code tells it too.
    let _ = writeln!(io::stderr(), "kinseal: {line}");
}

/// What a message says of itself may be a stranger's: a newline or an escape sequence must not pass for our
/// word.
pub(super) fn one_line(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Spaces and line breaks may stand anywhere: base64(1) breaks lines at 76.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = without_spaces(text).collect();
    base64_simd::STANDARD.decode_to_vec(digits).ok()
}

pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = without_spaces(text)
        .map(|byte| u8::try_from(char::from(byte).to_digit(16)?).ok())
        .collect();
    let digits = digits?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn without_spaces(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().copied().filter(|b| !b.is_ascii_whitespace())
}

pub(super) fn plural(n: u64, word: &str) -> String {
    crate::metrics::report::Count(n, word).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::to_hex;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_hexadecimal_is_none() {
        for text in ["0", "0g", "+1", "0x00", "é"] {
            assert_eq!(from_hex(text.as_bytes()), None, "{text}");
        }
        assert_eq!(from_hex(b"0A f\n0\n"), Some(vec![10, 0xf0]));
    }

    #[test]
    fn a_strangers_word_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[2Jé"), "a\\nb\\u{1b}[2Jé");
    }

    proptest! {
        #[test]
        fn text_and_back(bytes in prop::collection::vec(any::<u8>(), 0..200), every in 1usize..80) {
            let broken = |text: String| {
                let lines: Vec<_> = text.as_bytes().chunks(every).map(<[u8]>::to_vec).collect();
                lines.join(&b"\r\n"[..])
            };
            prop_assert_eq!(from_hex(&broken(to_hex(&bytes))), Some(bytes.clone()));
            let base64 = base64_simd::STANDARD.encode_to_string(&bytes);
            prop_assert_eq!(from_base64(&broken(base64)), Some(bytes));
        }
    }
}
