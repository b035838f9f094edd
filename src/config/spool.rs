//! The `[spool]` table: being there, it switches the spool on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::Table;
use super::words;
use super::written::Written;
use crate::spool::{Mode, Settings, Sync};

/// As written.
pub(super) struct Spool {
    path: Written<PathBuf>,
    max_bytes: Written<u64>,
    sync: Written<Word>,
    sync_interval: Written<Duration>,
    mode: Written<Mode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Always,
    Interval,
    Never,
}

impl Spool {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        let this = Self {
            path: t.parsed("path", "an absolute path", words::absolute_path),
            max_bytes: t.bytes("max_bytes", Settings::LEAST..=1 << 50),
            sync: t.choice(
                "sync",
                &[
                    ("always", Word::Always),
                    ("interval", Word::Interval),
                    ("none", Word::Never),
                ],
            ),
            sync_interval: t.duration(
                "sync_interval",
                Duration::from_millis(1)..=Duration::from_secs(3600),
            ),
            mode: t.choice(
                "mode",
                &[
                    ("disk_first", Mode::DiskFirst),
                    ("memory_first", Mode::MemoryFirst),
                ],
            ),
        };
        let is_used = this.sync.as_given() == Some(&Word::Interval);
        if let (Some(place), false) = (this.sync_interval.place(), is_used) {
            t.file().mistake(
                place,
                "found without sync = \"interval\"; allowed: together with it",
            );
        }
        this
    }

    /// `None` only where a mistake has been noted.
    pub(super) fn resolve(self, state_dir: &Path) -> Option<Settings> {
        let default = Settings::under(state_dir);
        let interval = self.sync_interval.or_default(Settings::SYNC_INTERVAL)?;
        Some(Settings {
            path: self.path.or_default(default.path)?,
            max_bytes: self.max_bytes.or_default(default.max_bytes)?,
            sync: match self.sync.or_default(Word::Always)? {
                Word::Always => Sync::Always,
                Word::Interval => Sync::Interval(interval),
                Word::Never => Sync::Never,
            },
            mode: self.mode.or_default(default.mode)?,
        })
    }
}
