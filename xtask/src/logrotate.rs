//! logrotate, which the end-to-end tests rotate logs with.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, ensure};

/// Where distributions put it; an ordinary user's `PATH` may not have it.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// The program, after installing it where it is not there.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    install()?;
    find().context("logrotate is not where it was installed; put it into PATH")
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let mut programs = folders.map(|folder| folder.join("logrotate"));
    programs.find(|program| fs::metadata(program).is_ok_and(|meta| meta.is_file()))
}

fn install() -> anyhow::Result<()> {
    let apt_get = |args: &[&str]| {
        let done = Command::new("apt-get").args(args).status();
        let done = done.context("logrotate is not installed, and there is no apt-get to do it")?;
        ensure!(
            done.success(),
            "apt-get {}: {done}; install logrotate by hand",
            args.join(" ")
        );
        Ok(())
    };
    let install = ["install", "--yes", "--no-install-recommends", "logrotate"];
    // A list that is not there, or is old, is brought up to date.
    apt_get(&install).or_else(|_| apt_get(&["update"]).and_then(|()| apt_get(&install)))
}
