//! What the arguments of `kinseal consume` ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use super::from::From;
use super::print::Stopping;
use super::{ConsumeArgs, EncodingWord, OutputWord};
use crate::aws::{self, Clients};
use crate::cli::Misuse;
use crate::cli::connection;
use crate::cli::hardening::CoreDumpArgs;
use crate::config::{self, Environment};
use crate::consume::checkpoint::Checkpoint;
use crate::consume::output::{Encoding, Form};
use crate::consume::{self, ConsumeError, Plaintext, Progress, Unpacker};
use crate::seal::key::UnwrapDataKey;
use crate::seal::kms::KmsUnwrap;
use crate::seal::open::{OpenSettings, Opener};
use crate::seal::rawkey::WrappingKey;
use crate::seal::{EncryptionContext, KeyChoice, Scope};
use crate::shard::ShardId;

/// What the arguments and the configuration they name come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub aws: aws::Settings,
    /// Whatever KMS key a record names.
    pub discover: bool,
    /// Keys that may open records. None: records that are encrypted cannot be read.
    pub keys: Vec<KeyChoice>,
    /// What each record's context must contain.
    pub context: EncryptionContext,
    pub core_dumps: CoreDumpArgs,
}

impl ConsumeArgs {
    /// Keys and pairs add to what the configuration has; where both say which AWS, the arguments decide.
    pub fn request(&self, env: &dyn Environment) -> anyhow::Result<Request> {
        let mut request = Request {
            aws: self.connection.settings(),
            discover: self.discover,
            keys: Vec::new(),
            context: connection::context(&self.context)?,
            core_dumps: self.core_dumps,
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
            if let Scope::Record(key) | Scope::Block(key, _) = &stream.encryption.scope {
                request.keys.push(key.clone());
            }
            for (key, value) in &stream.encryption.context {
                request
                    .context
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            request.aws = self.connection.over(settings.aws);
            request.core_dumps = request.core_dumps.or(settings.core_dumps);
        }
        if !self.kms_key.is_empty() {
            request.keys.push(KeyChoice::Kms(self.kms_key.clone()));
        }
        for file in &self.wrapping_key {
            request
                .keys
                .push(KeyChoice::WrappingKeyFile(std::path::absolute(file)?));
        }
        Ok(request)
    }

    /// Each of its own: some are written anew, renamed and appended to.
    pub(super) fn check_files(&self) -> anyhow::Result<()> {
        let named = [
            ("--out", &self.out),
            ("--checkpoint", &self.checkpoint),
            ("--dead-letter", &self.dead_letter),
            ("--config", &self.config),
        ];
        let keys = self
            .wrapping_key
            .iter()
            .map(|path| ("--wrapping-key", path));
        let named = named
            .into_iter()
            .filter_map(|(option, path)| Some((option, path.as_ref()?)));
        let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
        for (option, path) in named.chain(keys) {
            // Standard output, a pipe, a device.
            let is_none = path.metadata().is_ok_and(|about| !about.is_file());
            if path == Path::new("-") || is_none {
                continue;
            }
            // Where it is there already, by whatever name.
            let path = path.canonicalize().or_else(|_| std::path::absolute(path))?;
            if let Some(other) = seen.insert(path.clone(), option) {
                let said = format!(
                    "{other} and {option} are both {}: give each a file of its own",
                    path.display()
                );
                return Err(Misuse(said).into());
            }
        }
        Ok(())
    }

    /// What else would not be seen.
    pub(super) fn say_what_goes_first(&self, checkpoint: Option<&Checkpoint>) {
        let knows = checkpoint.is_some_and(|checkpoint| !checkpoint.places.is_empty());
        if knows && !self.from.is_empty() {
            tracing::warn!(
                "--from is for shards that the checkpoint does not know; of the others reading goes on where it was"
            );
        }
        if self.discover {
            tracing::warn!(
                "--discover: any KMS key that a record names and these credentials may use is accepted; so who writes to the \
                 stream decides what is trusted"
            );
        }
    }

    /// Where a checkpoint says something, that goes before `--from`.
    pub(super) fn reading(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> anyhow::Result<consume::Settings> {
        let from = From::parse(&self.from)?;
        let shards: Vec<_> = self.shard.iter().map(|shard| ShardId::new(shard)).collect();
        let mut places = BTreeMap::new();
        if let From::After(sequence) = &from {
            let [shard] = &shards[..] else {
                let said = "--from after-sequence is of one shard: give it as --shard";
                return Err(Misuse(said.to_owned()).into());
            };
            places.insert(shard.clone(), Progress::UpTo(sequence.as_str().into()));
        }
        places.extend(checkpoint.iter().flat_map(|known| known.places.clone()));
        Ok(consume::Settings {
            from: from.start(),
            only: (!shards.is_empty()).then(|| shards.into_iter().collect()),
            places,
            until_empty: self.until_empty,
            ..consume::Settings::default()
        })
    }

    /// What a user has to put right, and nothing of a record's: named keys that may not be used are theirs; whatever key a
    /// record names is not.
    pub(super) fn stopping(&self) -> Stopping {
        match self.discover {
            true => Stopping::WithoutKeys,
            false => Stopping::WhereKeysAreRefused,
        }
    }

    /// With the file that it is of.
    pub(super) fn blame(&self, error: ConsumeError) -> anyhow::Error {
        match (&error, &self.checkpoint) {
            (ConsumeError::OfAnEarlierStream { shard }, Some(path)) => anyhow::anyhow!(
                "checkpoint {}: what was noted of {shard} is of an earlier stream of that name, which was deleted and made \
                 anew: move that away to begin where --from says",
                path.display()
            ),
            (ConsumeError::OfAnEarlierStream { .. }, None) => {
                anyhow::Error::new(error).context(format!("--from {}", self.from.join(" ")))
            }
            _ => error.into(),
        }
    }

    /// In messages.
    pub(super) fn output_name(&self) -> String {
        match &self.out {
            None => "standard output".to_owned(),
            Some(path) => format!("--out {}", path.display()),
        }
    }

    pub(super) fn form(&self) -> Form {
        match (self.raw, self.output) {
            (Some(EncodingWord::Base64), _) => Form::Raw(Encoding::Base64),
            (Some(EncodingWord::Hex), _) => Form::Raw(Encoding::Hex),
            (None, OutputWord::Lines) => Form::Lines,
            (None, OutputWord::Json) => Form::Json,
            (None, OutputWord::Bytes) => Form::Bytes,
        }
    }

    pub(super) fn unpacker(
        &self,
        request: &Request,
        clients: &Clients,
    ) -> anyhow::Result<Unpacker> {
        let threads = available_parallelism().map_or(1, usize::from);
        let unpacker = match self.raw {
            Some(_) => Unpacker::as_stored(threads)?,
            None => self.opening(request, clients, threads)?,
        };
        Ok(match self.kcl_filter {
            true => unpacker.dropping_strays(),
            false => unpacker,
        })
    }

    pub(super) fn opening(
        &self,
        request: &Request,
        clients: &Clients,
        threads: usize,
    ) -> anyhow::Result<Unpacker> {
        let Some(opener) = request.opener(clients, self.limits.settings())? else {
            if !self.context.is_empty() {
                let said =
                    "--context binds keys, and none is given: add --kms-key or --wrapping-key";
                return Err(Misuse(said.to_owned()).into());
            }
            return Ok(Unpacker::without_keys(threads)?);
        };
        let plaintext = match self.allow_plaintext {
            true => Plaintext::Allowed,
            false => Plaintext::Refused,
        };
        Ok(Unpacker::opening(Arc::new(opener), plaintext, threads)?)
    }
}

impl Request {
    /// `None` where there are no keys.
    pub(super) fn opener(
        &self,
        clients: &Clients,
        settings: OpenSettings,
    ) -> anyhow::Result<Option<Opener>> {
        let mut keys: Vec<Arc<dyn UnwrapDataKey>> = Vec::new();
        let mut kms = Vec::new();
        for key in &self.keys {
            match key {
                KeyChoice::Kms(keys) => kms.extend(keys),
                KeyChoice::WrappingKeyFile(path) => keys.push(Arc::new(WrappingKey::load(path)?)),
            }
        }
        if self.discover {
            keys.push(Arc::new(KmsUnwrap::discovering(clients.kms.clone())));
        } else if !kms.is_empty() {
            keys.push(Arc::new(KmsUnwrap::new(clients.kms.clone(), kms)));
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let opener = Opener::new(keys, self.context.clone(), settings)?;
        Ok(Some(opener))
    }
}
