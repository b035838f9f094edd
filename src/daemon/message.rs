//! The KPL's protobuf messages, as far as a socket's clients need them. Pure.
//!
//! A frame is a length in 4 bytes, the highest first, and one `Message`. Field numbers and types are those of the KPL's
//! public `messages.proto` (package `aws.kinesis.protobuf`), of all its releases. What is required there is optional here:
//! what a client leaves out is answered, not a reason to hang up. What this program does not know is skipped.

use bytes::Bytes;
use prost::Message as _;

/// A frame's longest body: the C++ daemon's, 11 MiB.
pub const LONGEST: usize = 11 << 20;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    PutRecord {
        id: u64,
        record: PutRecord,
    },
    Flush,
    /// Has to be answered, if only with nothing.
    Metrics {
        id: u64,
    },
    /// A kind that is not answered: credentials, configuration, facts on streams.
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

/// The envelope. Of the kinds that are not looked into, the bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(uint64, required, tag = "1")]
    id: u64,
    #[prost(uint64, optional, tag = "2")]
    source_id: Option<u64>,
    #[prost(message, optional, tag = "3")]
    put_record: Option<PutRecord>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    flush: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    put_record_result: Option<PutRecordResult>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    metrics_request: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    metrics_response: Option<Bytes>,
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
        Ok(match message {
            Message {
                put_record: Some(record),
                ..
            } => Self::PutRecord { id, record },
            Message { flush: Some(_), .. } => Self::Flush,
            Message {
                metrics_request: Some(_),
                ..
            } => Self::Metrics { id },
            _ => Self::Other,
        })
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The id of the message that it answers, where it says so.
    pub to: Option<u64>,
    /// What became of a record; others answer something else.
    pub result: Option<PutRecordResult>,
}

impl Answer {
    /// `body`: a frame without its length.
    pub fn decode(body: &[u8]) -> Result<Self, NoMessage> {
        let message = Message::decode(body).map_err(|error| NoMessage(error.to_string()))?;
        Ok(Self {
            to: message.source_id,
            result: message.put_record_result,
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

/// Appends the frame that answers a request for metrics, `to`, with none.
pub fn encode_no_metrics(to: u64, frame: &mut Vec<u8>) {
    let answer = Message {
        id: to,
        source_id: Some(to),
        metrics_response: Some(Bytes::new()),
        ..Message::default()
    };
    put_frame(&answer, frame);
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
            let _ = Request::decode(bytes.into());
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
        assert_eq!(flush, Ok(Request::Flush));
        let metrics = Request::decode(Bytes::from_static(b"\x08\x02\x3a\x00"));
        assert_eq!(metrics, Ok(Request::Metrics { id: 2 }));
        // Credentials, a configuration whose fields 32 and 33 are of either type, and what is not invented yet.
        for other in [
            &b"\x08\x03\x4a\x08\x12\x06\x0a\x01a\x12\x01b"[..],
            b"\x08\x00\x32\x06\x80\x02\x05\x8a\x02\x00",
            b"\x08\x00\x32\x06\x82\x02\x00\x88\x02\x05",
            b"\x08\x09\xa2\x06\x02hi",
        ] {
            let request = Request::decode(Bytes::copy_from_slice(other));
            assert_eq!(request, Ok(Request::Other), "{other:?}");
        }
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
        encode_no_metrics(2, &mut frame);
        assert_eq!(frame, b"\x00\x00\x00\x06\x08\x02\x10\x02\x42\x00");
    }
}
