//! The keys that `encrypt` and `decrypt` are given: files, or names of KMS keys.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::connection::{self, ConnectionArgs};
use crate::aws::{self, TimeOuts};
use crate::seal::key::{GenerateDataKey, UnwrapDataKey};
use crate::seal::kms::{KmsKey, KmsUnwrap};
use crate::seal::rawkey::{WrappedBeside, WrappingKey};

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct KeyArgs {
    /// A KMS key by ARN, id or alias (repeatable)
    #[arg(long, value_name = "KEY", value_parser = connection::kms_key)]
    pub kms_key: Vec<String>,
    /// A file with a raw AES key, as kinseal key new makes it (repeatable)
    #[arg(long, value_name = "FILE")]
    pub wrapping_key: Vec<PathBuf>,
}

impl KeyArgs {
    /// What makes data keys that each of the keys opens.
    pub(super) async fn maker(
        &self,
        connection: &ConnectionArgs,
    ) -> anyhow::Result<Arc<dyn GenerateDataKey>> {
        let mut files = self.wrapping_keys()?.into_iter();
        let maker: Arc<dyn GenerateDataKey> = match &self.kms_key[..] {
            [] => Arc::new(files.next().expect("a key is required")),
            [key] => Arc::new(KmsKey::new(self.clients(connection).await?.kms, key)),
            [_, ..] => {
                anyhow::bail!(
                    "several --kms-key are for decrypting; encrypt under one, and --wrapping-key beside it"
                )
            }
        };
        let others: Vec<_> = files.collect();
        if others.is_empty() {
            return Ok(maker);
        }
        Ok(Arc::new(WrappedBeside::new(maker, others)))
    }

    /// Files before KMS: they cost no call.
    pub(super) async fn openers(
        &self,
        connection: &ConnectionArgs,
    ) -> anyhow::Result<Vec<Arc<dyn UnwrapDataKey>>> {
        let mut openers: Vec<Arc<dyn UnwrapDataKey>> = Vec::new();
        for key in self.wrapping_keys()? {
            openers.push(Arc::new(key));
        }
        if !self.kms_key.is_empty() {
            let client = self.clients(connection).await?.kms;
            openers.push(Arc::new(KmsUnwrap::new(client, &self.kms_key)));
        }
        Ok(openers)
    }

    pub(super) fn wrapping_keys(&self) -> anyhow::Result<Vec<WrappingKey>> {
        let loaded = self.wrapping_key.iter().map(|path| WrappingKey::load(path));
        Ok(loaded.collect::<Result<_, _>>()?)
    }

    /// In the region that was asked for, or that a key's ARN names; else as every AWS tool finds it.
    async fn clients(&self, connection: &ConnectionArgs) -> anyhow::Result<aws::Clients> {
        let mut settings = connection.settings();
        let of_key = self.kms_key.iter().find_map(|key| region_of(key));
        settings.region = settings.region.or(of_key);
        Ok(aws::clients(&settings, TimeOuts::default()).await?)
    }
}

fn region_of(key: &str) -> Option<String> {
    let arn = key.strip_prefix("arn:")?;
    arn.split(':').nth(2).map(str::to_owned)
}
