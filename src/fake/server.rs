//! The listener, and the way of one request: read → faults → signature → service → answer.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::cbor;
use super::clock::Clock;
use super::counters::{Tally, add};
use super::events;
use super::faults::{Injector, Plan, Spoil};
use super::kinesis::{Answer, Kinesis};
use super::kms::Kms;
use super::null::{self, Scan, Scanned};
use super::protocol::{ApiError, CONTENT_TYPE, Service, Target};
use super::sigv4::{self, Verifier};
use super::wire::{AnswerBody, Hangup, Socket};
use crate::shutdown::Shutdown;

/// 10 MiB of records are 14 MB of base64; the rest is keys and JSON.
const MOST_BODY: usize = 16 << 20;
/// The default of 64 KiB makes one large body wait for many window updates.
const HTTP2_WINDOW: u32 = 4 << 20;
/// How long to wait when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kinesis: Kinesis,
    pub(crate) kms: Kms,
    pub(crate) clock: Clock,
    pub(crate) tally: Arc<Tally>,
    pub(crate) injector: Injector,
    /// Only in strict mode.
    pub(crate) verifier: Option<Verifier>,
    pub(crate) null: bool,
    /// Added to every answer, in microseconds.
    pub(crate) latency: AtomicU64,
    pub(crate) http2: bool,
}

/// Accepts until told to stop, then drops every connection.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: Shutdown,
) {
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stop.stopped());
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    add(&shared.tally.connections, 1);
                    connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the stand-in cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Answers are small and complete: waiting for more of them gains nothing.
    let _ = stream.set_nodelay(true);
    let hangup = Arc::new(Hangup::default());
    let socket = Socket {
        stream,
        hangup: Arc::clone(&hangup),
    };
    match tls {
        None => speak(socket, shared, hangup).await,
        // A client that does not like the certificate is its own affair.
        Some(tls) => {
            if let Ok(socket) = tls.accept(socket).await {
                speak(socket, shared, hangup).await;
            }
        }
    }
}

async fn speak<S>(socket: S, shared: Arc<Shared>, hangup: Arc<Hangup>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        let hangup = Arc::clone(&hangup);
        async move { Ok::<_, Infallible>(exchange(&shared, &hangup, request).await) }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2()
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW);
    let http = if shared.http2 {
        http
    } else {
        http.http1_only()
    };
    let connection = http.serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        // How a client ends its connection is no concern of ours.
        _ = connection => {}
        () = hangup.asked.notified() => {}
    }
}

async fn exchange(
    shared: &Shared,
    hangup: &Hangup,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let target = match Target::of(&parts.headers) {
        Ok(target) => target,
        Err(error) => return refusal(&error, false),
    };
    let mut plan = shared.injector.plan(target);
    let is_cbor = cbor::is_cbor(&parts.headers);
    let read = read_body(shared, target, is_cbor, body).await;
    shared.tally.call(target.service, target.operation);
    let is_http2 = parts.version == Version::HTTP_2;
    add(&shared.tally.http2_calls, usize::from(is_http2));
    add(&shared.tally.faulted_calls, usize::from(plan.strikes()));
    if let Some(cut) = plan.before {
        hangup.cut(cut).await;
    }
    let result = read.and_then(|body| answer(shared, &parts, target, &body, &mut plan));
    let latency = Duration::from_micros(shared.latency.load(Ordering::Relaxed)) + plan.delay;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    if let Some(cut) = plan.after {
        hangup.cut(cut).await;
    }
    match result {
        Ok(Answer::Whole(body)) => respond(200, body, is_cbor, plan.answer),
        Ok(Answer::Events(subscription)) => events::respond(subscription, is_cbor, plan.answer),
        Err(error) => refusal(&error, is_cbor),
    }
}

/// What was read of a request.
enum Read {
    Whole(Bytes),
    /// In null mode: what was found as it passed.
    Scanned(Scanned),
}

async fn read_body(
    shared: &Shared,
    target: Target<'_>,
    is_cbor: bool,
    body: Incoming,
) -> Result<Read, ApiError> {
    if shared.null && puts_records(target) && shared.verifier.is_none() && !is_cbor {
        return scan_body(shared, body).await.map(Read::Scanned);
    }
    let collected = Limited::new(body, MOST_BODY)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                return ApiError::new(
                    "RequestEntityTooLargeException",
                    "The request is larger than 16 MiB.",
                )
                .with_status(413);
            }
            unreadable(&*error)
        })?;
    let bytes = collected.to_bytes();
    add(&shared.tally.body_bytes, bytes.len());
    Ok(Read::Whole(bytes))
}

fn puts_records(target: Target<'_>) -> bool {
    matches!(target.operation, "PutRecords" | "PutRecord")
}

async fn scan_body(shared: &Shared, mut body: Incoming) -> Result<Scanned, ApiError> {
    let mut scan = Scan::default();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreadable(&error))?;
        if let Some(piece) = frame.data_ref() {
            length += piece.len();
            scan.feed(piece);
        }
    }
    add(&shared.tally.body_bytes, length);
    Ok(scan.end())
}

fn unreadable(error: &dyn std::error::Error) -> ApiError {
    ApiError::new(
        "SerializationException",
        format!("the body could not be read: {error}"),
    )
}

fn answer(
    shared: &Shared,
    parts: &Parts,
    target: Target<'_>,
    read: &Read,
    plan: &mut Plan,
) -> Result<Answer, ApiError> {
    let body: &[u8] = match read {
        Read::Whole(body) => body,
        Read::Scanned(_) => &[],
    };
    if let Some(verifier) = &shared.verifier {
        let checked = verifier.check(parts, body, target.service, shared.clock.now());
        add(
            &shared.tally.refused_signatures,
            usize::from(checked.is_err()),
        );
        checked?;
    }
    if let Some(error) = plan.error.take() {
        return Err(error);
    }
    let is_cbor = cbor::is_cbor(&parts.headers);
    if shared.null && puts_records(target) {
        return answer_null(shared, target, read, is_cbor).map(Answer::whole);
    }
    let in_json;
    let body = match is_cbor {
        true => {
            in_json = cbor::to_json(body)?;
            &in_json
        }
        false => body,
    };
    match target.service {
        Service::Kinesis => shared.kinesis.answer(target.operation, body, plan),
        Service::Kms => {
            let signed_for = sigv4::region(parts);
            let kms = &shared.kms;
            kms.answer(target.operation, body, signed_for.as_deref())
                .map(Answer::whole)
        }
    }
}

fn answer_null(
    shared: &Shared,
    target: Target<'_>,
    read: &Read,
    is_cbor: bool,
) -> Result<Bytes, ApiError> {
    let whole;
    let scanned = match read {
        Read::Scanned(scanned) => scanned,
        Read::Whole(body) if is_cbor => {
            whole = cbor::scan(body)?;
            &whole
        }
        // Strict as well: the body had to be whole for its signature.
        Read::Whole(body) => {
            let mut scan = Scan::default();
            scan.feed(body);
            whole = scan.end();
            &whole
        }
    };
    let (name, arn) = (
        scanned.stream_name.as_deref(),
        scanned.stream_arn.as_deref(),
    );
    let stream = shared.kinesis.stream(name, arn)?;
    add(&shared.tally.records_stored, scanned.records);
    Ok(match target.operation {
        "PutRecord" => null::stored(scanned, &stream),
        _ => null::stored_each(scanned, &stream),
    })
}

fn refusal(error: &ApiError, is_cbor: bool) -> Response<AnswerBody> {
    let mut response = respond(error.status, error.to_body().into(), is_cbor, None);
    // Some clients read the code from here.
    if let Ok(code) = error.code.parse() {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    response
}

fn respond(status: u16, body: Bytes, is_cbor: bool, spoil: Option<Spoil>) -> Response<AnswerBody> {
    let (body, content_type) = match is_cbor {
        true => (cbor::from_json(&body).into(), cbor::CONTENT_TYPE),
        false => (body, CONTENT_TYPE),
    };
    let half = body.len() / 2;
    let content_length = match spoil {
        Some(Spoil::Malformed) => half,
        _ => body.len(),
    };
    let body = match spoil {
        None => AnswerBody::whole(body),
        Some(Spoil::Malformed) => AnswerBody::whole(body.slice(..half)),
        Some(Spoil::Truncated) => AnswerBody::broken_off(body.slice(..half)),
    };
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("content-length", content_length)
        .header(REQUEST_ID, request_id())
        .body(body)
        .unwrap_or_else(|_| Response::new(AnswerBody::whole(Bytes::new())))
}

pub(super) const REQUEST_ID: &str = "x-amzn-requestid";

pub(super) fn request_id() -> String {
    let n: u128 = rand::random();
    let hex = format!("{n:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
