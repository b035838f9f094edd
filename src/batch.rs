//! [`Batch`]: a PutRecords request that is within the limits by construction.

use tokio::time::Instant;

use crate::aggregate::AggregatedRecord;
use crate::delivery::FailReason;
use crate::record::PartitionKey;

/// The `[batch]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub max_records: usize,
    /// Data and partition keys of all entries; `None`: 5 MiB, or one record of the most that is taken.
    pub max_bytes: Option<usize>,
    pub max_record_bytes: RecordLimit,
}

/// Data and partition key of one entry: who says how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordLimit {
    /// The stream's `MaxRecordSizeInKiB`, as it is at the time.
    OfTheStream,
    /// The same, and one that is larger than `max_bytes` goes in a call of its own.
    OfTheStreamAlone,
    Given(usize),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_records: 500,
            max_bytes: None,
            max_record_bytes: RecordLimit::OfTheStream,
        }
    }
}

impl Settings {
    /// What a request to a stream that takes records of `of_the_stream` bytes may hold, where memory has room for
    /// records of `affordable` bytes.
    pub fn limits(&self, of_the_stream: usize, affordable: usize) -> Limits {
        let taken = of_the_stream.min(affordable).max(Limits::LEAST_OF_A_STREAM);
        let max_record_bytes = match self.max_record_bytes {
            RecordLimit::Given(bytes) => bytes,
            RecordLimit::OfTheStream => taken.min(self.max_bytes.unwrap_or(usize::MAX)),
            RecordLimit::OfTheStreamAlone => taken,
        };
        Limits {
            max_records: self.max_records,
            max_bytes: (self.max_bytes).unwrap_or(Limits::REQUEST.max(max_record_bytes)),
            max_record_bytes,
        }
    }
}

/// What a PutRecords request may hold.
///
/// The service has allowed requests of 10 MiB since October 2025, and records up to the same where the stream's
/// `MaxRecordSizeInKiB` says so: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub max_records: usize,
    /// Data and partition keys of all entries.
    pub max_bytes: usize,
    /// Data and partition key of one entry.
    pub max_record_bytes: usize,
}

impl Limits {
    /// A stream that says nothing else takes 1 MiB, and none can be made to take less.
    pub const LEAST_OF_A_STREAM: usize = 1 << 20;
    /// The classic quota of a request, and the KPL's: more at once gains nothing.
    const REQUEST: usize = 5 << 20;
    /// What the service takes since October 2025.
    pub const MOST_OF_A_REQUEST: usize = 10 << 20;

    /// Why an entry of so many bytes of data, sealed where it is to be sealed, would be refused under this key.
    pub fn check(&self, data: usize, key: &PartitionKey) -> Result<(), FailReason> {
        self.check_bytes(data.saturating_add(key.len()))
    }

    /// The same of an entry's data and key together.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Result<(), FailReason> {
        match bytes > self.max_record_bytes {
            true => Err(self.too_large(bytes)),
            false => Ok(()),
        }
    }

    pub(crate) fn too_large(&self, bytes: usize) -> FailReason {
        let limit = self.max_record_bytes;
        FailReason::TooLarge { bytes, limit }
    }
}

impl Default for Limits {
    /// Of a stream that says nothing, and of a configuration that does not either.
    fn default() -> Self {
        Settings::default().limits(Self::LEAST_OF_A_STREAM, usize::MAX)
    }
}

/// Entries of one PutRecords request.
#[derive(Debug)]
pub struct Batch {
    limits: Limits,
    entries: Vec<AggregatedRecord>,
    bytes: usize,
    deadline: Option<Instant>,
}

/// There is no room; the entry comes back.
#[derive(Debug)]
pub struct Full(pub Box<AggregatedRecord>);

/// The entry is over the limit of one record; it comes back, and no batch will ever take it.
#[derive(Debug)]
pub struct TooLarge(pub Box<AggregatedRecord>);

/// Why a batch does not take an entry.
#[derive(Debug)]
pub enum Refused {
    Full(Full),
    TooLarge(TooLarge),
}

impl Batch {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            bytes: 0,
            deadline: None,
        }
    }

    pub fn push(&mut self, entry: AggregatedRecord) -> Result<(), Refused> {
        let size = entry.size();
        if size > self.limits.max_record_bytes {
            return Err(Refused::TooLarge(TooLarge(Box::new(entry))));
        }
        let fits = self.entries.len() < self.limits.max_records
            && self.bytes + size <= self.limits.max_bytes;
        // A record that is within its own limit always passes, alone if need be.
        if !fits && !self.entries.is_empty() {
            return Err(Refused::Full(Full(Box::new(entry))));
        }
        self.bytes += size;
        self.deadline = Some(
            self.deadline
                .map_or(entry.deadline, |d| d.min(entry.deadline)),
        );
        self.entries.push(entry);
        Ok(())
    }

    /// One with the same limits and nothing in it.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self::new(self.limits.clone())
    }

    /// Two halves, in order. Of a batch of one, the second is empty.
    pub fn split(mut self) -> (Self, Self) {
        let tail = self.entries.split_off(self.entries.len().div_ceil(2));
        let sized = |entries: Vec<AggregatedRecord>| Self {
            limits: self.limits.clone(),
            bytes: entries.iter().map(AggregatedRecord::size).sum(),
            deadline: entries.iter().map(|e| e.deadline).min(),
            entries,
        };
        (sized(self.entries), sized(tail))
    }

    pub fn entries(&self) -> &[AggregatedRecord] {
        &self.entries
    }

    pub fn entries_mut(&mut self) -> &mut [AggregatedRecord] {
        &mut self.entries
    }

    pub fn into_entries(self) -> Vec<AggregatedRecord> {
        self.entries
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Data and partition keys, as the service counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the first of its entries wants to be on its way.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::reducer::tests::{MAX_SIZE, sealed};
    use crate::aggregate::reducer::{Reducer, Routes};
    use crate::record::{PartitionKey, RecordKey};
    use proptest::prelude::*;

    fn entry(len: usize, key: &str) -> AggregatedRecord {
        let now = Instant::now();
        let mut reducer = Reducer::new(MAX_SIZE, Routes::Unpredictable);
        let key = RecordKey::Keyed(PartitionKey::new(key).unwrap());
        let mut closed = Vec::new();
        reducer.push(sealed(vec![0; len], key), now, now, &mut closed);
        closed.pop().unwrap().into()
    }

    #[test]
    fn limits_are_the_streams_unless_the_configuration_gives_them() {
        const MIB: usize = 1 << 20;
        let limits = |settings: &Settings, stream, affordable| {
            let limits = settings.limits(stream, affordable);
            (limits.max_record_bytes / MIB, limits.max_bytes / MIB)
        };
        let open = Settings::default();
        assert_eq!(limits(&open, MIB, 12 * MIB), (1, 5));
        assert_eq!(limits(&open, 4 * MIB, 12 * MIB), (4, 5));
        assert_eq!(limits(&open, 10 * MIB, 12 * MIB), (10, 10));
        // Memory bounds what the stream may say, but for what every stream takes.
        assert_eq!(limits(&open, 10 * MIB, 6 * MIB), (6, 6));
        assert_eq!(limits(&open, 10 * MIB, 0), (1, 5));
        let requests = Settings {
            max_bytes: Some(7 * MIB),
            ..open.clone()
        };
        assert_eq!(limits(&requests, 10 * MIB, 12 * MIB), (7, 7));
        let alone = Settings {
            max_record_bytes: RecordLimit::OfTheStreamAlone,
            ..requests.clone()
        };
        assert_eq!(limits(&alone, 10 * MIB, 12 * MIB), (10, 7));
        let given = Settings {
            max_record_bytes: RecordLimit::Given(2 * MIB),
            ..open
        };
        assert_eq!(limits(&given, 10 * MIB, 0), (2, 5));
    }

    #[test]
    fn record_limit_counts_the_partition_key() {
        let mut batch = Batch::new(Limits::default());
        assert!(batch.push(entry((1 << 20) - 3, "key")).is_ok());
        assert!(matches!(
            batch.push(entry((1 << 20) - 2, "key")),
            Err(Refused::TooLarge(_))
        ));
    }

    #[test]
    fn an_entry_is_checked_as_a_batch_takes_it() {
        let (limits, key) = (Limits::default(), PartitionKey::new("key").unwrap());
        assert_eq!(limits.check((1 << 20) - 3, &key), Ok(()));
        let error = limits.check((1 << 20) - 2, &key).unwrap_err();
        let (bytes, limit) = ((1 << 20) + 1, 1 << 20);
        assert_eq!(error, FailReason::TooLarge { bytes, limit });
    }

    #[test]
    fn full_batch_returns_the_entry() {
        let limits = Limits {
            max_records: 1,
            ..Limits::default()
        };
        let mut batch = Batch::new(limits);
        batch.push(entry(1, "a")).unwrap();
        let Err(Refused::Full(Full(back))) = batch.push(entry(2, "b")) else {
            panic!("took an entry over its limit");
        };
        assert_eq!(back.partition_key().as_str(), "b");
        assert_eq!(batch.len(), 1);
    }

    proptest! {
        #[test]
        fn limits_hold_whatever_is_pushed(
            lens in proptest::collection::vec(0usize..3000, 1..60),
            max_records in 1usize..20,
            max_bytes in 3000usize..9000,
        ) {
            let limits = Limits { max_records, max_bytes, max_record_bytes: 2000 };
            let mut batch = Batch::new(limits);
            for len in lens {
                let refused = batch.push(entry(len, "k"));
                if len + 1 > 2000 {
                    prop_assert!(matches!(refused, Err(Refused::TooLarge(_))));
                }
                prop_assert!(batch.len() <= max_records);
                prop_assert!(batch.bytes() <= max_bytes);
                let sum: usize = batch.entries().iter().map(AggregatedRecord::size).sum();
                prop_assert_eq!(batch.bytes(), sum);
            }
            let (bytes, len) = (batch.bytes(), batch.len());
            let (head, tail) = batch.split();
            prop_assert_eq!(head.bytes() + tail.bytes(), bytes);
            prop_assert_eq!(head.len() + tail.len(), len);
        }
    }
}
