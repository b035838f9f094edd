//! What the process does to itself before it loads a key: no core dump.
//!
//! A core dump is the memory of the process on a disk: data keys, AWS credentials and records in clear, where a
//! crash handler may even send them elsewhere. Two switches, because neither is enough: RLIMIT_CORE stops the
//! kernel from writing a file, but where `kernel.core_pattern` names a program (systemd-coredump, apport) the
//! kernel pipes to it whatever the limit; a process that is not "dumpable" is not dumped at all. That second
//! switch is Linux's. It also keeps other processes of the same user from attaching to this one or reading its
//! memory, and gives root the files in `/proc/PID` that only the owner may read.
//!
//! Programs that this one starts (`credential_process`) inherit the limit, and are dumpable again.

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For each command that holds keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct CoreDumpArgs {
    /// Let a crash leave a core dump, and a debugger attach: keys and records are in there
    #[arg(id = "core_dumps", long = "core-dumps", help_heading = "Running")]
    pub allowed: bool,
}

impl CoreDumpArgs {
    /// Before the first key is loaded. A failure is no reason not to run: it is told, with the way out.
    pub fn apply(self) {
        if self.allowed {
            return;
        }
        for (switch, switched) in [
            ("PR_SET_DUMPABLE", be_undumpable()),
            ("RLIMIT_CORE", forbid_core_files()),
        ] {
            if let Err(error) = switched {
                tracing::warn!(
                    %error,
                    switch,
                    "a crash may leave a core dump with keys in it: allow this call (a seccomp filter may forbid \
                     it) or start with `ulimit -c 0`; core_dumps = true in the configuration, or --core-dumps, \
                     stops asking"
                );
            }
        }
    }

    /// By the command line or by the configuration.
    #[must_use]
    pub fn or(self, configured: bool) -> Self {
        Self {
            allowed: self.allowed || configured,
        }
    }
}

#[cfg(target_os = "linux")]
fn be_undumpable() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
fn be_undumpable() -> rustix::io::Result<()> {
    Ok(())
}

/// A crash leaves a file of so many bytes at most, as the KPL's own program allows it, as far as whoever started this
/// process lets it.
const LARGEST_CORE: u64 = 128 << 20;

pub(super) fn allow_core_files() {
    let hard = getrlimit(Resource::Core).maximum;
    let allowed = Rlimit {
        current: Some(hard.map_or(LARGEST_CORE, |hard| hard.min(LARGEST_CORE))),
        maximum: hard,
    };
    if let Err(error) = setrlimit(Resource::Core, allowed) {
        tracing::warn!(%error, "core dumps were asked for, and their limit cannot be raised");
    }
}

/// The hard limit too: what may raise it again is not this process.
fn forbid_core_files() -> rustix::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
}
