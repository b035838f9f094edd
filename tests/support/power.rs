//! A machine whose power goes: what a program under test wrote and did not sync is gone.

use std::collections::HashMap;
use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use super::preload::Shim;

/// Watches one folder, which is there for certain; nothing in it is that was not synced.
#[derive(Debug)]
pub(crate) struct Power {
    under: PathBuf,
    kept: TempDir,
    shim: Shim,
}

impl Power {
    pub(crate) fn of(under: &Path) -> Self {
        Self {
            under: under.canonicalize().expect("it is there"),
            kept: tempfile::tempdir().expect("a temporary directory"),
            shim: Shim::of(include_str!("power.c")),
        }
    }

    /// What is there now, is there for good; what `command` does from now on is watched.
    pub(crate) fn watch(&self, command: &mut Command) {
        fs::remove_dir_all(self.kept.path()).expect("ours");
        fs::create_dir(self.kept.path()).expect("ours");
        self.keep(&self.under);
        self.shim.load(command);
        command
            .env("POWER_UNDER", &self.under)
            .env("POWER_KEPT", self.kept.path());
    }

    fn keep(&self, path: &Path) {
        let kept = self.kept.path().join(identity(path));
        if !path.is_dir() {
            fs::copy(path, kept).expect("room for it");
            return;
        }
        let mut names = String::new();
        for entry in fs::read_dir(path).expect("a folder") {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("UTF-8");
            names += &format!("{} {name}\n", identity(&entry.path()));
            let kind = entry.file_type().expect("readable");
            if kind.is_file() || kind.is_dir() {
                self.keep(&entry.path());
            }
        }
        fs::write(kept, names).expect("room for it");
    }

    /// After a kill: leaves of `folder` what the power cut would have left.
    pub(crate) fn cut(&self, folder: &Path) {
        let folder = folder.canonicalize().expect("it was made");
        let above = folder.parent().expect("not the root");
        assert!(above.starts_with(&self.under));
        if self.names(above).contains(&identity(&folder)) {
            self.put_back(&folder);
        } else {
            fs::remove_dir_all(folder).expect("ours");
        }
    }

    fn put_back(&self, folder: &Path) {
        // As they are now called: a file that was renamed has its old name again if the folder was not synced.
        let mut now = HashMap::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            now.insert(identity(&path), path);
        }
        let mut then = Vec::new();
        for (id, name) in self.names(folder).entries() {
            let kept = self.kept.path().join(id);
            match now.get(id) {
                Some(path) if path.is_dir() => {
                    assert_eq!(path, &folder.join(name), "folders are not renamed");
                    self.put_back(path);
                    now.remove(id);
                }
                // What was never synced has its name and nothing in it.
                _ => then.push((name.to_owned(), fs::read(kept).unwrap_or_default())),
            }
        }
        for path in now.into_values() {
            match path.is_dir() {
                true => fs::remove_dir_all(path).expect("ours"),
                false => fs::remove_file(path).expect("ours"),
            }
        }
        for (name, bytes) in then {
            fs::write(folder.join(name), bytes).expect("room for it");
        }
    }

    fn names(&self, folder: &Path) -> Names {
        let kept = self.kept.path().join(identity(folder));
        // A folder of which nothing was synced is empty.
        Names(fs::read_to_string(kept).unwrap_or_default())
    }
}

/// Of a folder, `IDENTITY NAME` a line.
struct Names(String);

impl Names {
    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        (self.0.lines()).map(|line| line.split_once(' ').expect("written so"))
    }

    fn contains(&self, id: &str) -> bool {
        self.entries().any(|(it, _)| it == id)
    }
}

/// As the shim writes it.
fn identity(path: &Path) -> String {
    let about = fs::symlink_metadata(path).expect("it is there");
    let born = about.created().expect("this file system knows it");
    let born = born.duration_since(UNIX_EPOCH).expect("after 1970");
    format!(
        "{}-{}-{}",
        about.st_ino(),
        born.as_secs(),
        born.subsec_nanos()
    )
}
