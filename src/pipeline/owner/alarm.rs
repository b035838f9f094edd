//! Trouble as the operator hears of it, and outages: what stops the sending, and how it goes on.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Owner;
use crate::batch::Batch;
use crate::metrics::{Counters, Trouble};
use crate::recurring::Unsaid;
use crate::retry::refuses_credentials;
use crate::send::CallError;

/// The log hears of throttled entries this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Nothing is wrong with the records, and nothing can be stored.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) probes: u32,
    pub(super) next_probe: Instant,
    /// Refused alone, as all others were: they probe when nothing else is there to, in turn, and have another
    /// chance when it is over. In ordered mode they wait in their lanes instead.
    pub(super) suspects: VecDeque<Batch>,
}

/// What was throttled since it was last said.
#[derive(Debug)]
pub(super) struct Throttled {
    pub(super) entries: u64,
    pub(super) said: Instant,
}

impl Owner {
    pub(super) fn declare_outage(&mut self, error: &CallError, now: Instant) {
        let probes = self.outage.as_ref().map_or(0, |o| o.probes);
        let delay = self.backoff.delay(probes + 1);
        let outage = self.outage.get_or_insert(Outage {
            probes: 0,
            next_probe: now,
            suspects: VecDeque::new(),
        });
        let troubles = &self.counters.troubles;
        troubles.begin(Trouble::Outage);
        match refuses_credentials(&error.code) {
            true => troubles.begin(Trouble::RefusedCredentials),
            false => troubles.end(Trouble::RefusedCredentials),
        }
        let meanwhile = meanwhile(self.delivery.record_ttl);
        if let Some(Unsaid(others)) = self.outages.goes_on(now) {
            tracing::error!(
                stream = %self.stream, %error, way_out = way_out(&error.code), others_unsaid = others,
                "the stream takes no records: {meanwhile}, probing"
            );
        }
        outage.probes += 1;
        outage.next_probe = now + delay;
    }

    /// A probe found out something, but not that the outage is over.
    pub(super) fn probe_again_later(&mut self, error: &CallError, now: Instant) {
        if self.outage.is_some() {
            self.declare_outage(error, now);
        }
    }

    /// Calls fail that may succeed when tried again: said at once, and each minute while none succeeds.
    pub(super) fn notice_trouble(&mut self, error: &CallError, now: Instant) {
        self.failed_calls += 1;
        self.counters.troubles.begin(Trouble::FailingCalls);
        let meanwhile = meanwhile(self.delivery.record_ttl);
        if let Some(Unsaid(others)) = self.troubles.goes_on(now) {
            tracing::warn!(
                stream = %self.stream, %error, calls = self.failed_calls, others_unsaid = others,
                "PutRecords fails: {meanwhile}, it is tried again until it succeeds"
            );
        }
    }

    /// In sums: single throttled entries are daily bread.
    pub(super) fn notice_throttling(&mut self, entries: u64, now: Instant) {
        Counters::add(&self.counters.entries_throttled, entries);
        self.throttled.entries += entries;
        let due = now.saturating_duration_since(self.throttled.said) >= REMIND_EVERY;
        if self.throttled.entries > 0 && due {
            tracing::warn!(
                stream = %self.stream, entries = self.throttled.entries,
                "entries were throttled since this was last said, and are sent again: if that goes on, add \
                 shards, or see who else writes to the stream"
            );
            self.throttled = Throttled {
                entries: 0,
                said: now,
            };
        }
    }

    pub(super) fn heal(&mut self, now: Instant) {
        self.history.succeeded();
        self.counters.troubles.end(Trouble::FailingCalls);
        self.counters.troubles.end(Trouble::Outage);
        self.counters.troubles.end(Trouble::RefusedCredentials);
        let calls = std::mem::take(&mut self.failed_calls);
        if let Some(down_for) = self.troubles.end(now) {
            tracing::warn!(stream = %self.stream, ?down_for, calls, "PutRecords succeeds again");
        }
        if let Some(outage) = self.outage.take() {
            self.ready.extend(outage.suspects);
        }
        if let Some(down_for) = self.outages.end(now) {
            tracing::warn!(stream = %self.stream, ?down_for, "the stream takes records again");
        }
    }
}

/// What becomes of records while they cannot be sent.
pub(in crate::pipeline) fn meanwhile(record_ttl: Option<Duration>) -> &'static str {
    match record_ttl {
        None => "nothing is lost, sources wait",
        Some(_) => "records wait until their time to live is over, and fail then",
    }
}

fn way_out(code: &str) -> &'static str {
    match code {
        "ResourceNotFoundException" => "create the stream, or correct its name, account or region",
        "AccessDeniedException" | "AccessDenied" => {
            "allow kinesis:PutRecords on the stream for this identity"
        }
        kms if kms.starts_with("KMS") => {
            "the stream's server-side encryption key is out of reach: see its state and policy"
        }
        "ValidationException"
        | "ValidationError"
        | "InvalidArgumentException"
        | "InvalidParameterValue"
        | "SerializationException"
        | "RequestEntityTooLargeException"
        | "" => {
            "records in a row were each refused alone and nothing was stored in between, so it is hardly the \
             records: see what the message says of the stream, and what stands between this host and the service; \
             if it is the records after all, they wait until another one is stored, and then go to the dead letters"
        }
        "UnknownOperationException" => "what answers is not Kinesis: correct the endpoint",
        _ => "renew or correct the credentials, and check this host's clock",
    }
}
