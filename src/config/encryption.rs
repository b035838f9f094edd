//! `[encryption]`: whether, under which key, bound to what.

use std::time::Duration;

use super::file::File;
use super::table::Table;
use super::words;
use super::written::Written;
use crate::seal::block::{self, Packing};
use crate::seal::{self, CacheSettings, EncryptionContext, KeyChoice, Scope, message};

/// The table as written.
#[derive(Clone, Default)]
pub(super) struct Encryption {
    pub(super) scope: Written<ScopeWord>,
    pub(super) key: Written<KeyChoice>,
    pub(super) context: Written<EncryptionContext>,
    pub(super) max_age: Written<Duration>,
    pub(super) max_messages: Written<u64>,
    pub(super) max_bytes: Written<u64>,
    pub(super) block: Block,
}

/// `[encryption.block]` as written.
#[derive(Clone, Default)]
pub(super) struct Block {
    pub(super) max_size: Written<u64>,
    linger: Written<Duration>,
    compression: Written<Compression>,
    level: Written<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeWord {
    Record,
    Block,
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Zstd,
}

const SCOPE: &str = "\"record\", \"block\" or \"off\"";
const KEYS: &str = "kms_key or wrapping_key_file";
const CONTEXT: &str = "strings by name, like { app = \"shop\" }";
impl Encryption {
    pub(super) fn read(t: &mut Table<'_>, scope_required: bool) -> Self {
        let scope = t.parsed("scope", SCOPE, |text| match text {
            "record" => Ok(ScopeWord::Record),
            "block" => Ok(ScopeWord::Block),
            "off" => Ok(ScopeWord::Off),
            _ => Err(SCOPE.into()),
        });
        if scope.is_absent() && scope_required {
            let allowed = format!("{SCOPE}; plaintext is only sent when scope = \"off\" says so");
            t.file().missing(t.place(), "scope", allowed);
        }
        let key = Self::read_key(t);
        let context = Self::read_context(t);
        let cache = t.table("cache", |t| {
            (
                t.duration(
                    "max_age",
                    Duration::from_secs(1)..=Duration::from_secs(30 * 86_400),
                ),
                // The AWS Encryption SDK's bound.
                t.integer("max_messages", 1..=1 << 32),
                t.bytes("max_bytes", 1..=i64::MAX as u64),
            )
        });
        let (max_age, max_messages, max_bytes) = cache.given().unwrap_or_default();
        let block = t.table("block", Block::read).given().unwrap_or_default();
        Self {
            scope,
            key,
            context,
            max_age,
            max_messages,
            max_bytes,
            block,
        }
    }

    fn read_key(t: &mut Table<'_>) -> Written<KeyChoice> {
        let kms = t.parsed(
            "kms_key",
            "a key of KMS by id, ARN or alias",
            words::kms_key,
        );
        let file = t.parsed(
            "wrapping_key_file",
            "an absolute path",
            words::absolute_path,
        );
        if let (Some(_), Some(place)) = (kms.place(), file.place()) {
            t.file()
                .mistake(place, "found beside kms_key; allowed: one of the two");
            return Written::Mistaken;
        }
        kms.map(|key| KeyChoice::Kms(vec![key]))
            .or(file.map(KeyChoice::WrappingKeyFile))
    }

    fn read_context(t: &mut Table<'_>) -> Written<EncryptionContext> {
        let context = t.map("context", CONTEXT, words::context_key, |value| {
            Ok(value.to_owned())
        });
        let context = context.map(|pairs| pairs.into_iter().collect::<EncryptionContext>());
        if let Written::Given(context, place) = &context {
            let bytes = words::context_len(context);
            if bytes > words::CONTEXT_MAX {
                let text = format!(
                    "found {bytes} bytes; allowed: up to {} bytes with their lengths",
                    words::CONTEXT_MAX
                );
                t.file().mistake(place, text);
                return Written::Mistaken;
            }
        }
        context
    }

    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            scope: self.scope.or(base.scope.clone()),
            key: self.key.or(base.key.clone()),
            context: self.context.or(base.context.clone()),
            max_age: self.max_age.or(base.max_age.clone()),
            max_messages: self.max_messages.or(base.max_messages.clone()),
            max_bytes: self.max_bytes.or(base.max_bytes.clone()),
            block: self.block.over(&base.block),
        }
    }

    pub(super) fn check_key(&self, file: &File<'_>) {
        let (Written::Given(scope, place), Written::Absent) = (&self.scope, &self.key) else {
            return;
        };
        let word = match scope {
            ScopeWord::Off => return,
            ScopeWord::Record => "record",
            ScopeWord::Block => "block",
        };
        let allowed = format!("{KEYS}, which scope = \"{word}\" needs");
        file.missing_beside(place, "kms_key", allowed);
    }

    pub(super) fn resolve(self) -> Option<seal::Settings> {
        let default = CacheSettings::default();
        let scope = match self.scope.given()? {
            ScopeWord::Off => Scope::Off,
            ScopeWord::Record => Scope::Record(self.key.given()?),
            ScopeWord::Block => Scope::Block(self.key.given()?, self.block.resolve()?),
        };
        Some(seal::Settings {
            scope,
            context: self.context.or_default(EncryptionContext::new())?,
            cache: CacheSettings {
                max_age: self.max_age.or_default(default.max_age)?,
                max_messages: self.max_messages.or_default(default.max_messages)?,
                max_bytes: self.max_bytes.or_default(default.max_bytes)?,
            },
            message: message::Settings::default(),
        })
    }
}

impl Block {
    fn read(t: &mut Table<'_>) -> Self {
        let words = [("none", Compression::None), ("zstd", Compression::Zstd)];
        Self {
            // A block has to fit a record.
            max_size: t.bytes("max_size", 128..=10 << 20),
            linger: t.duration("linger", Duration::ZERO..=Duration::from_secs(3600)),
            compression: t.choice("compression", &words),
            level: t.integer("level", 1..=22),
        }
    }

    fn over(self, base: &Self) -> Self {
        Self {
            max_size: self.max_size.or(base.max_size.clone()),
            linger: self.linger.or(base.linger.clone()),
            compression: self.compression.or(base.compression.clone()),
            level: self.level.or(base.level.clone()),
        }
    }

    fn resolve(self) -> Option<block::Settings> {
        let default = block::Settings::default();
        let level = self.level.or_default(1)?;
        let packing = match self.compression.or_default(Compression::None)? {
            Compression::None => Packing::Kpl,
            Compression::Zstd => Packing::KplZstd {
                level: i32::try_from(level).expect("read as 1 to 22"),
            },
        };
        Some(block::Settings {
            max_size: usize::try_from(self.max_size.or_default(default.max_size as u64)?).ok()?,
            linger: self.linger.map(Some).or_default(None)?,
            packing,
        })
    }
}
