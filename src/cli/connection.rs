//! Arguments that several commands share: which AWS, which keys, which context.

use clap::Args;

use crate::aws;
use crate::config::words;
use crate::record::StreamName;
use crate::seal::EncryptionContext;

/// The `[aws]` table, as far as a command line needs it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "AWS (default: as every AWS tool finds it)")]
pub struct ConnectionArgs {
    /// The region's code, like eu-west-1
    #[arg(long, value_parser = region)]
    pub region: Option<String>,
    /// A profile of ~/.aws/config
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Where Kinesis answers, and KMS too: a stand-in, a VPC endpoint
    #[arg(long, value_name = "URL", value_parser = endpoint_url)]
    pub endpoint_url: Option<String>,
    /// Where KMS answers, if not at the same place
    #[arg(long, value_name = "URL", value_parser = endpoint_url)]
    pub kms_endpoint_url: Option<String>,
}

impl ConnectionArgs {
    pub fn settings(&self) -> aws::Settings {
        let kms = self
            .kms_endpoint_url
            .as_ref()
            .or(self.endpoint_url.as_ref());
        aws::Settings {
            region: self.region.clone(),
            profile: self.profile.clone(),
            assume_role_arn: None,
            external_id: None,
            kinesis_endpoint_url: self.endpoint_url.clone(),
            kms_endpoint_url: kms.cloned(),
            credentials: None,
        }
    }

    /// What is given here goes before what `file` says.
    pub fn over(&self, file: aws::Settings) -> aws::Settings {
        let given = self.settings();
        aws::Settings {
            region: given.region.or(file.region),
            profile: given.profile.or(file.profile),
            kinesis_endpoint_url: given.kinesis_endpoint_url.or(file.kinesis_endpoint_url),
            kms_endpoint_url: given.kms_endpoint_url.or(file.kms_endpoint_url),
            assume_role_arn: file.assume_role_arn,
            external_id: file.external_id,
            credentials: file.credentials,
        }
    }
}

pub(super) fn region(text: &str) -> Result<String, String> {
    words::region(text).map_err(allowed)
}

fn endpoint_url(text: &str) -> Result<String, String> {
    words::endpoint_url(text).map_err(allowed)
}

pub(super) fn kms_key(text: &str) -> Result<String, String> {
    words::kms_key(text).map_err(allowed)
}

pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    words::duration(text).map_err(allowed)
}

pub(super) fn stream(text: &str) -> Result<StreamName, String> {
    StreamName::new(text).map_err(|_| {
        "allowed: a name of 1 to 128 letters, digits, '_', '.' or '-', or an ARN like \
         arn:aws:kinesis:eu-west-1:111122223333:stream/NAME"
            .into()
    })
}

/// `NAME=VALUE`, as a reader asks for it.
pub(super) fn context_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = name_and_value(text)?;
    Ok((words::context_key(key).map_err(allowed)?, value.to_owned()))
}

/// `NAME=VALUE`, as it is to be written.
pub(super) fn own_context_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = name_and_value(text)?;
    let key = words::own_context_key(key).map_err(allowed)?;
    Ok((key, value.to_owned()))
}

fn name_and_value(text: &str) -> Result<(&str, &str), String> {
    (text.split_once('=')).ok_or_else(|| "allowed: NAME=VALUE, like app=shop".into())
}

pub(super) fn context(pairs: &[(String, String)]) -> anyhow::Result<EncryptionContext> {
    let mut context = EncryptionContext::new();
    for (key, value) in pairs {
        if context.insert(key.clone(), value.clone()).is_some() {
            anyhow::bail!("--context {key} is given twice; give each name once");
        }
    }
    let bytes = words::context_len(&context);
    if bytes > words::CONTEXT_MAX {
        anyhow::bail!(
            "the --context pairs are {bytes} bytes; the message format allows {} with their lengths",
            words::CONTEXT_MAX
        );
    }
    Ok(context)
}

fn allowed(what: String) -> String {
    format!("allowed: {what}")
}
