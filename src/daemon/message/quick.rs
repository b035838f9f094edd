//! The two messages that nearly all are, read and written by hand: a plain record, and that it was stored by the first call.
//! What looks otherwise goes the way of all messages, which says what is right.

/// Appends the frame that [`PutRecordResult::encode`](super::PutRecordResult::encode) would for a record that was stored by the first call, which came
/// after so many milliseconds and took so many.
pub(in super::super) fn encode_stored_at_once(
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
pub(in super::super) struct OnlyRecord<'a> {
    pub(in super::super) id: u64,
    pub(in super::super) stream: &'a str,
    pub(in super::super) key: Option<&'a str>,
    pub(in super::super) explicit_hash_key: Option<&'a str>,
    /// Where it is in the body.
    pub(in super::super) data: std::ops::Range<usize>,
}

impl<'a> OnlyRecord<'a> {
    /// `None` also for what is a record and looks otherwise: then it is to be decoded as all messages are.
    pub(in super::super) fn read(body: &'a [u8]) -> Option<Self> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::{Attempt, Message, PutRecord, PutRecordResult, Request};
    use super::*;

    fn request(record: &PutRecord, id: u64) -> Vec<u8> {
        let message = Message {
            id,
            put_record: Some(record.clone()),
            ..Message::default()
        };
        message.encode_to_vec()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = OnlyRecord::read(&bytes);
        }

        #[test]
        fn the_quick_way_reads_every_plain_record_and_nothing_else_than_the_slow_one(
            id in 0..u64::MAX >> 1, stream_name: String, partition_key: Option<String>,
            explicit_hash_key: Option<String>, data: Vec<u8>, change: Option<(prop::sample::Index, u8)>,
        ) {
            let data = data.into();
            let record = PutRecord { stream_name, partition_key, explicit_hash_key, data };
            let mut body = request(&record, id);
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
}
