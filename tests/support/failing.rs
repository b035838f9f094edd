//! A disk that fails when it is told to: a library between the agent and the system's calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::agent::kinseal;
use super::preload::Shim;

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// The calls that fail.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Read,
    Write,
    /// Writes that succeed in part, and fail then.
    Tear,
    Sync,
}

/// Its rules lie in a folder of its test's.
#[derive(Debug)]
pub(crate) struct FailingDisk {
    shim: Shim,
    rules: PathBuf,
}

impl FailingDisk {
    /// It works, until it is told to fail.
    pub(crate) fn build(dir: &Path) -> Self {
        let shim = Shim::of(include_str!("failing.c"));
        let rules = dir.join("failing.rules");
        Self { shim, rules }
    }

    /// `kinseal` on this disk.
    pub(crate) fn kinseal(&self) -> Command {
        let mut command = kinseal();
        self.shim.load(&mut command);
        command.env("KINSEAL_FAILING", &self.rules);
        command
    }

    /// From now on these calls fail for files whose paths begin so, each with its error.
    pub(crate) fn fail<P: AsRef<Path>>(&self, rules: &[(Call, i32, P)]) {
        let line = |(call, error, prefix): &(Call, i32, P)| {
            let call = match call {
                Call::Read => "read",
                Call::Write => "write",
                Call::Tear => "tear",
                Call::Sync => "sync",
            };
            format!("{call} {error} {}\n", prefix.as_ref().display())
        };
        let new = self.rules.with_extension("new");
        let lines: String = rules.iter().map(line).collect();
        fs::write(&new, lines).expect("room for it");
        fs::rename(&new, &self.rules).expect("ours");
    }

    pub(crate) fn heal(&self) {
        fs::remove_file(&self.rules).expect("it fails");
    }
}
