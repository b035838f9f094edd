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
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let begun = stem.and_then(|stem| stem.parse().ok());
            let is_ours = path.extension().is_some_and(|ext| ext == "jsonl");
            let Some(begun_ms) = begun.filter(|_| is_ours) else {
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
        let path = match files.last() {
            Some(newest) if newest.bytes + len <= settings.max_file_size => newest.path.clone(),
            newest => self.next_path(newest),
        };
        write_durably(&path, lines)?;
        if known.as_ref() != Some(&path) {
            self.sync_names()?;
            *known = Some(path);
        }
        Ok(Appended::Written)
    }

    fn next_path(&self, newest: Option<&LetterFile>) -> PathBuf {
        let begun = newest.map_or(0, |file| file.begun_ms + 1).max(now_ms());
        // Thirteen digits until the year 2286, so that names sort as numbers do.
        self.0.join(format!("{begun:013}.jsonl"))
    }

    /// A new file's name must survive a crash as well as its bytes, and so must its folder's.
    fn sync_names(&self) -> io::Result<()> {
        for dir in self.0.ancestors().take(3) {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
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
fn write_durably(path: &Path, lines: &[u8]) -> io::Result<()> {
    // Payloads, in plain where encryption is off: for this user alone.
    let dir = path.parent().expect("a file in a folder");
    if !dir.is_dir() {
        durable::create_dir(dir, 0o700)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
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
