//! `SINGLELINE`.

use super::Growth;

/// A record of several lines in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleLine {
    /// White space around each line goes: all up to the space, as in Java's `trim`.
    pub trims: bool,
    /// Where a newline was are two backslashes and an `n`, as the Kinesis Agent writes them; otherwise nothing.
    pub escapes: bool,
}

impl SingleLine {
    const ESCAPED: &[u8] = br"\\n";

    pub(super) fn apply(self, record: &[u8], out: &mut Vec<u8>) {
        // Newlines at the end are between no lines.
        let end = record.iter().rposition(|byte| *byte != b'\n');
        let record = &record[..end.map_or(0, |last| last + 1)];
        for (i, line) in record.split(|byte| *byte == b'\n').enumerate() {
            if i > 0 && self.escapes {
                out.extend_from_slice(Self::ESCAPED);
            }
            out.extend_from_slice(if self.trims { trimmed(line) } else { line });
        }
    }

    pub(super) fn growth(self) -> Growth {
        let factor = if self.escapes { Self::ESCAPED.len() } else { 1 };
        Growth { factor, fixed: 0 }
    }
}

fn trimmed(mut line: &[u8]) -> &[u8] {
    while let [0..=b' ', rest @ ..] = line {
        line = rest;
    }
    while let [rest @ .., 0..=b' '] = line {
        line = rest;
    }
    line
}
