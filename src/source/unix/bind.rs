//! A socket's address: taken, told apart from what is left over, and given back.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use super::access::{Access, AccountError};
use super::{Address, inherited};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    #[error(
        "socket {0} is in use: another process answers on it; stop that one, or choose another path"
    )]
    InUse(Address),
    #[error(
        "{0} is there and is no socket (a link to one is none either); move it away, or choose another path"
    )]
    NotASocket(PathBuf),
    #[error(
        "cannot listen on {address}: {source}; its directory must exist and this user may write to it"
    )]
    Io { address: Address, source: io::Error },
    #[error(
        "cannot give socket {address} its mode, owner and group: {source}; only root gives it to another owner, and \
         others to groups that they are in"
    )]
    Access { address: Address, source: io::Error },
    #[error(
        "systemd hands over socket {0} as another kind than its source's: ListenStream is for type = \"unix\", \
         ListenDatagram for \"unix_datagram\""
    )]
    OtherKind(Address),
    #[error(
        "systemd hands over no socket {0}; its name is that of the .socket unit, or what FileDescriptorName= there says, \
         and a socket is handed to one source only"
    )]
    NotHandedOver(Address),
    #[error("socket {address}: {source}")]
    Account {
        address: Address,
        source: AccountError,
    },
}

/// A socket that has its address.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: OwnedFd,
    /// It listens already, if it is of that kind, and its file is not ours.
    pub(super) is_inherited: bool,
    /// Removed on drop.
    pub(super) file: Option<SocketFile>,
}

/// Takes `address`, or the socket that was handed over with it. A socket file that nobody answers on is left over from a crash, and replaced.
///
/// There is no moment at which someone can connect whom `access` does not let in: the socket has no permissions
/// when it is bound, which on Linux is what its file gets (`unix_bind`: the mode of the socket's inode, less the
/// umask), and only root passes that; then the file gets its owner and group, and only then its mode. A stream
/// socket does not listen before all that is done, which would do alone where fchmod does not take sockets. The
/// umask is not touched: it is the whole process's, and other files are made meanwhile.
pub(super) fn bind(
    address: &Address,
    kind: SocketType,
    access: Option<&Access>,
) -> Result<Bound, BindError> {
    if let Some(socket) = inherited::claim(address, kind)? {
        if access.is_some() {
            tracing::warn!(
                path = %address,
                "mode, owner and group are those of systemd's unit, which hands this socket over; the source's do not count"
            );
        }
        return Ok(Bound {
            socket,
            is_inherited: true,
            file: None,
        });
    }
    if let Address::HandedOver(_) = address {
        return Err(BindError::NotHandedOver(address.clone()));
    }
    let failed = |source: Errno| BindError::io(address, source.into());
    let access = access.map(Access::resolve).transpose();
    let access = access.map_err(|error| BindError::account(address, error))?;
    if let Some(path) = address.file() {
        remove_stale(path)?;
    }
    let socket = new_socket(kind).map_err(failed)?;
    if access.is_some() && cfg!(target_os = "linux") {
        fs::fchmod(&socket, fs::Mode::empty()).map_err(failed)?;
    }
    let to = address.to_system().map_err(failed)?;
    net::bind(&socket, &to).map_err(|error| match error {
        Errno::ADDRINUSE => BindError::InUse(address.clone()),
        error => failed(error),
    })?;
    let Some(path) = address.file() else {
        return Ok(Bound {
            socket,
            is_inherited: false,
            file: None,
        });
    };
    let file = SocketFile::new(path).map_err(|error| BindError::io(address, error))?;
    if let Some(access) = access {
        access.apply(path)?;
    }
    Ok(Bound {
        socket,
        is_inherited: false,
        file: Some(file),
    })
}

impl BindError {
    pub(super) fn io(address: &Address, source: io::Error) -> Self {
        Self::Io {
            address: address.clone(),
            source,
        }
    }

    pub(super) fn account(address: &Address, source: AccountError) -> Self {
        Self::Account {
            address: address.clone(),
            source,
        }
    }
}

fn new_socket(kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, kind, flags, None)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let address = Address::File(path.to_owned());
    let failed = |source| BindError::io(&address, source);
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    let connected = new_socket(SocketType::STREAM)
        .and_then(|probe| net::connect(&probe, &address.to_system()?));
    match connected {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(failed),
        // Its backlog is full; or it is a datagram socket.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindError::InUse(address)),
        Err(e) => Err(failed(e.into())),
    }
}

/// The socket's file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let meta = path.symlink_metadata()?;
        Ok(Self {
            path: path.to_owned(),
            id: (meta.dev(), meta.ino()),
        })
    }
}

impl SocketFile {
    /// Whether nobody has its name any more, or another. Where that cannot be seen, it has not.
    pub(super) fn is_gone(&self) -> bool {
        match self.path.symlink_metadata() {
            Ok(meta) => (meta.dev(), meta.ino()) != self.id,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
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
