//! What has to hold after every run, however fast it was.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::{Counts, Work};
use crate::reader::Read;
use crate::scenario::{Cache, Case, Encryption, Source};
use crate::sink::Arrived;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Empty if all is well. `checkpoint` is the file the agent left. Where the sink is not ours, the agent's own account has to
/// hold all the same.
pub(crate) fn check(
    case: &Case,
    agent: &Work,
    sink: Option<&Arrived>,
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
        equal.check("checkpoint's offsets", offsets(checkpoint), log_bytes);
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

    // Others keep no account: what was read back tells what became of lines.
    if case.source.is_shipper() {
        return equal.0;
    }
    if !case.aggregation && !case.encryption.is_block() {
        equal.check("records stored", counts.entries_stored, case.lines);
    }
    match sink {
        Some(sink) => equal.check_sink(case, counts, sink),
        // It may throttle, and a run may be longer than a data key is used.
        None => {
            let (has_keys, encrypts) = (counts.data_keys > 0, case.encryption != Encryption::Off);
            equal.check("with data keys", has_keys.into(), encrypts.into());
        }
    }
    equal.0
}

/// What was read back: each line, once. `sum` is of what was sent, where lines may be alike.
pub(crate) fn check_read(case: &Case, read: &Read, sum: Option<u128>) -> Vec<Violation> {
    let mut equal = Equal(Vec::new());
    equal.check("lines read back", read.lines, case.lines);
    equal.check("records that cannot be read", read.unreadable, 0);
    match sum {
        None => equal.check("lines twice", read.copies, 0),
        // Lost ones are told.
        Some(sum) if read.lines == case.lines && read.sum != sum => {
            let told = "lines read back: as many as were sent, and others: some are lost, and some came twice";
            equal.0.push(Violation(told.to_owned()));
        }
        Some(_) => {}
    }
    equal.0
}

struct Equal(Vec<Violation>);

impl Equal {
    /// It can have more than was acknowledged (counted as duplicates), never less.
    fn check_sink(&mut self, case: &Case, counts: &Counts, sink: &Arrived) {
        self.check("entries at the sink", sink.entries, counts.entries_stored);
        self.check("calls at the sink", sink.put_records_calls, counts.calls);
        self.check("calls failed", counts.calls_failed, 0);
        if !case.shard_limits && case.failing.is_none_or(|percent| percent == 0) {
            // Without faults, an entry sent again is a finding too.
            self.check("entries sent again", counts.entries_retried, 0);
        }
        // Where the cache has its default, one key for each stream in a short run, and none where nothing is encrypted.
        if case.cache == Cache::Default {
            let encrypts = case.encryption != Encryption::Off;
            let keys = u64::from(encrypts) * case.streams as u64;
            self.check("data keys", counts.data_keys, keys);
        }
    }

    fn check(&mut self, what: &str, found: u64, wanted: u64) {
        if found != wanted {
            let told = format!("{what}: {found}, and it has to be {wanted}");
            self.0.push(Violation(told));
        }
    }
}

/// How far the checkpoint's files have been stored, together; 0 if it does not say.
fn offsets(checkpoint: &str) -> u64 {
    let saved: serde_json::Value = serde_json::from_str(checkpoint).unwrap_or_default();
    let files = saved["files"].as_array().into_iter().flatten();
    files.filter_map(|file| file["offset"].as_u64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Answers;
    use crate::lines::Lines;
    use crate::reader::digest;
    use crate::report::tests::outcome;
    use crate::scenario::Scenario;

    fn case(source: Source) -> Case {
        let text = "encryption = ['record']\nline_bytes = [200]\nlines = 1000";
        let case = Scenario::parse("s", text).unwrap().cases(None).remove(0);
        Case { source, ..case }
    }

    fn told(case: &Case, agent: &Work, sink: Option<&Arrived>) -> Vec<String> {
        let violations = check(case, agent, sink, 0, "");
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn where_lines_are_answered_each_has_to_be_told_that_it_is_stored_once() {
        let case = case(Source::Kpl);
        let outcome = outcome(&case, 1.0);
        let mut agent = outcome.agent;
        let all = Answers {
            stored: 1000,
            ..Answers::default()
        };
        let violated = |agent: &Work| told(&case, agent, outcome.sink.as_ref());
        assert_eq!(violated(&agent).len(), 1, "none was answered");
        agent.answers = Some(all.clone());
        assert_eq!(violated(&agent), [""; 0]);

        let mut answers = all.clone();
        answers.unasked = 1;
        agent.answers = Some(answers);
        assert_eq!(violated(&agent).len(), 1);

        let mut answers = all;
        answers.stored -= 1;
        answers.refuse(|| "too old".to_owned());
        agent.answers = Some(answers);
        let violated = violated(&agent);
        assert_eq!(violated.len(), 2);
        assert!(
            violated[1].ends_with("1, the first: too old"),
            "{violated:?}"
        );
    }

    /// A user's own may be alike, so that copies tell nothing.
    #[test]
    fn of_a_users_lines_one_lost_and_one_doubled_are_seen() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let sample = ["one", "two", "two", "three"];
        std::io::Write::write_all(&mut file, sample.join("\n").as_bytes()).unwrap();
        let path = file.path();
        let text =
            format!("encryption = ['off']\nlines = 7\nkeep = true\ntext = {{ sample = {path:?} }}");
        let case = Scenario::parse("s", &text).unwrap().cases(None).remove(0);
        let sum = Lines::of(&case).unwrap().sum(case.lines);
        let told = |lines: &[&str]| {
            let digests = lines.iter().map(|line| digest(line.as_bytes()));
            let read = Read {
                lines: lines.len() as u64,
                copies: 3,
                unreadable: 0,
                sum: digests.fold(0, u128::wrapping_add),
                kms_calls: 0,
                seconds: 1.0,
                cpu_seconds: 1.0,
            };
            check_read(&case, &read, sum)
        };
        let sent = ["two", "one", "two", "three", "one", "two", "two"];
        assert_eq!(told(&sent), []);
        assert_eq!(told(&sent[1..]).len(), 1);
        let other = ["two", "one", "two", "two", "one", "two", "two"];
        assert!(told(&other)[0].to_string().contains("some came twice"));
    }

    #[test]
    fn where_the_sink_is_not_ours_the_agents_own_account_has_to_hold() {
        let case = case(Source::Socket);
        let outcome = outcome(&case, 1.0);
        let (mut agent, sink) = (outcome.agent, outcome.sink);
        // As a real stream may have it.
        agent.counts.entries_retried = 5;
        agent.counts.data_keys = 2;
        assert_eq!(told(&case, &agent, None), [""; 0]);
        assert_eq!(told(&case, &agent, sink.as_ref()).len(), 2);

        agent.counts.data_keys = 0;
        agent.counts.stored -= 1;
        assert_eq!(told(&case, &agent, None).len(), 2);
    }
}
