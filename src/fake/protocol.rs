//! AWS JSON 1.1 as Kinesis and KMS speak it: a target header, a JSON body, and errors that carry a `__type`.

use std::borrow::Cow;
use std::fmt;

use hyper::HeaderMap;
use serde::Deserialize;

pub(crate) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

const KINESIS_TARGET: &str = "Kinesis_20131202.";
const KMS_TARGET: &str = "TrentService.";

/// The two services that are stood in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    Kinesis,
    Kms,
}

impl Service {
    /// As it stands in a faults file and in a signature's scope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kinesis => "kinesis",
            Self::Kms => "kms",
        }
    }

    /// What it answers; any other is an unknown operation.
    pub(crate) fn operations(self) -> &'static [&'static str] {
        match self {
            Self::Kinesis => &[
                "PutRecords",
                "PutRecord",
                "GetShardIterator",
                "GetRecords",
                "ListShards",
                "CreateStream",
                "DeleteStream",
                "ListStreams",
                "DescribeStream",
                "DescribeStreamSummary",
                "SplitShard",
                "MergeShards",
                "UpdateShardCount",
                "UpdateStreamMode",
                "UpdateMaxRecordSize",
                "UpdateStreamRecordDistributionStrategy",
                "RegisterStreamConsumer",
                "DescribeStreamConsumer",
                "ListStreamConsumers",
                "DeregisterStreamConsumer",
                "SubscribeToShard",
            ],
            Self::Kms => &[
                "GenerateDataKey",
                "GenerateDataKeyWithoutPlaintext",
                "Encrypt",
                "Decrypt",
                "CreateKey",
                "DescribeKey",
                "ReplicateKey",
                "ListKeys",
                "ListAliases",
                "CreateAlias",
                "UpdateAlias",
                "DeleteAlias",
                "EnableKey",
                "DisableKey",
                "ScheduleKeyDeletion",
                "CancelKeyDeletion",
            ],
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call refused as a whole, in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    pub code: Cow<'static, str>,
    pub status: u16,
    pub message: String,
}

impl ApiError {
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            status: 400,
            message: message.into(),
        }
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    /// A value that breaks the model's own constraints. `member` is the path as the service writes it,
    /// such as `records.3.member.partitionKey` (counted from 1).
    pub(crate) fn validation(member: impl fmt::Display, constraint: impl fmt::Display) -> Self {
        Self::new(
            "ValidationException",
            format!(
                "1 validation error detected: Value at '{member}' failed to satisfy constraint: {constraint}"
            ),
        )
    }

    pub(crate) fn missing(member: &str) -> Self {
        Self::validation(member, "Member must not be null")
    }

    pub(crate) fn to_body(&self) -> Vec<u8> {
        json_bytes(&serde_json::json!({ "__type": self.code, "message": self.message }))
    }
}

/// What a request asks for, from its `X-Amz-Target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) service: Service,
    pub(crate) operation: &'a str,
}

impl<'a> Target<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let unknown = || {
            ApiError::new(
                "UnknownOperationException",
                format!(
                    "X-Amz-Target names no operation: expected {KINESIS_TARGET}OPERATION or {KMS_TARGET}OPERATION"
                ),
            )
        };
        let target = headers
            .get("x-amz-target")
            .and_then(|value| value.to_str().ok())
            .ok_or_else(unknown)?;
        let (service, operation) = if let Some(operation) = target.strip_prefix(KINESIS_TARGET) {
            (Service::Kinesis, operation)
        } else if let Some(operation) = target.strip_prefix(KMS_TARGET) {
            (Service::Kms, operation)
        } else {
            return Err(unknown());
        };
        Ok(Self { service, operation })
    }
}

/// Reads a body; an empty one is an empty object, as some clients send it.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new("SerializationException", error.to_string()))
}

pub(crate) fn unknown_operation(operation: &str) -> ApiError {
    ApiError::new(
        "UnknownOperationException",
        format!("this stand-in has no operation {operation:?}"),
    )
}

pub(crate) fn json_bytes(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value with string keys always serialises")
}

/// A string that points into the body where it holds no escapes. `Option<Cow<str>>` would always copy.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Binary members travel as padded base64.
pub(crate) fn decode_blob(
    text: &str,
    member: impl FnOnce() -> String,
) -> Result<Vec<u8>, ApiError> {
    base64_simd::STANDARD
        .decode_to_vec(text.as_bytes())
        .map_err(|_| {
            ApiError::new(
                "SerializationException",
                format!("{} is not valid base64", member()),
            )
        })
}

/// Seconds since the epoch with milliseconds, as JSON 1.1 writes a timestamp.
pub(crate) fn timestamp(millis: u64) -> serde_json::Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this era fit 53 bits"
    )]
    let seconds = millis as f64 / 1000.0;
    serde_json::json!(seconds)
}
