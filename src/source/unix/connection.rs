//! What a client sends over its connection, block by block, to its end.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::BufMut;
use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep, sleep};

use super::turns::{SHORT, Share, Turns, Waited};
use crate::shutdown::Shutdown;
use crate::source::Closed;
use crate::source::framing::counted::Fault;
use crate::source::lines::Read;

/// Read at once from one client.
pub(super) const BLOCK: usize = 64 * 1024;
/// After a stop, so much is still read of what a client had sent. More than a socket holds by default on
/// Linux (`net.core.wmem_default`, 208 KiB), so that a client that has finished loses nothing.
const LAST_READ: usize = 1024 * 1024;
/// A read that brings as much is worth what it wakes.
const ENOUGH: usize = 16 * 1024;
/// Of a client that sends more than this in the time of a pause, a socket would not hold it: it is not paused for.
const FAST: usize = 128 * 1024;

/// Why nothing is read on.
#[derive(Debug)]
pub(super) enum Ended {
    Socket(io::Error),
    Malformed(Fault),
    /// The client does not read its answers, or has gone.
    Unanswerable,
    /// It kept others waiting within a long record, of which so many bytes had come.
    Stalled(usize),
    PipelineClosed,
}

/// Where blocks go.
pub(super) trait Taker: Send {
    /// For one more block.
    type Room: Send;

    fn reserve(&self) -> impl Future<Output = Result<Self::Room, Ended>> + Send;

    /// Has a block appended to what is held.
    fn fill<T>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> T) -> T;

    /// All whole records of it.
    fn take(
        &mut self,
        room: Self::Room,
        read: Read,
    ) -> impl Future<Output = Result<(), Ended>> + Send;

    /// What is held of a record that has not come whole.
    fn unfinished(&self) -> usize;

    /// After a read that brought little, so long may pass until the next.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    /// Resolves when there is something else to do. Cancel safe.
    fn is_due(&self) -> impl Future<Output = ()> + Send;

    /// Does it.
    fn do_due(&mut self) -> impl Future<Output = Result<(), Ended>> + Send;
}

/// Reads until the client hangs up or the stop, and then what it had sent.
pub(super) async fn read_on(
    stream: &UnixStream,
    taker: &mut impl Taker,
    turns: &Turns,
    shutdown: Shutdown,
) -> Result<(), Ended> {
    let mut share: Option<Share> = None;
    let mut paused: Option<Pin<Box<Sleep>>> = None;
    let mut pace = Pace::new(taker.pause());
    loop {
        // What one more read may bring is held beside it.
        let long = taker.unfinished().saturating_sub(SHORT);
        if long == 0 {
            share = None;
        }
        let since = share.as_ref().map(Share::clock);
        // Before room is reserved, of either kind: a client that is silent holds none, and waits for none.
        tokio::select! {
            biased;
            () = shutdown.stopped() => break,
            () = over(&mut paused), if paused.is_some() => {
                paused = None;
                continue;
            }
            readable = stream.readable(), if paused.is_none() => readable?,
            () = is_over(share.as_ref().zip(since)) => {
                return Err(Ended::Stalled(taker.unfinished()));
            }
            () = taker.is_due() => {
                taker.do_due().await?;
                continue;
            }
        }
        if let (Some(share), Some(since)) = (&mut share, since) {
            share.spend(since);
        }
        if long > 0 {
            let share = share.get_or_insert_with(|| turns.share());
            let lacks = share.lacks(long);
            if lacks > 0 {
                tokio::select! {
                    biased;
                    () = shutdown.stopped() => break,
                    more = turns.more(lacks) => share.add(more),
                    () = taker.is_due() => {
                        taker.do_due().await?;
                        continue;
                    }
                }
            }
        }
        let read = |held: &mut Vec<u8>| stream.try_read_buf(&mut held.limit(BLOCK));
        match (read_block(taker, read).await?, &mut share) {
            (Some(0), _) => return Ok(()),
            (Some(bytes), Some(share)) => share.has_come(bytes),
            (Some(bytes), None) => {
                paused = pace.after(bytes).map(|pause| Box::pin(sleep(pause)));
            }
            (None, _) => {}
        }
    }
    let mut left = LAST_READ;
    while left > 0
        && let Some(read @ 1..) = read_block(taker, |held| read_now(stream, held)).await?
    {
        left = left.saturating_sub(read);
    }
    Ok(())
}

/// How fast a client sends.
#[derive(Debug)]
struct Pace {
    pause: Duration,
    /// What it has sent since.
    bytes: usize,
    since: Instant,
    /// Before that.
    is_fast: bool,
}

impl Pace {
    fn new(pause: Duration) -> Self {
        Self {
            pause,
            bytes: 0,
            since: Instant::now(),
            is_fast: false,
        }
    }

    /// The pause that follows a read of so many bytes, if one does.
    fn after(&mut self, read: usize) -> Option<Duration> {
        if self.pause.is_zero() {
            return None;
        }
        self.bytes += read;
        let pauses = self.since.elapsed().div_duration_f64(self.pause);
        if pauses >= 1.0 {
            let is_fast = self.bytes as f64 > FAST as f64 * pauses;
            *self = Self {
                is_fast,
                ..Self::new(self.pause)
            };
        }
        (read < ENOUGH && !self.is_fast).then_some(self.pause)
    }
}

async fn is_over(client: Option<(&Share, Waited)>) {
    match client {
        Some((share, since)) => share.is_over(since).await,
        None => std::future::pending().await,
    }
}

async fn over(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}

/// How many bytes there were, 0 at the end; `None`: nothing yet.
async fn read_block(
    taker: &mut impl Taker,
    read: impl FnOnce(&mut Vec<u8>) -> io::Result<usize> + Send,
) -> Result<Option<usize>, Ended> {
    let room = taker.reserve().await?;
    let (outcome, read) = Read::of(|| taker.fill(read));
    match outcome {
        Ok(0) => Ok(Some(0)),
        Ok(bytes) => {
            taker.take(room, read).await?;
            Ok(Some(bytes))
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Asked directly: the runtime does not yet know what has come since it last looked.
fn read_now(stream: &UnixStream, held: &mut Vec<u8>) -> io::Result<usize> {
    let mut block = [0; BLOCK];
    let (bytes, _) = recv(stream, &mut block[..], RecvFlags::DONTWAIT)?;
    held.put_slice(&block[..bytes]);
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_sends_little_is_paused_for_and_who_sends_more_than_a_socket_holds_is_not() {
        let pause = Duration::from_millis(10);
        // Bytes in each millisecond.
        for (bytes, is_paused_for) in [(4_000, true), (10_000, true), (15_000, false)] {
            let mut pace = Pace::new(pause);
            let mut pauses = Vec::new();
            for _ in 0..300 {
                tokio::time::advance(pause / 10).await;
                pauses.push(pace.after(bytes).is_some());
            }
            let settled = &pauses[20..];
            assert!(
                settled.iter().all(|paused| *paused == is_paused_for),
                "{bytes}: {pauses:?}"
            );
        }
        assert_eq!(Pace::new(Duration::ZERO).after(1), None);
    }
}
