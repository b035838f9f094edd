//! A file of dead letters, one on each line: records that could not be read, as they lay in the stream, with the reason.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::output::dead_letter;
use super::unpack::Unreadable;

/// Appended to. A letter is in it whole, or not at all.
#[derive(Debug)]
pub struct LetterFile {
    path: PathBuf,
    file: File,
    /// Not a pipe, and not `/dev/null`, of which nothing can be synced or cut.
    is_regular: bool,
}

impl LetterFile {
    /// Only its owner may read it where it is made anew: records that cannot be opened may be in clear.
    ///
    /// # Errors
    /// As of any file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        // Its end is read where it may be; a pipe is only written.
        let is_there_and_none = path.metadata().is_ok_and(|about| !about.is_file());
        let file = options.read(!is_there_and_none).open(path)?;
        let is_regular = file.metadata()?.is_file();
        let path = path.to_owned();
        let mut letters = Self {
            path,
            file,
            is_regular,
        };
        letters.end_torn_line()?;
        Ok(letters)
    }

    /// # Errors
    /// Then nothing of it stays there.
    pub fn keep(&mut self, unreadable: &Unreadable) -> io::Result<()> {
        let letter = dead_letter(unreadable);
        let begin = match self.is_regular {
            true => Some(self.file.metadata()?.len()),
            false => None,
        };
        let written = self.file.write_all(&letter);
        if let (Err(_), Some(begin)) = (&written, begin) {
            // What could be written of it would spoil the next one's line. If this fails too, the next opening sees to it.
            let _ = self.file.set_len(begin);
        }
        written.map_err(|error| self.named(&error))
    }

    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }

    /// To the disk, where it is on one.
    ///
    /// # Errors
    /// As of any file.
    pub fn sync(&self) -> io::Result<()> {
        match self.is_regular {
            true => self.file.sync_data().map_err(|error| self.named(&error)),
            false => Ok(()),
        }
    }

    /// Of a run that was killed, or whose disk was full.
    fn end_torn_line(&mut self) -> io::Result<()> {
        if !self.is_regular || self.file.metadata()?.len() == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        match last {
            [b'\n'] => Ok(()),
            _ => self.file.write_all(b"\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::*;
    use crate::consume::{Place, Reason};
    use crate::shard::ShardId;

    fn unreadable(data: Bytes) -> Unreadable {
        Unreadable {
            place: Place {
                shard: ShardId::new("s"),
                sequence: "1".into(),
                sub_sequence: 0,
                in_block: None,
            },
            partition_key: "k".into(),
            data,
            reason: Box::new(Reason::Plaintext),
        }
    }

    #[test]
    fn a_line_that_an_earlier_run_tore_ends_before_the_next_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters");
        fs::write(&path, "{\"torn\":").unwrap();
        let mut letters = LetterFile::open(&path).unwrap();
        letters.keep(&unreadable(Bytes::from_static(b"x"))).unwrap();
        letters.sync().unwrap();
        drop(letters);
        let mut letters = LetterFile::open(&path).unwrap();
        letters.keep(&unreadable(Bytes::from_static(b"y"))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (3, "{\"torn\":"), "{text}");
        let is_json = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert!(lines[1..].iter().all(is_json), "{text}");
    }

    #[test]
    fn what_is_no_file_takes_letters_and_is_not_synced() {
        let mut letters = LetterFile::open(Path::new("/dev/null")).unwrap();
        letters.keep(&unreadable(Bytes::from_static(b"x"))).unwrap();
        letters.sync().unwrap();
    }
}
