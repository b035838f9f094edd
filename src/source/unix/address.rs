//! Where a socket is found.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Result;
use rustix::net::SocketAddrUnix;

/// `path` of a `[[source]]` that is a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file, absolute.
    File(PathBuf),
    /// A name in Linux's abstract namespace, without the `@`. There is no file, and it is free again once nobody
    /// uses it.
    Abstract(String),
    /// One that systemd hands over under this name (`FileDescriptorName=`), wherever it is.
    HandedOver(String),
}

impl Address {
    /// What a name that systemd gives begins with, as it is written.
    pub const HANDED_OVER: &str = "systemd:";

    pub(super) fn to_system(&self) -> Result<SocketAddrUnix> {
        match self {
            Self::File(path) => SocketAddrUnix::new(path),
            #[cfg(target_os = "linux")]
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            #[cfg(not(target_os = "linux"))]
            Self::Abstract(_) => Err(rustix::io::Errno::AFNOSUPPORT),
            Self::HandedOver(_) => Err(rustix::io::Errno::ADDRNOTAVAIL),
        }
    }

    /// None for a name without one, or of one that is not ours to make.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Abstract(_) | Self::HandedOver(_) => None,
        }
    }
}

/// As it is written in a configuration.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
            Self::HandedOver(name) => write!(f, "{}{name}", Self::HANDED_OVER),
        }
    }
}
