//! A rule that finds nothing to strike would look like a test that passed: it is refused.

use super::{Keys, Reader};
use crate::fake::faults::{Action, Rule};
use crate::fake::protocol::Service;

/// The operations with entries; only the first answers for each.
const WITH_ENTRIES: &[&str] = &["PutRecords", "PutRecord"];

impl Reader<'_> {
    /// An operation that nobody answers is never called.
    pub(super) fn refuse_unanswered(&mut self, keys: &Keys<'_>, rule: &Rule) {
        let Some(operation) = rule.operation.as_deref() else {
            return self.refuse_without_entries(keys, rule);
        };
        let both = [Service::Kinesis, Service::Kms];
        let services = rule
            .service
            .as_ref()
            .map_or(&both[..], std::slice::from_ref);
        let answers = |service: &Service| service.operations().contains(&operation);
        if both.iter().any(answers) {
            let before = self.mistakes.len();
            self.refuse_without_entries(keys, rule);
            if self.mistakes.len() > before || services.iter().any(answers) {
                return;
            }
        }
        let known: Vec<String> = (services.iter())
            .map(|service| format!("of {service}: {}", service.operations().join(", ")))
            .collect();
        let known = known.join("; ");
        self.mistake_at(
            keys,
            "operation",
            &format!("is one {known}; found {operation:?}"),
        );
    }

    /// Whether there is one of this name shows only when calls come: shards are made and split meanwhile.
    pub(super) fn shard(&mut self, keys: &Keys<'_>) -> Option<String> {
        let shard = self.text(keys, "shard")?;
        let number = shard.strip_prefix("shardId-");
        if !number.is_some_and(|n| n.len() == 12 && n.bytes().all(|b| b.is_ascii_digit())) {
            self.mistake_at(
                keys,
                "shard",
                &format!(
                    "is \"shardId-\" and twelve digits, such as \"shardId-000000000001\", found {shard:?}"
                ),
            );
        }
        Some(shard)
    }

    pub(super) fn counted(&mut self, keys: &Keys<'_>, key: &str, what: &str) -> Option<u64> {
        let number = self.number(keys, key)?;
        if number == 0 {
            self.mistake_at(keys, key, &format!("counts from 1: {what}"));
        }
        Some(number)
    }

    pub(super) fn refuse_without_entries(&mut self, keys: &Keys<'_>, rule: &Rule) {
        let (of, instead) = match rule.action {
            Action::Throttle(_) => (WITH_ENTRIES, "ThrottlingException"),
            Action::FailEntries(_) => (WITH_ENTRIES, "InternalFailure"),
            Action::FewerAnswers(_) => (&WITH_ENTRIES[..1], "InternalFailure"),
            _ => return,
        };
        let called = rule.operation.as_deref();
        let called = called.filter(|operation| !of.contains(operation));
        let Some(other) = called.or((rule.service == Some(Service::Kms)).then_some("kms")) else {
            return;
        };
        self.mistake_at(
            keys,
            "do",
            &format!(
                "is about the entries of {}, and {other} has none: give do = \"error\" and \
                 code = \"{instead}\", which refuse a whole call",
                of.join(" and "),
            ),
        );
    }
}
