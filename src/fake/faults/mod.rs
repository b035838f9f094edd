//! What should go wrong, and when: a seeded list of rules.
//!
//! A rule says which calls it looks at (`service`, `operation`), which of these it strikes (`after`, `every`,
//! `percent`, `count`) and what it does. All rules that strike a call apply together; of two that contradict
//! each other (two errors, two kinds of cut) the first in the list wins.
//!
//! # The faults file
//! ```toml
//! seed = 7                        # the same seed and the same calls give the same faults; default 0
//!
//! [[rule]]                        # a tenth of all entries is throttled
//! operation = "PutRecords"
//! do = "throttle"
//! entries = "10%"                 # 3 | "10%" | "all" (default): of the call's entries
//!
//! [[rule]]                        # every 5th call breaks one shard
//! operation = "PutRecords"
//! every = 5
//! do = "internal_failure"
//! shard = "shardId-000000000001"  # only entries that belong there
//!
//! [[rule]]                        # KMS has a bad hour
//! service = "kms"                 # kinesis | kms; default: both
//! operation = "GenerateDataKey"   # default: all
//! after = 10                      # let the first 10 pass
//! count = 3                       # strike at most 3 times
//! do = "error"
//! code = "ThrottlingException"
//! status = 400
//! message = "Rate exceeded"
//!
//! [[rule]]                        # 1 % of answers are lost, but the records are stored
//! percent = 1
//! do = "reset_after"
//! ```
//!
//! | `do` | what happens | keys of its own |
//! |---|---|---|
//! | `throttle` | entries of PutRecords (or the PutRecord call) are refused with `ProvisionedThroughputExceededException` | `entries`, `shard` |
//! | `internal_failure` | the same with `InternalFailure` | `entries`, `shard` |
//! | `error` | the whole call is refused | `code` (required), `status` (default 400), `message` |
//! | `expired_token` | 400 `ExpiredTokenException` | |
//! | `access_denied` | 400 `AccessDeniedException` | |
//! | `malformed` | done, but the answer is not JSON | |
//! | `truncated` | done, but the answer ends half-way and the connection closes | |
//! | `fewer_answers` | done, but the last answers of PutRecords are missing | `by` (default 1) |
//! | `stall` | read, never done, never answered | |
//! | `stall_after` | done, never answered | |
//! | `reset_before` | not done, TCP reset | |
//! | `reset_after` | done, TCP reset | |
//! | `latency` | done, answered late | `delay`, such as `"50ms"` or `"2s"` |
//!
//! Of a subscription (SubscribeToShard) `malformed` and `truncated` spoil the second event.
//!
//! Refused: a rule that could strike nothing. That is one about entries (`throttle`, `internal_failure`,
//! `fewer_answers`) for KMS or an operation that has none, where `error` refuses the whole call; an operation that
//! the service does not have; a shard that is not named as shards are; and a share, a number or a delay of zero.

mod file;
mod injector;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use file::FaultsFileError;
pub(crate) use injector::{Cut, EntryFault, Injector, Plan, Spoil};

use super::protocol::{ApiError, Service};

/// Rules, and the seed of their dice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    pub seed: u64,
    pub rules: Vec<Rule>,
}

impl Faults {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            rules: Vec::new(),
        }
    }

    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Reads a faults file; its format stands in the [module's documentation](self).
    pub fn from_toml(text: &str) -> Result<Self, FaultsFileError> {
        file::read(text)
    }
}

/// One thing that goes wrong.
///
/// ```
/// use kinseal::fake::{Action, Entries, Rule};
/// let rule = Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords").every(2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub service: Option<Service>,
    pub operation: Option<String>,
    /// Only entries of this shard; of use with [`Action::Throttle`] and [`Action::FailEntries`].
    pub shard: Option<String>,
    /// Calls that pass before the rule looks at any.
    pub after: u64,
    /// Strikes each n-th call of those it looks at.
    pub every: u64,
    /// Strikes this share of them.
    pub percent: f64,
    /// Strikes that often, then never again.
    pub count: Option<u64>,
    pub action: Action,
}

impl Rule {
    /// Strikes every call, until told otherwise.
    pub fn new(action: Action) -> Self {
        Self {
            service: None,
            operation: None,
            shard: None,
            after: 0,
            every: 1,
            percent: 100.0,
            count: None,
            action,
        }
    }

    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.service = Some(service);
        self
    }

    #[must_use]
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    #[must_use]
    pub fn shard(mut self, shard: impl Into<String>) -> Self {
        self.shard = Some(shard.into());
        self
    }

    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    #[must_use]
    pub fn every(mut self, nth: u64) -> Self {
        self.every = nth.max(1);
        self
    }

    #[must_use]
    pub fn percent(mut self, percent: f64) -> Self {
        self.percent = percent;
        self
    }

    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

/// What a rule does to a call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Entries refused with `ProvisionedThroughputExceededException`.
    Throttle(Entries),
    /// Entries refused with `InternalFailure`.
    FailEntries(Entries),
    /// The whole call refused.
    Error(ApiError),
    /// Done; the answer is no JSON.
    Malformed,
    /// Done; the answer ends half-way, and so does the connection.
    Truncated,
    /// Done; the last n answers of PutRecords are missing.
    FewerAnswers(usize),
    /// Read, never done, never answered.
    Stall,
    /// Done, never answered.
    StallAfter,
    /// Not done; TCP reset.
    ResetBefore,
    /// Done; TCP reset.
    ResetAfter,
    /// Done; answered late.
    Latency(Duration),
}

impl Action {
    pub fn expired_token() -> Self {
        Self::Error(ApiError::new(
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ))
    }

    pub fn access_denied() -> Self {
        Self::Error(ApiError::new(
            "AccessDeniedException",
            "User: arn:aws:iam::000000000000:user/test is not authorized to perform this action",
        ))
    }
}

/// Which of a call's entries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Entries {
    All,
    /// That many, chosen by the dice.
    Count(usize),
    /// Each with this chance.
    Percent(f64),
}
