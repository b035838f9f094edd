//! What `[encryption]` must be as a whole, with all layers laid over one another.

use super::block::Compression;
use super::message::{Compatibility, version_1};
use super::{Encryption, KEYS, KINESIS, ScopeWord};
use crate::config::file::File;
use crate::config::written::{Place, Written};
use crate::seal::message::{Encoding, Version};
use crate::seal::{ContextError, KeyChoice};

impl Encryption {
    pub(in crate::config) fn check(&self, file: &File<'_>) {
        self.check_key(file);
        self.check_context(file);
        self.check_beside_off(file);
        self.check_block(file);
        self.check_frame_length(file);
        self.check_compatibility(file);
    }

    fn check_key(&self, file: &File<'_>) {
        let (Written::Given(scope, place), Written::Absent) = (&self.scope, &self.key) else {
            return;
        };
        if *scope != ScopeWord::Off {
            let allowed = format!("{KEYS}, which scope = \"{}\" needs", scope.word());
            file.missing_beside(place, "kms_key", allowed);
        }
    }

    /// What suite and scope add to the context takes room from it.
    fn check_context(&self, file: &File<'_>) {
        let (Written::Given(_, place), Some(settings)) = (&self.context, self.clone().resolve())
        else {
            return;
        };
        if let Err(ContextError::TooLong { found, allowed }) = settings.check_context() {
            let scope = self.scope.as_given().map_or("", |scope| scope.word());
            let text = format!(
                "found {found} bytes; allowed: up to {allowed} bytes with their lengths, beside what \
                 suite = \"{}\" and scope = \"{scope}\" add",
                settings.message.suite
            );
            file.mistake(place, text);
        }
    }

    fn check_beside_off(&self, file: &File<'_>) {
        let Written::Given(ScopeWord::Off, scope) = &self.scope else {
            return;
        };
        let message = &self.message;
        let unused = [
            self.preset.place(),
            self.key.place(),
            message.suite.place(),
            message.encoding.place(),
            message.frame_length.place(),
        ];
        for place in unused.into_iter().flatten() {
            if is_beside(place, scope) {
                let text = "found beside scope = \"off\", which encrypts nothing; allowed: with scope = \"record\" \
                            or \"block\"";
                file.mistake(place, text);
            }
        }
    }

    fn check_block(&self, file: &File<'_>) {
        let Written::Given(word, scope) = &self.scope else {
            return;
        };
        if *word != ScopeWord::Block {
            for place in self.block.places().filter(|place| is_beside(place, scope)) {
                let text = format!(
                    "found beside scope = \"{}\"; allowed: with scope = \"block\"",
                    word.word()
                );
                file.mistake(place, text);
            }
            return;
        }
        let Written::Given(_, level) = &self.block.level else {
            return;
        };
        let is_unused = match &self.block.compression {
            Written::Absent => true,
            Written::Given(Compression::None, compression) => is_beside(level, compression),
            Written::Given(Compression::Zstd, _) | Written::Mistaken => false,
        };
        if is_unused {
            file.mistake(
                level,
                "found without compression = \"zstd\"; allowed: beside it",
            );
        }
    }

    fn check_frame_length(&self, file: &File<'_>) {
        let (Written::Given(ScopeWord::Block, scope), Written::Given(_, place)) =
            (&self.scope, &self.message.frame_length)
        else {
            return;
        };
        if !is_beside(place, scope) {
            return;
        }
        file.mistake(
            place,
            "found beside scope = \"block\"; allowed: with scope = \"record\", since a block is one frame",
        );
    }

    /// The other reader understands nothing else, and would only say so record by record.
    fn check_compatibility(&self, file: &File<'_>) {
        let Written::Given(Compatibility::KinesisEncryption, place) = &self.message.compatibility
        else {
            return;
        };
        let refuse = |place: &Place, found: &str, allowed: &str| {
            let beside = "beside compatibility = \"kinesisencryption\"";
            file.mistake(place, format!("found {found}; allowed: {allowed} {beside}"));
        };
        if let Written::Given(scope, place) = &self.scope
            && *scope != ScopeWord::Record
        {
            let found = format!("\"{}\"", scope.word());
            refuse(place, &found, "\"record\"");
        }
        if let Written::Given(KeyChoice::WrappingKeyFile(_), place) = &self.key {
            refuse(
                place,
                "a wrapping key",
                "kms_key, since that reader asks KMS,",
            );
        }
        if let Written::Given(suite, place) = &self.message.suite
            && suite.version() != Version::V1
        {
            let allowed = format!("{}, since that reader knows version 1 only,", version_1());
            refuse(place, &format!("\"{suite}\""), &allowed);
        }
        if let Written::Given(Encoding::Binary, place) = &self.message.encoding {
            refuse(place, "\"binary\"", "\"base64\"");
        }
        let compared = format!("any string by the name {KINESIS}, which that reader compares,");
        match &self.context {
            Written::Given(context, place) if !context.contains_key(KINESIS) => {
                refuse(place, &format!("no {KINESIS}"), &compared);
            }
            Written::Absent => {
                let allowed = format!(
                    "context.{KINESIS} = \"…\", which the reader of kinesisencryption compares"
                );
                file.missing_beside(place, "context", allowed);
            }
            Written::Given(..) | Written::Mistaken => {}
        }
    }
}

/// Whether a key says something that `other`, which makes it useless, does not lie over: one stream may stand
/// below others that use what is said for all.
fn is_beside(key: &Place, other: &Place) -> bool {
    !key.is_implied && (key.is_override() || !other.is_override())
}
