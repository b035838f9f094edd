//! An answer that is read as there is room for it.
//!
//! Pieces of an event are let through once its worst case has been taken out of the reading's memory; until then nothing
//! more is read of the connection, so that the service, too, has to wait. One that has begun is never held up by others:
//! each subscription has a connection of its own, and who holds memory needs no more of it to finish its event.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::super::reader::PAGE_WORST;

/// Memory for a subscription's events. Clones are the same.
#[derive(Debug, Clone)]
pub struct Room {
    memory: Arc<Semaphore>,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// What was taken for the event that is being read.
    permit: Option<OwnedSemaphorePermit>,
    /// An event was taken since the connection was last looked at.
    is_taken: bool,
}

impl Room {
    pub(in crate::consume) fn new(memory: Arc<Semaphore>) -> Self {
        Self {
            memory,
            held: Arc::default(),
        }
    }

    /// The memory of the event that has just been read. One that came in the last piece of another, and so is
    /// small, waits for it here.
    pub(in crate::consume) async fn of_event(&self) -> OwnedSemaphorePermit {
        let held = {
            let mut held = self.held();
            held.is_taken = true;
            held.permit.take()
        };
        match held {
            Some(held) => held,
            None => Self::take(Arc::clone(&self.memory)).await,
        }
    }

    async fn take(memory: Arc<Semaphore>) -> OwnedSemaphorePermit {
        let permit = memory.acquire_many_owned(PAGE_WORST).await;
        permit.expect("the semaphore is never closed")
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body whose pieces wait for room, and which ends with an error once none has come for too long. The first piece does not
/// wait: an answer begins with a frame that is no event, and until it is there the call has not returned.
pub(super) struct Gated<B> {
    body: B,
    room: Room,
    has_begun: bool,
    waiting: Option<Waiting>,
    silence: Duration,
    silent: Pin<Box<Sleep>>,
}

/// A piece that there is no room for yet.
struct Waiting {
    piece: Bytes,
    // Bodies are shared between threads by their type alone: a mutex is, whatever is in it.
    room: Mutex<BoxFuture<'static, OwnedSemaphorePermit>>,
}

impl<B> Gated<B> {
    pub(super) fn new(body: B, room: Room, silence: Duration) -> Self {
        Self {
            body,
            room,
            has_begun: false,
            waiting: None,
            silence,
            silent: Box::pin(tokio::time::sleep(silence)),
        }
    }
}

type Piece = Option<Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>>;

impl<B> Gated<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if self.waiting.is_none() {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                // Silence counts while we listen: not while a piece waits for room, nor while an event was with its taker.
                Poll::Pending => {
                    if std::mem::take(&mut self.room.held().is_taken) {
                        self.is_heard();
                    }
                    ready!(self.silent.poll_unpin(cx));
                    let error = io::Error::from(io::ErrorKind::TimedOut);
                    return Poll::Ready(Some(Err(error.into())));
                }
            };
            let piece = match frame.into_data() {
                Ok(piece) => piece,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            };
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            if is_first || self.room.held().permit.is_some() {
                return self.pass(piece);
            }
            let room = Mutex::new(Room::take(Arc::clone(&self.room.memory)).boxed());
            self.waiting = Some(Waiting { piece, room });
        }
        let Some(waiting) = &mut self.waiting else {
            return Poll::Pending;
        };
        let room = waiting
            .room
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let permit = ready!(room.poll_unpin(cx));
        let piece = std::mem::take(&mut waiting.piece);
        self.waiting = None;
        self.room.held().permit = Some(permit);
        self.pass(piece)
    }

    fn is_heard(&mut self) {
        let next = Instant::now() + self.silence;
        self.silent.as_mut().reset(next);
    }

    fn pass(&mut self, piece: Bytes) -> Poll<Piece> {
        self.is_heard();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl<B> Body for Gated<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(60);

    type Sent = mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>;

    fn gated(room: &Room) -> (Sent, impl Body<Data = Bytes, Error = BoxedError> + Unpin) {
        let (sent, mut pieces) = mpsc::unbounded_channel();
        let pieces = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
        let body = StreamBody::new(pieces);
        (sent, Gated::new(body, room.clone(), SILENCE))
    }

    type BoxedError = Box<dyn std::error::Error + Send + Sync>;

    fn piece(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    async fn next(body: &mut (impl Body<Data = Bytes, Error = BoxedError> + Unpin)) -> Bytes {
        let frame = body.frame().await.expect("a piece").expect("no error");
        frame.into_data().expect("data")
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_read_once_there_is_room_and_then_to_its_end() {
        let memory = Arc::new(Semaphore::new(PAGE_WORST as usize));
        let (room, other) = (
            Room::new(Arc::clone(&memory)),
            Room::new(Arc::clone(&memory)),
        );
        let (first, mut first_body) = gated(&room);
        let (second, mut second_body) = gated(&other);
        for sent in [&first, &second] {
            for text in ["answer", "begins", "ends"] {
                sent.send(piece(text)).unwrap();
            }
        }
        assert_eq!(next(&mut first_body).await, "answer");
        assert_eq!(next(&mut first_body).await, "begins");
        assert_eq!(
            next(&mut second_body).await,
            "answer",
            "a call returns without"
        );
        // Longer than silence may last: it is not silent who waits for room.
        let waits = timeout(2 * SILENCE, next(&mut second_body)).await;
        assert!(waits.is_err(), "there is room for one only");
        assert_eq!(next(&mut first_body).await, "ends");
        drop(room.of_event().await);
        assert_eq!(next(&mut second_body).await, "begins");
        assert_eq!(memory.available_permits(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_the_service_keeps_no_memory_from_others() {
        let memory = Arc::new(Semaphore::new(PAGE_WORST as usize));
        let room = Room::new(Arc::clone(&memory));
        let (sent, mut body) = gated(&room);
        sent.send(piece("answer")).unwrap();
        next(&mut body).await;
        let idle = timeout(SILENCE / 2, body.frame()).await;
        assert!(idle.is_err());
        assert_eq!(memory.available_permits(), PAGE_WORST as usize);
        sent.send(piece("an event")).unwrap();
        next(&mut body).await;
        let event = room.of_event().await;
        assert_eq!(event.num_permits(), PAGE_WORST as usize);
        // As long as its taker takes, nobody listens.
        tokio::time::sleep(2 * SILENCE).await;
        drop(event);
        let waited = Instant::now();
        let silent = body
            .frame()
            .await
            .expect("an end")
            .expect_err("by an error");
        assert_eq!(silent.to_string(), "timed out");
        assert_eq!(waited.elapsed(), SILENCE);
    }
}
