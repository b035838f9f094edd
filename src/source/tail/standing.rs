//! How a file that the checkpoint knows stands: where it is now, and how much of it is not stored yet.
//!
//! For those who ask from outside, while an agent may be at work. Looks at the file and changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::content::Content;
use super::identity::is_saved;
use crate::checkpoint::SavedFile;

/// What has become of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there, under its own name or another one of its directory.
    Present {
        path: PathBuf,
        size: u64,
        /// Bytes that are not stored yet, an unfinished line among them.
        behind: u64,
    },
    /// It is there and compressed, and the agent has not met its end yet: which may be yet to be written.
    Unended {
        path: PathBuf,
        /// What can be unpacked of it now.
        size: u64,
        behind: u64,
    },
    /// It is there and compressed, and cannot be unpacked to its end: it is cut short or damaged, and was given up.
    Damaged {
        path: PathBuf,
        /// What can be unpacked of it.
        size: u64,
    },
    /// It is there, and what the checkpoint knows of it is no longer in it: it was cut short or written anew, and will
    /// be read from its beginning.
    Changed { path: PathBuf, size: u64 },
    /// There is no such file any more.
    Gone,
}

impl Standing {
    /// # Errors
    ///
    /// The file is there and cannot be looked at.
    pub fn of(saved: &SavedFile) -> io::Result<Self> {
        let Some((path, file)) = find(saved)? else {
            return Ok(Self::Gone);
        };
        let meta = file.metadata()?;
        let was_read = saved.is_all_of(meta.len());
        if was_read && !saved.damaged {
            let size = saved.size_seen;
            let behind = size.saturating_sub(saved.offset);
            return Ok(Self::Present { path, size, behind });
        }
        let size = file.whole_size()?;
        // A whole copy may have the same size.
        let is_damaged = was_read && !file.is_whole();
        let behind = size.saturating_sub(saved.offset);
        let is_packed = file.is_packed() && meta.len() > 0;
        Ok(match is_saved(saved, &file, size)? {
            _ if is_damaged => Self::Damaged { path, size },
            false => Self::Changed { path, size },
            true if is_packed => Self::Unended { path, size, behind },
            true => Self::Present { path, size, behind },
        })
    }

    /// Whether all of the file is stored, or a dead letter: also if it has gone since.
    pub fn is_stored(&self, saved: &SavedFile) -> bool {
        match self {
            _ if saved.cut => false,
            Self::Present { behind, .. } => *behind == 0,
            Self::Unended { .. } | Self::Damaged { .. } | Self::Changed { .. } => false,
            Self::Gone => saved.finished && saved.offset >= saved.size_seen && !saved.damaged,
        }
    }
}

/// Where it was last seen, or renamed within that directory.
fn find(saved: &SavedFile) -> io::Result<Option<(PathBuf, Content)>> {
    let path = Path::new(&saved.path);
    match is_at(saved, path) {
        Ok(true) => return opened(path.to_owned()),
        Ok(false) => {}
        // A link in a circle has its name now.
        Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    let Some(folder) = path.parent() else {
        return Ok(None);
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        // What cannot be looked at is a link to elsewhere, or in a circle: a renamed file is here itself.
        if is_at(saved, &path).unwrap_or(false) {
            return opened(path);
        }
    }
    Ok(None)
}

fn is_at(saved: &SavedFile, path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Ok(meta) => Ok(meta.is_file() && meta.ino() == saved.inode && meta.dev() == saved.device),
        // A link that leads nowhere, or a file that has just gone.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn opened(path: PathBuf) -> io::Result<Option<(PathBuf, Content)>> {
    match Content::open(&path) {
        Ok(file) => Ok(Some((path, file))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StreamName;
    use crate::source::tail::Settable;

    fn saved(path: &Path, offset: u64) -> SavedFile {
        let file = Settable::open(path).unwrap();
        let stream = StreamName::new("logs").unwrap();
        file.saved_at(&stream, offset).unwrap()
    }

    #[test]
    fn a_file_is_found_where_it_was_or_by_another_name_beside_it_with_what_is_left_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "one\ntwo\n").unwrap();
        let half = saved(&path, 4);
        let present = |path: &Path| Standing::Present {
            path: path.to_owned(),
            size: 8,
            behind: 4,
        };
        assert_eq!(Standing::of(&half).unwrap(), present(&path));
        assert!(!present(&path).is_stored(&half));
        let rotated = dir.path().join("a.log.1");
        fs::rename(&path, &rotated).unwrap();
        fs::write(&path, "another\n").unwrap();
        assert_eq!(Standing::of(&half).unwrap(), present(&rotated));
        let whole = saved(&rotated, 8);
        assert!(Standing::of(&whole).unwrap().is_stored(&whole));
    }

    #[test]
    fn links_in_a_circle_are_no_files_and_hide_none() {
        let dir = tempfile::tempdir().unwrap();
        let [path, rotated, other] = ["a.log", "b.log", "0"].map(|name| dir.path().join(name));
        fs::write(&path, "one\n").unwrap();
        let whole = saved(&path, 4);
        fs::rename(&path, &rotated).unwrap();
        for link in [&path, &other] {
            std::os::unix::fs::symlink(link, link).unwrap();
        }
        let present = Standing::Present {
            path: rotated.clone(),
            size: 4,
            behind: 0,
        };
        assert_eq!(Standing::of(&whole).unwrap(), present);
        fs::remove_file(&rotated).unwrap();
        assert_eq!(Standing::of(&whole).unwrap(), Standing::Gone);
    }

    #[test]
    fn a_file_that_was_written_anew_is_not_stored_and_one_that_has_gone_is_if_it_was_finished() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "one\ntwo\n").unwrap();
        let whole = saved(&path, 8);
        fs::write(&path, "three\nfour\n").unwrap();
        let standing = Standing::of(&whole).unwrap();
        let changed = Standing::Changed {
            path: path.clone(),
            size: 11,
        };
        assert_eq!(standing, changed);
        assert!(!standing.is_stored(&whole));
        fs::remove_file(&path).unwrap();
        assert_eq!(Standing::of(&whole).unwrap(), Standing::Gone);
        assert!(!Standing::Gone.is_stored(&whole), "it may have had more");
        let finished = SavedFile {
            finished: true,
            ..whole
        };
        assert!(Standing::Gone.is_stored(&finished));
        fs::remove_dir(dir.path()).unwrap();
        assert_eq!(Standing::of(&finished).unwrap(), Standing::Gone);
    }
}
