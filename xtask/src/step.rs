//! One step: a cargo command whose output passes through.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::Context;

/// A named command.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    command: Command,
}

/// How many tests a command said it ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Step {
    pub(crate) fn cargo(name: &'static str, args: &[&str]) -> Self {
        let mut command = cargo();
        command.args(args);
        Self { name, command }
    }

    pub(crate) fn clippy(name: &'static str, args: &[&str]) -> Self {
        let mut step = Self::cargo(name, &["clippy"]);
        step.command.args(args).args(["--", "-D", "warnings"]);
        step
    }

    /// Goes on after a test binary that failed: one run shows all that is wrong.
    pub(crate) fn test(name: &'static str, args: &[&str]) -> Self {
        let mut step = Self::cargo(name, &["test", "--no-fail-fast"]);
        step.command.args(args);
        step
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The command as a person would type it.
    pub(crate) fn line(&self) -> String {
        let words = self.command.get_args().map(|arg| arg.to_string_lossy());
        let words: Vec<_> = words.collect();
        format!("cargo {}", words.join(" "))
    }

    /// Runs it, and passes its output on as it comes.
    pub(crate) fn run(mut self) -> anyhow::Result<(ExitStatus, Tests)> {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start cargo")?;
        let stdout = child.stdout.take().expect("piped above");
        let mut tests = Tests::default();
        let mut ours = std::io::stdout().lock();
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            tests += Tests::said_by(&String::from_utf8_lossy(&line));
            ours.write_all(&line)?;
            ours.write_all(b"\n")?;
        }
        ours.flush()?;
        Ok((child.wait()?, tests))
    }
}

impl Tests {
    /// From `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
    fn said_by(line: &str) -> Self {
        let Some(result) = line.strip_prefix("test result: ") else {
            return Self::default();
        };
        let count = |what: &str| {
            let before = result.split(what).next()?;
            before
                .rsplit([' ', '.'])
                .find(|word| !word.is_empty())?
                .parse()
                .ok()
        };
        Self {
            passed: count(" passed").unwrap_or(0),
            failed: count(" failed").unwrap_or(0),
        }
    }
}

impl fmt::Display for Tests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self {
                passed: 0,
                failed: 0,
            } => Ok(()),
            Self { passed, failed: 0 } => write!(f, "{passed} tests passed"),
            Self { passed, failed } => write!(f, "{passed} tests passed, {failed} failed"),
        }
    }
}

impl std::ops::AddAssign for Tests {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The target directory that this run of cargo uses.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let dir = metadata["target_directory"].as_str();
    Ok(dir
        .context("cargo metadata names no target_directory")?
        .into())
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    // Of the run, not of the build: a cached build may be of another checkout.
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().expect("xtask is in the workspace").into()
}

/// The cargo that runs us.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted_and_any_other_is_not() {
        let line =
            "test result: FAILED. 310 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        let counted = Tests {
            passed: 310,
            failed: 2,
        };
        assert_eq!(Tests::said_by(line), counted);
        assert_eq!(Tests::said_by("test x ... ok"), Tests::default());
    }
}
