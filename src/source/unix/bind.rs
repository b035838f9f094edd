//! A socket's place in the file system: taken, told apart from what is left over, and given back.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    #[error(
        "socket {0} is in use: another process answers on it; stop that one, or choose another path"
    )]
    InUse(PathBuf),
    #[error("{0} is there and is no socket; move it away, or choose another path")]
    NotASocket(PathBuf),
    #[error(
        "cannot listen on {path}: {source}; its directory must exist and this user may write to it"
    )]
    Io { path: PathBuf, source: io::Error },
}

/// A socket file that nobody answers on is left over from a crash.
pub(super) fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(e) => Err(failed(e)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

/// The socket's file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let meta = path.symlink_metadata()?;
        Ok(Self {
            path: path.to_owned(),
            id: (meta.dev(), meta.ino()),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |meta: std::fs::Metadata| (meta.dev(), meta.ino()) == self.id;
        if self.path.symlink_metadata().is_ok_and(is_ours) {
            // Left behind, it is found stale at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
