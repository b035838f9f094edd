//! CBOR as AWS's services speak it beside JSON 1.1: the same members, data as byte strings, and times in milliseconds.
//!
//! Sources: RFC 8949; for the times, `software.amazon.awssdk:aws-cbor-protocol`.

use minicbor::data::{Tag, Type};
use minicbor::decode::{Decoder, Error};
use serde_json::{Map, Value};

pub(crate) const CONTENT_TYPE: &str = "application/x-amz-cbor-1.1";

/// Whether a body of that content type is CBOR.
pub(crate) fn is_cbor(content_type: &str) -> bool {
    content_type.starts_with("application/x-amz-cbor")
}

/// Arrays and maps within each other, at most: no answer or request has more than a handful.
const MOST_DEEP: u32 = 32;
/// Seconds since 1970, in this protocol milliseconds.
pub(crate) const TIME: u64 = 1;

/// What the same would be in JSON 1.1: data in base64, times in seconds.
///
/// # Errors
///
/// Of what is no CBOR, or more than one item.
pub(crate) fn to_json(bytes: &[u8]) -> Result<Value, Error> {
    let mut decoder = Decoder::new(bytes);
    let value = item(&mut decoder, 0)?;
    match decoder.position() == bytes.len() {
        true => Ok(value),
        false => Err(Error::message("bytes behind its end").at(decoder.position())),
    }
}

fn item(from: &mut Decoder<'_>, deep: u32) -> Result<Value, Error> {
    if deep > MOST_DEEP {
        return Err(Error::message("too deep").at(from.position()));
    }
    Ok(match from.datatype()? {
        Type::Map | Type::MapIndef => {
            let length = from.map()?;
            let mut members = Map::new();
            until_end(from, length, |from| {
                let name = text(from)?;
                members.insert(name, item(from, deep + 1)?);
                Ok(())
            })?;
            members.into()
        }
        Type::Array | Type::ArrayIndef => {
            let length = from.array()?;
            let mut items = Vec::new();
            until_end(from, length, |from| {
                items.push(item(from, deep + 1)?);
                Ok(())
            })?;
            items.into()
        }
        Type::String | Type::StringIndef => text(from)?.into(),
        Type::Bytes | Type::BytesIndef => {
            let mut data = Vec::new();
            for part in from.bytes_iter()? {
                data.extend_from_slice(part?);
            }
            base64_simd::STANDARD.encode_to_string(data).into()
        }
        Type::Tag => {
            let tag = from.tag()?;
            let value = item(from, deep + 1)?;
            match (tag == Tag::new(TIME), value.as_f64()) {
                (true, Some(millis)) => (millis / 1000.0).into(),
                _ => value,
            }
        }
        Type::Bool => from.bool()?.into(),
        Type::Null | Type::Undefined => {
            from.skip()?;
            Value::Null
        }
        Type::F16 | Type::F32 | Type::F64 => number(from)?.into(),
        _ => match i64::try_from(from.int()?) {
            Ok(number) => number.into(),
            Err(_) => return Err(Error::message("a number too large").at(from.position())),
        },
    })
}

fn number(from: &mut Decoder<'_>) -> Result<f64, Error> {
    match from.datatype()? {
        Type::F16 => from.f16().map(f64::from),
        Type::F32 => from.f32().map(f64::from),
        _ => from.f64(),
    }
}

pub(crate) fn text(from: &mut Decoder<'_>) -> Result<String, Error> {
    let mut text = String::new();
    for part in from.str_iter()? {
        text.push_str(part?);
    }
    Ok(text)
}

/// So many times, or to the item that ends what has no length.
pub(crate) fn until_end<'b>(
    from: &mut Decoder<'b>,
    length: Option<u64>,
    mut each: impl FnMut(&mut Decoder<'b>) -> Result<(), Error>,
) -> Result<(), Error> {
    match length {
        Some(length) => (0..length).try_for_each(|_| each(from)),
        None => {
            while from.datatype()? != Type::Break {
                each(from)?;
            }
            from.skip()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// RFC 8949, appendix A, as far as there is the same in JSON.
    #[test]
    fn the_rfcs_examples_are_read() {
        let examples: [(&[u8], Value); 16] = [
            (b"\x00", json!(0)),
            (b"\x18\x64", json!(100)),
            (
                b"\x1b\x00\x00\x00\xe8\xd4\xa5\x10\x00",
                json!(1_000_000_000_000_i64),
            ),
            (b"\x39\x03\xe7", json!(-1000)),
            (b"\xf9\x3e\x00", json!(1.5)),
            (b"\xfa\x47\xc3\x50\x00", json!(100_000.0)),
            (b"\xfb\xc0\x10\x66\x66\x66\x66\x66\x66", json!(-4.1)),
            (b"\xf5", json!(true)),
            (b"\xf6", json!(null)),
            (b"\x44\x01\x02\x03\x04", json!("AQIDBA==")),
            (b"\x62\xc3\xbc", json!("ü")),
            (b"\x82\x61a\xa1\x61b\x61c", json!(["a", {"b": "c"}])),
            (b"\x5f\x42\x01\x02\x43\x03\x04\x05\xff", json!("AQIDBAU=")),
            (b"\x7f\x65strea\x64ming\xff", json!("streaming")),
            (
                b"\xbf\x61a\x01\x61b\x9f\x02\x03\xff\xff",
                json!({"a": 1, "b": [2, 3]}),
            ),
            // Milliseconds here, where the RFC has seconds.
            (b"\xc1\x1a\x51\x4b\x67\xb0", json!(1_363_896.240)),
        ];
        for (bytes, value) in examples {
            assert_eq!(to_json(bytes).unwrap(), value, "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_cut_or_goes_on_or_never_ends_is_an_error() {
        let whole = b"\xbf\x61a\x01\x61b\x9f\x02\x43\x03\x04\x05\xff\xff";
        to_json(whole).unwrap();
        for end in 0..whole.len() {
            to_json(&whole[..end]).unwrap_err();
        }
        to_json(b"\x00\x00").unwrap_err();
        to_json(&[0x81; 1 << 20]).unwrap_err();
        // Lengths of what is not there.
        for head in [b"\x9b", b"\xbb", b"\x5b", b"\x7b"] {
            to_json(&[&head[..], &[0xff; 8]].concat()).unwrap_err();
        }
    }
}
