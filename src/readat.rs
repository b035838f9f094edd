//! Reading a file at a place, whatever else reads it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What is there of `len` bytes from `offset` on; less only at its end.
pub(crate) fn read_upto(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut have = 0;
    while have < len {
        match file.read_at(&mut bytes[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}
