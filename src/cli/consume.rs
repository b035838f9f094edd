//! `kinseal consume`: a stream → lines.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::connection::{self, ConnectionArgs};
use crate::aws;
use crate::config::{self, Environment};
use crate::record::StreamName;
use crate::seal::{EncryptionContext, KeyChoice, Scope};

/// Read a stream back: de-aggregate, decrypt, print one line a record
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConsumeArgs {
    /// The stream to read, by name or ARN
    #[arg(long, value_name = "STREAM", value_parser = connection::stream)]
    pub stream: StreamName,
    /// Take keys, context and [aws] from the agent's configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A KMS key that may open records: id, ARN or alias (repeatable)
    #[arg(long, value_name = "KEY", value_parser = connection::kms_key)]
    pub kms_key: Vec<String>,
    /// A file with a raw AES key that may open records (repeatable)
    #[arg(long, value_name = "FILE")]
    pub wrapping_key: Vec<PathBuf>,
    /// Refuse records that are not bound to this pair (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::context_pair)]
    pub context: Vec<(String, String)>,
    /// Where to start
    #[arg(long, value_name = "WHERE", default_value = "trim-horizon")]
    pub from: StartWord,
    /// End when all there is has been read
    #[arg(long)]
    pub until_empty: bool,
    /// Print what lies in the stream, as it lies there
    #[arg(long, conflicts_with_all = ["config", "kms_key", "wrapping_key", "context"])]
    pub raw: bool,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    pub connection: ConnectionArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartWord {
    /// The oldest record that is still there
    TrimHorizon,
    /// What is stored from now on
    Latest,
}

const EXAMPLES: &str = "\
Examples:
  kinseal consume --stream shop-logs --kms-key alias/shop --until-empty
  kinseal consume --stream shop-logs --config /etc/kinseal/agent.toml --from latest
  kinseal consume --stream shop-logs --raw --until-empty        that it is ciphertext";

/// What the arguments and the configuration they name come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub aws: aws::Settings,
    /// Keys that may open records. None: records that are encrypted cannot be read.
    pub keys: Vec<KeyChoice>,
    /// What each record's context must contain.
    pub context: EncryptionContext,
}

pub async fn run(args: ConsumeArgs) -> anyhow::Result<ExitCode> {
    let _request = args.request(&config::System)?;
    anyhow::bail!("this build has no consumer yet")
}

impl ConsumeArgs {
    /// Keys and pairs add to what the configuration has; where both say which AWS, the arguments decide.
    pub fn request(&self, env: &dyn Environment) -> anyhow::Result<Request> {
        let mut request = Request {
            aws: self.connection.settings(),
            keys: Vec::new(),
            context: connection::context(&self.context)?,
        };
        if let Some(path) = &self.config {
            let settings = config::load(path, env)?;
            let Some(stream) = settings.stream(&self.stream) else {
                let known: Vec<String> = settings
                    .streams
                    .iter()
                    .map(|s| s.name.to_string())
                    .collect();
                anyhow::bail!(
                    "no [[source]] in {} sends to {}; give one of: {}",
                    path.display(),
                    self.stream,
                    known.join(", ")
                );
            };
            if let Scope::Record(key) = &stream.encryption.scope {
                request.keys.push(key.clone());
            }
            for (key, value) in &stream.encryption.context {
                request
                    .context
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            request.aws = self.connection.over(settings.aws);
        }
        request
            .keys
            .extend(self.kms_key.iter().cloned().map(KeyChoice::Kms));
        for file in &self.wrapping_key {
            request
                .keys
                .push(KeyChoice::WrappingKeyFile(std::path::absolute(file)?));
        }
        Ok(request)
    }
}
