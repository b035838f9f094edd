//! What an error of KMS means for the key.
//!
//! Source: AWS KMS API reference, errors of `GenerateDataKey` and `Decrypt`, and "Common errors".

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};

use crate::retry::refuses_credentials;
use crate::seal::key::KeyError;

pub(super) const DECRYPT: &str = "kms:Decrypt";

/// By the error's code; where no answer came, or none that can be read, it is an outage.
pub(super) fn judge<E>(
    error: &SdkError<E, HttpResponse>,
    key: &str,
    permission: &'static str,
) -> KeyError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let key = key.to_owned();
    let SdkError::ServiceError(answer) = error else {
        let first: Option<&(dyn Error + 'static)> = Some(error);
        let mut causes = std::iter::successors(first, |&e| e.source());
        if causes.any(|e| e.is::<CredentialsError>()) {
            return KeyError::Credentials {
                key,
                message: with_causes(error),
            };
        }
        return KeyError::Unreachable {
            key,
            message: with_causes(error),
        };
    };
    let code = answer.err().code().unwrap_or_default();
    let status = answer.raw().status().as_u16();
    let message = match answer.err().message() {
        Some(text) if !code.is_empty() => format!("{code}: {text}"),
        None if !code.is_empty() => format!("{code}, HTTP status {status}"),
        _ => format!("HTTP status {status}: {}", with_causes(answer.err())),
    };
    match code {
        // KMS names its refusals: this is half an answer, or something else's.
        "" if status < 400 => KeyError::NotUnderstood { key, message },
        "AccessDeniedException" | "AccessDenied" => KeyError::Denied {
            key,
            permission,
            message,
        },
        "NotFoundException" | "InvalidArnException" => KeyError::NotFound { key, message },
        "DisabledException" => KeyError::Disabled { key, message },
        "KMSInvalidStateException" => KeyError::InvalidState { key, message },
        "InvalidKeyUsageException" => KeyError::Unusable { key, message },
        "IncorrectKeyException" => KeyError::WrongKey { key, message },
        "InvalidCiphertextException" => KeyError::WrongContext { key, message },
        // Of what is asked only the key's name is ours, and has been checked; the rest is the message's, and anybody's who writes to
        // the stream.
        "ValidationException" if permission == DECRYPT => KeyError::Malformed { key, message },
        "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => KeyError::Throttled { key, message },
        code if refuses_credentials(code) => KeyError::Credentials { key, message },
        "KMSInternalException"
        | "DependencyTimeoutException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => KeyError::Unreachable { key, message },
        _ if status >= 500 => KeyError::Unreachable { key, message },
        _ if status == 429 => KeyError::Throttled { key, message },
        _ => KeyError::Refused {
            key,
            code: if code.is_empty() {
                "no error code".to_owned()
            } else {
                code.to_owned()
            },
            message,
        },
    }
}

/// In one line: the SDK's own words alone are "dispatch failure".
fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}
