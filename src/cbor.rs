//! CBOR as AWS's services speak it beside JSON 1.1: the same members, data as byte strings, and times in milliseconds.
//!
//! Sources: RFC 8949; for the times, `software.amazon.awssdk:aws-cbor-protocol`.

use minicbor::data::{Tag, Type};
use minicbor::decode::{Decoder, Error};

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
pub(crate) fn to_json(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut decoder = Decoder::new(bytes);
    // Base64 is a third more, and most is text.
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    item(&mut decoder, 0, &mut out)?;
    match decoder.position() == bytes.len() {
        true => Ok(out),
        false => Err(Error::message("bytes behind its end").at(decoder.position())),
    }
}

fn item(from: &mut Decoder<'_>, deep: u32, out: &mut Vec<u8>) -> Result<(), Error> {
    if deep > MOST_DEEP {
        return Err(Error::message("too deep").at(from.position()));
    }
    match from.datatype()? {
        Type::Map | Type::MapIndef => {
            let (length, mut is_first) = (from.map()?, true);
            out.push(b'{');
            until_end(from, length, |from| {
                separate(&mut is_first, out);
                quoted(from, out)?;
                out.push(b':');
                item(from, deep + 1, out)
            })?;
            out.push(b'}');
        }
        Type::Array | Type::ArrayIndef => {
            let (length, mut is_first) = (from.array()?, true);
            out.push(b'[');
            until_end(from, length, |from| {
                separate(&mut is_first, out);
                item(from, deep + 1, out)
            })?;
            out.push(b']');
        }
        Type::String | Type::StringIndef => quoted(from, out)?,
        Type::Bytes | Type::BytesIndef => {
            let mut data = Vec::new();
            for part in from.bytes_iter()? {
                data.extend_from_slice(part?);
            }
            out.push(b'"');
            base64_simd::STANDARD.encode_append(data, out);
            out.push(b'"');
        }
        Type::Tag => match (from.tag()? == Tag::new(TIME), number(&mut from.clone())) {
            (true, Ok(millis)) => {
                from.skip()?;
                written(&(millis / 1000.0), out);
            }
            _ => item(from, deep + 1, out)?,
        },
        Type::Bool => written(&from.bool()?, out),
        Type::Null | Type::Undefined => {
            from.skip()?;
            written(&(), out);
        }
        Type::F16 | Type::F32 | Type::F64 => written(&number(from)?, out),
        _ => match i64::try_from(from.int()?) {
            Ok(number) => written(&number, out),
            Err(_) => return Err(Error::message("a number too large").at(from.position())),
        },
    }
    Ok(())
}

fn separate(is_first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::replace(is_first, false) {
        out.push(b',');
    }
}

fn written(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("memory takes all");
}

fn quoted(from: &mut Decoder<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match from.datatype()? {
        Type::String => written(&from.str()?, out),
        _ => written(&text(from)?, out),
    }
    Ok(())
}

/// As a floating-point number, whatever it is written as.
fn number(from: &mut Decoder<'_>) -> Result<f64, Error> {
    match from.datatype()? {
        Type::F16 => from.f16().map(f64::from),
        Type::F32 => from.f32().map(f64::from),
        Type::F64 => from.f64(),
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of this era fit 53 bits"
        )]
        _ => from.i64().map(|number| number as f64),
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
    use serde_json::{Value, json};

    use super::*;

    fn value(bytes: &[u8]) -> Value {
        serde_json::from_slice(&to_json(bytes).unwrap()).unwrap()
    }

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
        for (bytes, expected) in examples {
            assert_eq!(value(bytes), expected, "{bytes:02x?}");
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
