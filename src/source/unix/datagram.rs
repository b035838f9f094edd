//! Records over a Unix datagram socket: one datagram, one record, also one of no bytes.
//!
//! While there is no room, no datagram is taken from the socket, and senders wait once the kernel has a few of
//! them (`net.unix.max_dgram_qlen`); with [`WhenFull::DropNewest`] they are taken, and those without room dropped.
//!
//! A datagram that is longer than the buffer it is read into loses its end without a word. So its length is asked
//! for first, and the buffer and the memory for it are as large. Only one that is longer than any record may be is
//! cut, to a length that no record may have either: its beginning is for the dead letter, and the log says so.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram as BlockingDatagram;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::net::{self, RecvFlags, SocketType, recv};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::bind::{Bound, SocketFile, bind};
use super::connection::{BLOCK, Ended};
use super::rebind::Rebinding;
use super::seldom::Seldom;
use super::{Access, Address, BindError};
use crate::shutdown::Shutdown;
use crate::source::drops::{self, Drops};
use crate::source::feed::Feed;
use crate::source::frame::{Line, MAX_LINE};
use crate::source::lines::{MAX_LINES, Read};
use crate::source::making::Making;
use crate::source::{Closed, Intake, WhenFull};

/// After a stop, so much is still read of what was sent. A guess: ten datagrams wait by default, of 208 KiB at most.
const LAST_READ: usize = 4 * 1024 * 1024;

/// A `[[source]]` table of `type = "unix_datagram"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramSettings {
    pub path: Address,
    /// `None`: as the umask leaves it.
    pub access: Option<Access>,
    pub when_full: WhenFull,
}

/// A bound socket. Its file is removed on drop.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UnixDatagram,
    file: Option<SocketFile>,
    rebinding: Rebinding,
    /// Its path, in what is said of it.
    name: Arc<str>,
    when_full: WhenFull,
    longest: usize,
}

/// What has been cut, for the log.
#[derive(Debug, Default)]
struct Cut {
    datagrams: Seldom,
    bytes: u64,
}

impl DatagramSocket {
    /// Takes the path. A socket file that nobody answers on is left over from a crash, and replaced.
    pub fn bind(settings: &DatagramSettings) -> Result<Self, BindError> {
        let address = &settings.path;
        let access = settings.access.as_ref();
        let bound = bind(address, SocketType::DGRAM, access)?;
        let (socket, file) = receiving(bound).map_err(|error| BindError::io(address, error))?;
        Ok(Self {
            socket,
            file,
            rebinding: Rebinding::new(address, SocketType::DGRAM, access),
            name: address.to_string().into(),
            when_full: settings.when_full,
            longest: MAX_LINE,
        })
    }

    /// Reads until told to stop, and then what was sent before. The socket file is gone when this returns. An error
    /// is the socket's. Not cancel safe: use `shutdown`.
    pub async fn run(self, intake: Intake, making: &Making, shutdown: Shutdown) -> io::Result<()> {
        let drops = Drops::of(self.when_full);
        let name = Arc::clone(&self.name);
        let maker = making.of(Path::new(&*name));
        let feed = Feed::new(intake, maker, drops.as_ref());
        drops::told_during(drops.as_deref(), &name, self.read_to_end(feed, shutdown)).await
    }

    async fn read_to_end(mut self, mut feed: Feed, shutdown: Shutdown) -> io::Result<()> {
        let mut cut = Cut::default();
        let outcome = self.read_on(&mut feed, &mut cut, shutdown).await;
        if let Some(times) = cut.datagrams.last() {
            cut.tell(&self.name, times);
        }
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(Ended::Socket(error)) => Err(error),
            // Of the others there is only that the pipeline is gone.
            Err(_) => return Ok(()),
        };
        // A pipeline that is gone has said so elsewhere.
        let _ = feed.finish().await;
        outcome
    }

    async fn read_on(
        &mut self,
        feed: &mut Feed,
        cut: &mut Cut,
        shutdown: Shutdown,
    ) -> Result<(), Ended> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.stopped() => break,
                () = self.rebinding.is_due() => {
                    self.rebind(feed, cut).await?;
                    continue;
                }
                times = cut.datagrams.wait() => {
                    cut.tell(&self.name, times);
                    continue;
                }
                readable = self.socket.readable() => readable?,
            }
            let first = self
                .socket
                .try_io(Interest::READABLE, || next_len(&self.socket));
            if let Some(first) = ready(first)? {
                self.read(first, feed, cut).await?;
            }
        }
        // No new senders; what those that are here have sent is read.
        self.file = None;
        self.read_rest(feed, cut).await
    }

    /// Who is connected to the old one hears that it is gone, and finds the new one.
    async fn rebind(&mut self, feed: &mut Feed, cut: &mut Cut) -> Result<(), Ended> {
        let Some(bound) = self.rebinding.again(self.file.as_ref()).await else {
            return Ok(());
        };
        let (socket, file) = receiving(bound)?;
        net::shutdown(&self.socket, net::Shutdown::Read).map_err(io::Error::from)?;
        self.read_rest(feed, cut).await?;
        (self.socket, self.file) = (socket, file);
        Ok(())
    }

    async fn read_rest(&self, feed: &mut Feed, cut: &mut Cut) -> Result<(), Ended> {
        let mut left = LAST_READ;
        while left > 0
            && let Some(first) = ready(next_len(&self.socket))?
        {
            // An empty one is no less of a datagram.
            let read = self.read(first, feed, cut).await?;
            left = left.saturating_sub(read.max(1));
        }
        Ok(())
    }

    /// The next datagram, of `first` bytes, and those behind it that fit in a block. How many bytes that was.
    async fn read(&self, first: usize, feed: &mut Feed, cut: &mut Cut) -> Result<usize, Closed> {
        let room = first.min(self.longest).max(BLOCK);
        let permit = feed.reserve(room).await;
        let (records, took) = Read::of(|| self.read_now(room, cut));
        let bytes = records.iter().map(|record| record.bytes.len()).sum();
        feed.send_records(records, permit, took).await?;
        Ok(bytes)
    }

    fn read_now(&self, room: usize, cut: &mut Cut) -> Vec<Line> {
        let (mut held, mut ends) = (Vec::new(), Vec::new());
        while ends.len() < MAX_LINES
            && let Ok(len) = next_len(&self.socket)
        {
            let (kept, before) = (len.min(self.longest), held.len());
            if before + kept > room {
                break;
            }
            // Some room, also for none: `recv` tells only then that there was a datagram.
            held.reserve(kept.max(1));
            let Ok((_, len)) = recv(&self.socket, spare_capacity(&mut held), RecvFlags::TRUNC)
            else {
                break;
            };
            held.truncate(before + self.longest);
            let is_cut = before + len > held.len();
            if is_cut {
                cut.add(&self.name, before + len - held.len());
            }
            ends.push((held.len(), is_cut));
        }
        held.shrink_to_fit();
        let (mut held, mut at) = (Bytes::from(held), 0);
        let records = ends.into_iter().map(|(end, oversized)| Line {
            bytes: held.split_to(end - std::mem::replace(&mut at, end)),
            at: 0,
            oversized,
        });
        records.collect()
    }
}

impl Cut {
    fn add(&mut self, name: &str, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(times) = self.datagrams.add(1) {
            self.tell(name, times);
        }
    }

    fn tell(&mut self, name: &str, datagrams: u64) {
        let bytes = std::mem::take(&mut self.bytes);
        tracing::error!(
            path = name,
            datagrams,
            bytes,
            "datagrams longer than any record may be: what was too much is lost, the rest is for the dead letter"
        );
    }
}

fn receiving(bound: Bound) -> io::Result<(UnixDatagram, Option<SocketFile>)> {
    let Bound { socket, file, .. } = bound;
    let socket = UnixDatagram::from_std(BlockingDatagram::from(socket))?;
    Ok((socket, file))
}

/// Bytes of the next datagram, which stays where it is.
fn next_len(socket: impl AsFd) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, len) = recv(socket, &mut [0; 1], flags)?;
    Ok(len)
}

/// `None` where there is nothing yet.
fn ready<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{Interrupted, WouldBlock};
    match outcome {
        Ok(ready) => Ok(Some(ready)),
        Err(e) if matches!(e.kind(), WouldBlock | Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
