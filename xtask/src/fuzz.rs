//! The fuzz targets, one after another. Not part of `ci`: they need a nightly compiler, and the mutants in
//! `tests/hostile` go through the same functions on the stable one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::step;

/// A target, and seeds that lie in the repository.
const TARGETS: [(&str, Option<&str>); 5] = [
    ("message", Some("tests/vectors/ciphertexts")),
    ("block", None),
    ("aggregate", None),
    ("request", None),
    ("keyfile", Some("fuzz/seeds/keyfile")),
];

/// Twice the longest vector, about.
const LONGEST_INPUT: usize = 16 << 10;

/// Goes through all targets, whatever they find; true if none found anything.
pub(crate) fn all(seconds: u64) -> anyhow::Result<bool> {
    let version = Command::new("cargo")
        .args(["+nightly", "fuzz", "--version"])
        .output();
    ensure!(
        version.is_ok_and(|output| output.status.success()),
        "cargo +nightly fuzz does not start: rustup toolchain install nightly; cargo install cargo-fuzz"
    );
    let mut sound = true;
    for (target, seeds) in TARGETS {
        sound &= run(target, seeds, seconds).with_context(|| format!("fuzz target {target}"))?;
    }
    Ok(sound)
}

fn run(target: &str, seeds: Option<&str>, seconds: u64) -> anyhow::Result<bool> {
    // What was found worth keeping stays where builds do.
    let target_dir = step::target_dir()?;
    let corpus = target_dir.join("fuzz-corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let root = step::root();
    let mut command = Command::new("cargo");
    command
        .current_dir(root.join("fuzz"))
        // Of this run's own: `+nightly` would be overruled.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env("CARGO_TARGET_DIR", target_dir.join("fuzz"))
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", ".", target])
        .arg(&corpus)
        .args(seeds.map(|seeds| Path::new(&root).join(seeds)))
        .args(["--", &format!("-max_total_time={seconds}")])
        .arg(format!("-max_len={LONGEST_INPUT}"));
    Ok(command.status().context("cannot start cargo")?.success())
}
