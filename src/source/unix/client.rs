//! One client of a stream socket, to its end.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::connection::{BLOCK, Ended, Taker, read_on};
use super::peer::Peer;
use crate::delivery::MemoryPermit;
use crate::shutdown::Shutdown;
use crate::source::feed::Feed;
use crate::source::lines::Read;

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
        let ended = read_on(&stream, &mut feed, shutdown).await;
        drop(stream);
        match ended {
            Err(Ended::PipelineClosed | Ended::Unanswerable) => return,
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

impl Taker for Feed {
    /// None where nobody may wait for it.
    type Room = Option<MemoryPermit>;

    async fn reserve(&self) -> Result<Self::Room, Ended> {
        Ok(Self::reserve(self, BLOCK).await)
    }

    fn fill<T>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.framer.fill(BLOCK, read)
    }

    /// The records that have come, up to what is malformed.
    async fn take(&mut self, room: Self::Room, read: Read) -> Result<(), Ended> {
        self.send_lines(room, read).await?;
        let fault = self.framer.fault();
        fault.map_or(Ok(()), |fault| Err(Ended::Malformed(fault)))
    }

    async fn is_due(&self) {
        self.open_is_due().await;
    }

    async fn do_due(&mut self) -> Result<(), Ended> {
        Ok(self.send_open().await?)
    }
}
