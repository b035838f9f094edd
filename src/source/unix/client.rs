//! One client of a stream socket, to its end.

use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::BufMut;
use tokio::net::UnixStream;

use super::peer::Peer;
use crate::delivery::MemoryPermit;
use crate::shutdown::Shutdown;
use crate::source::Closed;
use crate::source::feed::Feed;
use crate::source::framing::counted::Fault;
use crate::source::lines::Read;

/// Read at once from one client.
const BLOCK: usize = 64 * 1024;
/// After a stop, so much is still read of what a client had sent. More than a socket holds by default on
/// Linux (`net.core.wmem_default`, 208 KiB), so that a client that has finished loses nothing.
const LAST_READ: usize = 1024 * 1024;

/// A connection, and where its records go.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    /// The socket's name.
    pub(super) socket: Arc<str>,
    pub(super) feed: Feed,
}

impl Client {
    /// Reads until the client hangs up or the stop, and then what it had sent.
    pub(super) async fn serve(self, shutdown: Shutdown) {
        let Self {
            stream,
            peer,
            socket,
            mut feed,
        } = self;
        let ended = read_on(stream, &mut feed, shutdown).await;
        match ended {
            Err(Ended::PipelineClosed) => return,
            // A client that has gone in mid-line; what it did send counts.
            Err(Ended::Socket(error)) => tracing::info!(
                path = %socket, %peer, %error,
                "a client's connection broke"
            ),
            Err(Ended::Malformed(fault)) => tracing::error!(
                path = %socket, %peer, %fault,
                "a client's frames cannot be read on: its connection is closed, and what it sent before is kept"
            ),
            Ok(()) if feed.framer.unfinished() > 0 => tracing::error!(
                path = %socket, %peer, bytes = feed.framer.unfinished(),
                "a client's connection ended within a frame: its beginning is no record, and thrown away"
            ),
            Ok(()) => {}
        }
        // A pipeline that is gone has said so elsewhere.
        let _ = feed.finish().await;
    }
}

/// The connection is closed when this returns.
async fn read_on(stream: UnixStream, feed: &mut Feed, shutdown: Shutdown) -> Result<(), Ended> {
    loop {
        // Before room is reserved: a client that is silent holds none.
        tokio::select! {
            biased;
            () = shutdown.stopped() => return drain(stream, feed).await,
            readable = stream.readable() => readable?,
            () = feed.open_is_due() => {
                feed.send_open().await?;
                continue;
            }
        }
        if !read(&stream, feed).await? {
            return Ok(());
        }
    }
}

/// Why a client is not read on.
enum Ended {
    Socket(io::Error),
    Malformed(Fault),
    PipelineClosed,
}

/// Takes what the client had sent by now.
async fn drain(stream: UnixStream, feed: &mut Feed) -> Result<(), Ended> {
    // Asked directly: the runtime does not yet know what has come since it last looked.
    let stream = stream.into_std()?;
    let mut left = LAST_READ;
    while left > 0 {
        let permit = feed.reserve(BLOCK).await;
        let (before, framer) = (feed.framer.read_offset(), &mut feed.framer);
        // An error, of which "would block" is one, comes after what could be read.
        let (outcome, took) =
            Read::of(|| framer.fill(BLOCK, |held| (&stream).take(BLOCK as u64).read_to_end(held)));
        send(feed, permit, took).await?;
        let read = (feed.framer.read_offset() - before) as usize;
        match outcome {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            outcome => outcome?,
        };
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}

/// One block, if there is one, and its lines. False at the end of the stream.
async fn read(stream: &UnixStream, feed: &mut Feed) -> Result<bool, Ended> {
    let permit = feed.reserve(BLOCK).await;
    let framer = &mut feed.framer;
    let (outcome, took) =
        Read::of(|| framer.fill(BLOCK, |held| stream.try_read_buf(&mut held.limit(BLOCK))));
    match outcome {
        Ok(0) => Ok(false),
        Ok(_) => {
            send(feed, permit, took).await?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// The records that have come, up to what is malformed.
async fn send(feed: &mut Feed, permit: Option<MemoryPermit>, took: Read) -> Result<(), Ended> {
    feed.send_lines(permit, took).await?;
    feed.framer
        .fault()
        .map_or(Ok(()), |fault| Err(Ended::Malformed(fault)))
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Self::PipelineClosed
    }
}
