//! Frames of `application/vnd.amazon.eventstream`: what a subscription sends.
//!
//! Source: <https://smithy.io/2.0/aws/amazon-eventstream.html>, and what AWS's SDKs read.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;

pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// What comes first on a stream of a protocol without members in its headers.
pub(crate) fn initial_response(content_type: &'static str) -> Bytes {
    frame(
        &[
            (":message-type", "event"),
            (":event-type", "initial-response"),
            (":content-type", content_type),
        ],
        Bytes::from_static(b"{}"),
    )
}

pub(crate) fn event(kind: &'static str, content_type: &'static str, payload: Bytes) -> Bytes {
    frame(
        &[
            (":message-type", "event"),
            (":event-type", kind),
            (":content-type", content_type),
        ],
        payload,
    )
}

/// After one nothing comes.
pub(crate) fn exception(kind: &str, content_type: &'static str, payload: Bytes) -> Bytes {
    frame(
        &[
            (":message-type", "exception"),
            (":exception-type", kind),
            (":content-type", content_type),
        ],
        payload,
    )
}

fn frame(headers: &[(&'static str, &str)], payload: Bytes) -> Bytes {
    let mut message = Message::new(payload);
    for (name, value) in headers {
        let value = HeaderValue::String((*value).to_owned().into());
        message = message.add_header(Header::new(*name, value));
    }
    let mut frame = Vec::new();
    write_message_to(&message, &mut frame)
        .expect("headers of ours, and a payload of 14 MiB at most");
    frame.into()
}
