//! Requests in CBOR, as AWS's SDKs for Java send them to Kinesis: read as JSON, and answered in kind.

use hyper::HeaderMap;
use minicbor::data::{Tag, Type};
use minicbor::decode::Decoder;
use minicbor::encode::Encoder;
use serde_json::Value;

use super::null::Scanned;
use super::protocol::ApiError;
use crate::cbor::{self, TIME, text, until_end};

pub(super) use crate::cbor::CONTENT_TYPE;

/// Whether a request with these headers is written so.
pub(super) fn is_cbor(headers: &HeaderMap) -> bool {
    let content_type = headers.get("content-type");
    content_type.is_some_and(|value| value.to_str().is_ok_and(cbor::is_cbor))
}

/// What the same request would be in JSON.
pub(super) fn to_json(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    match body {
        [] => Ok(Vec::new()),
        body => cbor::to_json(body),
    }
    .map_err(unreadable)
}

fn unreadable(error: minicbor::decode::Error) -> ApiError {
    ApiError::new(
        "SerializationException",
        format!("the body is no CBOR: {error}"),
    )
}

/// An answer that was made in JSON.
pub(super) fn from_json(answer: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    match serde_json::from_slice(answer) {
        Ok(value) => write(&mut out, &value),
        // As where it was spoilt on purpose.
        Err(_) => return answer.to_vec(),
    }
    out.into_writer()
}

type Out = Encoder<Vec<u8>>;

fn write(out: &mut Out, value: &Value) {
    let to_memory = "memory takes all";
    match value {
        Value::Null => out.null(),
        Value::Bool(value) => out.bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => out.i64(number),
            (None, number) => out.f64(number.unwrap_or_default()),
        },
        Value::String(text) => out.str(text),
        Value::Array(items) => {
            out.array(items.len() as u64).expect(to_memory);
            items.iter().for_each(|item| write(out, item));
            return;
        }
        Value::Object(members) => {
            out.map(members.len() as u64).expect(to_memory);
            for (name, value) in members {
                out.str(name).expect(to_memory);
                write_member(out, name, value);
            }
            return;
        }
    }
    .expect(to_memory);
}

/// Data and times are not what they are in JSON.
fn write_member(out: &mut Out, name: &str, value: &Value) {
    let to_memory = "memory takes all";
    match (name, value) {
        ("Data", Value::String(data)) => {
            let data = base64_simd::STANDARD.decode_to_vec(data);
            out.bytes(&data.unwrap_or_default()).expect(to_memory);
        }
        (name, Value::Number(seconds)) if name.ends_with("Timestamp") => {
            let millis = seconds.as_f64().unwrap_or_default() * 1000.0;
            out.tag(Tag::new(TIME)).expect(to_memory);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "milliseconds of this era fit 53 bits"
            )]
            out.i64(millis.round() as i64).expect(to_memory);
        }
        _ => write(out, value),
    }
}

/// What null mode wants to know of a request that puts records: keys are read, and data passed over.
pub(super) fn scan(body: &[u8]) -> Result<Scanned, ApiError> {
    let mut scanned = Scanned::default();
    object(&mut Decoder::new(body), &mut scanned).map_err(unreadable)?;
    Ok(scanned)
}

fn object(from: &mut Decoder<'_>, scanned: &mut Scanned) -> Result<(), minicbor::decode::Error> {
    let (length, mut has_data, mut explicit) = (from.map()?, false, None);
    until_end(from, length, |from| {
        let name = text(from)?;
        if from.datatype()? == Type::Null {
            return from.skip();
        }
        match name.as_str() {
            "Data" => {
                has_data = true;
                from.skip()?;
            }
            "PartitionKey" => scanned.partition_key(text(from)?.as_bytes()),
            "ExplicitHashKey" => explicit = text(from)?.parse().ok(),
            "StreamName" => scanned.stream_name = Some(text(from)?),
            "StreamARN" => scanned.stream_arn = Some(text(from)?),
            "Records" => {
                let length = from.array()?;
                until_end(from, length, |from| object(from, scanned))?;
            }
            _ => from.skip()?,
        }
        Ok(())
    })?;
    scanned.object_ends(has_data, explicit);
    Ok(())
}
