//! Answers read by ourselves: the body whole, texts in its own memory; then the SDK reads what is left of it.
//!
//! The SDK goes on saying what an error means, and whatever else an answer says than its many entries.

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use serde::de::{Deserializer, Visitor};

/// Has the SDK read what `end` makes of the whole body, while it reads the answer. The body is read into `into`, behind what
/// is there.
pub(crate) fn read_first(
    response: &mut HttpResponse,
    mut into: Vec<u8>,
    end: impl FnOnce(Vec<u8>) -> Result<Bytes, BoxError> + Send + Sync + 'static,
) {
    let length = response.headers().get("content-length");
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    into.reserve(usize::min(length, MOST_AHEAD));
    let reading = Reading {
        body: response.take_body(),
        read: into,
        end: Some(Box::new(end)),
    };
    *response.body_mut() = SdkBody::from_body_1_x(reading);
}

/// Memory that is asked for because of a header alone: an answer of GetRecords, 10 MB in base64.
const MOST_AHEAD: usize = 16 << 20;

type End = Box<dyn FnOnce(Vec<u8>) -> Result<Bytes, BoxError> + Send + Sync>;

/// Read to its end, and one piece then.
struct Reading {
    body: SdkBody,
    read: Vec<u8>,
    /// `None` once it is handed over.
    end: Option<End>,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while this.end.is_some() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        this.read.extend_from_slice(data);
                    }
                }
                None => {
                    let read = mem::take(&mut this.read);
                    let left = this.end.take().map(|end| end(read).map(Frame::data));
                    return Poll::Ready(left);
                }
            }
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

/// In the answer's own memory where nothing is escaped. What is absent or null is empty.
#[derive(Default)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AsText)
    }
}

struct AsText;

impl<'de> Visitor<'de> for AsText {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or null")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text::default())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_sdk_kinesis::Client;
    use aws_sdk_kinesis::config::retry::RetryConfig;
    use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// Answers every call with this.
    #[derive(Debug, Clone)]
    struct Says(Vec<u8>);

    impl HttpConnector for Says {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            let status = 200.try_into().expect("it is one");
            let response = HttpResponse::new(status, SdkBody::from(self.0.clone()));
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    /// A client of the SDK to which each call is answered by that, and what its calls are awaited on.
    pub(crate) fn client_that_hears(json: &[u8]) -> (Runtime, Client) {
        let connector = SharedHttpConnector::new(Says(json.to_vec()));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()));
        let runtime = Builder::new_current_thread().enable_all().build();
        let client = Client::from_conf(config.build());
        (runtime.expect("a runtime"), client)
    }
}
