//! What has to hold after every run, however fast it was.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::Work;
use crate::reader::Read;
use crate::scenario::{Cache, Case, Encryption, Source, Text};
use crate::sink::Arrived;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Empty if all is well. `checkpoint` is the file the agent left.
pub(crate) fn check(
    case: &Case,
    agent: &Work,
    sink: &Arrived,
    log_bytes: u64,
    checkpoint: &str,
) -> Vec<Violation> {
    let counts = &agent.counts;
    let mut equal = Equal(Vec::new());

    // Nothing lost, nothing left: each line was accepted once and stored once.
    equal.check("lines accepted", counts.accepted, case.lines);
    equal.check("lines stored", counts.stored, case.lines);
    equal.check("lines pending", counts.pending, 0);
    equal.check("lines dead-lettered", counts.dead_lettered, 0);
    equal.check("lines failed", counts.failed, 0);
    equal.check("lines dropped", counts.dropped, 0);
    equal.check("lines abandoned", counts.abandoned, 0);
    if case.source == Source::File {
        equal.check("checkpoint's offset", offset(checkpoint), log_bytes);
    }

    if case.source.is_answered() {
        let answers = agent.answers.clone().unwrap_or_default();
        equal.check("answers that a line is stored", answers.stored, case.lines);
        equal.check("answers that nobody asked for", answers.unasked, 0);
        if let Some(why) = answers.first_refusal {
            let refused = answers.refused;
            equal.0.push(Violation(format!(
                "answers that a line is not stored: {refused}, the first: {why}"
            )));
        }
    }

    // The sink's account: it can have more than was acknowledged (counted as duplicates), never less.
    equal.check("entries at the sink", sink.entries, counts.entries_stored);
    if !case.aggregation && !case.encryption.is_block() {
        equal.check("records at the sink", sink.entries, case.lines);
    }
    equal.check("calls at the sink", sink.put_records_calls, counts.calls);
    equal.check("calls failed", counts.calls_failed, 0);
    if case.failing.is_none_or(|percent| percent == 0) {
        // Without faults, an entry sent again is a finding too.
        equal.check("entries sent again", counts.entries_retried, 0);
    }

    // Where the cache has its default, one key for all of a short run, and none where nothing is encrypted.
    if case.cache == Cache::Default {
        let keys = u64::from(case.encryption != Encryption::Off);
        equal.check("data keys", counts.data_keys, keys);
    }
    equal.0
}

/// What was read back: each line, once.
pub(crate) fn check_read(case: &Case, read: &Read) -> Vec<Violation> {
    let mut equal = Equal(Vec::new());
    equal.check("lines read back", read.lines, case.lines);
    equal.check("records that cannot be read", read.unreadable, 0);
    // A user's own may be alike.
    if !matches!(case.text, Text::Sample(_)) {
        equal.check("lines twice", read.copies, 0);
    }
    equal.0
}

struct Equal(Vec<Violation>);

impl Equal {
    fn check(&mut self, what: &str, found: u64, wanted: u64) {
        if found != wanted {
            let told = format!("{what}: {found}, and it has to be {wanted}");
            self.0.push(Violation(told));
        }
    }
}

/// How far the checkpoint's one file has been stored; 0 if it does not say.
fn offset(checkpoint: &str) -> u64 {
    let saved: serde_json::Value = serde_json::from_str(checkpoint).unwrap_or_default();
    saved["files"][0]["offset"].as_u64().unwrap_or(0)
}
