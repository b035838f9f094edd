//! Room on disk, before all else: what a full disk does to a test says nothing of the code.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context, ensure};

use crate::step;

/// What a first build takes, 3.1 GiB, and the files of the largest tests together.
const NEEDED: u64 = 6 << 30;
/// Builds of older checkouts stay in a target directory that outlives them; beyond this they go.
const KEPT: u64 = 12 << 30;

/// Drops what was built before where it takes too much room, and fails where there is too little even then.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let target = step::target_dir()?;
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    let kept = size_of(&target)?;
    // What is already built need not be built again.
    let needed = |kept: u64| NEEDED.saturating_sub(kept).max(NEEDED / 3);
    if kept <= KEPT && free(&target)? >= needed(kept) {
        return Ok(());
    }
    println!(
        "{} holds {}, {} are free: builds go, and are made anew",
        target.display(),
        gib(kept),
        gib(free(&target)?)
    );
    for profile in ["debug", "release"] {
        remove(&target.join(profile))?;
    }
    let (kept, free) = (size_of(&target)?, free(&target)?);
    ensure!(
        free >= needed(kept),
        "{} are free beside {}, and builds and tests take up to {}: make room",
        gib(free),
        target.display(),
        gib(needed(kept))
    );
    Ok(())
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn free(at: &Path) -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(at).with_context(|| format!("cannot ask {}", at.display()))?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// Of all files below; cargo may be at work there, so what is gone meanwhile counts nothing.
fn size_of(directory: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries.filter_map(Result::ok) {
        sum += match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()).unwrap_or(0),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        };
    }
    Ok(sum)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_as_large_as_all_files_below_it() {
        let directory = std::env::temp_dir().join(format!("xtask-room-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).expect("room for it");
        fs::write(directory.join("one"), [0; 1000]).expect("room for it");
        fs::write(directory.join("a/b/two"), [0; 234]).expect("room for it");
        let size = size_of(&directory);
        remove(&directory).expect("it is ours");
        remove(&directory).expect("it is gone, which is as well");
        assert_eq!(size.expect("it was there"), 1234);
    }
}
