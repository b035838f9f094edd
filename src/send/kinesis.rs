//! PutRecords through aws-sdk-kinesis, with the SDK's own retries off.
//!
//! The SDK would send a whole call again; what was stored by a partly failed one must not be.
//!
//! The request's body is [ours](super::body): the SDK's serialiser holds the payloads three times over and encodes them
//! byte by byte. Everything else stays the SDK's: endpoint, credentials, the signature (over our body: it is put in
//! place before signing, with the hash of one that is written while it is sent), TLS, time-outs, and what an error means.
//! The entries of an answer are ours too (`answers.rs`).

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::body::SdkBody;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::answers::Answers;
use super::body::{self, Body, Protocol};
use super::{CallError, CallOutcome, EntryOutcome, PutRecords};
use crate::batch::Batch;
use crate::cbor;
use crate::hex::to_hex;
use crate::record::{StreamId, StreamName};

mod answers;
#[cfg(test)]
mod tests;

const CONTENT_LENGTH: &str = "content-length";
const CONTENT_TYPE: &str = "content-type";

/// The service, or anything that speaks its protocol.
#[derive(Debug, Clone)]
pub struct Kinesis {
    client: Client,
    protocol: Protocol,
    id: StreamId,
}

impl Kinesis {
    /// The client must have its retries off and its time-outs set, as [`crate::aws`] makes it.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
            id: StreamId::default(),
        }
    }

    /// In another protocol than the SDK's own.
    #[must_use]
    pub fn speaking(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// For the one stream with this id, which goes with each call once it is told. It does not reach the SDK, which would
    /// make it a part of the host, whatever endpoint it is told to call.
    #[must_use]
    pub fn with_id(self, id: StreamId) -> Self {
        Self { id, ..self }
    }

    async fn call(&self, stream: &StreamName, batch: &Batch) -> CallOutcome {
        let (protocol, answers, id) = (self.protocol, Answers::default(), self.id.told());
        let body = WithBody {
            protocol,
            body: body::put_records(protocol, stream, id, batch.entries()),
            answers: answers.clone(),
        };
        // For the SDK the stream decides the endpoint; no entries, so that it has nothing to write.
        let request = self.client.put_records();
        let request = match stream.arn() {
            Some(arn) => request.stream_arn(arn),
            None => request.stream_name(stream.name()),
        };
        match request.customize().interceptor(body).send().await {
            Ok(_) => answered(answers.take(), batch.len()),
            Err(error) => CallOutcome::Failed(call_error(&error)),
        }
    }
}

impl PutRecords for Kinesis {
    fn put_records<'a>(
        &'a self,
        stream: &'a StreamName,
        batch: &'a Batch,
    ) -> BoxFuture<'a, CallOutcome> {
        self.call(stream, batch).boxed()
    }
}

/// Puts a body in the place of the SDK's own, which has no entries, and reads the answer.
#[derive(Debug)]
struct WithBody {
    protocol: Protocol,
    body: Body,
    answers: Answers,
}

impl Intercept for WithBody {
    fn name(&self) -> &'static str {
        "WithBody"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let (headers, length) = (request.headers_mut(), self.body.length());
        headers.insert(CONTENT_LENGTH, length.to_string());
        if self.protocol == Protocol::Cbor {
            headers.insert(CONTENT_TYPE, cbor::CONTENT_TYPE);
        }
        *request.body_mut() = self.body.clone().into();
        if let Body::Long(long) = &self.body {
            // What is not in memory would not be signed.
            let signed = PayloadSigningOverride::Precomputed(to_hex(&long.hash()));
            config.interceptor_state().store_put(signed);
        }
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.answers.take_out_of(context.response_mut());
        Ok(())
    }
}

impl From<Body> for SdkBody {
    fn from(body: Body) -> Self {
        match body {
            Body::Whole(bytes) => Self::from(bytes),
            Body::Long(long) => Self::retryable(move || Self::from_body_1_x(long.clone())),
        }
    }
}

fn answered(entries: Vec<EntryOutcome>, sent: usize) -> CallOutcome {
    if entries.len() != sent {
        // Which answer belongs to which entry cannot be known.
        return CallOutcome::Failed(CallError {
            code: "RecordCountMismatch".to_owned(),
            message: format!("{sent} records sent, {} answers came", entries.len()),
            status: None,
        });
    }
    CallOutcome::Answered(entries)
}

/// The code, message and status of a failed call, whichever layer it failed in.
pub fn call_error<E>(error: &SdkError<E>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(service) = error.as_service_error() {
        return CallError {
            code: as_one_line(service.code().unwrap_or_default()),
            message: as_one_line(service.message().unwrap_or_default()),
            status: error.raw_response().map(|r| r.status().as_u16()),
        };
    }
    let status = error.raw_response().map(|r| r.status().as_u16());
    let (code, status) = if caused_by::<CredentialsError>(error).is_some() {
        ("NoCredentials", Some(401))
    } else if matches!(error, SdkError::TimeoutError(_)) {
        ("Timeout", None)
    } else if never_connected(error) {
        // Nothing was sent, so nothing can be stored.
        ("ConnectFailed", Some(503))
    } else {
        match (error, status) {
            // An error page of something in between.
            (SdkError::ResponseError(_), Some(status)) if status >= 400 => ("", Some(status)),
            (SdkError::ResponseError(_), _) => ("MalformedAnswer", None),
            _ => ("ConnectionLost", None),
        }
    };
    CallError {
        code: code.to_owned(),
        message: as_one_line(&with_causes(error)),
        status,
    }
}

/// What a service says goes into the log and dead letters: it must not forge lines there, nor fill them.
pub(crate) fn as_one_line(text: &str) -> String {
    const MOST: usize = 2_000;
    let is_shown = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    let shown = text.chars().map(|c| if is_shown(c) { c } else { ' ' });
    let mut line: String = shown.clone().take(MOST).collect();
    if shown.count() > MOST {
        line.push('…');
    }
    line
}

fn never_connected<E: Error + 'static>(error: &SdkError<E>) -> bool {
    use std::io::ErrorKind;
    let refused = caused_by::<std::io::Error>(error).is_some_and(|io| {
        matches!(
            io.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
        )
    });
    refused || with_causes(error).contains("dns error")
}

/// An error and what caused it, each said once.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

fn caused_by<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
