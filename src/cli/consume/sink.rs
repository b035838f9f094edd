//! Where records are printed to: standard output, a file, a Unix socket.

use std::fs::{File, TryLockError};
use std::io::{self, IsTerminal as _, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};

use crate::cli::files::made;
use crate::consume::checkpoint::Checkpoint;
use crate::durable::lock_soon;

/// Takes bytes.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout(File),
    File {
        file: File,
        len: u64,
        /// What was there before goes when the first is written, or it is known that there is nothing to write.
        is_begun: bool,
    },
    /// A pipe, or a device like `/dev/null`: nothing of it can be cut or synced.
    Other(File),
    Socket(UnixStream),
}

impl Sink {
    pub(super) fn open(
        path: Option<&Path>,
        checkpoint: Option<&Checkpoint>,
    ) -> anyhow::Result<Self> {
        // As with other programs.
        let path = path.filter(|path| *path != Path::new("-"));
        let Some(path) = path else {
            // Not [`std::io::Stdout`], which looks for the last line's end in whatever is written.
            return Ok(Self::Stdout(
                io::stdout().as_fd().try_clone_to_owned()?.into(),
            ));
        };
        let is_socket = path.metadata().is_ok_and(|m| m.file_type().is_socket());
        let name = || format!("--out {}", path.display());
        if is_socket {
            return Ok(Self::Socket(UnixStream::connect(path).with_context(name)?));
        }
        let begun = checkpoint.filter(|checkpoint| !checkpoint.places.is_empty());
        let Some(begun) = begun else {
            // Not cut before it is known to be nobody else's.
            let mut options = File::options();
            options.create(true).write(true).truncate(false);
            // In clear what lies encrypted in the stream: its owner's alone, where it is made anew.
            let file = made(options.mode(0o600).open(path), "--out", path)?;
            // What is none, like a pipe or /dev/null, may be several writers'.
            if !file.metadata().with_context(name)?.is_file() {
                return Ok(Self::Other(file));
            }
            own(&file).with_context(name)?;
            return Ok(Self::File {
                file,
                len: 0,
                is_begun: false,
            });
        };
        let is_other = path.metadata().is_ok_and(|about| !about.is_file());
        let Some(len) = begun.written else {
            if is_other {
                let file = File::options().write(true).open(path);
                return Ok(Self::Other(file.with_context(name)?));
            }
            bail!(
                "{}: the checkpoint is of a reading that printed elsewhere; print there, or move the checkpoint away",
                name()
            );
        };
        let mut file = File::options().write(true).open(path).with_context(name)?;
        own(&file).with_context(name)?;
        let there = file.metadata().with_context(name)?.len();
        if there < len {
            bail!(
                "{}: it has {there} bytes, and the checkpoint says that {len} were written: it is another file, or was cut \
                 short; put it back, or move the checkpoint away to begin anew",
                name()
            );
        }
        // What was written and not noted is read again.
        file.set_len(len).with_context(name)?;
        file.seek(SeekFrom::Start(len)).with_context(name)?;
        Ok(Self::File {
            file,
            len,
            is_begun: true,
        })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(out) if out.is_terminal())
    }

    /// Whether who reads there may have enough before the end, as `head` does. Whoever holds a socket is to take all.
    pub(super) fn may_be_left(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// Of a file: its length, once that is on disk.
    pub(super) fn synced_len(&self) -> io::Result<Option<u64>> {
        match self {
            Self::File { file, len, .. } => {
                file.sync_data()?;
                Ok(Some(*len))
            }
            Self::Stdout(_) | Self::Other(_) | Self::Socket(_) => Ok(None),
        }
    }

    /// From now on it has what is printed, and nothing else.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, is_begun, .. } if !*is_begun => {
                *is_begun = true;
                file.set_len(0)
            }
            _ => Ok(()),
        }
    }
}

/// Until it is closed.
fn own(file: &File) -> anyhow::Result<()> {
    match lock_soon(file) {
        Err(TryLockError::WouldBlock) => {
            bail!("another process writes to it; end that one, or name another file")
        }
        // A file system without locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin()?;
        match self {
            Self::Stdout(to) | Self::Other(to) => to.write(bytes),
            Self::Socket(to) => to.write(bytes),
            Self::File { file, len, .. } => {
                let written = file.write(bytes)?;
                *len += written as u64;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
