//! Why a record is not stored.

/// Why a record left the path without being stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailReason {
    #[error(
        "record of {bytes} bytes (after encryption, key included) is over the limit of {limit}; \
         split it, or raise the stream's MaxRecordSizeInKiB, and batch.max_record_bytes where that is set"
    )]
    TooLarge { bytes: usize, limit: usize },
    #[error("line of {bytes} bytes is over max_line_bytes, or what memory_limit leaves for one: {limit}; {}", kept(*cut))]
    LineTooLong {
        bytes: u64,
        limit: usize,
        /// Bytes of its end that are kept nowhere.
        cut: u64,
    },
    #[error("the service refuses this record: {code}: {message}")]
    Refused { code: String, message: String },
    #[error("not stored within delivery.record_ttl; last answer: {last}")]
    Expired { last: String },
    #[error("the encryption refuses this record: {0}")]
    Unsealable(String),
    #[error(
        "its copy in the spool could not be synced ({0}) and may not survive a power cut; it is sent all the same"
    )]
    Unsynced(String),
    #[error("the producer was stopped before the record was stored")]
    Abandoned,
    #[error(
        "there is no room for the record within the memory limit: put fewer at once, or raise it"
    )]
    Overloaded,
}

impl FailReason {
    /// A word for it, by which sums can be made: reasons themselves have lengths and request ids in them.
    pub fn code(&self) -> &str {
        match self {
            Self::TooLarge { .. } => "TooLarge",
            Self::LineTooLong { .. } => "LineTooLong",
            Self::Refused { code, .. } => code,
            Self::Expired { .. } => "Expired",
            Self::Unsealable(_) => "Unsealable",
            Self::Unsynced(_) => "Unsynced",
            Self::Abandoned => "Abandoned",
            Self::Overloaded => "Overloaded",
        }
    }
}

fn kept(cut: u64) -> String {
    match cut {
        0 => "it is kept whole".to_owned(),
        cut => format!("its last {cut} bytes are cut off"),
    }
}
