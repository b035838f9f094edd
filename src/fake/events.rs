//! A subscription as an answer that goes on: each event a frame, as it happens.
//!
//! Two frames wait for the client at most, so that one that does not read holds its subscription up, and nothing grows.

use std::io;

use bytes::Bytes;
use hyper::Response;
use tokio::sync::mpsc;

use super::cbor;
use super::eventstream;
use super::faults::Spoil;
use super::kinesis::{Subscription, Told};
use super::server::{REQUEST_ID, request_id};
use super::wire::{AnswerBody, broken_off};

const EVENT: &str = "SubscribeToShardEvent";

/// What events' payloads are written in, unless the request was in CBOR.
const JSON: &str = "application/json";

/// Runs the subscription on a task that ends with the client's connection.
pub(super) fn respond(
    subscription: Subscription,
    is_cbor: bool,
    spoil: Option<Spoil>,
) -> Response<AnswerBody> {
    let (out, pieces) = mpsc::channel(1);
    let (tell, told) = mpsc::channel(1);
    tokio::spawn(subscription.run(tell));
    tokio::spawn(send(told, out, is_cbor, spoil));
    Response::builder()
        .header("content-type", eventstream::CONTENT_TYPE)
        .header(REQUEST_ID, request_id())
        .body(AnswerBody::pieces(pieces))
        .unwrap_or_else(|_| Response::new(AnswerBody::whole(Bytes::new())))
}

async fn send(
    mut told: mpsc::Receiver<Told>,
    out: mpsc::Sender<io::Result<Bytes>>,
    is_cbor: bool,
    spoil: Option<Spoil>,
) {
    let content_type = match is_cbor {
        true => cbor::CONTENT_TYPE,
        false => JSON,
    };
    let first = eventstream::initial_response(content_type);
    if out.send(Ok(first)).await.is_err() {
        return;
    }
    let mut events = 0_u64;
    loop {
        let next = tokio::select! {
            next = told.recv() => next,
            () = out.closed() => None,
        };
        let Some(next) = next else { return };
        let frame = frame(next, content_type, is_cbor);
        events += 1;
        // The first one passes: a subscription that was spoilt has yet gone on by one.
        let half = frame.slice(..frame.len() / 2);
        let sent = match spoil.filter(|_| events > 1) {
            None => out.send(Ok(frame)).await.is_ok(),
            Some(Spoil::Malformed) => {
                let _ = out.send(Ok(half)).await;
                false
            }
            Some(Spoil::Truncated) => {
                // Whoever has gone does not see it.
                let _ = out.send(Ok(half)).await;
                let _ = out.send(Err(broken_off())).await;
                false
            }
        };
        if !sent {
            return;
        }
    }
}

fn frame(told: Told, content_type: &'static str, is_cbor: bool) -> Bytes {
    let written = |json: Vec<u8>| match is_cbor {
        true => cbor::from_json(&json),
        false => json,
    };
    match told {
        Told::Records(json) => eventstream::event(EVENT, content_type, written(json).into()),
        Told::Exception(error) => {
            let payload = written(error.to_body());
            eventstream::exception(&error.code, content_type, payload.into())
        }
    }
}
