//! One client of a stream socket, to its end.

use std::io::{self, Read as _};

use bytes::BufMut;
use tokio::net::UnixStream;

use crate::shutdown::Shutdown;
use crate::source::Closed;
use crate::source::feed::Feed;
use crate::source::lines::Read;

/// Read at once from one client.
const BLOCK: usize = 64 * 1024;
/// After a stop, so much is still read of what a client had sent. More than a socket holds by default on
/// Linux (`net.core.wmem_default`, 208 KiB), so that a client that has finished loses nothing.
const LAST_READ: usize = 1024 * 1024;

/// Reads until the client hangs up or the stop, and then what it had sent.
pub(super) async fn serve(stream: UnixStream, mut feed: Feed, shutdown: Shutdown) {
    let ended = loop {
        // Before room is reserved: a client that is silent holds none.
        tokio::select! {
            biased;
            () = shutdown.stopped() => break drain(stream, &mut feed).await,
            readable = stream.readable() => if let Err(e) = readable { break Err(e.into()) },
        }
        match read(&stream, &mut feed).await {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(ended) => break Err(ended),
        }
    };
    match ended {
        Err(Ended::PipelineClosed) => return,
        // A client that has gone in mid-line; what it did send counts.
        Err(Ended::Socket(error)) => tracing::info!(%error, "a client's connection broke"),
        Ok(()) => {}
    }
    // A pipeline that is gone has said so elsewhere.
    let _ = feed.finish().await;
}

/// Why a client is not read on.
enum Ended {
    Socket(io::Error),
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
        feed.send_lines(permit, took).await?;
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
            feed.send_lines(permit, took).await?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e.into()),
    }
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
