//! [`Batch`]: a PutRecords request that is within the limits by construction.

/// What a PutRecords request may hold, the `[batch]` table.
///
/// The defaults are the service's classic quotas. It has allowed records and requests of 10 MiB since
/// October 2025, where a stream's `MaxRecordSizeInKiB` says so:
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub max_records: usize,
    /// Data and partition keys of all entries.
    pub max_bytes: usize,
    /// Data and partition key of one entry.
    pub max_record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_records: 500,
            max_bytes: 5 << 20,
            max_record_bytes: 1 << 20,
        }
    }
}
