//! What comes and goes, as the log hears of it.

use std::time::Duration;

use tokio::time::Instant;

/// The log hears of what lasts this often, and of the next one not before.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Trouble that is said at once, each minute while it lasts, and when it is over. Beginning and end are said in pairs,
/// one a minute at most: what comes and goes would fill the log. Those that were held back are told as a number, with
/// the next that is said.
#[derive(Debug, Default)]
pub(crate) struct Recurring {
    /// Since when it goes on, if it does, and whether that was said.
    since: Option<Instant>,
    is_said: bool,
    /// When any was.
    last: Option<Instant>,
    unsaid: u64,
}

/// How often it began and ended unsaid, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsaid(pub(crate) Option<u64>);

impl Recurring {
    /// It begins or goes on: whether that is to be said now, and how many others were not.
    pub(crate) fn goes_on(&mut self, now: Instant) -> Option<Unsaid> {
        self.since.get_or_insert(now);
        let is_early = |last| now.saturating_duration_since(last) < REMIND_EVERY;
        if self.last.is_some_and(is_early) {
            return None;
        }
        self.is_said = true;
        self.last = Some(now);
        let unsaid = std::mem::take(&mut self.unsaid);
        Some(Unsaid((unsaid > 0).then_some(unsaid)))
    }

    /// Whether it goes on.
    pub(crate) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// It is over, if it went on: for how long, where its beginning was said.
    pub(crate) fn end(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.take()?;
        if !std::mem::take(&mut self.is_said) {
            self.unsaid += 1;
            return None;
        }
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each second a call fails and the next one succeeds: two lines a second it once was.
    #[test]
    fn what_comes_and_goes_is_said_in_one_pair_a_minute_with_the_number_of_the_others() {
        let (began, mut trouble, mut lines) = (Instant::now(), Recurring::default(), Vec::new());
        for second in 0..=120 {
            let now = began + Duration::from_secs(second);
            let unsaid = trouble.goes_on(now);
            lines.extend(unsaid.map(|unsaid| (second, unsaid)));
            let over = trouble.end(now);
            assert_eq!(
                over.is_some(),
                unsaid.is_some(),
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
        let (began, mut trouble) = (Instant::now(), Recurring::default());
        let at = |second| began + Duration::from_secs(second);
        assert!(trouble.goes_on(at(0)).is_some());
        assert_eq!(trouble.end(at(5)), Some(Duration::from_secs(5)));
        assert_eq!(trouble.end(at(6)), None, "it is over once");
        let said: Vec<u64> = (10..200)
            .filter(|second| trouble.goes_on(at(*second)).is_some())
            .collect();
        assert_eq!(said, [60, 120, 180]);
        assert_eq!(trouble.end(at(200)), Some(Duration::from_secs(190)));
    }
}
