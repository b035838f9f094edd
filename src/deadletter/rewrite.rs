//! Taking records out of a file, or giving them another reason.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::line::{Line, Lines};
use crate::delivery::FailReason;

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its record is stored.
    Gone,
    /// Its record was refused again, after so many calls.
    RefusedAgain { reason: FailReason, attempts: u32 },
}

/// Replaces a file by one in which each line in `fates`, by its number, has met its fate; all others stay as
/// they are. A file of which nothing is left goes.
///
/// Nobody may append meanwhile: the state directory's lock sees to that. A crash at any point leaves the old
/// file or the new one.
pub fn rewrite(path: &Path, fates: &HashMap<u64, Fate>) -> io::Result<()> {
    let dir = path.parent().expect("a file in a folder");
    let unfinished = path.with_extension("jsonl.new");
    if write_rest(path, &unfinished, fates)? == 0 {
        std::fs::remove_file(&unfinished)?;
        std::fs::remove_file(path)?;
    } else {
        std::fs::rename(&unfinished, path)?;
    }
    File::open(dir)?.sync_all()
}

/// The number of lines that stay.
fn write_rest(path: &Path, to: &Path, fates: &HashMap<u64, Fate>) -> io::Result<u64> {
    // What is left of an unfinished one.
    match std::fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let rest = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let mut rest = BufWriter::with_capacity(64 << 10, rest);
    let mut kept = 0;
    let mut lines = Lines::open(path)?;
    while let Some(line) = lines.next_raw() {
        let (number, text) = line?;
        match (fates.get(&number), Line::parse(text)) {
            (Some(Fate::Gone), _) => continue,
            (Some(Fate::RefusedAgain { reason, attempts }), Some(mut line)) => {
                line.refused_again(reason, *attempts);
                rest.write_all(line.to_text().as_bytes())?;
            }
            _ => {
                rest.write_all(text)?;
                rest.write_all(b"\n")?;
            }
        }
        kept += 1;
    }
    let rest = rest.into_inner().map_err(io::IntoInnerError::into_error)?;
    rest.sync_all()?;
    Ok(kept)
}
