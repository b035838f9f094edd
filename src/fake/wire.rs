//! Below HTTP: sockets that can end with a reset, and answers that can break off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use super::faults::Cut;

/// How a request asks for the end of its connection.
#[derive(Debug, Default)]
pub(crate) struct Hangup {
    pub(crate) asked: Notify,
    with_reset: AtomicBool,
}

impl Hangup {
    /// Never returns: the client gives up, the connection is dropped, or the stand-in stops.
    pub(crate) async fn cut(&self, cut: Cut) {
        if cut == Cut::Reset {
            self.with_reset.store(true, Ordering::Relaxed);
            self.asked.notify_one();
        }
        std::future::pending().await
    }
}

/// A TCP stream that ends with a reset where one was asked for, also below TLS.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) hangup: Arc<Hangup>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.hangup.with_reset.load(Ordering::Relaxed) {
            // SO_LINGER 0: close sends RST.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body, which may break off before its announced length, or have none and go on as things happen.
pub(crate) struct AnswerBody {
    data: Option<Bytes>,
    then: Then,
}

#[derive(Debug)]
enum Then {
    End,
    /// What comes from there; an error breaks it off.
    More(mpsc::Receiver<io::Result<Bytes>>),
    /// Once more round, so that what there is gets sent.
    Flush,
    BreakOff,
}

impl AnswerBody {
    pub(crate) fn whole(data: Bytes) -> Self {
        Self {
            data: Some(data).filter(|data| !data.is_empty()),
            then: Then::End,
        }
    }

    pub(crate) fn broken_off(data: Bytes) -> Self {
        Self {
            data: Some(data),
            then: Then::Flush,
        }
    }

    /// Its pieces come one by one, until the sender is gone.
    pub(crate) fn pieces(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            data: None,
            then: Then::More(pieces),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.then {
            Then::End => Poll::Ready(None),
            Then::More(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|p| p.map(Frame::data))),
            Then::Flush => {
                self.then = Then::BreakOff;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Then::BreakOff => Poll::Ready(Some(Err(broken_off()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && matches!(self.then, Then::End)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.then {
            Then::End => {
                SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }
}

pub(crate) fn broken_off() -> io::Error {
    io::Error::other("broken off by a fault rule")
}
