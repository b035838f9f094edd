//! Reads what the client asks, and sees to it.
//!
//! One task reads the pipe and hands records on. It reads ahead of those that wait for room, so that it hears what comes
//! behind them, and then waits, and with it the client. Where that must not be it reads on, and what there is no room
//! for is refused: a client that asks whether the daemon is alive would kill what does not answer; and while there are no
//! credentials, or they are refused, others come behind the records that wait for them.

mod put;
mod reading;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::clients::PipeCredentials;
use super::message::{LONGEST, MetricsRequest, OnlyRecord, Request, StreamMetadata};
use super::metrics::Metrics;
use super::pipes::Parent;
use super::results::{SharedOutbox, refused};
use super::streams::{LOOK, Streams};
use crate::record::{PartitionKey, RecordKey};
use crate::recurring::Recurring;
use crate::source::framing::counted::{Counted, Fault, Prefix};

/// What a record takes of memory more than others do: its journal, of which each has its own. Counted as bytes of its
/// data, which count several times.
const JOURNAL: usize = 80;
/// What records that are read together take beside themselves, with a flush behind them: else many small ones, each with its flush, were
/// more than was counted.
const ENTRY: usize = 256;

/// A connection to the client.
pub(super) struct Session {
    streams: Streams,
    outbox: SharedOutbox,
    metrics: Arc<Metrics>,
    credentials: Arc<PipeCredentials>,
    metrics_credentials: Arc<PipeCredentials>,
    frames: Counted,
    /// Read and not handed over: in the order of the pipe.
    queue: VecDeque<Queued>,
    /// Without a key, of streams of which it is to be heard whether that may be: others do not wait for that.
    undescribed: Vec<Undescribed>,
    queued_bytes: usize,
    /// How much may be read ahead.
    read_ahead: usize,
    parent: Parent,
    /// Of a frame that is too long: so many bytes still to come.
    skipped: u64,
    has_pinged: bool,
    /// More answers wait than the client may leave unread: frames that were read wait too.
    is_choked: bool,
    /// How long records are waited for after the stop, or the client's end; and until when that is.
    grace: Duration,
    ends_by: Option<Instant>,
    /// When it is looked next for streams that may be let go.
    looks_at: Instant,
    nonsense: Recurring,
    overload: Recurring,
    /// There was no room for so many in time.
    abandoned: u64,
}

/// Why nothing more is read.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client has closed its end, or died.
    ClientGone,
    Stopped,
    Broken(std::io::Error),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ClientGone => f.write_str("the client has closed its pipe"),
            Self::Stopped => f.write_str("stopped by a signal"),
            Self::Broken(error) => write!(f, "the pipe from the client broke: {error}"),
        }
    }
}

/// What is done in the order of the pipe.
enum Queued {
    Records {
        place: usize,
        records: Vec<Asked>,
        read_at: Instant,
    },
    /// Of the stream at this place; `None`: of all.
    Flush(Option<usize>),
}

impl Queued {
    /// Whether it is records of the stream at that place.
    fn is_of(&self, of: usize) -> bool {
        matches!(self, Self::Records { place, .. } if *place == of)
    }
}

/// Records that wait aside.
struct Undescribed {
    place: usize,
    records: Vec<Asked>,
    read_at: Instant,
}

/// A record that may be put.
struct Asked {
    id: u64,
    key: RecordKey,
    data: Bytes,
}

impl Asked {
    /// What it takes of memory, in the pipelines' reckoning.
    fn bytes(&self) -> usize {
        self.data.len() + self.key.len() + JOURNAL
    }

    fn has_no_key(&self) -> bool {
        matches!(self.key, RecordKey::Any)
    }
}

impl Session {
    pub(super) fn new(
        streams: Streams,
        outbox: SharedOutbox,
        metrics: Arc<Metrics>,
        credentials: Arc<PipeCredentials>,
        metrics_credentials: Arc<PipeCredentials>,
        grace: Duration,
        parent: Parent,
    ) -> Self {
        Self {
            read_ahead: streams.read_ahead(),
            streams,
            outbox,
            metrics,
            credentials,
            metrics_credentials,
            frames: Counted::new(Prefix::BigEndian, LONGEST),
            queue: VecDeque::new(),
            undescribed: Vec::new(),
            queued_bytes: 0,
            parent,
            skipped: 0,
            has_pinged: false,
            is_choked: false,
            grace,
            ends_by: None,
            looks_at: Instant::now() + LOOK,
            nonsense: Recurring::default(),
            overload: Recurring::default(),
            abandoned: 0,
        }
    }

    /// Until when records are waited for, once nothing more is read.
    pub(super) fn ends_by(&mut self) -> Instant {
        let grace = self.grace;
        *(self.ends_by).get_or_insert_with(|| Instant::now() + grace)
    }

    /// The streams, and how many records no stream had room for in time.
    pub(super) fn into_parts(self) -> (Streams, u64) {
        (self.streams, self.abandoned)
    }

    /// What is longer than any frame may be is passed over: its length says where the next one begins.
    fn pass_over(&mut self, fault: Fault) {
        let announced = match fault {
            Fault::TooLong { announced, .. } => announced,
            Fault::NoCount(_) | Fault::LeadingZero => unreachable!("these lengths are numbers"),
        };
        if self.nonsense.goes_on(Instant::now()).is_some() {
            tracing::error!("from the client: {fault}; it is passed over");
        }
        self.skipped = announced + 4;
        self.begin_anew();
    }

    fn skip(&mut self) {
        if self.skipped > 0 {
            self.begin_anew();
        }
    }

    /// With what is held behind the bytes that are to be skipped.
    fn begin_anew(&mut self) {
        let held = self.frames.pending();
        let over = usize::try_from(self.skipped)
            .unwrap_or(usize::MAX)
            .min(held.len());
        let rest = held.slice(over..);
        self.skipped -= over as u64;
        self.frames = Counted::new(Prefix::BigEndian, LONGEST);
        self.frames
            .fill(rest.len(), |held| held.extend_from_slice(&rest));
    }

    fn take(&mut self, body: Bytes, asked: &mut Vec<(usize, Vec<Asked>)>) {
        if let Some(record) = OnlyRecord::read(&body) {
            let data = body.slice(record.data.clone());
            let id = record.id;
            let checked = self.check(record.stream, record.key, record.explicit_hash_key);
            return self.list(id, checked, data, asked);
        }
        match Request::decode(body.clone()) {
            Ok(Request::PutRecord { id, record }) => {
                let (key, hash_key) = (&record.partition_key, &record.explicit_hash_key);
                let stream = &record.stream_name;
                let checked = self.check(stream, key.as_deref(), hash_key.as_deref());
                self.list(id, checked, record.data, asked);
            }
            Ok(Request::Metrics { id, request }) => {
                self.has_pinged |= is_ping(&request);
                let answer = self.metrics.answer(&request, Instant::now());
                self.outbox.push(|frames| answer.encode(id, frames));
                self.is_choked = self.outbox.is_full();
            }
            // Of what was put before it.
            Ok(Request::Flush { stream }) => {
                self.enqueue(asked);
                self.queue_flush(stream.as_deref().map(str::trim));
            }
            Ok(Request::Credentials(set)) => match set.for_metrics {
                Some(true) => {
                    self.metrics_credentials.set(set.credentials);
                }
                _ => {
                    if self.credentials.set(set.credentials) {
                        self.streams.probe();
                    }
                }
            },
            Ok(Request::Stream(stream)) => self.hear_of(&stream),
            // As the KPL's own daemon does.
            Ok(Request::Configuration(_) | Request::Other) => {
                tracing::debug!("a message of a kind that is not for the daemon");
            }
            Err(error) => {
                if let Some(id) = Request::id_of_undecodable_record(&body) {
                    self.refuse(id, "InvalidMessage", error.to_string());
                }
                if self.nonsense.goes_on(Instant::now()).is_some() {
                    tracing::error!(%error, "from the client; it is passed over");
                }
            }
        }
    }

    /// Behind what was put before it. One behind another is of both, or of all.
    fn queue_flush(&mut self, stream: Option<&str>) {
        let of = match stream {
            None => None,
            Some(name) => match self.streams.known(name) {
                Some(place) => Some(place),
                None => return,
            },
        };
        match self.queue.back_mut() {
            Some(Queued::Flush(before)) if *before != of => *before = None,
            Some(Queued::Flush(_)) => {}
            Some(Queued::Records { .. }) | None => self.queue.push_back(Queued::Flush(of)),
        }
    }

    fn hear_of(&mut self, stream: &StreamMetadata) {
        let name = stream.stream_name.trim();
        let known = match &stream.stream_id {
            Some(id) => self.streams.know(name, id),
            None => self.streams.place(name).map(|_| ()),
        };
        if let Err(error) = known {
            tracing::error!(code = error.code, "{}", error.message);
        }
    }

    fn refuse(&self, id: u64, code: &str, why: String) {
        let result = refused(code, why);
        self.outbox.push(|frames| result.encode(id, frames));
    }

    /// Its stream's place, and its key.
    fn check(
        &mut self,
        stream: &str,
        key: Option<&str>,
        hash_key: Option<&str>,
    ) -> Result<(usize, RecordKey), (&'static str, String)> {
        let place = self.streams.place(stream.trim());
        let place = place.map_err(|error| (error.code, error.message))?;
        let hash_key = hash_key.filter(|key| !key.is_empty());
        let hash_key = hash_key.map(|key| key.trim().parse()).transpose();
        let hash_key = hash_key.map_err(|error| ("InvalidExplicitHashKey", format!("{error}")))?;
        let key = key.map(PartitionKey::new).transpose();
        let key = key.map_err(|error| ("InvalidPartitionKey", error.to_string()))?;
        let key = match (key, hash_key) {
            (Some(key), Some(hash_key)) => RecordKey::Explicit(key, hash_key),
            (Some(key), None) => RecordKey::Keyed(key),
            (None, _) => RecordKey::Any,
        };
        Ok((place, key))
    }

    /// Among those that are handed over together, or refused.
    fn list(
        &self,
        id: u64,
        checked: Result<(usize, RecordKey), (&'static str, String)>,
        data: Bytes,
        asked: &mut Vec<(usize, Vec<Asked>)>,
    ) {
        let (place, key) = match checked {
            Ok(checked) => checked,
            Err((code, why)) => return self.refuse(id, code, why),
        };
        let record = Asked { id, key, data };
        match asked.iter_mut().find(|(of, _)| *of == place) {
            Some((_, records)) => records.push(record),
            None => asked.push((place, vec![record])),
        }
    }
}

/// What the client asks each few seconds, to see whether anybody answers.
fn is_ping(request: &MetricsRequest) -> bool {
    request.name.as_deref() == Some("UserRecordsPut") && request.seconds == Some(1)
}

#[cfg(all(test, feature = "fake"))]
mod tests;
