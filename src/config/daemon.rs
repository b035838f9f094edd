//! What a file adds to what the KPL's Java client says: encryption, above all. The client has no words for it.

use std::path::Path;

use toml_edit::TableLike;

use super::encryption::Encryption;
use super::file::{File, Whose};
use super::mistake::Mistakes;
use super::spool::Spool;
use super::tuning::DeadLetter;
use super::written::Written;
use super::{Environment, admin, read_aws, read_text, with_document};
use crate::admin::Listen;
use crate::daemon::spools;
use crate::{aws, seal, statedir};

/// The settings of a daemon that Java's do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSettings {
    pub encryption: seal::Settings,
    /// `None`: the daemon's own default.
    pub memory_limit: Option<usize>,
    /// For calls to KMS, instead of the credentials and the region that come from Java.
    pub aws: aws::Settings,
    pub spool: Option<spools::Settings>,
    pub admin: Option<Listen>,
}

impl DaemonSettings {
    /// Less leaves no room for one record of 10 MiB in its shapes, and for what is read ahead of it.
    const LEAST_MEMORY: u64 = 48 << 20;

    /// Where there is no file: nothing is added.
    pub fn of_no_file() -> Self {
        Self {
            encryption: seal::Settings::off(),
            memory_limit: None,
            aws: aws::Settings::default(),
            spool: None,
            admin: None,
        }
    }

    /// The settings in the file at `path`.
    ///
    /// # Errors
    ///
    /// All that is wrong in it. Nothing is to be sent then: it may say that records are to be encrypted.
    pub fn load(path: &Path, env: &dyn Environment) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        Self::parse(&name, &read_text(path, &name)?, env)
    }

    /// The settings in `text`. `name` is what mistakes call the file.
    pub fn parse(name: &str, text: &str, env: &dyn Environment) -> Result<Self, Mistakes> {
        with_document(name, text, (env, Whose::KplDaemon), Self::read)
    }

    /// `None` only where a mistake has been noted.
    fn read(file: &File<'_>, root: &dyn TableLike) -> Option<Self> {
        file.read(root, |root| {
            let memory_limit = root.bytes("memory_limit", Self::LEAST_MEMORY..=1 << 40);
            let aws = root.table("aws", read_aws);
            let spool = root.table("spool", Spool::read);
            let dead_letter = root.table("dead_letter", DeadLetter::read);
            let admin = root.table("admin", admin::read);
            if let (Some(place), true) = (dead_letter.place(), spool.is_absent()) {
                let text = "found without [spool]; allowed: together with it: without, the client is told of what cannot be stored";
                file.mistake(place, text);
            }
            let encryption = root.table("encryption", |t| Encryption::read(t, true));
            let encryption = match encryption {
                Written::Given(encryption, _) => {
                    encryption.check(file);
                    encryption.resolve()?
                }
                Written::Absent => seal::Settings::off(),
                Written::Mistaken => return None,
            };
            let dead_letter = dead_letter.or_default(DeadLetter::default())?.resolve()?;
            let spool = match spool {
                Written::Given(spool, _) => Some(spools::Settings {
                    spool: spool.resolve(&statedir::default_dir().join("kpl-daemon"))?,
                    dead_letter,
                }),
                Written::Absent => None,
                Written::Mistaken => return None,
            };
            Some(Self {
                encryption,
                spool,
                admin: admin.or_default(Some(None))??,
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
        DaemonSettings::parse("f", text, &System)
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
    fn a_file_adds_a_disk_and_somebody_to_ask() {
        let settings = parse(
            "[spool]\npath = \"/var/spool/kpl\"\nmax_bytes = \"64MiB\"\n[dead_letter]\nmax_file_size = \"1MiB\"\n\
             [admin]\nlisten = \"127.0.0.1:9465\"\n",
        )
        .unwrap();
        let spool = settings.spool.unwrap();
        assert_eq!(spool.spool.path, Path::new("/var/spool/kpl"));
        assert_eq!(spool.spool.max_bytes, 64 << 20);
        assert_eq!(spool.dead_letter.max_file_size, 1 << 20);
        assert_eq!(settings.admin, Some("127.0.0.1:9465".parse().unwrap()));
        let default = parse("[spool]\n").unwrap().spool.unwrap();
        assert!(default.spool.path.ends_with("kpl-daemon/spool"));
    }

    #[test]
    fn a_key_of_the_agents_file_is_not_sent_to_where_only_that_has_a_place() {
        let said = |text: &str| parse(text).unwrap_err().to_string();
        let text =
            said("state_dir = \"/x\"\nstream = \"s\"\nlinger = \"1s\"\nkms_key = \"alias/a\"\n");
        let lines: Vec<_> = text.lines().collect();
        for key in ["state_dir", "stream", "linger"] {
            let line = lines.iter().find(|line| line.contains(key)).unwrap();
            assert!(
                line.contains("unknown key; allowed here: memory_limit"),
                "{line}"
            );
        }
        assert!(text.contains("it belongs in [encryption]"), "{text}");
        assert!(said("[spool]\nmemory_limit = \"64MiB\"\n").contains("at the top"));
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
            "[dead_letter]\n",
            "[spool]\npath = \"here\"\n",
            "[admin]\nlisten = \"9465\"\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
