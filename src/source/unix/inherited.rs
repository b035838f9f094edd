//! Sockets that systemd has made and handed over at the start (`sd_listen_fds(3)`).
//!
//! A source takes the one that has its path or its abstract name, instead of making one. systemd keeps such a
//! socket open: what clients send while no agent runs waits there, and its file stays when the agent ends.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::sync::Mutex;

use listenfd::ListenFd;
use rustix::net::{SocketType, sockopt};

use super::{Address, BindError};

/// Those that no source has taken. Global, as the descriptors are.
static INHERITED: Mutex<Inherited> = Mutex::new(Inherited(Vec::new()));

#[derive(Debug)]
struct Inherited(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    address: Address,
    kind: SocketType,
    socket: OwnedFd,
}

/// Takes over what `LISTEN_FDS` and `LISTEN_PID` hand to this process, and both out of its environment.
///
/// To be called while there is one thread and before anything is opened: another thread may read the environment,
/// and a descriptor that was opened since may have such a number.
pub fn take_over() {
    // `listenfd` would also take what is for nobody in particular.
    if env::var_os("LISTEN_PID").is_none() {
        return;
    }
    let mut handed = ListenFd::from_env();
    for i in 0..handed.len() {
        match take(&mut handed, i) {
            Ok(socket) => lock().0.push(socket),
            Err(error) => tracing::warn!(
                number = i, %error,
                "a socket that systemd hands over is of no use: allowed are ListenStream and ListenDatagram of \
                 Unix sockets, with Accept=no"
            ),
        }
    }
}

/// To be called when all sources have started: tells the log what none has taken.
pub fn tell_untaken() {
    for socket in &lock().0 {
        tracing::warn!(path = %socket.address, "systemd hands over a socket that no source has as its path");
    }
}

/// The one for `address`, if it was handed over.
pub(super) fn claim(address: &Address, kind: SocketType) -> Result<Option<OwnedFd>, BindError> {
    lock().claim(address, kind)
}

impl Inherited {
    fn claim(&mut self, address: &Address, kind: SocketType) -> Result<Option<OwnedFd>, BindError> {
        let Some(i) = self.0.iter().position(|it| it.address == *address) else {
            return Ok(None);
        };
        if self.0[i].kind != kind {
            return Err(BindError::OtherKind(address.clone()));
        }
        Ok(Some(self.0.swap_remove(i).socket))
    }
}

impl Socket {
    fn stream(listener: UnixListener) -> io::Result<Self> {
        if !sockopt::socket_acceptconn(&listener)? {
            return Err(io::Error::other("it does not listen"));
        }
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: address_of(&listener.local_addr()?)?,
            kind: SocketType::STREAM,
            socket: listener.into(),
        })
    }

    fn datagram(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            address: address_of(&socket.local_addr()?)?,
            kind: SocketType::DGRAM,
            socket: socket.into(),
        })
    }
}

fn take(handed: &mut ListenFd, i: usize) -> io::Result<Socket> {
    // What is of another kind stays in its place.
    if let Ok(Some(listener)) = handed.take_unix_listener(i) {
        return Socket::stream(listener);
    }
    match handed.take_unix_datagram(i)? {
        Some(socket) => Socket::datagram(socket),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

fn address_of(address: &SocketAddr) -> io::Result<Address> {
    if let Some(path) = address.as_pathname() {
        return Ok(Address::File(path.to_owned()));
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        let name = address.as_abstract_name();
        if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok()) {
            return Ok(Address::Abstract(name.to_owned()));
        }
    }
    Err(io::Error::other("it has neither a path nor a name"))
}

fn lock() -> std::sync::MutexGuard<'static, Inherited> {
    INHERITED.lock().expect("nobody panics with it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_takes_the_socket_of_its_path_and_kind_once() {
        let dir = tempfile::tempdir().unwrap();
        let [stream, datagram] = ["stream", "datagram"].map(|name| dir.path().join(name));
        let mut inherited = Inherited(vec![
            Socket::stream(UnixListener::bind(&stream).unwrap()).unwrap(),
            Socket::datagram(UnixDatagram::bind(&datagram).unwrap()).unwrap(),
        ]);
        let [stream, datagram] = [stream, datagram].map(Address::File);
        let elsewhere = Address::File(dir.path().join("elsewhere"));
        let mut claim = |address, kind| inherited.claim(address, kind);
        assert!(claim(&elsewhere, SocketType::STREAM).unwrap().is_none());
        let error = claim(&datagram, SocketType::STREAM).unwrap_err();
        assert!(matches!(&error, BindError::OtherKind(it) if *it == datagram));
        assert!(claim(&datagram, SocketType::DGRAM).unwrap().is_some());
        assert!(claim(&stream, SocketType::STREAM).unwrap().is_some());
        assert!(claim(&stream, SocketType::STREAM).unwrap().is_none());
    }

    #[test]
    fn a_connection_is_no_socket_to_listen_on() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let connection = UnixListener::from(OwnedFd::from(one));
        let error = Socket::stream(connection).unwrap_err();
        assert_eq!(error.to_string(), "it does not listen");
    }
}
