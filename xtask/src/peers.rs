//! The Python environment with software that we did not write: moto, AWS's Encryption SDK, the KPL format.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, ensure};

use crate::step;

/// The environment's interpreter, after making or updating the environment where the list has changed.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let list = step::root().join("tests/peers/requirements.txt");
    let wanted = fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let dir = step::target_dir()?.join("peers-venv");
    let python = dir.join("bin/python");
    // Written last: an environment without it was left half made.
    let stamp = dir.join("installed.txt");
    if python.exists() && fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    create(&dir)?;
    install(&python, &list)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn create(dir: &Path) -> anyhow::Result<()> {
    let system = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let created = Command::new(&system)
        .args(["-m", "venv", "--clear"])
        .arg(dir)
        .status()
        .with_context(|| {
            format!(
                "cannot start {}: install Python 3.11 or newer, or name it in PYTHON",
                system.display()
            )
        })?;
    ensure!(
        created.success(),
        "{} -m venv: {created}; install Python's venv module",
        system.display()
    );
    Ok(())
}

fn install(python: &Path, list: &Path) -> anyhow::Result<()> {
    let installed = Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .arg("--requirement")
        .arg(list)
        .status()
        .context("cannot start pip")?;
    ensure!(
        installed.success(),
        "pip install: {installed}; the list is in {}",
        list.display()
    );
    Ok(())
}
