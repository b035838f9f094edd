//! `[encryption]`: whether, under which key, bound to what, written how.

mod block;
mod check;
mod message;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::block::{Block, Preset};
use self::message::Message;
use super::table::Table;
use super::words;
use super::written::Written;
use crate::seal::{self, CacheSettings, EncryptionContext, KeyChoice, Scope};

/// The table as written.
#[derive(Clone, Default)]
pub(super) struct Encryption {
    pub(super) preset: Written<Preset>,
    pub(super) scope: Written<ScopeWord>,
    pub(super) key: Written<KeyChoice>,
    pub(super) context: Written<EncryptionContext>,
    pub(super) max_age: Written<Duration>,
    pub(super) max_messages: Written<u64>,
    pub(super) max_bytes: Written<u64>,
    pub(super) message: Message,
    pub(super) block: Block,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeWord {
    Record,
    Block,
    Off,
}

impl ScopeWord {
    fn word(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Block => "block",
            Self::Off => "off",
        }
    }
}

const SCOPE: &str = "\"record\" or \"block\" or \"off\"";
const KEYS: &str = "kms_key or wrapping_key_file";
const KMS_KEY: &str = "a key of KMS by id, ARN or alias, or a list of them";
const CONTEXT: &str = "strings by name, like { app = \"shop\" }";
/// The pair that the consumers of `kinesisencryption` compare.
const KINESIS: &str = "Kinesis";

impl Encryption {
    /// One table, with what its preset stands for.
    pub(super) fn read(t: &mut Table<'_>, scope_required: bool) -> Self {
        let preset = Preset::read(t);
        let written = Self {
            preset: preset.clone(),
            ..Self::read_keys(t)
        };
        let read = match preset {
            Written::Given(preset, place) => written.over(&preset.keys(&place)),
            Written::Absent => written,
            // It would have said the scope.
            Written::Mistaken => Self {
                scope: written.scope.or(Written::Mistaken),
                ..written
            },
        };
        if read.scope.is_absent() && scope_required {
            let allowed = format!("{SCOPE}; plaintext is only sent when scope = \"off\" says so");
            t.file().missing(t.place(), "scope", allowed);
        }
        read
    }

    fn read_keys(t: &mut Table<'_>) -> Self {
        let words = [
            ("record", ScopeWord::Record),
            ("block", ScopeWord::Block),
            ("off", ScopeWord::Off),
        ];
        let scope = t.choice("scope", &words);
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
        Self {
            preset: Written::Absent,
            scope,
            key,
            context,
            max_age,
            max_messages,
            max_bytes,
            message: Message::read(t),
            block: t.table("block", Block::read).given().unwrap_or_default(),
        }
    }

    fn read_key(t: &mut Table<'_>) -> Written<KeyChoice> {
        let kms = Self::read_kms_keys(t);
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
        kms.map(KeyChoice::Kms)
            .or(file.map(KeyChoice::WrappingKeyFile))
    }

    fn read_kms_keys(t: &mut Table<'_>) -> Written<Vec<String>> {
        let keys = t.one_or_list("kms_key", KMS_KEY, words::kms_key);
        if let Written::Given(list, place) = &keys
            && let Err(text) = words::kms_keys(list)
        {
            t.file().mistake(place, text);
            return Written::Mistaken;
        }
        keys
    }

    fn read_context(t: &mut Table<'_>) -> Written<EncryptionContext> {
        let context = t.map("context", CONTEXT, words::own_context_key, |value| {
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
            preset: self.preset.or(base.preset.clone()),
            scope: self.scope.or(base.scope.clone()),
            key: self.key.or(base.key.clone()),
            context: self.context.or(base.context.clone()),
            max_age: self.max_age.or(base.max_age.clone()),
            max_messages: self.max_messages.or(base.max_messages.clone()),
            max_bytes: self.max_bytes.or(base.max_bytes.clone()),
            message: self.message.over(&base.message),
            block: self.block.over(&base.block),
        }
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
            message: self.message.resolve()?,
        })
    }
}
