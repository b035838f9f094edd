//! Every record that was written against every record that came back.

use crate::consume::{Unreadable, UserRecord};

use super::ticker::Tickers;

/// What came back so far, by order id.
#[derive(Debug)]
pub(super) struct Account {
    tickers: Tickers,
    came_back: Vec<CameBack>,
    doubled: u64,
    invented: u64,
    unreadable: u64,
    complaints: Complaints,
    line: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CameBack {
    NotYet,
    Equal,
    Different,
}

/// How many of each, and which were not as they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) written: u64,
    pub(super) equal: u64,
    pub(super) different: u64,
    pub(super) missing: u64,
    /// Came back again.
    pub(super) doubled: u64,
    /// Came back without having been written.
    pub(super) invented: u64,
    pub(super) unreadable: u64,
    /// What was wrong, the first few.
    pub(super) complaints: Vec<String>,
}

impl Account {
    pub(super) fn new(tickers: Tickers, records: u64) -> Self {
        let records = usize::try_from(records).expect("as many as fit in memory");
        Self {
            tickers,
            came_back: vec![CameBack::NotYet; records],
            doubled: 0,
            invented: 0,
            unreadable: 0,
            complaints: Complaints::default(),
            line: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, record: &Result<UserRecord, Unreadable>) {
        match record {
            Ok(record) => self.compare(&record.data),
            Err(unreadable) => {
                self.unreadable += 1;
                let (place, reason) = (&unreadable.place, &unreadable.reason);
                self.complaints.add(|| {
                    format!(
                        "{} {} #{} could not be read: {reason}",
                        place.shard, place.sequence, place.sub_sequence
                    )
                });
            }
        }
    }

    fn compare(&mut self, record: &[u8]) {
        let number = self.tickers.number_of(record);
        let place = number.and_then(|n| self.came_back.get_mut(usize::try_from(n).ok()?));
        let (Some(number), Some(place)) = (number, place) else {
            self.invented += 1;
            self.complaints
                .add(|| format!("never written: {}", String::from_utf8_lossy(record)));
            return;
        };
        if *place != CameBack::NotYet {
            self.doubled += 1;
            let id = self.tickers.order_id(number);
            self.complaints
                .add(|| format!("order {id} came back again"));
            return;
        }
        self.tickers.record(number, &mut self.line);
        if record == self.line {
            *place = CameBack::Equal;
            return;
        }
        *place = CameBack::Different;
        let id = self.tickers.order_id(number);
        self.complaints.add(|| {
            format!(
                "order {id} came back different: {}",
                String::from_utf8_lossy(record)
            )
        });
    }

    /// The balance, for the first `written` records.
    pub(super) fn close(mut self, written: u64) -> Totals {
        let count = |what| self.came_back.iter().filter(|c| **c == what).count() as u64;
        let (equal, different) = (count(CameBack::Equal), count(CameBack::Different));
        for (number, came_back) in (0..written).zip(&self.came_back) {
            if *came_back == CameBack::NotYet {
                let id = self.tickers.order_id(number);
                self.complaints
                    .add(|| format!("order {id} did not come back"));
            }
        }
        Totals {
            written,
            equal,
            different,
            missing: written.saturating_sub(equal + different),
            doubled: self.doubled,
            invented: self.invented,
            unreadable: self.unreadable,
            complaints: self.complaints.0,
        }
    }
}

impl Totals {
    /// What came back, however it looked.
    pub(super) fn read_back(&self) -> u64 {
        self.equal + self.different + self.doubled + self.invented + self.unreadable
    }

    /// Whether each record came back once and equal, and nothing else did. A call of unknown outcome is
    /// made again, as promised, so after one a record may come back twice.
    pub(super) fn all_equal(&self, calls_unknown: u64) -> bool {
        self.equal == self.written
            && self.read_back() == self.equal + self.doubled
            && (self.doubled == 0 || calls_unknown > 0)
    }
}

/// A few examples tell what went wrong; a million do not tell more.
#[derive(Debug, Default)]
struct Complaints(Vec<String>);

impl Complaints {
    const MOST: usize = 10;

    fn add(&mut self, complaint: impl FnOnce() -> String) {
        if self.0.len() < Self::MOST {
            self.0.push(complaint());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn tickers() -> Tickers {
        Tickers::new(1, SystemTime::UNIX_EPOCH, 10)
    }

    fn record(number: u64) -> Vec<u8> {
        let mut record = Vec::new();
        tickers().record(number, &mut record);
        record
    }

    fn account(came_back: &[Vec<u8>]) -> Totals {
        let mut account = Account::new(tickers(), 3);
        came_back.iter().for_each(|r| account.compare(r));
        account.close(3)
    }

    #[test]
    fn all_equal_means_each_once_in_any_order() {
        let totals = account(&[record(2), record(0), record(1)]);
        assert!(totals.all_equal(0));
        assert_eq!((totals.equal, totals.read_back()), (3, 3));
        assert!(totals.complaints.is_empty());
    }

    #[test]
    fn a_missing_record_is_named() {
        let totals = account(&[record(2), record(0)]);
        assert!(!totals.all_equal(0));
        assert_eq!(totals.missing, 1);
        assert_eq!(
            totals.complaints,
            ["order 00000001-00000001 did not come back"]
        );
    }

    #[test]
    fn a_tampered_record_is_different_and_not_missing() {
        let mut tampered = record(1);
        tampered[12] ^= 1;
        let totals = account(&[record(0), tampered, record(2)]);
        assert!(!totals.all_equal(0));
        assert_eq!(
            (totals.different, totals.missing, totals.invented),
            (1, 0, 0)
        );
        assert!(totals.complaints[0].starts_with("order 00000001-00000001 came back different: {"));
    }

    #[test]
    fn a_record_may_come_back_twice_only_after_a_call_of_unknown_outcome() {
        let totals = account(&[record(0), record(1), record(2), record(1)]);
        assert_eq!(totals.doubled, 1);
        assert!(!totals.all_equal(0));
        assert!(totals.all_equal(1));
    }

    #[test]
    fn what_nobody_wrote_is_told() {
        let totals = account(&[record(0), record(1), record(2), record(3), b"x".to_vec()]);
        assert_eq!(totals.invented, 2);
        assert!(!totals.all_equal(0));
        assert_eq!(totals.complaints[1], "never written: x");
    }
}
