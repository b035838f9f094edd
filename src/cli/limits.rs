//! What a reader refuses unread: suites, and messages under many keys.

use clap::Args;

use super::encrypt::policy_words;
use crate::seal::message::{CommitmentPolicy, ReadLimits};
use crate::seal::open::OpenSettings;

#[derive(Debug, Clone, Copy, Args)]
pub struct LimitArgs {
    /// Which suites may be read
    #[arg(long, value_name = "POLICY", default_value = CommitmentPolicy::default().name(), value_parser = policy_words())]
    pub policy: CommitmentPolicy,
    /// Refuse messages with more; each may cost a call to KMS
    #[arg(long, value_name = "NUMBER", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_encrypted_data_keys: u16,
}

impl LimitArgs {
    pub(super) fn settings(self) -> OpenSettings {
        OpenSettings {
            limits: ReadLimits {
                max_encrypted_data_keys: self.max_encrypted_data_keys.into(),
                policy: self.policy,
            },
            ..OpenSettings::default()
        }
    }
}
