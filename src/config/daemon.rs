//! What a file adds to what the KPL's Java client says: encryption, above all. The client has no words for it.

use std::path::Path;

use toml_edit::TableLike;

use super::encryption::Encryption;
use super::file::File;
use super::mistake::Mistakes;
use super::written::Written;
use super::{Environment, read_aws, read_text, with_document};
use crate::{aws, seal};

/// The settings of a daemon that Java's do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSettings {
    pub encryption: seal::Settings,
    /// `None`: the daemon's own default.
    pub memory_limit: Option<usize>,
    /// For calls to KMS, instead of the credentials and the region that come from Java.
    pub aws: aws::Settings,
}

impl DaemonSettings {
    /// Less leaves no room for one record of 10 MiB in its three shapes.
    const LEAST_MEMORY: u64 = 40 << 20;

    /// The settings in the file at `path`.
    ///
    /// # Errors
    ///
    /// All that is wrong in it. Nothing is to be sent then: it may say that records are to be encrypted.
    pub fn load(path: &Path, env: &dyn Environment) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        with_document(&name, &read_text(path, &name)?, env, Self::read)
    }

    /// `None` only where a mistake has been noted.
    fn read(file: &File<'_>, root: &dyn TableLike) -> Option<Self> {
        file.read(root, |root| {
            let memory_limit = root.bytes("memory_limit", Self::LEAST_MEMORY..=1 << 40);
            let aws = root.table("aws", read_aws);
            let encryption = root.table("encryption", |t| Encryption::read(t, true));
            let encryption = match encryption {
                Written::Given(encryption, _) => {
                    encryption.check(file);
                    encryption.resolve()?
                }
                Written::Absent => seal::Settings::off(),
                Written::Mistaken => return None,
            };
            Some(Self {
                encryption,
                memory_limit: memory_limit
                    .map(|bytes| Some(bytes as usize))
                    .or_default(None)?,
                aws: aws.or_default(Some(aws::Settings::default()))??,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::System;
    use super::*;
    use crate::seal::{KeyChoice, Scope};

    fn parse(text: &str) -> Result<DaemonSettings, Mistakes> {
        with_document("f", text, &System, DaemonSettings::read)
    }

    #[test]
    fn a_file_adds_encryption_and_memory_to_what_java_says() {
        let settings = parse(
            "memory_limit = \"100MiB\"\n[encryption]\nscope = \"record\"\nkms_key = \"alias/shop\"\n",
        )
        .unwrap();
        assert_eq!(settings.memory_limit, Some(100 << 20));
        assert_eq!(
            settings.encryption.scope,
            Scope::Record(KeyChoice::Kms(vec!["alias/shop".into()]))
        );
        let empty = parse("").unwrap();
        assert_eq!(empty.encryption, seal::Settings::off());
        assert_eq!(empty.memory_limit, None);
    }

    #[test]
    fn a_mistake_in_it_is_told_and_never_means_plaintext() {
        for text in [
            "[encryption]\nscope = \"records\"\n",
            "[encryption]\nscope = \"record\"\n",
            "[encription]\nscope = \"record\"\n",
            "[encryption]\nkms_key = \"alias/shop\"\n",
            "encryption = 1\n",
            "[[source]]\n",
            "memory_limit = \"1MiB\"\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
