//! Records over Unix sockets: of streams, here, and of datagrams.
//!
//! Each client has a task. A client that sends faster than the stream takes is not read, and sees its own
//! writes wait; others go on as far as the shared memory does. With [`WhenFull::DropNewest`] it is read on, and
//! what has no room is dropped. What follows the last newline when a client hangs up is a record too; the
//! beginning of a frame that says how long it is, is none, and the log says so.
//!
//! What was read cannot be read again: after a crash it is lost if it was neither stored nor in a spool. Clients
//! have no answer, but for those of the KPL's protocol (`acknowledged`).

mod access;
mod acknowledged;
mod address;
mod bind;
mod client;
mod complaints;
mod connection;
mod datagram;
mod door;
pub mod inherited;
mod peer;
mod rebind;
mod seldom;
mod turns;

pub use access::{Access, Account, AccountError};
pub use acknowledged::{Ack, Desk};
pub use address::Address;
pub use bind::BindError;
pub use datagram::{DatagramSettings, DatagramSocket};
pub use door::Door;
pub use peer::Allow;

use std::io;
use std::os::unix::net::{UnixListener as BlockingListener, UnixStream as BlockingStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use self::acknowledged::Acknowledged;
use self::bind::{Bound, SocketFile, bind};
use self::client::Client;
use self::complaints::Complaints;
use self::peer::{AllowList, Peer};
use self::rebind::Rebinding;
use self::seldom::Seldom;
use self::turns::Turns;
use super::drops::{self, Drops};
use super::feed::{Feed, Joining};
use super::framing::Framing;
use super::join::Multiline;
use super::making::{Maker, Making};
use super::tail::UNFINISHED_KEPT;
use super::{Intake, WhenFull};
use crate::shutdown::Shutdown;

/// Clients that wait to be accepted, as far as `net.core.somaxconn` allows; its default on Linux.
const BACKLOG: i32 = 4096;
/// Accepting failed, most likely for want of descriptors: clients wait in the backlog meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// [`Settings::max_connections`], if nothing is said. A descriptor each: as many as a process may have open by
/// default on Linux, soft. The command line raises that limit, or admits fewer.
pub const MAX_CONNECTIONS: usize = 1024;

/// A `[[source]]` table of `type = "unix"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub path: Address,
    /// `None`: as the umask leaves it.
    pub access: Option<Access>,
    /// `None`: everyone whom the file lets in.
    pub allow: Option<Allow>,
    /// Clients at once; more of them wait.
    pub max_connections: usize,
    pub framing: Framing,
    /// The KPL's protocol in place of `framing`, and when clients have their answers.
    pub acknowledged: Option<Ack>,
    /// Of lines, not of frames. `None`: each is a record.
    pub multiline: Option<Arc<Multiline>>,
    pub when_full: WhenFull,
}

/// A bound socket. Its file is removed on drop.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    file: Option<SocketFile>,
    rebinding: Rebinding,
    /// Its file was removed; who had connected by then waits in it.
    retired: Option<UnixListener>,
    /// Others keep it open.
    is_inherited: bool,
    /// Its path, in what is said of it.
    name: Arc<str>,
    allow: Option<AllowList>,
    max_connections: usize,
    framing: Framing,
    /// Who answers, and when.
    answering: Option<(Ack, Desk)>,
    joining: Option<Joining>,
    when_full: WhenFull,
}

/// A client, by what it is told.
enum Served {
    Unanswered(Box<Client>),
    Acknowledged(Box<Acknowledged>),
}

impl Served {
    async fn serve(self, shutdown: Shutdown) {
        match self {
            Self::Unanswered(client) => client.serve(shutdown).await,
            Self::Acknowledged(client) => client.serve(shutdown).await,
        }
    }
}

impl Listener {
    /// Takes the path. A socket file that nobody answers on is left over from a crash, and replaced.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let address = &settings.path;
        let failed = |source| BindError::io(address, source);
        let allow = settings.allow.as_ref().map(Allow::resolve).transpose();
        let allow = allow.map_err(|error| BindError::account(address, error))?;
        let access = settings.access.as_ref();
        let bound = bind(address, SocketType::STREAM, access)?;
        let is_inherited = bound.is_inherited;
        let (listener, file) = listening(bound).map_err(failed)?;
        let multiline = settings.multiline.as_ref();
        let joining = multiline
            .map(|multiline| Joining::new(multiline, UNFINISHED_KEPT, &address.to_string()));
        Ok(Self {
            listener,
            file,
            rebinding: Rebinding::new(address, SocketType::STREAM, access),
            retired: None,
            is_inherited,
            name: address.to_string().into(),
            allow,
            max_connections: settings.max_connections,
            framing: settings.framing,
            answering: None,
            joining,
            when_full: settings.when_full,
        })
    }

    /// Clients speak the KPL's protocol, and are answered.
    #[must_use]
    pub fn acknowledging(mut self, ack: Ack, desk: Desk) -> Self {
        self.answering = Some((ack, desk));
        self
    }

    /// Reads all clients until told to stop, and then what they had sent. The socket file is gone when this
    /// returns. Not cancel safe: use `shutdown`.
    pub async fn run(self, intake: Intake, making: &Making, shutdown: Shutdown) {
        let drops = Drops::of(self.when_full);
        let name = Arc::clone(&self.name);
        let serving = self.serve_all(intake, making, drops.clone(), shutdown);
        drops::told_during(drops.as_deref(), &name, serving).await;
    }

    async fn serve_all(
        mut self,
        intake: Intake,
        making: &Making,
        drops: Option<Arc<Drops>>,
        shutdown: Shutdown,
    ) {
        let way = Way {
            intake,
            maker: making.of(Path::new(&*self.name)),
            drops,
            framing: self.framing,
            joining: self.joining.clone(),
            turns: Turns::new(),
            complaints: Complaints::of(Arc::clone(&self.name)),
        };
        let mut clients = JoinSet::new();
        let [mut refused, mut full, mut failed] = [(); 3].map(|()| Seldom::default());
        loop {
            while clients.len() < self.max_connections
                && let Some(stream) = self.accept_retired()
            {
                if let Some(client) = self.let_in(stream, &way, &mut refused) {
                    clients.spawn(client.serve(shutdown.clone()));
                }
            }
            tokio::select! {
                biased;
                () = shutdown.stopped() => break,
                () = self.rebinding.is_due() => self.rebind().await,
                Some(_) = clients.join_next() => {}
                times = refused.wait() => self.tell_refused(times, None),
                times = full.wait() => self.tell_full(times),
                accepted = self.listener.accept(), if clients.len() < self.max_connections => match accepted {
                    Ok((stream, _)) => {
                        if let Some(client) = self.let_in(stream, &way, &mut refused) {
                            clients.spawn(client.serve(shutdown.clone()));
                        }
                        if clients.len() == self.max_connections && let Some(times) = full.add(1) {
                            self.tell_full(times);
                        }
                    }
                    Err(error) => {
                        if let Some(times) = failed.add(1) {
                            tracing::warn!(
                                path = %self.name, times, %error,
                                "cannot take a client; raise the limit of open files if it says so"
                            );
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // No new ones. Those who wait to be accepted may have sent all they had; what systemd keeps open waits there
        // for the next agent.
        self.file = None;
        let waiting = if self.is_inherited { 0 } else { BACKLOG };
        for _ in 0..waiting {
            if clients.len() == self.max_connections {
                clients.join_next().await;
            }
            let stream = self.accept_retired();
            let Some(stream) = stream.or_else(|| accept_now(&self.listener).ok()) else {
                break;
            };
            if let Some(client) = self.let_in(stream, &way, &mut refused) {
                clients.spawn(client.serve(shutdown.clone()));
            }
        }
        if let Some(times) = refused.last() {
            self.tell_refused(times, None);
        }
        // Those that are here are finished.
        drop(self);
        while clients.join_next().await.is_some() {}
    }

    async fn rebind(&mut self) {
        let Some(bound) = self.rebinding.again(self.file.as_ref()).await else {
            return;
        };
        match listening(bound) {
            Ok((listener, file)) => {
                self.retired = Some(std::mem::replace(&mut self.listener, listener));
                self.file = file;
            }
            // Its file has gone with it, so it is looked for again.
            Err(error) => {
                tracing::error!(path = %self.name, %error, "cannot listen on a socket that was made again");
            }
        }
    }

    /// Who connected before the file was removed, if any are left.
    fn accept_retired(&mut self) -> Option<UnixStream> {
        let accepted = accept_now(self.retired.as_ref()?);
        if accepted.is_err() {
            self.retired = None;
        }
        accepted.ok()
    }

    /// The client, if it may be one.
    fn let_in(&self, stream: UnixStream, way: &Way, refused: &mut Seldom) -> Option<Served> {
        let peer = self.peer_of(&stream)?;
        if self.allow.as_ref().is_some_and(|list| !list.lets_in(peer)) {
            if let Some(times) = refused.add(1) {
                self.tell_refused(times, Some(peer));
            }
            return None;
        }
        Some(match &self.answering {
            None => Served::Unanswered(Box::new(Client {
                stream,
                peer,
                feed: way.feed(peer),
                turns: way.turns.clone(),
                complaints: way.complaints.clone(),
            })),
            Some((ack, desk)) => Served::Acknowledged(Box::new(Acknowledged {
                stream,
                peer,
                intake: way.intake.clone(),
                maker: peer.names(way.maker.clone()),
                ack: *ack,
                desk: desk.clone(),
                turns: way.turns.clone(),
                complaints: way.complaints.clone(),
            })),
        })
    }

    fn peer_of(&self, stream: &UnixStream) -> Option<Peer> {
        let peer = Peer::of(stream);
        if let Err(error) = &peer {
            tracing::warn!(path = %self.name, %error, "cannot tell who a client is; it is sent away");
        }
        peer.ok()
    }

    fn tell_refused(&self, times: u64, last: Option<Peer>) {
        let last = last.map(tracing::field::display);
        tracing::warn!(path = %self.name, times, peer = last, "clients that are not on the allow list were sent away");
    }

    fn tell_full(&self, times: u64) {
        tracing::warn!(
            path = %self.name, times, max_connections = self.max_connections,
            "as many clients as there may be: more of them wait until one has gone"
        );
    }
}

fn listening(bound: Bound) -> io::Result<(UnixListener, Option<SocketFile>)> {
    let Bound {
        socket,
        is_inherited,
        file,
    } = bound;
    if !is_inherited {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let listener = UnixListener::from_std(BlockingListener::from(socket))?;
    Ok((listener, file))
}

/// Asked directly: the runtime does not yet know who has come since it last looked.
fn accept_now(listener: &UnixListener) -> io::Result<UnixStream> {
    let stream = BlockingStream::from(rustix::net::accept_with(
        listener,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    )?);
    UnixStream::from_std(stream)
}

/// Where the records of clients go, and what is made of them.
struct Way {
    intake: Intake,
    maker: Maker,
    drops: Option<Arc<Drops>>,
    framing: Framing,
    joining: Option<Joining>,
    turns: Turns,
    complaints: Complaints,
}

impl Way {
    fn feed(&self, peer: Peer) -> Feed {
        let maker = peer.names(self.maker.clone());
        let feed = Feed::new(self.intake.clone(), maker, self.drops.as_ref());
        feed.framed(self.framing).joining(self.joining.as_ref())
    }
}

#[cfg(test)]
mod tests;
