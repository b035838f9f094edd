//! A socket with a path for others than sources: taken and given back as theirs are.

use rustix::net::SocketType;
use tokio::net::{UnixListener, UnixStream};

use super::bind::{SocketFile, bind};
use super::{Address, BindError, listening};

/// Listens. Its file is removed on drop.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    _file: Option<SocketFile>,
}

impl Door {
    /// Takes the path. A socket file that nobody answers on is left over from a crash, and replaced. Who may connect is
    /// as the umask leaves it.
    pub fn open(address: &Address) -> Result<Self, BindError> {
        let bound = bind(address, SocketType::STREAM, None)?;
        let (listener, file) = listening(bound).map_err(|source| BindError::io(address, source))?;
        Ok(Self {
            listener,
            _file: file,
        })
    }

    /// Cancel safe.
    pub async fn accept(&self) -> std::io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}
