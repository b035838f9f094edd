//! Records over a Unix stream socket.
//!
//! Each client has a task. A client that sends faster than the stream takes is not read, and sees its own
//! writes wait; others go on as far as the shared memory does. With [`WhenFull::DropNewest`] it is read on, and
//! what has no room is dropped. What follows the last newline when a client hangs up is a record too; the
//! beginning of a frame that says how long it is, is none, and the log says so.
//!
//! What was read cannot be read again: after a crash it is lost if it was not yet stored, until the spool
//! exists. No answer is given to clients.

mod access;
mod address;
mod bind;
mod client;
mod peer;

pub use access::{Access, Account, AccountError};
pub use address::Address;
pub use bind::BindError;

use std::io;
use std::os::unix::net::UnixListener as BlockingListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SocketType;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use self::bind::{Bound, SocketFile, bind};
use self::client::Client;
use self::peer::Peer;
use super::drops::{self, Drops};
use super::feed::Feed;
use super::framing::Framing;
use super::keying::Keying;
use super::{Intake, WhenFull};
use crate::shutdown::Shutdown;

/// Clients that wait to be accepted, as far as `net.core.somaxconn` allows; its default on Linux.
const BACKLOG: i32 = 4096;
/// Accepting failed, most likely for want of descriptors: clients wait in the backlog meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A `[[source]]` table of `type = "unix"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub path: Address,
    /// `None`: as the umask leaves it.
    pub access: Option<Access>,
    pub framing: Framing,
    pub when_full: WhenFull,
}

/// A bound socket. Its file is removed on drop.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    _file: Option<SocketFile>,
    /// Its path, in what is said of it.
    name: Arc<str>,
    framing: Framing,
    when_full: WhenFull,
}

/// Listens and reads until told to stop.
///
/// Not cancel safe: use `shutdown`.
pub async fn run(
    settings: &Settings,
    intake: Intake,
    keying: &Keying,
    shutdown: Shutdown,
) -> io::Result<()> {
    let listener = Listener::bind(settings).map_err(io::Error::other)?;
    listener.run(intake, keying, shutdown).await;
    Ok(())
}

impl Listener {
    /// Takes the path. A socket file that nobody answers on is left over from a crash, and replaced.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let address = &settings.path;
        let failed = |source| BindError::io(address, source);
        let Bound { socket, file } = bind(address, SocketType::STREAM, settings.access.as_ref())?;
        rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
        let listener = BlockingListener::from(socket);
        Ok(Self {
            listener: UnixListener::from_std(listener).map_err(failed)?,
            _file: file,
            name: address.to_string().into(),
            framing: settings.framing,
            when_full: settings.when_full,
        })
    }

    /// Reads all clients until told to stop, and then what they had sent. The socket file is gone when this
    /// returns. Not cancel safe: use `shutdown`.
    pub async fn run(self, intake: Intake, keying: &Keying, shutdown: Shutdown) {
        let drops = Drops::of(self.when_full);
        let name = Arc::clone(&self.name);
        let serving = self.serve_all(intake, keying, drops.clone(), shutdown);
        drops::told_during(drops.as_deref(), &name, serving).await;
    }

    async fn serve_all(
        self,
        intake: Intake,
        keying: &Keying,
        drops: Option<Arc<Drops>>,
        shutdown: Shutdown,
    ) {
        let keyer = keying.of(Path::new(&*self.name));
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.stopped() => break,
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let feed = Feed::new(intake.clone(), keyer.clone(), drops.as_ref());
                        let feed = feed.framed(self.framing);
                        if let Some(client) = self.client(stream, feed) {
                            clients.spawn(client.serve(shutdown.clone()));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(
                            path = %self.name, %error,
                            "cannot take a client; raise the limit of open files if it says so"
                        );
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // No new ones; those that are here are finished.
        drop(self);
        while clients.join_next().await.is_some() {}
    }

    fn client(&self, stream: UnixStream, feed: Feed) -> Option<Client> {
        match Peer::of(&stream) {
            Ok(peer) => Some(Client {
                stream,
                peer,
                socket: Arc::clone(&self.name),
                feed,
            }),
            Err(error) => {
                tracing::warn!(path = %self.name, %error, "cannot tell who a client is; it is sent away");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
