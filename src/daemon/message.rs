//! The KPL's protobuf messages. Pure.
//!
//! A frame is a length in 4 bytes, the highest first, and one `Message`. Field numbers and types are those of the KPL's
//! public `messages.proto` (package `aws.kinesis.protobuf`), of all its releases. What is required there is optional here:
//! what a client leaves out is answered, not a reason to hang up. What this program does not know is skipped.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use zeroize::Zeroize;

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

/// Appends the frame that [`PutRecordResult::encode`] would for a record that was stored by the first call, which came
/// after so many milliseconds and took so many.
pub(super) fn encode_stored_at_once(
    to: u64,
    (delay, duration): (u32, u32),
    shard: &str,
    sequence: &str,
    frame: &mut Vec<u8>,
) {
    const LENGTH: usize = 4;
    let attempt = 4 + varint_len(delay.into()) + varint_len(duration.into());
    let text = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
    let result = 2 + attempt + 2 + text(shard) + text(sequence);
    let message = 2 * (1 + varint_len(to)) + 1 + varint_len(result as u64) + result;
    frame.reserve(LENGTH + message);
    let length = u32::try_from(message).expect("a message is short");
    frame.extend_from_slice(&length.to_be_bytes());
    put_field(1, to, frame);
    put_field(2, to, frame);
    frame.push(5 << 3 | 2);
    encode_varint(result as u64, frame);
    frame.extend_from_slice(&[1 << 3 | 2, attempt as u8]);
    put_field(1, delay.into(), frame);
    put_field(2, duration.into(), frame);
    put_field(3, 1, frame);
    put_field(2, 1, frame);
    for (field, text) in [(3, shard), (4, sequence)] {
        frame.push(field << 3 | 2);
        encode_varint(text.len() as u64, frame);
        frame.extend_from_slice(text.as_bytes());
    }
}

fn put_field(field: u8, value: u64, frame: &mut Vec<u8>) {
    frame.push(field << 3);
    encode_varint(value, frame);
}

fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn encode_varint(mut value: u64, frame: &mut Vec<u8>) {
    while value > 0x7f {
        frame.push(value as u8 | 0x80);
        value >>= 7;
    }
    frame.push(value as u8);
}

/// A message that is nothing but a record, as most are: read without allocating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OnlyRecord<'a> {
    pub(super) id: u64,
    pub(super) stream: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) explicit_hash_key: Option<&'a str>,
    /// Where it is in the body.
    pub(super) data: std::ops::Range<usize>,
}

impl<'a> OnlyRecord<'a> {
    /// `None` also for what is a record and looks otherwise: then it is to be decoded as all messages are.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let id = match take_key(body, &mut at)? {
            (1, 0) => take_varint(body, &mut at)?,
            _ => return None,
        };
        let record = match take_key(body, &mut at)? {
            (3, 2) => take_range(body, &mut at)?,
            _ => return None,
        };
        if at != body.len() {
            return None;
        }
        let (body, mut at) = (&body[..record.end], record.start);
        let mut read = Self {
            id,
            stream: "",
            key: None,
            explicit_hash_key: None,
            data: 0..0,
        };
        while at < body.len() {
            let (field, 2) = take_key(body, &mut at)? else {
                return None;
            };
            let range = take_range(body, &mut at)?;
            let text = || str::from_utf8(&body[range.clone()]).ok();
            match field {
                1 => read.stream = text()?,
                2 => read.key = Some(text()?),
                3 => read.explicit_hash_key = Some(text()?),
                4 => read.data = range,
                _ => return None,
            }
        }
        Some(read)
    }
}

/// A field's number and wire type.
fn take_key(body: &[u8], at: &mut usize) -> Option<(u64, u64)> {
    let key = take_varint(body, at)?;
    Some((key >> 3, key & 7))
}

fn take_range(body: &[u8], at: &mut usize) -> Option<std::ops::Range<usize>> {
    let len = usize::try_from(take_varint(body, at)?).ok()?;
    let (start, end) = (*at, at.checked_add(len)?);
    *at = end;
    (end <= body.len()).then_some(start..end)
}

fn take_varint(body: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *body.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    // Ten bytes are for those who have time.
    None
}

fn put_frame(message: &Message, frame: &mut Vec<u8>) {
    let len = u32::try_from(message.encoded_len()).expect("a message is short");
    frame.extend_from_slice(&len.to_be_bytes());
    message.encode(frame).expect("a vector grows");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(record: &PutRecord, id: u64) -> Bytes {
        let message = Message {
            id,
            put_record: Some(record.clone()),
            ..Message::default()
        };
        message.encode_to_vec().into()
    }

    proptest! {
        #[test]
        fn a_record_comes_through_as_it_was_said(
            id: u64, stream_name: String, partition_key: Option<String>,
            explicit_hash_key: Option<String>, data: Vec<u8>,
        ) {
            let data = data.into();
            let record = PutRecord { stream_name, partition_key, explicit_hash_key, data };
            let request = Request::decode(request(&record, id));
            prop_assert_eq!(request, Ok(Request::PutRecord { id, record }));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = OnlyRecord::read(&bytes);
            let _ = Request::decode(bytes.into());
        }

        #[test]
        fn the_quick_way_reads_every_plain_record_and_nothing_else_than_the_slow_one(
            id in 0..u64::MAX >> 1, stream_name: String, partition_key: Option<String>,
            explicit_hash_key: Option<String>, data: Vec<u8>, change: Option<(prop::sample::Index, u8)>,
        ) {
            let data = data.into();
            let record = PutRecord { stream_name, partition_key, explicit_hash_key, data };
            let mut body = request(&record, id).to_vec();
            if let Some((at, byte)) = &change {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            let quick = OnlyRecord::read(&body).map(|quick| Request::PutRecord {
                id: quick.id,
                record: PutRecord {
                    stream_name: quick.stream.to_owned(),
                    partition_key: quick.key.map(str::to_owned),
                    explicit_hash_key: quick.explicit_hash_key.map(str::to_owned),
                    data: Bytes::copy_from_slice(&body[quick.data]),
                },
            });
            prop_assert!(quick.is_some() || change.is_some());
            if let Some(quick) = quick {
                prop_assert_eq!(Request::decode(body.into()), Ok(quick));
            }
        }

        #[test]
        fn the_quick_way_writes_what_the_slow_one_does(
            to: u64, delay: u32, duration: u32, shard in "[a-zA-Z0-9-]{0,200}", sequence in "[0-9]{0,60}",
        ) {
            let (mut quick, mut slow) = (vec![7], vec![7]);
            encode_stored_at_once(to, (delay, duration), &shard, &sequence, &mut quick);
            let attempt = Attempt { delay, duration, success: true, error_code: None, error_message: None };
            let result = PutRecordResult {
                attempts: vec![attempt],
                success: true,
                shard_id: Some(shard),
                sequence_number: Some(sequence),
            };
            result.encode(to, &mut slow);
            prop_assert_eq!(quick, slow);
        }
    }

    /// By hand, from the field numbers.
    #[test]
    fn messages_are_what_they_are_on_the_wire() {
        let bytes = b"\x08\x07\x1a\x0d\x0a\x01s\x12\x01k\x1a\x01\x35\x22\x02hi";
        let expected = PutRecord {
            stream_name: "s".into(),
            partition_key: Some("k".into()),
            explicit_hash_key: Some("5".into()),
            data: "hi".into(),
        };
        let request = Request::decode(Bytes::from_static(bytes)).unwrap();
        assert_eq!(
            request,
            Request::PutRecord {
                id: 7,
                record: expected
            }
        );
        let flush = Request::decode(Bytes::from_static(b"\x08\x01\x22\x00"));
        assert_eq!(flush, Ok(Request::Flush { stream: None }));
        let request = MetricsRequest::default();
        let metrics = Request::decode(Bytes::from_static(b"\x08\x02\x3a\x00"));
        assert_eq!(metrics, Ok(Request::Metrics { id: 2, request }));
        // What is not invented yet.
        let other = Request::decode(Bytes::from_static(b"\x08\x09\xa2\x06\x02hi"));
        assert_eq!(other, Ok(Request::Other));
        let mut frame = Vec::new();
        let result = PutRecordResult {
            attempts: vec![Attempt {
                delay: 0,
                duration: 3,
                success: true,
                error_code: None,
                error_message: None,
            }],
            success: true,
            shard_id: Some("s".into()),
            sequence_number: Some("9".into()),
        };
        result.encode(7, &mut frame);
        assert_eq!(
            frame,
            b"\x00\x00\x00\x16\x08\x07\x10\x07\x2a\x10\x0a\x06\x08\x00\x10\x03\x18\x01\x10\x01\x1a\x01s\x22\x019"
        );
        frame.clear();
        MetricsResponse::default().encode(2, &mut frame);
        assert_eq!(frame, b"\x00\x00\x00\x06\x08\x02\x10\x02\x42\x00");
    }

    fn frame_of(hex: &str) -> Bytes {
        let bytes = (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16));
        let frame: Vec<u8> = bytes.collect::<Result<_, _>>().expect("hex");
        let (length, body) = frame.split_at(4);
        assert_eq!(
            length,
            u32::try_from(body.len()).unwrap().to_be_bytes(),
            "{hex}"
        );
        Bytes::copy_from_slice(body)
    }

    /// As KPL 1.0.7's own client was seen to send them.
    #[test]
    fn frames_of_the_kpls_own_client_say_what_it_asked() {
        let record = |stream: &str, explicit: Option<&str>, data: &str| PutRecord {
            stream_name: stream.into(),
            partition_key: Some("0".into()),
            explicit_hash_key: explicit.map(Into::into),
            data: data.to_owned().into(),
        };
        let credentials = SetCredentials {
            for_metrics: Some(false),
            credentials: Credentials {
                akid: "AKIDEXAMPLE".into(),
                secret_key: "stub-secret".into(),
                token: None,
            },
        };
        let stream = StreamMetadata {
            stream_name: "alpha".into(),
            stream_id: Some("id-123".into()),
            record_distribution_strategy: None,
        };
        let ping = MetricsRequest {
            name: Some("UserRecordsPut".into()),
            seconds: Some(1),
        };
        let all = MetricsRequest::default();
        for (hex, id, expected) in [
            (
                "0000003708011a330a047465737412013022287265632d303030303030303030307c78787878787878787878787878787878787878787878787878",
                1,
                Request::PutRecord {
                    id: 1,
                    record: record("test", None, &format!("rec-0000000000|{}", "x".repeat(25))),
                },
            ),
            ("0000000408062200", 6, Request::Flush { stream: None }),
            (
                "0000000408073a00",
                7,
                Request::Metrics {
                    id: 7,
                    request: all,
                },
            ),
            (
                "0000001608023a120a0e557365725265636f7264735075741001",
                2,
                Request::Metrics {
                    id: 2,
                    request: ping,
                },
            ),
            (
                "000000130801520f0a05616c706861120669642d313233",
                1,
                Request::Stream(stream),
            ),
            (
                "0000002a08ffffffffffffffff7f4a1e0800121a0a0b414b49444558414d504c45120b737475622d736563726574",
                i64::MAX as u64,
                Request::Credentials(credentials),
            ),
        ] {
            let body = frame_of(hex);
            assert_eq!(Request::decode(body.clone()), Ok(expected.clone()), "{hex}");
            let mut frame = Vec::new();
            expected.encode(id, &mut frame);
            assert_eq!(&frame[4..], &body[..], "{hex}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials {
            akid: "AKIDEXAMPLE".into(),
            secret_key: "sec".into(),
            token: Some("tok".into()),
        };
        let set = SetCredentials {
            for_metrics: None,
            credentials,
        };
        let printed = format!("{:?}", Request::Credentials(set));
        assert!(printed.contains("AKIDEXAMPLE"), "{printed}");
        assert!(
            !printed.contains("sec\"") && !printed.contains("tok\""),
            "{printed}"
        );
    }

    #[test]
    fn a_record_that_cannot_be_decoded_still_has_its_id() {
        let bad = b"\x08\x07\x1a\x08\x0a\x01s\x12\x01\xff\x22\x00";
        assert!(Request::decode(Bytes::from_static(bad)).is_err());
        assert_eq!(Request::id_of_undecodable_record(bad), Some(7));
        assert_eq!(Request::id_of_undecodable_record(b"\x08\x07\x22\x00"), None);
    }
}
