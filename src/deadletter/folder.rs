//! A stream's folder: which files there are, which one takes the next lines, and when there is no room.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::line::{Lines, now_ms};
use super::{Settings, WhenFull};
use crate::durable;
use crate::record::StreamName;

const PARENT: &str = "dead_letter";

/// The dead letters of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// One of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterFile {
    pub path: PathBuf,
    /// When it was begun, in milliseconds since 1970; higher than its predecessor's, whatever the clock says.
    begun_ms: u64,
    pub bytes: u64,
}

/// What became of lines that were to be appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    Written,
    /// There is no room: so many bytes lie there.
    Full {
        bytes: u64,
    },
}

/// A file that is no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) path: PathBuf,
    /// User records that were in it.
    pub(super) records: u64,
}

impl Folder {
    /// `STATE_DIR/dead_letter/STREAM`.
    pub fn of(state_dir: &Path, stream: &StreamName) -> Self {
        Self(state_dir.join(PARENT).join(stream.folder_name()))
    }

    /// Those of all streams, by name. None where nothing was ever buried.
    pub fn all(state_dir: &Path) -> io::Result<Vec<Self>> {
        let mut folders = Vec::new();
        for entry in entries(&state_dir.join(PARENT))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(Self(path));
            }
        }
        folders.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(folders)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The oldest first. What else lies there is not ours.
    pub fn files(&self) -> io::Result<Vec<LetterFile>> {
        let mut files = Vec::new();
        for entry in entries(&self.0)? {
            let path = entry?.path();
            let Some(begun_ms) = begun_ms(&path) else {
                continue;
            };
            match path.metadata() {
                Ok(about) => files.push(LetterFile {
                    path,
                    begun_ms,
                    bytes: about.len(),
                }),
                // Taken away just now.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        files.sort_by_key(|file| file.begun_ms);
        Ok(files)
    }

    /// Puts whole lines on disk, all of them or none. `known` is the file whose name is there already for
    /// good, and is kept up to date; `dropped` gets what had to make room, also where writing then fails.
    ///
    /// A folder that is empty takes a line of any length: else a line over the cap would wait for ever.
    pub(super) fn append(
        &self,
        lines: &[u8],
        settings: &Settings,
        known: &mut Option<PathBuf>,
        dropped: &mut Vec<Dropped>,
    ) -> io::Result<Appended> {
        let len = lines.len() as u64;
        let mut files = self.files()?;
        loop {
            let bytes: u64 = files.iter().map(|file| file.bytes).sum();
            if bytes == 0 || bytes + len <= settings.max_total_size {
                break;
            }
            if settings.when_full == WhenFull::Block {
                return Ok(Appended::Full { bytes });
            }
            dropped.push(drop_file(files.remove(0))?);
        }
        let last = files.last().map(|file| file.begun_ms);
        let last = last.max(known.as_deref().and_then(begun_ms));
        let has_room = |file: &LetterFile| file.bytes + len <= settings.max_file_size;
        let reopened = files.pop().filter(has_room).map(LetterFile::reopen);
        let (path, file) = match reopened.transpose()?.flatten() {
            Some(newest) => newest,
            None => self.begin(last)?,
        };
        write_durably(file, lines)?;
        if known.as_ref() != Some(&path) {
            self.sync_names()?;
            *known = Some(path);
        }
        Ok(Appended::Written)
    }

    /// A file of a name that none had before: who moves files to one place would else have it replace another there.
    fn begin(&self, last: Option<u64>) -> io::Result<(PathBuf, File)> {
        // Payloads, in plain where encryption is off: for this user alone.
        if !self.0.is_dir() {
            durable::create_dir(&self.0, 0o700)?;
        }
        let begun = last.map_or(0, |last| last + 1).max(now_ms());
        // Thirteen digits until the year 2286, so that names sort as numbers do.
        let path = self.0.join(format!("{begun:013}.jsonl"));
        let file = appending().create_new(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }

    /// A new file's name must survive a crash as well as its bytes, and so must its folder's.
    fn sync_names(&self) -> io::Result<()> {
        for dir in self.0.ancestors().take(3) {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

impl LetterFile {
    /// None where it was taken away just now.
    fn reopen(self) -> io::Result<Option<(PathBuf, File)>> {
        match appending().open(&self.path) {
            Ok(file) => Ok(Some((self.path, file))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// What its name says. None for a file that is not ours.
fn begun_ms(path: &Path) -> Option<u64> {
    let is_ours = path.extension().is_some_and(|ext| ext == "jsonl");
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.filter(|_| is_ours)?.parse().ok()
}

/// Nothing where there is no such directory.
fn entries(dir: &Path) -> io::Result<impl Iterator<Item = io::Result<std::fs::DirEntry>>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    Ok(entries.into_iter().flatten())
}

fn drop_file(file: LetterFile) -> io::Result<Dropped> {
    let mut records = 0;
    let mut lines = Lines::open(&file.path)?;
    while let Some(line) = lines.next() {
        records += line?.map_or(0, |(_, line)| line.records);
    }
    std::fs::remove_file(&file.path)?;
    Ok(Dropped {
        path: file.path,
        records,
    })
}

/// Appends whole or not at all: a write that stopped half-way is cut off again, so that a retry leaves no
/// torn line between two good ones. Where a crash left one, it is ended first.
fn write_durably(mut file: File, lines: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let mut write = || {
        if before > 0 {
            let mut last = [0];
            file.read_exact_at(&mut last, before - 1)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        file.write_all(lines)?;
        file.sync_data()
    };
    if let Err(error) = write() {
        let _ = file.set_len(before);
        return Err(error);
    }
    if file.metadata()?.nlink() == 0 {
        return Err(io::Error::other(
            "the file was removed while it was written to",
        ));
    }
    Ok(())
}
