//! The keys that `encrypt` and `decrypt` are given: files, or names of KMS keys.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;

use super::connection::{self, ConnectionArgs};
use crate::aws::{self, AwsError, TimeOuts};
use crate::config::words;
use crate::seal::key::{GenerateDataKey, UnwrapDataKey};
use crate::seal::kms::{KmsKeys, KmsUnwrap};
use crate::seal::message::ReadLimits;
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
        let mut files = self.checked_wrapping_keys()?.into_iter();
        let maker: Arc<dyn GenerateDataKey> = match &self.kms_key[..] {
            [] => Arc::new(files.next().expect("a key is required")),
            keys => {
                let kms = self.clients(connection).await?.kms;
                Arc::new(KmsKeys::new(kms, keys).expect("one at least"))
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

    /// Those to encrypt under, once it is sure that readers take as many keys as there are.
    pub(super) fn checked_wrapping_keys(&self) -> anyhow::Result<Vec<WrappingKey>> {
        if !self.kms_key.is_empty() {
            words::kms_keys(&self.kms_key).map_err(|e| anyhow!("--kms-key: {e}"))?;
        }
        let most = ReadLimits::default().max_encrypted_data_keys;
        let all = self.kms_key.len() + self.wrapping_key.len();
        if all > most {
            bail!("{all} keys are given; allowed: up to {most}, since readers refuse more");
        }
        let files = self.wrapping_keys()?;
        let twice = (files.iter().enumerate()).find(|(i, key)| files[..*i].contains(key));
        if let Some((i, _)) = twice {
            let file = self.wrapping_key[i].display();
            bail!("--wrapping-key {file}: the same key twice; allowed: each key once");
        }
        Ok(files)
    }

    fn wrapping_keys(&self) -> anyhow::Result<Vec<WrappingKey>> {
        let loaded = self.wrapping_key.iter().map(|path| WrappingKey::load(path));
        Ok(loaded.collect::<Result<_, _>>()?)
    }

    /// A key's ARN is enough to know a region by.
    async fn clients(&self, connection: &ConnectionArgs) -> anyhow::Result<aws::Clients> {
        let settings = connection.settings();
        let found = aws::clients(&settings, TimeOuts::default()).await;
        let of_key = self.kms_key.iter().find_map(|key| region_of(key));
        let (Err(AwsError::NoRegion), Some(_)) = (&found, &of_key) else {
            return Ok(found?);
        };
        let settings = aws::Settings {
            region: of_key,
            ..settings
        };
        Ok(aws::clients(&settings, TimeOuts::default()).await?)
    }
}

fn region_of(key: &str) -> Option<String> {
    let arn = key.strip_prefix("arn:")?;
    arn.split(':').nth(2).map(str::to_owned)
}
