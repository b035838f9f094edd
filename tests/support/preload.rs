//! Libraries in C that are loaded into the program under test, to stand between it and the machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Compiled, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Shim {
    built: TempDir,
}

impl Shim {
    pub(crate) fn of(source: &str) -> Self {
        let shim = Self {
            built: tempfile::tempdir().expect("a temporary directory"),
        };
        let file = shim.built.path().join("shim.c");
        fs::write(&file, source).expect("room for it");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&shim.library(), &file])
            .arg("-ldl")
            .output();
        let compiled = compiled.unwrap_or_else(|e| panic!("cc: {e}; install a C compiler"));
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{said}");
        shim
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.built.path().join("shim.so")
    }

    /// A file beside it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.built.path().join(name)
    }

    /// Into all that `command` starts.
    pub(crate) fn load(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library());
    }
}
