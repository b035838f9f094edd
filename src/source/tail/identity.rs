//! Telling one file's content from another's.
//!
//! A name is not enough: it is renamed away. An inode is not enough: it is used again. So a file is known by
//! device and inode, by a hash of its first bytes, and, where reading has got to, by the bytes just before.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;

use super::content::Content;
use crate::checkpoint::{Fingerprint, SavedFile, ShortHash};

/// Bytes hashed at the beginning of a file. Longer than the first line of most logs, which many files share.
pub(super) const HEAD: usize = 256;
/// Bytes hashed before an offset.
pub(super) const TAIL: usize = 64;
/// How far back the beginning of a line is looked for. A longer unfinished line is met in its middle.
const LINE_SEARCH: u64 = 1024 * 1024;

/// Device and inode: unique among files that exist or are held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }
}

/// The first bytes of a file, as many of them as were there.
#[derive(Debug)]
pub(super) struct Head(Vec<u8>);

impl Head {
    pub(super) fn read(file: &Content) -> io::Result<Self> {
        Ok(Self(file.read_upto(0, HEAD)?))
    }

    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        ShortHash::of(&self.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the first of these bytes are those that `fingerprint` is of.
    pub(super) fn begins_with(&self, fingerprint: Fingerprint) -> bool {
        let first = self.0.get(..fingerprint.len as usize);
        first.is_some_and(|first| ShortHash::of(first) == fingerprint)
    }

    /// Whether `file` has these bytes still.
    pub(super) fn still_begins(&self, file: &Content) -> io::Result<bool> {
        Ok(file.read_upto(0, self.0.len())? == self.0)
    }

    /// Takes up what was read at `offset`. True if the fingerprint is another now.
    pub(super) fn grow(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let have = self.0.len();
        let Some(skip) = (have as u64).checked_sub(offset) else {
            return false;
        };
        let new = bytes.get(skip as usize..).unwrap_or_default();
        self.0.extend(new.iter().take(HEAD - have));
        self.0.len() > have
    }
}

/// The last bytes before a place in a file.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Of what is before `offset` in `file`.
    pub(super) fn read(file: &Content, offset: u64) -> io::Result<Self> {
        let start = offset.saturating_sub(TAIL as u64);
        file.read_upto(start, (offset - start) as usize).map(Self)
    }

    /// Moves on over `bytes`.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(TAIL)..];
        let keep = (TAIL - new.len()).min(self.0.len());
        self.0.drain(..self.0.len() - keep);
        self.0.extend_from_slice(new);
    }

    pub(super) fn hash(&self) -> ShortHash {
        ShortHash::of(&self.0)
    }

    /// The place is neither a file's beginning nor after a newline.
    pub(super) fn is_within_line(&self) -> bool {
        self.0.last().is_some_and(|last| *last != b'\n')
    }

    /// Whether `file` still has these bytes before `offset`, and `pending` after it.
    pub(super) fn still_precedes(
        &self,
        file: &Content,
        offset: u64,
        pending: &Bytes,
    ) -> io::Result<bool> {
        let pending = &pending[..pending.len().min(TAIL)];
        let start = offset - self.0.len() as u64;
        let found = file.read_upto(start, self.0.len() + pending.len())?;
        Ok(found
            .strip_prefix(&self.0[..])
            .is_some_and(|rest| rest == pending))
    }
}

/// Whether `file`, now `size` long, is the saved one, grown. The size of what is packed is not known before it is read.
pub(super) fn is_saved(saved: &SavedFile, file: &Content, size: u64) -> io::Result<bool> {
    let (head, tail) = (saved.fingerprint, saved.tail_hash);
    let Some(tail_start) = saved.offset.checked_sub(u64::from(tail.len)) else {
        return Ok(false);
    };
    // The lengths come from a file: without a bound they would be how much is read into memory.
    let is_short = size < saved.offset && !file.is_packed();
    if is_short || head.len as usize > HEAD || tail.len as usize > TAIL {
        return Ok(false);
    }
    Ok(
        ShortHash::of(&file.read_upto(0, head.len as usize)?) == head
            && ShortHash::of(&file.read_upto(tail_start, tail.len as usize)?) == tail,
    )
}

/// Where to go on in `file`, which may be the saved one: from its beginning, where it is not.
pub(super) fn offset_of(
    saved: &SavedFile,
    file: &Content,
    path: &Path,
    size: u64,
) -> io::Result<u64> {
    if is_saved(saved, file, size)? {
        return Ok(saved.offset);
    }
    tracing::info!(
        path = %path.display(), offset = saved.offset,
        "file has other content than the checkpoint knows; reading it from its beginning"
    );
    Ok(0)
}

/// Where the line begins that `offset` is in.
pub(super) fn line_start(file: &Content, offset: u64) -> io::Result<u64> {
    let floor = offset.saturating_sub(LINE_SEARCH);
    let mut end = offset;
    while end > floor {
        let start = end.saturating_sub(8 * 1024).max(floor);
        let bytes = file.read_upto(start, (end - start) as usize)?;
        if let Some(newline) = memchr::memrchr(b'\n', &bytes) {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(if floor == 0 { 0 } else { offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StreamName;
    use std::os::unix::fs::FileExt;

    fn file(content: &[u8]) -> Content {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        Content::Plain(file)
    }

    #[test]
    fn head_grows_with_a_short_file_and_stops_at_its_length() {
        let mut head = Head::read(&file(b"abc")).unwrap();
        assert!(!head.grow(5, b"xyz"), "a gap");
        assert!(!head.grow(0, b"abc"), "known already");
        assert!(head.grow(1, b"bcde"));
        assert_eq!(head.fingerprint(), ShortHash::of(b"abcde"));
        assert!(head.grow(5, &[b'f'; 300]));
        assert_eq!(head.fingerprint().len, 256);
        assert!(!head.grow(256, b"g"));
    }

    #[test]
    fn tail_passed_over_is_the_tail_read_there() {
        let content: Vec<u8> = (0..200).collect();
        let file = file(&content);
        let mut tail = Tail::default();
        let mut at = 0;
        for step in [1, 3, 70, 10, 64, 52] {
            tail.pass(&content[at..at + step]);
            at += step;
            assert_eq!(tail.0, Tail::read(&file, at as u64).unwrap().0);
        }
    }

    #[test]
    fn tail_notices_other_bytes_before_and_after_its_place() {
        let file = file(b"one\ntwo\nthr");
        let tail = Tail::read(&file, 8).unwrap();
        let precedes = |pending: &'static [u8]| {
            tail.still_precedes(&file, 8, &Bytes::from_static(pending))
                .unwrap()
        };
        assert!(precedes(b"") && precedes(b"thr"));
        assert!(!precedes(b"thx") && !precedes(b"three"));
        let Content::Plain(plain) = &file else {
            panic!("{file:?}");
        };
        plain.write_all_at(b"X", 2).unwrap();
        assert!(!tail.still_precedes(&file, 8, &Bytes::new()).unwrap());
    }

    #[test]
    fn saved_file_is_known_again_only_with_its_head_its_tail_and_its_size() {
        let content = [b'x'; 300];
        let saved = SavedFile {
            stream: StreamName::new("logs").unwrap(),
            path: "/a".to_owned(),
            device: 1,
            inode: 2,
            fingerprint: ShortHash::of(&content[..256]),
            offset: 300,
            tail_hash: ShortHash::of(&content[236..300]),
            size_seen: 300,
            updated: 0,
            finished: false,
            packed_bytes: None,
            damaged: false,
            cut: false,
        };
        let is = |content: &[u8]| is_saved(&saved, &file(content), content.len() as u64).unwrap();
        assert!(is(&content));
        assert!(is(&[b'x'; 400]));
        assert!(!is(&[b'x'; 299]));
        let mut other = [b'x'; 300];
        other[0] = b'y';
        assert!(!is(&other));
        (other[0], other[299]) = (b'x', b'y');
        assert!(!is(&other));
        let absurd = SavedFile {
            tail_hash: ShortHash { len: 65, hash: 0 },
            ..saved.clone()
        };
        assert!(!is_saved(&absurd, &file(&content), 300).unwrap());
    }

    #[test]
    fn line_starts_after_the_newline_before_it() {
        assert_eq!(line_start(&file(b"one\ntw"), 6).unwrap(), 4);
        assert_eq!(line_start(&file(b"one\n"), 4).unwrap(), 4);
        assert_eq!(line_start(&file(b"one"), 3).unwrap(), 0);
        let mut long = vec![b'x'; 20_000];
        long[5] = b'\n';
        assert_eq!(line_start(&file(&long), 20_000).unwrap(), 6);
    }
}
