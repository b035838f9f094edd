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
}

impl Address {
    pub(super) fn to_system(&self) -> Result<SocketAddrUnix> {
        match self {
            Self::File(path) => SocketAddrUnix::new(path),
            #[cfg(target_os = "linux")]
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            #[cfg(not(target_os = "linux"))]
            Self::Abstract(_) => Err(rustix::io::Errno::AFNOSUPPORT),
        }
    }

    /// None for a name without one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Abstract(_) => None,
        }
    }
}

/// As it is written in a configuration.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}
