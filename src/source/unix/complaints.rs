//! What clients do wrong, as the log hears of it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use super::connection::Ended;
use super::peer::Peer;
use super::seldom::Seldom;
use crate::source::framing::counted::Fault;

/// Tells of a socket's clients: of each kind of complaint at once, and then once a minute at most, with how often there
/// was one. Any client could fill the log otherwise.
#[derive(Debug, Clone)]
pub(super) struct Complaints {
    socket: Arc<str>,
    told: Arc<Mutex<[Seldom; KINDS]>>,
}

/// What is wrong with a client.
#[derive(Debug)]
pub(super) enum Complaint<'a> {
    Broke(&'a io::Error),
    Unanswerable(&'a str),
    Malformed(Fault),
    /// So many bytes of a frame had come.
    Cut(usize),
    /// The same, and others waited.
    Stalled(usize),
    Nonsense(&'a dyn std::error::Error),
}

const KINDS: usize = 6;

impl Complaints {
    pub(super) fn of(socket: Arc<str>) -> Self {
        let told = Arc::default();
        Self { socket, told }
    }

    /// How it ended, where that is worth a word; `unfinished` bytes were held of a frame.
    pub(super) fn about_end(&self, peer: Peer, ended: &Result<(), Ended>, unfinished: usize) {
        match ended {
            Ok(()) if unfinished > 0 => self.about(peer, &Complaint::Cut(unfinished)),
            Ok(()) | Err(Ended::PipelineClosed | Ended::Unanswerable) => {}
            Err(Ended::Socket(error)) => self.about(peer, &Complaint::Broke(error)),
            Err(Ended::Malformed(fault)) => self.about(peer, &Complaint::Malformed(*fault)),
            Err(Ended::Stalled(bytes)) => self.about(peer, &Complaint::Stalled(*bytes)),
        }
    }

    pub(super) fn about(&self, peer: Peer, complaint: &Complaint<'_>) {
        let mut told = self.told.lock().expect("no panic while held");
        let Some(times) = told[complaint.kind()].add(1) else {
            return;
        };
        drop(told);
        let path = &self.socket;
        match complaint {
            // What clients do every day.
            Complaint::Broke(_) | Complaint::Unanswerable(_) => {
                tracing::info!(%path, %peer, times, "a client's {complaint}");
            }
            _ => tracing::error!(%path, %peer, times, "a client's {complaint}"),
        }
    }
}

impl Complaint<'_> {
    fn kind(&self) -> usize {
        match self {
            Self::Broke(_) => 0,
            Self::Unanswerable(_) => 1,
            Self::Malformed(_) => 2,
            Self::Cut(_) => 3,
            Self::Stalled(_) => 4,
            Self::Nonsense(_) => 5,
        }
    }
}

impl fmt::Display for Complaint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broke(error) => write!(f, "connection broke: {error}"),
            Self::Unanswerable(why) => write!(
                f,
                "answers cannot be given any more ({why}): its connection is closed; its records are sent all the same"
            ),
            Self::Malformed(fault) => write!(
                f,
                "frames cannot be read on: {fault}; its connection is closed, and what it sent before is kept"
            ),
            Self::Cut(bytes) => write!(
                f,
                "connection ended within a frame: the {bytes} bytes that had come of it are no record, and thrown away"
            ),
            Self::Stalled(bytes) => write!(
                f,
                "connection is closed: it stopped within a record of which {bytes} bytes had come, and others waited \
                 to send long ones; of a line these are sent as they are, of a frame they are thrown away"
            ),
            Self::Nonsense(error) => write!(
                f,
                "frame is no message, is skipped, and has no answer: {error}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_place() {
        let error = io::Error::other("x");
        let all = [
            Complaint::Broke(&error),
            Complaint::Unanswerable("x"),
            Complaint::Malformed(Fault::LeadingZero),
            Complaint::Cut(1),
            Complaint::Stalled(1),
            Complaint::Nonsense(&error),
        ];
        let kinds: Vec<usize> = all.iter().map(Complaint::kind).collect();
        assert_eq!(kinds, (0..KINDS).collect::<Vec<_>>());
    }
}
