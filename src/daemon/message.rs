//! The KPL's protobuf messages. Pure.
//!
//! A frame is a length in 4 bytes, the highest first, and one `Message`. Field numbers and types are those of the KPL's
//! public `messages.proto` (package `aws.kinesis.protobuf`), of all its releases. What is required there is optional here:
//! what a client leaves out is answered, not a reason to hang up. What this program does not know is skipped.

mod quick;

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use zeroize::Zeroize;

pub(super) use self::quick::{OnlyRecord, encode_stored_at_once};

/// A frame's longest body: the C++ daemon's, 11 MiB.
pub const LONGEST: usize = 11 << 20;

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    PutRecord {
        id: u64,
        record: PutRecord,
    },
    /// Of one stream, or of all.
    Flush {
        stream: Option<String>,
    },
    /// Has to be answered, if only with nothing.
    Metrics {
        id: u64,
        request: MetricsRequest,
    },
    Credentials(SetCredentials),
    Stream(StreamMetadata),
    /// Of the daemon itself, as its command line has it: see [`configuration`](super::configuration).
    Configuration(Bytes),
    /// A kind that is not known, or is none of a client's.
    Other,
}

/// A record and where it is to go, as a client says it: nothing is checked yet.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutRecord {
    #[prost(string, tag = "1")]
    pub stream_name: String,
    #[prost(string, optional, tag = "2")]
    pub partition_key: Option<String>,
    /// Decimal.
    #[prost(string, optional, tag = "3")]
    pub explicit_hash_key: Option<String>,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// What became of a record.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutRecordResult {
    #[prost(message, repeated, tag = "1")]
    pub attempts: Vec<Attempt>,
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    #[prost(string, optional, tag = "3")]
    pub shard_id: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub sequence_number: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Attempt {
    /// Milliseconds since the attempt before.
    #[prost(uint32, required, tag = "1")]
    pub delay: u32,
    /// In milliseconds.
    #[prost(uint32, required, tag = "2")]
    pub duration: u32,
    #[prost(bool, required, tag = "3")]
    pub success: bool,
    #[prost(string, optional, tag = "4")]
    pub error_code: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub error_message: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Flush {
    #[prost(string, optional, tag = "1")]
    stream_name: Option<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MetricsRequest {
    /// All metrics, where there is none.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// The last so many whole seconds; since the start, where there is none.
    #[prost(uint64, optional, tag = "2")]
    pub seconds: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricsResponse {
    #[prost(message, repeated, tag = "1")]
    pub metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    #[prost(string, required, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub dimensions: Vec<Dimension>,
    #[prost(message, required, tag = "3")]
    pub stats: Stats,
    #[prost(uint64, required, tag = "4")]
    pub seconds: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Dimension {
    #[prost(string, required, tag = "1")]
    pub key: String,
    #[prost(string, required, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Stats {
    #[prost(double, required, tag = "1")]
    pub count: f64,
    #[prost(double, required, tag = "2")]
    pub sum: f64,
    #[prost(double, required, tag = "3")]
    pub mean: f64,
    #[prost(double, required, tag = "4")]
    pub min: f64,
    #[prost(double, required, tag = "5")]
    pub max: f64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetCredentials {
    /// To upload metrics with; else to put records with.
    #[prost(bool, optional, tag = "1")]
    pub for_metrics: Option<bool>,
    #[prost(message, required, tag = "2")]
    pub credentials: Credentials,
}

/// Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Credentials {
    #[prost(string, required, tag = "1")]
    pub akid: String,
    #[prost(string, required, tag = "2")]
    pub secret_key: String,
    #[prost(string, optional, tag = "3")]
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("akid", &self.akid)
            .finish_non_exhaustive()
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.secret_key.zeroize();
        self.token.zeroize();
    }
}

/// What a client knows of a stream.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StreamMetadata {
    #[prost(string, required, tag = "1")]
    pub stream_name: String,
    #[prost(string, optional, tag = "2")]
    pub stream_id: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub record_distribution_strategy: Option<String>,
}

/// Tells a client of late 2026 or newer how a stream distributes its records.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StreamStrategyUpdate {
    #[prost(string, required, tag = "1")]
    pub stream_name: String,
    /// `AUTO` or `USER_PARTITION_KEY`.
    #[prost(string, required, tag = "2")]
    pub record_distribution_strategy: String,
}

/// The envelope.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(uint64, required, tag = "1")]
    id: u64,
    #[prost(uint64, optional, tag = "2")]
    source_id: Option<u64>,
    #[prost(message, optional, tag = "3")]
    put_record: Option<PutRecord>,
    #[prost(message, optional, tag = "4")]
    flush: Option<Flush>,
    #[prost(message, optional, tag = "5")]
    put_record_result: Option<PutRecordResult>,
    /// Not looked into here: two of its fields have changed their types between releases.
    #[prost(bytes = "bytes", optional, tag = "6")]
    configuration: Option<Bytes>,
    #[prost(message, optional, tag = "7")]
    metrics_request: Option<MetricsRequest>,
    #[prost(message, optional, tag = "8")]
    metrics_response: Option<MetricsResponse>,
    #[prost(message, optional, tag = "9")]
    set_credentials: Option<SetCredentials>,
    #[prost(message, optional, tag = "10")]
    stream_metadata: Option<StreamMetadata>,
    #[prost(message, optional, tag = "11")]
    stream_strategy_update: Option<StreamStrategyUpdate>,
}

/// A frame's body that is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Message of the KPL's protocol: {0}")]
pub struct NoMessage(String);

impl Request {
    /// `body`: a frame without its length. The record's data shares its memory.
    pub fn decode(body: Bytes) -> Result<Self, NoMessage> {
        let message = Message::decode(body).map_err(|error| NoMessage(error.to_string()))?;
        let id = message.id;
        // One kind at a time: what comes first in this order, where a client breaks that.
        Ok(if let Some(record) = message.put_record {
            Self::PutRecord { id, record }
        } else if let Some(request) = message.metrics_request {
            Self::Metrics { id, request }
        } else if let Some(Flush { stream_name }) = message.flush {
            Self::Flush {
                stream: stream_name,
            }
        } else if let Some(credentials) = message.set_credentials {
            Self::Credentials(credentials)
        } else if let Some(stream) = message.stream_metadata {
            Self::Stream(stream)
        } else if let Some(configuration) = message.configuration {
            Self::Configuration(configuration)
        } else {
            Self::Other
        })
    }

    /// The id of a message that asks for a record to be put and cannot be decoded, as where its key is no UTF-8: its
    /// sender waits for an answer.
    pub fn id_of_undecodable_record(body: &[u8]) -> Option<u64> {
        #[derive(prost::Message)]
        struct Outline {
            #[prost(uint64, optional, tag = "1")]
            id: Option<u64>,
            #[prost(bytes = "bytes", optional, tag = "3")]
            put_record: Option<Bytes>,
        }
        let outline = Outline::decode(body).ok()?;
        outline.put_record.and(outline.id)
    }

    /// Appends the frame that asks for it, as message `id`: the client's side.
    pub fn encode(self, id: u64, frame: &mut Vec<u8>) {
        let mut message = Message {
            id,
            ..Message::default()
        };
        match self {
            Self::PutRecord { record, .. } => message.put_record = Some(record),
            Self::Flush { stream } => {
                message.flush = Some(Flush {
                    stream_name: stream,
                });
            }
            Self::Metrics { request, .. } => message.metrics_request = Some(request),
            Self::Credentials(credentials) => message.set_credentials = Some(credentials),
            Self::Stream(stream) => message.stream_metadata = Some(stream),
            Self::Configuration(bytes) => message.configuration = Some(bytes),
            Self::Other => {}
        }
        put_frame(&message, frame);
    }
}

impl PutRecord {
    /// Appends the frame that asks for it, as message `id`: the client's side.
    pub fn encode(self, id: u64, frame: &mut Vec<u8>) {
        let asked = Message {
            id,
            put_record: Some(self),
            ..Message::default()
        };
        put_frame(&asked, frame);
    }
}

/// An answer, as the client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The id of the message that it answers, where it says so.
    pub to: Option<u64>,
    /// What became of a record; others answer something else.
    pub result: Option<PutRecordResult>,
    pub metrics: Option<MetricsResponse>,
    pub strategy: Option<StreamStrategyUpdate>,
}

impl Answer {
    /// `body`: a frame without its length.
    pub fn decode(body: &[u8]) -> Result<Self, NoMessage> {
        let message = Message::decode(body).map_err(|error| NoMessage(error.to_string()))?;
        Ok(Self {
            to: message.source_id,
            result: message.put_record_result,
            metrics: message.metrics_response,
            strategy: message.stream_strategy_update,
        })
    }
}

impl PutRecordResult {
    /// Appends the frame that answers message `to`. Its own id tells nobody anything.
    pub fn encode(self, to: u64, frame: &mut Vec<u8>) {
        let answer = Message {
            id: to,
            source_id: Some(to),
            put_record_result: Some(self),
            ..Message::default()
        };
        put_frame(&answer, frame);
    }
}

impl MetricsResponse {
    /// Appends the frame that answers message `to`.
    pub fn encode(self, to: u64, frame: &mut Vec<u8>) {
        let answer = Message {
            id: to,
            source_id: Some(to),
            metrics_response: Some(self),
            ..Message::default()
        };
        put_frame(&answer, frame);
    }
}

impl StreamStrategyUpdate {
    /// Appends the frame that says so. It answers no message.
    pub fn encode(self, id: u64, frame: &mut Vec<u8>) {
        let update = Message {
            id,
            stream_strategy_update: Some(self),
            ..Message::default()
        };
        put_frame(&update, frame);
    }
}

fn put_frame(message: &Message, frame: &mut Vec<u8>) {
    let len = u32::try_from(message.encoded_len()).expect("a message is short");
    frame.extend_from_slice(&len.to_be_bytes());
    message.encode(frame).expect("a vector grows");
}

#[cfg(test)]
mod tests;
