//! Sockets that systemd has made and handed over at the start (`sd_listen_fds(3)`).
//!
//! A source takes the one that has its path or its abstract name, instead of making one; or the one that has the name that
//! systemd gives it in `LISTEN_FDNAMES`. systemd keeps such a
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
    /// The unit's, or what it says in `FileDescriptorName=`; several may have the same.
    name: Option<String>,
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
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut handed = ListenFd::from_env();
    for i in 0..handed.len() {
        let name = names.next().filter(|name| !name.is_empty());
        match take(&mut handed, i) {
            Ok(socket) => lock().0.push(Socket { name, ..socket }),
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
        tracing::warn!(
            path = %socket.address, name = socket.name,
            "systemd hands over a socket that no source has as its path; with path = \"systemd:NAME\" one takes it by name"
        );
    }
}

/// The one for `address`, if it was handed over.
pub(super) fn claim(address: &Address, kind: SocketType) -> Result<Option<OwnedFd>, BindError> {
    lock().claim(address, kind)
}

impl Inherited {
    fn claim(&mut self, address: &Address, kind: SocketType) -> Result<Option<OwnedFd>, BindError> {
        let is_of = |socket: &Socket| socket.is_at(address) && socket.kind == kind;
        match self.0.iter().position(is_of) {
            // The others of a name stay in the order of their unit.
            Some(i) => Ok(Some(self.0.remove(i).socket)),
            None if self.0.iter().any(|socket| socket.is_at(address)) => {
                Err(BindError::OtherKind(address.clone()))
            }
            None => Ok(None),
        }
    }
}

impl Socket {
    fn is_at(&self, address: &Address) -> bool {
        match address {
            Address::HandedOver(name) => self.name.as_ref() == Some(name),
            Address::File(_) | Address::Abstract(_) => self.address == *address,
        }
    }

    fn stream(listener: UnixListener) -> io::Result<Self> {
        if !sockopt::socket_acceptconn(&listener)? {
            return Err(io::Error::other("it does not listen"));
        }
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: address_of(&listener.local_addr()?)?,
            name: None,
            kind: SocketType::STREAM,
            socket: listener.into(),
        })
    }

    fn datagram(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            address: address_of(&socket.local_addr()?)?,
            name: None,
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
    fn a_source_takes_the_socket_of_a_name_that_is_of_its_kind_in_the_units_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let named = |name: &str, socket: Socket| Socket {
            name: Some(name.to_owned()),
            ..socket
        };
        let stream = |path: &str| Socket::stream(UnixListener::bind(at(path)).unwrap()).unwrap();
        let datagram = Socket::datagram(UnixDatagram::bind(at("d")).unwrap()).unwrap();
        let mut inherited = Inherited(vec![
            named("shop", datagram),
            named("shop", stream("1")),
            named("other", stream("2")),
            named("shop", stream("3")),
        ]);
        let shop = Address::HandedOver("shop".into());
        let mut claim = |address: &Address, kind| inherited.claim(address, kind);
        for path in ["1", "3"] {
            let socket = claim(&shop, SocketType::STREAM).unwrap().unwrap();
            let address = UnixListener::from(socket).local_addr().unwrap();
            assert_eq!(address.as_pathname(), Some(&*at(path)));
        }
        let error = claim(&shop, SocketType::STREAM).unwrap_err();
        assert!(matches!(error, BindError::OtherKind(_)));
        assert!(claim(&shop, SocketType::DGRAM).unwrap().is_some());
        assert!(claim(&shop, SocketType::DGRAM).unwrap().is_none());
        let by_path = Address::File(at("2"));
        assert!(claim(&by_path, SocketType::STREAM).unwrap().is_some());
    }

    #[test]
    fn a_connection_is_no_socket_to_listen_on() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let connection = UnixListener::from(OwnedFd::from(one));
        let error = Socket::stream(connection).unwrap_err();
        assert_eq!(error.to_string(), "it does not listen");
    }
}
