//! A real logrotate.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// logrotate with a configuration of its own.
#[derive(Debug)]
pub(crate) struct Logrotate {
    config: PathBuf,
    state: PathBuf,
}

impl Logrotate {
    /// Rotates `log` as `directives` say, in the words of logrotate's manual; keeps its files in `dir`.
    pub(crate) fn new(dir: &Path, log: &Path, directives: &str) -> Self {
        let config = dir.join("logrotate.conf");
        let text = format!("\"{}\" {{\n{directives}\n}}\n", log.display());
        fs::write(&config, text).expect("room for it");
        // Others' rights make it refuse.
        for (path, mode) in [(&*config, 0o600), (log.parent().expect("a folder"), 0o700)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        }
        let state = dir.join("logrotate.state");
        Self { config, state }
    }

    /// Rotates now, whatever the file's age.
    pub(crate) fn rotate(&self) {
        let mut command = Command::new(program());
        command.args(["--force", "--state"]).arg(&self.state);
        let output = command.arg(&self.config).output();
        let output = output.unwrap_or_else(|e| panic!("logrotate: {e}; {ADVICE}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "logrotate: {said}");
    }
}

const ADVICE: &str = "run this test through `cargo xtask ci` or `cargo xtask e2e NAME`, which look for logrotate and \
                      set KINSEAL_LOGROTATE; or install logrotate";

fn program() -> OsString {
    std::env::var_os("KINSEAL_LOGROTATE").unwrap_or_else(|| "/usr/sbin/logrotate".into())
}
