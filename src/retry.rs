//! What an answer means, and when to try again.
//!
//! [`judge`] is pure: an answer and what went before it in, a verdict out. How long to wait is [`Backoff`]'s
//! business, and its randomness is handed in. The table is read by a test and held against the code:
//!
//! | code | status | verdict | why |
//! |---|---|---|---|
//! | `ProvisionedThroughputExceededException` | 400 | throttled | the shard's quota, or for a whole call the stream's |
//! | `ThrottlingException`, `Throttling`, `ThrottledException`, `RequestLimitExceeded` | 400 | throttled | the account's rate of calls, KMS's too |
//! | `LimitExceededException` | 400 | throttled | ListShards, 1,000 calls a second |
//! | `KMSThrottlingException` | 400 | throttled | the rate of calls for the stream's own key |
//! | any other | 429 | throttled | something in between that limits |
//! | `InternalFailure`, `InternalFailureException`, `InternalError` | 500 | fault | the service says that it is not stored |
//! | `ServiceUnavailable`, `ServiceUnavailableException` | 503 | fault | |
//! | `ConnectFailed` | 503 | fault | ours: there was no connection, so nothing was sent |
//! | `RequestTimeoutException` | 408 | fault | the request did not reach the service whole |
//! | `MalformedHttpRequestException` | 400 | fault | spoiled on its way |
//! | `ResourceInUseException`, `ExpiredNextTokenException` | 400 | fault | ListShards, of which a new one begins anew |
//! | `KMSInternalException`, `KeyUnavailableException`, `DependencyTimeoutException` | 500 | fault | KMS itself |
//! | any other | 500 | fault | codes that are not known are tried again |
//! | `Timeout`, `ConnectionLost`, `MalformedAnswer`, `RecordCountMismatch` | none | unknown | ours: it may have been stored, so it may double |
//! | `RequestAbortedException` | 400 | unknown | |
//! | any other | 502, 504 | unknown | a gateway does not know what became of the request behind it |
//! | `ResourceNotFoundException` | 400 | outage | no such stream |
//! | `AccessDeniedException`, `AccessDenied` | 400 | outage | |
//! | `ExpiredToken`, `ExpiredTokenException`, `RequestExpired`, `InvalidClientTokenId`, `InvalidToken`, `UnrecognizedClientException`, `NotAuthorized`, `OptInRequired` | 403 | outage | credentials |
//! | `IncompleteSignature`, `IncompleteSignatureException`, `InvalidSignatureException`, `SignatureDoesNotMatch`, `MissingAuthenticationToken`, `MissingAuthenticationTokenException` | 403 | outage | credentials, or the clock |
//! | `NoCredentials` | 401 | outage | ours: there are none to sign with |
//! | `UnknownOperationException` | 404 | outage | what answers is not the service |
//! | `KMSAccessDeniedException`, `KMSDisabledException`, `KMSInvalidStateException`, `KMSNotFoundException`, `KMSOptInRequired` | 400 | outage | the stream's own key; the third is KMS's answer for ours too |
//! | `DisabledException`, `NotFoundException`, `InvalidKeyUsageException`, `InvalidGrantTokenException`, `IncorrectKeyException` | 400 | outage | KMS: our key |
//! | any other | 401, 403 | outage | |
//! | `ValidationException`, `ValidationError`, `InvalidArgumentException`, `InvalidParameterValue`, `SerializationException` | 400 | isolate | some record of the batch |
//! | `InvalidCiphertextException` | 400 | isolate | KMS: this record's key is not one that it wrapped |
//! | `RequestEntityTooLargeException` | 413 | isolate | |
//! | any other | 413 | isolate | |
//!
//! An entry that was refused within an answered call has that call's status, 200. The service refuses entries
//! for throttling and faults alone, so all else is a fault there.
//!
//! The one thing that history changes: once [`LONE_REFUSALS`] records in a row were each refused alone, while nothing
//! was stored, it is hardly the records. From there on none is given up ([`Verdict::Suspect`]) until a call succeeds.
//!
//! Codes: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html#API_PutRecords_Errors>,
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_ListShards.html#API_ListShards_Errors>,
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html>,
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html#API_GenerateDataKey_Errors>
//! and <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html#API_Decrypt_Errors>.

use std::time::Duration;

use rand::{Rng, RngExt};

/// `delivery.retry`: exponential backoff with full jitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The bound of the first two delays; doubles with each further attempt.
    pub initial: Duration,
    pub max: Duration,
}

impl Default for Settings {
    /// 50 ms, as long as the KPL waits each time: one failure says little. What does not get better is doubled soon
    /// enough.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(10),
        }
    }
}

/// What to do about what was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again, after a delay.
    Retry(Class),
    /// Nothing is wrong with the records: stop sending, alarm, and probe until it heals.
    Outage,
    /// One of the batch's records can never succeed: split the batch to find it; if it is alone, give up.
    Isolate,
    /// As if one of the records were at fault, but then so would all of them be: split the batch, since a part
    /// of it may yet pass; what is alone is kept, as in an outage.
    Suspect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Throttled,
    Fault,
    /// It may have been stored.
    Unknown,
}

/// So many records refused alone in a row, with nothing stored in between, are not at fault themselves. That
/// costs one fewer dead letter at most; a guess between those and holding up a stream for two bad records.
pub const LONE_REFUSALS: u32 = 3;

/// What was refused alone since a call last succeeded, by whatever codes: a service that is unwell may have several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    records: u32,
}

impl History {
    pub fn succeeded(&mut self) {
        self.records = 0;
    }

    /// A record that was alone in its call was refused.
    pub fn refused_alone(&mut self) {
        self.records = self.records.saturating_add(1);
    }

    /// Whether one more would be one too many.
    fn exonerates(&self) -> bool {
        self.records + 1 >= LONE_REFUSALS
    }
}

/// Whether a service says with this code that it takes no call under these credentials, or what was signed with them.
pub fn refuses_credentials(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "InvalidToken"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "NotAuthorized"
            | "RequestExpired"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException"
    )
}

/// Judges a refusal: of a whole call, or with status 200 of one entry of an answered call. `status` is absent
/// where no answer came.
pub fn judge(code: &str, status: Option<u16>, history: &History) -> Verdict {
    let verdict = match of_code(code) {
        Some(verdict) => verdict,
        None => of_status(status),
    };
    match verdict {
        Verdict::Outage | Verdict::Isolate if status == Some(200) => Verdict::Retry(Class::Fault),
        Verdict::Isolate if history.exonerates() => Verdict::Suspect,
        verdict => verdict,
    }
}

fn of_code(code: &str) -> Option<Verdict> {
    Some(match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "KMSThrottlingException" => Verdict::Retry(Class::Throttled),

        // A 400, and yet no fault of the records. With a status of 500 and up they go by that.
        "MalformedHttpRequestException"
        | "RequestTimeoutException"
        | "ResourceInUseException"
        | "ExpiredNextTokenException"
        | "KMSInternalException" => Verdict::Retry(Class::Fault),

        "RequestAbortedException" => Verdict::Retry(Class::Unknown),

        code if refuses_credentials(code) => Verdict::Outage,
        "AccessDeniedException"
        | "AccessDenied"
        | "NoCredentials"
        | "OptInRequired"
        | "ResourceNotFoundException"
        | "UnknownOperationException" => Verdict::Outage,

        "DisabledException"
        | "NotFoundException"
        | "InvalidKeyUsageException"
        | "InvalidGrantTokenException"
        | "IncorrectKeyException" => Verdict::Outage,
        // The stream's own server-side encryption: its key is out of reach.
        kms if kms.starts_with("KMS") => Verdict::Outage,

        "ValidationException"
        | "ValidationError"
        | "InvalidArgumentException"
        | "InvalidParameterValue"
        | "SerializationException"
        | "InvalidCiphertextException"
        | "RequestEntityTooLargeException" => Verdict::Isolate,

        _ => return None,
    })
}

/// Codes that are not known are tried again, unless the status says otherwise.
fn of_status(status: Option<u16>) -> Verdict {
    match status {
        None | Some(502 | 504) => Verdict::Retry(Class::Unknown),
        Some(413) => Verdict::Isolate,
        Some(429) => Verdict::Retry(Class::Throttled),
        Some(401 | 403) => Verdict::Outage,
        Some(_) => Verdict::Retry(Class::Fault),
    }
}

/// Exponential backoff with full jitter: a uniform draw from zero to `initial` twice, since one failure says little,
/// then to twice, four times, eight times as much, capped.
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
        let doublings = attempts.saturating_sub(2).min(31);
        let bound = self
            .settings
            .initial
            .saturating_mul(1 << doublings)
            .min(self.settings.max);
        self.jittered(bound)
    }

    /// The delay before the next attempt where everyone's have failed for `time`: a part of that time, which makes it
    /// exponential too. Not by their number: of hosts that share a shard, one that asked more and more seldom after a
    /// few refusals in a row would leave all of it to another that was lucky.
    pub fn delay_after(&mut self, time: Duration) -> Duration {
        self.jittered((time / 4).max(self.settings.initial).min(self.settings.max))
    }

    fn jittered(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    type Row = (Vec<&'static str>, Vec<Option<u16>>, Verdict);

    /// The rows of the module's table: codes, statuses, verdict.
    fn table() -> Vec<Row> {
        let rows = include_str!("retry.rs")
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .filter_map(|line| line.strip_prefix("//! | "))
            .filter(|row| !row.starts_with("code |"));
        let rows = rows.map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let codes = match cells[0] {
                "any other" => vec!["BrandNewException", ""],
                codes => codes.split(", ").map(|c| c.trim_matches('`')).collect(),
            };
            let status = |status: &str| (status != "none").then(|| status.parse().unwrap());
            let verdict = match cells[2] {
                "throttled" => Verdict::Retry(Class::Throttled),
                "fault" => Verdict::Retry(Class::Fault),
                "unknown" => Verdict::Retry(Class::Unknown),
                "outage" => Verdict::Outage,
                "isolate" => Verdict::Isolate,
                other => panic!("no verdict: {other}"),
            };
            (codes, cells[1].split(", ").map(status).collect(), verdict)
        });
        rows.collect()
    }

    #[test]
    fn verdicts_are_those_of_the_table() {
        let table = table();
        assert!(table.len() > 25);
        for (codes, statuses, verdict) in table {
            for code in codes {
                for status in &statuses {
                    let judged = judge(code, *status, &History::default());
                    assert_eq!(judged, verdict, "{code}, {status:?}");
                }
            }
        }
    }

    #[test]
    fn unknown_codes_retry() {
        let history = History::default();
        for status in [400, 404, 409, 500, 503] {
            let verdict = judge("BrandNewException", Some(status), &history);
            assert_eq!(verdict, Verdict::Retry(Class::Fault), "{status}");
        }
    }

    #[test]
    fn an_entry_is_never_given_up_for_its_code() {
        let mut history = History::default();
        for (codes, ..) in table() {
            for code in codes {
                for _ in 0..LONE_REFUSALS {
                    history.refused_alone();
                }
                let verdict = judge(code, Some(200), &history);
                assert!(matches!(verdict, Verdict::Retry(_)), "{code}: {verdict:?}");
            }
        }
    }

    #[test]
    fn records_refused_alone_in_a_row_are_not_at_fault_until_a_call_succeeds() {
        const CODE: &str = "ValidationException";
        let mut history = History::default();
        for _ in 1..LONE_REFUSALS {
            assert_eq!(judge(CODE, Some(400), &history), Verdict::Isolate);
            history.refused_alone();
        }
        assert_eq!(judge(CODE, Some(400), &history), Verdict::Suspect);
        history.refused_alone();
        assert_eq!(judge(CODE, Some(400), &history), Verdict::Suspect);
        // Whatever the code: nothing was stored in between. And what else is judged does not change.
        let other = judge("SerializationException", Some(400), &history);
        assert_eq!(other, Verdict::Suspect);
        let outage = judge("AccessDeniedException", Some(400), &history);
        assert_eq!(outage, Verdict::Outage);
        history.succeeded();
        assert_eq!(judge(CODE, Some(400), &history), Verdict::Isolate);
    }

    #[test]
    fn delay_is_a_draw_below_a_bound_that_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Settings::default(), StdRng::seed_from_u64(1));
        for (attempts, bound_ms) in [
            (1, 50),
            (2, 50),
            (3, 100),
            (5, 400),
            (9, 6_400),
            (10, 10_000),
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
