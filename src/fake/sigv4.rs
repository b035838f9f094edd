//! Strict mode's doorman: AWS Signature Version 4 over headers and body, checked against one secret.
//!
//! Written from the signing documentation, not with the SDK's signer: a mistake shared with the client would
//! stay hidden.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::fmt::Write;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::protocol::{ApiError, Service};
use crate::hex::to_hex;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// A signature is good for 5 minutes either way.
const MOST_SKEW: Duration = Duration::from_secs(300);

/// Whose signatures are taken.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) region: String,
}

/// The Region a call is signed for, if it is signed at all, and whether or not validly.
pub(crate) fn region(parts: &Parts) -> Option<String> {
    let header = header(parts, "authorization")?;
    let authorization = Authorization::parse(&header).ok()?;
    Some(authorization.region.to_owned())
}

/// The parts of `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
struct Authorization<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl Verifier {
    pub(crate) fn check(
        &self,
        parts: &Parts,
        body: &[u8],
        service: Service,
        now: Duration,
    ) -> Result<(), ApiError> {
        let header = header(parts, "authorization").ok_or_else(|| {
            ApiError::new(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            )
        })?;
        let authorization = Authorization::parse(&header)?;
        self.check_scope(&authorization, service)?;
        let timestamp = header_for(parts, "x-amz-date", &authorization)?;
        check_age(&timestamp, now)?;
        if !timestamp.starts_with(authorization.date) {
            return Err(invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{}' != '{}'.",
                authorization.date,
                timestamp.get(..8).unwrap_or(&timestamp)
            )));
        }
        let request = canonical_request(parts, body, &authorization)?;
        let scope = authorization.scope();
        let to_sign = format!(
            "{ALGORITHM}\n{timestamp}\n{scope}\n{}",
            to_hex(&Sha256::digest(request))
        );
        let expected = to_hex(&hmac(&self.signing_key(&authorization), to_sign.as_bytes()));
        if bool::from(
            expected
                .as_bytes()
                .ct_eq(authorization.signature.as_bytes()),
        ) {
            return Ok(());
        }
        Err(invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ))
    }

    fn check_scope(
        &self,
        authorization: &Authorization<'_>,
        service: Service,
    ) -> Result<(), ApiError> {
        if authorization.access_key != self.access_key {
            return Err(ApiError::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ));
        }
        // KMS is here for every Region.
        if service == Service::Kinesis && authorization.region != self.region {
            return Err(invalid(format!(
                "Credential should be scoped to a valid region, not '{}'.",
                authorization.region
            )));
        }
        if authorization.service != service.as_str() {
            return Err(invalid(format!(
                "Credential should be scoped to correct service: '{service}'."
            )));
        }
        Ok(())
    }

    fn signing_key(&self, authorization: &Authorization<'_>) -> [u8; 32] {
        let key = hmac(
            format!("AWS4{}", self.secret_key).as_bytes(),
            authorization.date.as_bytes(),
        );
        let key = hmac(&key, authorization.region.as_bytes());
        let key = hmac(&key, authorization.service.as_bytes());
        hmac(&key, b"aws4_request")
    }
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Result<Self, ApiError> {
        let incomplete = |what: &str| {
            ApiError::new(
                "IncompleteSignatureException",
                format!("Authorization header requires {what}. Authorization={header}"),
            )
        };
        let rest = header
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| incomplete("the algorithm AWS4-HMAC-SHA256"))?;
        let field = |name: &str| {
            let fields = rest
                .split(',')
                .filter_map(|field| field.trim().split_once('='));
            fields
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .next()
                .ok_or_else(|| incomplete(&format!("'{name}' parameter")))
        };
        let credential: Vec<&str> = field("Credential")?.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = credential[..] else {
            return Err(incomplete(
                "a Credential of the form KEY/DATE/REGION/SERVICE/aws4_request",
            ));
        };
        Ok(Self {
            access_key,
            date,
            region,
            service,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
        })
    }

    fn scope(&self) -> String {
        format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        )
    }

    fn signs(&self, name: &str) -> bool {
        self.signed_headers.split(';').any(|signed| signed == name)
    }
}

fn canonical_request(
    parts: &Parts,
    body: &[u8],
    authorization: &Authorization<'_>,
) -> Result<String, ApiError> {
    if !authorization.signs("host") {
        return Err(invalid(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ));
    }
    let body_hash = to_hex(&Sha256::digest(body));
    if header(parts, "x-amz-content-sha256").is_some_and(|claimed| claimed != body_hash) {
        return Err(invalid(
            "The value of x-amz-content-sha256 does not match the body.",
        ));
    }
    let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let mut request = format!(
        "{}\n{}\n{}\n",
        parts.method,
        parts.uri.path(),
        query.join("&")
    );
    for name in authorization.signed_headers.split(';') {
        let value = header_for(parts, name, authorization)?;
        let _ = writeln!(request, "{name}:{value}");
    }
    let _ = write!(request, "\n{}\n{body_hash}", authorization.signed_headers);
    Ok(request)
}

fn header_for(
    parts: &Parts,
    name: &str,
    authorization: &Authorization<'_>,
) -> Result<String, ApiError> {
    let value = header(parts, name).filter(|_| authorization.signs(name));
    value.ok_or_else(|| {
        invalid(format!(
            "'{name}' must be sent and be a 'SignedHeader' in the AWS Authorization."
        ))
    })
}

/// All values of a header, joined; runs of spaces are one space, as signing wants it.
fn header(parts: &Parts, name: &str) -> Option<String> {
    let mut values = parts.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        // HTTP/2 has the host in its :authority.
        let authority = parts.uri.authority().filter(|_| name == "host")?;
        return Some(authority.to_string());
    }
    let texts: Vec<String> = values
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    Some(texts.join(","))
}

fn check_age(timestamp: &str, now: Duration) -> Result<(), ApiError> {
    let signed = parse_timestamp(timestamp).ok_or_else(|| {
        ApiError::new(
            "IncompleteSignatureException",
            format!("Date must be in ISO-8601 'basic format'. Got '{timestamp}'."),
        )
    })?;
    if now.saturating_sub(signed) > MOST_SKEW {
        return Err(invalid(format!(
            "Signature expired: {timestamp} is more than 5 min. ago."
        )));
    }
    if signed.saturating_sub(now) > MOST_SKEW {
        return Err(invalid(format!(
            "Signature not yet current: {timestamp} is more than 5 min. ahead."
        )));
    }
    Ok(())
}

/// `20261123T161832Z`, since the epoch.
fn parse_timestamp(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the epoch with the year starting in March, so that the leap day is its last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(Duration::from_secs(
        days * 86_400 + hour * 3_600 + minute * 60 + second,
    ))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidSignatureException", message)
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the signing documentation: secret `wJalr…`, 20150830, us-east-1, iam.
    #[test]
    fn signing_key_is_the_documented_one() {
        let verifier = Verifier {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let header = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=00";
        let authorization = Authorization::parse(header).unwrap();
        assert_eq!(
            to_hex(&verifier.signing_key(&authorization)),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn timestamps_are_read_to_the_second() {
        for (text, seconds) in [
            ("19700101T000000Z", 0),
            ("20000229T235959Z", 951_868_799),
            ("20150830T123600Z", 1_440_938_160),
            ("20261123T161832Z", 1_795_450_712),
        ] {
            assert_eq!(
                parse_timestamp(text),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for bad in [
            "",
            "20150830",
            "2015-08-30T12:36Z",
            "20151330T123600Z",
            "2015083éT12360Z",
        ] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }
}
