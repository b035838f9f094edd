//! `[encryption.block]`, and the preset that stands for some of its keys.

use std::time::Duration;

use super::{Encryption, ScopeWord};
use crate::config::table::Table;
use crate::config::written::{Place, Written};
use crate::seal::block::{Packing, Settings};

/// The table as written.
#[derive(Clone, Default)]
pub(in crate::config) struct Block {
    pub(in crate::config) max_size: Written<u64>,
    pub(in crate::config) linger: Written<Duration>,
    pub(super) compression: Written<Compression>,
    pub(super) level: Written<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Zstd,
}

impl Block {
    pub(super) fn read(t: &mut Table<'_>) -> Self {
        let words = [("none", Compression::None), ("zstd", Compression::Zstd)];
        Self {
            // A block has to fit a record.
            max_size: t.bytes("max_size", 128..=10 << 20),
            linger: t.duration("linger", Duration::ZERO..=Duration::from_secs(3600)),
            compression: t.choice("compression", &words),
            level: t.integer("level", 1..=22),
        }
    }

    /// Where its keys are given, in the order of its table.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let places = [
            self.max_size.place(),
            self.linger.place(),
            self.compression.place(),
            self.level.place(),
        ];
        places.into_iter().flatten()
    }

    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            max_size: self.max_size.or(base.max_size.clone()),
            linger: self.linger.or(base.linger.clone()),
            compression: self.compression.or(base.compression.clone()),
            level: self.level.or(base.level.clone()),
        }
    }

    pub(super) fn resolve(self) -> Option<Settings> {
        let default = Settings::default();
        let level = self.level.or_default(1)?;
        let packing = match self.compression.or_default(Compression::None)? {
            Compression::None => Packing::Kpl,
            Compression::Zstd => Packing::KplZstd {
                level: i32::try_from(level).expect("read as 1 to 22"),
            },
        };
        Some(Settings {
            max_size: usize::try_from(self.max_size.or_default(default.max_size as u64)?).ok()?,
            linger: self.linger.map(Some).or_default(None)?,
            packing,
        })
    }
}

/// A word that stands for several keys.
#[derive(Clone, Copy)]
pub(in crate::config) enum Preset {
    /// [`Settings::compact`].
    Compact,
}

impl Preset {
    pub(super) fn read(t: &mut Table<'_>) -> Written<Self> {
        t.choice("preset", &[("compact", Self::Compact)])
    }

    /// The keys that it stands for, as if they were written in its place.
    pub(super) fn keys(self, place: &Place) -> Encryption {
        let Self::Compact = self;
        let compact = Settings::compact();
        let block = place.implied("block");
        let (compression, level) = match compact.packing {
            Packing::Kpl => (Compression::None, Written::Absent),
            Packing::KplZstd { level } => (
                Compression::Zstd,
                Written::Given(level.unsigned_abs().into(), block.child("level")),
            ),
        };
        let linger = compact.linger.map_or(Written::Absent, |linger| {
            Written::Given(linger, block.child("linger"))
        });
        Encryption {
            scope: Written::Given(ScopeWord::Block, place.implied("scope")),
            block: Block {
                max_size: Written::Absent,
                linger,
                compression: Written::Given(compression, block.child("compression")),
                level,
            },
            ..Encryption::default()
        }
    }
}
