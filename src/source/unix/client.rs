//! One client of a stream socket, to its end.

use std::time::Duration;

use tokio::net::UnixStream;

use super::complaints::Complaints;
use super::connection::{BLOCK, Ended, Taker, read_on};
use super::peer::Peer;
use super::turns::Turns;
use crate::delivery::MemoryPermit;
use crate::shutdown::Shutdown;
use crate::source::feed::Feed;
use crate::source::lines::Read;

/// A connection, and where its records go.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    pub(super) feed: Feed,
    pub(super) turns: Turns,
    pub(super) complaints: Complaints,
}

impl Client {
    /// Reads until the client hangs up or the stop, and then what it had sent.
    pub(super) async fn serve(self, shutdown: Shutdown) {
        let Self {
            stream,
            peer,
            mut feed,
            turns,
            complaints,
        } = self;
        let ended = read_on(&stream, &mut feed, &turns, shutdown).await;
        drop(stream);
        if let Err(Ended::PipelineClosed) = ended {
            return;
        }
        // Of a client that has gone in mid-line, what it did send counts.
        complaints.about_end(peer, &ended, feed.framer.unfinished());
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

    fn unfinished(&self) -> usize {
        self.framer.pending().len()
    }

    fn pause(&self) -> Duration {
        Self::pause(self)
    }

    async fn is_due(&self) {
        self.open_is_due().await;
    }

    async fn do_due(&mut self) -> Result<(), Ended> {
        Ok(self.send_open().await?)
    }
}
