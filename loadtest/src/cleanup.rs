//! What goes with a run when it ends, when it fails, and when Ctrl-C, SIGTERM or a hangup ends this program: its temporary folder, and the
//! processes of other programs. After `kill -9` the folder is left, and its name says whose it was.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard};
use std::thread;

use anyhow::Context;
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// What is there now.
#[derive(Debug)]
struct Held {
    folders: Vec<PathBuf>,
    /// By the ids of their leaders.
    groups: Vec<u32>,
    /// What an interruption is told with: where the runs are that have ended.
    kept: String,
    /// Whether somebody cleans up when this program is interrupted.
    listens: bool,
}

static HELD: Mutex<Held> = Mutex::new(Held {
    folders: Vec::new(),
    groups: Vec::new(),
    kept: String::new(),
    listens: false,
});

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(|held| held.into_inner())
}

/// A temporary folder, removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let mut held = held();
        if !held.listens {
            clean_up_when_interrupted()?;
            held.listens = true;
        }
        let parent = std::env::temp_dir();
        let made = tempfile::Builder::new()
            .prefix("kinseal-loadtest-")
            .tempdir_in(&parent);
        let folder = made.with_context(|| {
            let parent = parent.display();
            format!("cannot make a folder in {parent}; TMPDIR names another one")
        })?;
        held.folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        held().folders.retain(|path| path != self.0.path());
    }
}

/// The process of another program and those that it starts, in a group of their own: they do not wait for the end of this
/// program, and are ended when it is interrupted.
#[derive(Debug)]
pub(crate) struct Group(u32);

impl Group {
    pub(crate) fn of(leader: &Child) -> Self {
        held().groups.push(leader.id());
        Self(leader.id())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        held().groups.retain(|leader| *leader != self.0);
    }
}

/// Where the results of runs are saved as they end.
pub(crate) fn results_are_in(files: &[&Path]) {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    held().kept = match &names[..] {
        [] => String::new(),
        [one] => format!("; {one} has the runs that had ended"),
        all => format!("; {} have the runs that had ended", all.join(" and ")),
    };
}

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT end this program with the shell's exit code for them, after its folders. The processes of a
/// run end by themselves: each waits for the end of this one on its standard input.
fn clean_up_when_interrupted() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let [mut interrupt, mut terminate, mut hangup, mut quit] = {
        let _entered = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]
    };
    let waiting = thread::Builder::new().name("signals".to_owned());
    waiting.spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
                _ = quit.recv() => 131,
            }
        });
        let held = held();
        held.groups.iter().for_each(|leader| end(*leader));
        // What a process of the run writes meanwhile is written into nothing.
        for folder in &held.folders {
            let _ = std::fs::remove_dir_all(folder);
        }
        // Nobody may read it any more.
        let _ = writeln!(std::io::stderr(), "\nloadtest: interrupted{}", held.kept);
        std::process::exit(code);
    })?;
    Ok(())
}

/// It may have ended just now.
fn end(leader: u32) {
    let leader = i32::try_from(leader).ok().and_then(Pid::from_raw);
    if let Some(leader) = leader {
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process;

    #[test]
    fn a_folder_is_known_for_as_long_as_it_is_there() {
        let folder = Folder::make().unwrap();
        let path = folder.path().to_owned();
        assert!(held().folders.contains(&path) && path.is_dir());
        drop(folder);
        assert!(!held().folders.contains(&path) && !path.exists());
    }

    #[test]
    fn what_another_program_has_started_ends_with_it() {
        let mut command = Command::new("sh");
        process::apart(&mut command).args(["-c", "cat & wait"]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut leader = piped.spawn().unwrap();
        let group = Group::of(&leader);
        assert!(held().groups.contains(&leader.id()));
        end(leader.id());
        // Its output is closed when the last one of the group has ended.
        let mut output = leader.stdout.take().unwrap();
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        assert!(!leader.wait().unwrap().success());
        drop(group);
        assert!(!held().groups.contains(&leader.id()));
    }
}
