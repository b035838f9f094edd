//! The rules at work: which strike this call, and so what is to be done to it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Action, Entries, Faults, Rule};
use crate::fake::protocol::{ApiError, Target};

/// Holds the rules and how often each has looked and struck.
#[derive(Debug)]
pub(crate) struct Injector(Mutex<State>);

#[derive(Debug)]
struct State {
    dice: StdRng,
    rules: Vec<Live>,
}

#[derive(Debug)]
struct Live {
    rule: Rule,
    seen: u64,
    struck: u64,
}

/// What will be done to one call.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Duration,
    pub(crate) error: Option<ApiError>,
    pub(crate) before: Option<Cut>,
    pub(crate) after: Option<Cut>,
    pub(crate) answer: Option<Spoil>,
    pub(crate) missing_answers: usize,
    entries: Vec<EntryRule>,
    struck: bool,
}

/// How a call ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Stall,
    Reset,
}

/// What is done to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    Malformed,
    Truncated,
}

/// What is done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryFault {
    Throttled,
    Failed,
}

#[derive(Debug)]
struct EntryRule {
    fault: EntryFault,
    entries: Entries,
    shard: Option<String>,
    dice: StdRng,
}

impl Injector {
    pub(crate) fn new(faults: Faults) -> Self {
        Self(Mutex::new(State::new(faults)))
    }

    /// Replaces all rules, and forgets how often the old ones struck.
    pub(crate) fn replace(&self, faults: Faults) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::new(faults);
    }

    pub(crate) fn plan(&self, target: Target<'_>) -> Plan {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { dice, rules } = &mut *state;
        let mut plan = Plan::default();
        for live in rules {
            if live.strikes(target, dice) {
                plan.add(&live.rule, dice);
            }
        }
        plan
    }
}

impl State {
    fn new(faults: Faults) -> Self {
        let live = |rule| Live {
            rule,
            seen: 0,
            struck: 0,
        };
        Self {
            dice: StdRng::seed_from_u64(faults.seed),
            rules: faults.rules.into_iter().map(live).collect(),
        }
    }
}

impl Live {
    fn strikes(&mut self, target: Target<'_>, dice: &mut StdRng) -> bool {
        let rule = &self.rule;
        if rule
            .service
            .is_some_and(|service| service != target.service)
            || rule
                .operation
                .as_ref()
                .is_some_and(|name| name != target.operation)
        {
            return false;
        }
        self.seen += 1;
        let Some(looked_at) = self.seen.checked_sub(rule.after).filter(|&n| n > 0) else {
            return false;
        };
        let strikes = rule.count.is_none_or(|count| self.struck < count)
            && looked_at.is_multiple_of(rule.every.max(1))
            && chance(rule.percent, dice);
        self.struck += u64::from(strikes);
        strikes
    }
}

impl Plan {
    pub(crate) fn strikes(&self) -> bool {
        self.struck
    }

    fn add(&mut self, rule: &Rule, dice: &mut StdRng) {
        self.struck = true;
        match &rule.action {
            Action::Throttle(entries) => {
                self.add_entries(EntryFault::Throttled, *entries, rule, dice)
            }
            Action::FailEntries(entries) => {
                self.add_entries(EntryFault::Failed, *entries, rule, dice)
            }
            Action::Error(error) => {
                self.error.get_or_insert_with(|| error.clone());
            }
            Action::Malformed => _ = self.answer.get_or_insert(Spoil::Malformed),
            Action::Truncated => _ = self.answer.get_or_insert(Spoil::Truncated),
            Action::FewerAnswers(by) => self.missing_answers = self.missing_answers.max(*by),
            Action::Stall => _ = self.before.get_or_insert(Cut::Stall),
            Action::StallAfter => _ = self.after.get_or_insert(Cut::Stall),
            Action::ResetBefore => _ = self.before.get_or_insert(Cut::Reset),
            Action::ResetAfter => _ = self.after.get_or_insert(Cut::Reset),
            Action::Latency(delay) => self.delay += *delay,
        }
    }

    fn add_entries(&mut self, fault: EntryFault, entries: Entries, rule: &Rule, dice: &mut StdRng) {
        self.entries.push(EntryRule {
            fault,
            entries,
            shard: rule.shard.clone(),
            dice: StdRng::from_rng(dice),
        });
    }

    /// The fault of each entry, given the shard each belongs to. Without entry rules: nothing, at no cost.
    pub(crate) fn entry_faults<'s>(
        &mut self,
        shards: impl ExactSizeIterator<Item = &'s str> + Clone,
    ) -> Vec<Option<EntryFault>> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let mut faults = vec![None; shards.len()];
        for rule in &mut self.entries {
            let eligible: Vec<usize> = shards
                .clone()
                .enumerate()
                .filter(|(_, shard)| rule.shard.as_ref().is_none_or(|only| only == shard))
                .map(|(index, _)| index)
                .collect();
            for index in choose(rule.entries, eligible, &mut rule.dice) {
                faults[index].get_or_insert(rule.fault);
            }
        }
        faults
    }
}

fn choose(entries: Entries, mut eligible: Vec<usize>, dice: &mut StdRng) -> Vec<usize> {
    match entries {
        Entries::All => {}
        Entries::Percent(percent) => eligible.retain(|_| chance(percent, dice)),
        Entries::Count(count) => {
            while eligible.len() > count {
                let spared = dice.random_range(0..eligible.len());
                eligible.swap_remove(spared);
            }
        }
    }
    eligible
}

fn chance(percent: f64, dice: &mut StdRng) -> bool {
    percent >= 100.0 || dice.random_range(0.0..100.0) < percent
}
