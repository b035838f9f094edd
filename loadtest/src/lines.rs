//! The input: lines of one length, each with its number and text that does not compress to nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `lines` lines of `len` bytes and a newline each. The same arguments give the same bytes. Says how
/// many bytes that were.
pub(crate) fn write(path: &Path, lines: u64, len: usize) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut text = Text(0x9e37_79b9_7f4a_7c15);
    let mut line = vec![0; len + 1];
    for number in 0..lines {
        text.fill(&mut line);
        write!(&mut line[..], "{number:012} ")?;
        line[len] = b'\n';
        out.write_all(&line)?;
    }
    out.into_inner()?.sync_all()?;
    Ok(lines * (len as u64 + 1))
}

/// Letters from xorshift64: fast, and the same on each run.
struct Text(u64);

impl Text {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 =";

    fn fill(&mut self, out: &mut [u8]) {
        // Ten letters of six bits from each step.
        for piece in out.chunks_mut(10) {
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
    use super::*;

    #[test]
    fn every_line_has_its_number_and_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        assert_eq!(write(&path, 100, 64).unwrap(), 6500);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 100);
        for (number, line) in text.lines().enumerate() {
            assert_eq!(line.len(), 64);
            assert!(line.starts_with(&format!("{number:012} ")), "{line}");
        }
    }
}
