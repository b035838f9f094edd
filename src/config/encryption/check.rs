//! What `[encryption]` must be as a whole, with all layers laid over one another.

use super::message::{Compatibility, version_1};
use super::{Encryption, KEYS, KINESIS, ScopeWord};
use crate::config::file::File;
use crate::config::written::{Place, Written};
use crate::seal::KeyChoice;
use crate::seal::message::{Encoding, Version};

impl Encryption {
    pub(in crate::config) fn check(&self, file: &File<'_>) {
        self.check_key(file);
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

    fn check_frame_length(&self, file: &File<'_>) {
        let (Written::Given(ScopeWord::Block, scope), Written::Given(_, place)) =
            (&self.scope, &self.message.frame_length)
        else {
            return;
        };
        // A stream in blocks may stand below others whose records have frames.
        if scope.is_override() && !place.is_override() {
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
