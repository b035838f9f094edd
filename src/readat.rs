//! Reading a file at a place, whatever else reads it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What is there of `len` bytes from `offset` on; less only at its end.
pub(crate) fn read_upto(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    append_upto(file, &mut bytes, offset, len)?;
    Ok(bytes)
}

/// Appends the same to `to`, and says how much that was. What it appended counts also if it fails.
pub(crate) fn append_upto(
    file: &File,
    to: &mut Vec<u8>,
    offset: u64,
    len: usize,
) -> io::Result<usize> {
    let start = to.len();
    // To write zeros first costs a tenth of reading, and saves the calls by which `read_to_end` feels its way.
    to.resize(start + len, 0);
    let mut have = 0;
    let ended = loop {
        if have == len {
            break Ok(());
        }
        match file.read_at(&mut to[start + have..], offset + have as u64) {
            Ok(0) => break Ok(()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break Err(e),
        }
    };
    to.truncate(start + have);
    ended.map(|()| have)
}
