//! Trouble as the operator hears of it, and outages: what stops the sending, and how it goes on.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Owner;
use crate::batch::Batch;
use crate::metrics::Counters;
use crate::send::CallError;

/// The log hears of a lasting outage this often, and of the next one not before.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// What begins and ends is said in pairs, of one kind one a minute at most: a service that comes and goes would fill
/// the log. Those that were held back are told as a number, with the next that is said.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    said: Option<Instant>,
    unsaid: u64,
}

impl Pairs {
    /// It goes on, and was last said then, if it was: whether it is to be said now, and how many others were not.
    fn say(&mut self, said: &mut Option<Instant>, now: Instant) -> Option<Unsaid> {
        let last = said.or(self.said);
        if last.is_some_and(|last| now.saturating_duration_since(last) < REMIND_EVERY) {
            return None;
        }
        *said = Some(now);
        self.said = Some(now);
        let unsaid = std::mem::take(&mut self.unsaid);
        Some(Unsaid((unsaid > 0).then_some(unsaid)))
    }

    /// It is over: whether that is to be said, which it is where its beginning was.
    fn end(&mut self, said: Option<Instant>) -> bool {
        self.unsaid += u64::from(said.is_none());
        said.is_some()
    }
}

/// How often it began and ended unsaid, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unsaid(Option<u64>);

/// Nothing is wrong with the records, and nothing can be stored.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) since: Instant,
    pub(super) probes: u32,
    pub(super) next_probe: Instant,
    /// When it was last said, if it was.
    pub(super) said: Option<Instant>,
    /// Refused alone, as all others were: they probe when nothing else is there to, in turn, and have another
    /// chance when it is over. In ordered mode they wait in their lanes instead.
    pub(super) suspects: VecDeque<Batch>,
}

/// No call has succeeded for a while.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) calls: u64,
    pub(super) said: Option<Instant>,
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
            since: now,
            probes: 0,
            next_probe: now,
            said: None,
            suspects: VecDeque::new(),
        });
        if let Some(Unsaid(others)) = self.outages.say(&mut outage.said, now) {
            tracing::error!(
                stream = %self.stream, %error, way_out = way_out(&error.code), others_unsaid = others,
                "the stream takes no records: nothing is lost, sources wait, probing"
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
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            calls: 0,
            said: None,
        });
        trouble.calls += 1;
        if let Some(Unsaid(others)) = self.troubles.say(&mut trouble.said, now) {
            tracing::warn!(
                stream = %self.stream, %error, calls = trouble.calls, others_unsaid = others,
                "PutRecords fails: nothing is lost, sources wait, it is tried again until it succeeds"
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
        if let Some(trouble) = self.trouble.take()
            && self.troubles.end(trouble.said)
        {
            let down_for = now.saturating_duration_since(trouble.since);
            tracing::warn!(
                stream = %self.stream, ?down_for, calls = trouble.calls, "PutRecords succeeds again"
            );
        }
        if let Some(outage) = self.outage.take() {
            self.ready.extend(outage.suspects);
            if self.outages.end(outage.said) {
                let down_for = now.saturating_duration_since(outage.since);
                tracing::warn!(stream = %self.stream, ?down_for, "the stream takes records again");
            }
        }
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
            "every record is refused alike, so it is not the records: see what the message says of the \
             stream, and what stands between this host and the service"
        }
        "UnknownOperationException" => "what answers is not Kinesis: correct the endpoint",
        _ => "renew or correct the credentials, and check this host's clock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each second a call fails and the next one succeeds: two lines a second it once was.
    #[test]
    fn what_comes_and_goes_is_said_in_one_pair_a_minute_with_the_number_of_the_others() {
        let (began, mut pairs, mut lines) = (Instant::now(), Pairs::default(), Vec::new());
        for second in 0..=120 {
            let (now, mut said) = (began + Duration::from_secs(second), None);
            if let Some(unsaid) = pairs.say(&mut said, now) {
                lines.push((second, unsaid));
            }
            assert_eq!(
                pairs.end(said),
                said.is_some(),
                "its end is said where its beginning was"
            );
        }
        let others = |n| Unsaid(Some(n));
        assert_eq!(
            lines,
            [(0, Unsaid(None)), (60, others(59)), (120, others(59))]
        );
    }

    #[test]
    fn what_lasts_is_said_again_each_minute_and_what_began_unsaid_as_soon_as_it_may() {
        let (began, mut pairs) = (Instant::now(), Pairs::default());
        let at = |second| began + Duration::from_secs(second);
        let mut short = None;
        assert!(pairs.say(&mut short, at(0)).is_some());
        pairs.end(short);
        let mut long = None;
        let said: Vec<u64> = (10..200)
            .filter(|second| pairs.say(&mut long, at(*second)).is_some())
            .collect();
        assert_eq!(said, [60, 120, 180]);
        assert!(pairs.end(long));
    }
}
