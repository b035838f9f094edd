//! What an answer means, and when to try again.
//!
//! [`judge_entry`] and [`judge_call`] are pure: an answer in, a verdict out. How long to wait is
//! [`Backoff`]'s business, and its randomness is handed in.
//!
//! | answer | verdict |
//! |---|---|
//! | `ProvisionedThroughputExceededException`, `ThrottlingException`, `LimitExceededException`, 429 | retry: throttled |
//! | `InternalFailure`, `ServiceUnavailable`, any 5xx, any code not named here | retry: fault |
//! | timeout, reset, malformed or short answer | retry: the outcome is unknown, so the records may double |
//! | credentials (`ExpiredToken…`, `UnrecognizedClient…`, `InvalidSignature…`, …), `AccessDenied…`, `ResourceNotFound…`, `KMS…` | outage: wait, alarm, probe |
//! | `ValidationException`, `InvalidArgumentException`, `SerializationException`, 413 | isolate: some record of the batch is refused; alone, it is given up |
//!
//! Codes: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html#API_PutRecords_Errors>
//! and <https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html>.

use std::time::Duration;

use rand::{Rng, RngExt};

/// `delivery.retry`: exponential backoff with full jitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The bound of the first delay; doubles with each attempt.
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
        }
    }
}

/// What to do about an entry that was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send the entry again, after a delay.
    Retry(Class),
    /// Nothing is wrong with the records: stop sending, alarm, and probe until it heals.
    Outage,
    /// One of the batch's records can never succeed: split the batch to find it; if it is alone, give up.
    Isolate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Throttled,
    Fault,
    /// It may have been stored.
    Unknown,
}

/// Judges one refused entry of an answered call.
pub fn judge_entry(code: &str) -> Verdict {
    match judge_call(code, Some(200)) {
        // The service judges entries one by one only for throttling and faults.
        Verdict::Retry(class) => Verdict::Retry(class),
        Verdict::Outage | Verdict::Isolate => Verdict::Retry(Class::Fault),
    }
}

/// Judges a call that was refused as a whole. `status` is absent where no answer came.
pub fn judge_call(code: &str, status: Option<u16>) -> Verdict {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => Verdict::Retry(Class::Throttled),

        "AccessDeniedException"
        | "AccessDenied"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NoCredentials"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired"
        | "ResourceNotFoundException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Verdict::Outage,
        // The stream's own server-side encryption: its key is out of reach.
        kms if kms.starts_with("KMS") => Verdict::Outage,

        "ValidationException"
        | "ValidationError"
        | "InvalidArgumentException"
        | "InvalidParameterValue"
        | "SerializationException" => Verdict::Isolate,

        _ => match status {
            None => Verdict::Retry(Class::Unknown),
            Some(413) => Verdict::Isolate,
            Some(429) => Verdict::Retry(Class::Throttled),
            Some(401 | 403) => Verdict::Outage,
            Some(_) => Verdict::Retry(Class::Fault),
        },
    }
}

/// Exponential backoff with full jitter: a uniform draw from zero to `initial × 2^(attempt-1)`, capped.
/// Full, because it spreads a fleet best:
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Debug)]
pub struct Backoff<R> {
    settings: Settings,
    rng: R,
}

impl<R: Rng> Backoff<R> {
    pub fn new(settings: Settings, rng: R) -> Self {
        Self { settings, rng }
    }

    /// The delay before the attempt that follows `attempts` failed ones.
    pub fn delay(&mut self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let bound = self
            .settings
            .initial
            .saturating_mul(1 << doublings)
            .min(self.settings.max);
        bound.mul_f64(self.rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn unknown_codes_retry() {
        assert_eq!(
            judge_call("BrandNewException", Some(400)),
            Verdict::Retry(Class::Fault)
        );
        assert_eq!(judge_call("", Some(503)), Verdict::Retry(Class::Fault));
        assert_eq!(judge_call("", None), Verdict::Retry(Class::Unknown));
        assert_eq!(judge_entry("BrandNewFailure"), Verdict::Retry(Class::Fault));
    }

    #[test]
    fn credentials_access_and_a_missing_stream_are_outages_not_poison() {
        for code in [
            "ExpiredTokenException",
            "AccessDeniedException",
            "ResourceNotFoundException",
            "KMSDisabledException",
            "KMSThrottlingException",
            "UnrecognizedClientException",
        ] {
            assert_eq!(judge_call(code, Some(400)), Verdict::Outage, "{code}");
        }
    }

    #[test]
    fn an_entry_is_never_given_up_for_its_code() {
        for code in [
            "ValidationException",
            "AccessDeniedException",
            "InternalFailure",
        ] {
            assert_eq!(judge_entry(code), Verdict::Retry(Class::Fault), "{code}");
        }
        assert_eq!(
            judge_entry("ProvisionedThroughputExceededException"),
            Verdict::Retry(Class::Throttled)
        );
    }

    #[test]
    fn delay_is_a_draw_below_a_bound_that_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Settings::default(), StdRng::seed_from_u64(1));
        for (attempts, bound_ms) in [
            (1, 100),
            (2, 200),
            (4, 800),
            (7, 6_400),
            (8, 10_000),
            (90, 10_000),
        ] {
            let bound = Duration::from_millis(bound_ms);
            let draws: Vec<_> = (0..2000).map(|_| backoff.delay(attempts)).collect();
            assert!(draws.iter().all(|d| *d <= bound));
            assert!(
                draws.iter().any(|d| *d > bound.mul_f64(0.95)),
                "reaches up to {bound:?}"
            );
            assert!(
                draws.iter().any(|d| *d < bound.mul_f64(0.05)),
                "reaches down to zero"
            );
        }
    }
}
