//! The Python environment with software that we did not write: moto, AWS's Encryption SDK, the KPL format.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, ensure};

use crate::step;

/// The environment's interpreter, after making or updating the environment where the list has changed.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let list = step::root().join("tests/peers/requirements.txt");
    let mut wanted = fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    wanted.extend_from_slice(KCLPY.as_bytes());
    let dir = step::target_dir()?.join("peers-venv");
    let python = dir.join("bin/python");
    // Written last: an environment without it was left half made.
    let stamp = dir.join("installed.txt");
    if python.exists() && fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    create(&dir)?;
    install(&python, &list)?;
    add_kclpy(&dir, &python)?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// The KCL's library for record processors in Python. Its installer fetches the KCL itself by Maven, which processors do
/// not need: its sources are enough.
const KCLPY: &str = "amazon_kclpy==3.2.0";

/// To where Python finds it.
fn add_kclpy(dir: &Path, python: &Path) -> anyhow::Result<()> {
    let sources = dir.join("kclpy");
    let mut download = Command::new(python);
    download.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    download.args(["--no-deps", "--no-binary", ":all:", KCLPY, "--dest"]);
    let downloaded = download.arg(&sources).status();
    let downloaded = downloaded.context("cannot start pip")?;
    ensure!(downloaded.success(), "pip download {KCLPY}: {downloaded}");
    let name = KCLPY.replace("==", "-");
    let mut unpack = Command::new(python);
    unpack.args(["-m", "tarfile", "-e"]);
    unpack
        .arg(sources.join(format!("{name}.tar.gz")))
        .arg(&sources);
    let unpacked = unpack.status().context("cannot start Python")?;
    ensure!(unpacked.success(), "unpacking {KCLPY}: {unpacked}");
    // A line in such a file is a folder to look in.
    let lib = fs::read_dir(dir.join("lib"))?
        .next()
        .context("a venv has one")??;
    let listed = lib.path().join("site-packages/kclpy.pth");
    let folder = format!("{}\n", sources.join(name).display());
    fs::write(&listed, folder).with_context(|| format!("cannot write {}", listed.display()))
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
