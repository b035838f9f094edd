//! Files that hold a secret and are their owner's alone: keys.
//!
//! Promises that nobody else has rights to what it reads, that reading ends, and that nothing of it is left behind in
//! memory. What the bytes mean is the caller's; why a file is refused is told without them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum Refused {
    Io(io::Error),
    /// A directory, a pipe or a device.
    NoFile,
    /// Others than the owner have rights to it.
    Exposed {
        mode: u32,
    },
    /// It has more bytes than any such file.
    TooLong,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bytes of the file, fewer than `limit`.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let file = open_at_once(path)?;
    // Asked of the open file, so that it can not be exchanged in between.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Refused::NoFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Refused::Exposed { mode });
    }
    // Reserved at once: what grows leaves its old bytes behind. Bounded: the file may grow without an end.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * limit));
    if file.take(limit as u64).read_to_end(&mut bytes)? == limit {
        return Err(Refused::TooLong);
    }
    Ok(bytes)
}

/// A pipe without a writer would hold up whoever opens it, for ever. Of a regular file it changes nothing.
fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// What is there and is no file, beside what keeps it there.
    pub(crate) fn no_files() -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg("-m600")
            .arg(&pipe)
            .status()
            .expect("mkfifo runs");
        assert!(made.success());
        let paths = vec![pipe, directory.path().to_owned(), "/dev/zero".into()];
        (directory, paths)
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let (_directory, paths) = no_files();
        for path in paths {
            let refused = read(&path, 100);
            assert!(matches!(refused, Err(Refused::NoFile)), "{refused:?}");
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all_and_only_if_it_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "12345").unwrap();
        for (mode, limit, expected) in [
            (0o600, 6, "12345"),
            (0o400, 6, "12345"),
            (0o600, 5, "TooLong"),
            (0o640, 6, "Exposed { mode: 416 }"),
            (0o604, 6, "Exposed { mode: 388 }"),
            (0o620, 6, "Exposed { mode: 400 }"),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let said = match read(&path, limit) {
                Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Err(refused) => format!("{refused:?}"),
            };
            assert_eq!(said, expected, "{mode:o}");
        }
    }
}
