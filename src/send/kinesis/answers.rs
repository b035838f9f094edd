//! Answers in CBOR, for an SDK that reads JSON.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};

use super::CONTENT_TYPE;
use crate::cbor::{is_cbor, to_json};

/// Makes one in CBOR the same in JSON; what comes in JSON, as from something between, is left as it is.
pub(super) fn to_be_json(response: &mut HttpResponse) {
    if response.headers().get(CONTENT_TYPE).is_some_and(is_cbor) {
        let read = FromCbor {
            answer: response.take_body(),
            read: Some(Vec::new()),
        };
        *response.body_mut() = SdkBody::from_body_1_x(read);
    }
}

/// Read to its end, and one piece then.
struct FromCbor {
    answer: SdkBody,
    /// `None` once it is handed over.
    read: Option<Vec<u8>>,
}

impl Body for FromCbor {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while let Some(read) = &mut this.read {
            match ready!(Pin::new(&mut this.answer).poll_frame(context)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => read.extend(frame.data_ref().into_iter().flatten()),
                None => {
                    let json = to_json(read).map(|json| Frame::data(json.into()));
                    this.read = None;
                    let unreadable = |error| format!("an answer in CBOR cannot be read: {error}");
                    return Poll::Ready(Some(json.map_err(|e| unreadable(e).into())));
                }
            }
        }
        Poll::Ready(None)
    }
}
