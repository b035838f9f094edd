//! What goes with a run when it ends, when it fails, and when Ctrl-C, SIGTERM or a hangup ends this program: its temporary folder, and its
//! processes. After `kill -9` the folder is left, whose name says whose it was, and other programs go on.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
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

/// From then on only who cleans up says anything, and ends this program.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// For what a process that was killed just now still had open.
const TO_REMOVE: Duration = Duration::from_secs(10);

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(|held| held.into_inner())
}

/// A temporary folder, removed with all that is in it when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Its path stands in configurations, which take it for a pattern.
    pub(crate) fn make() -> anyhow::Result<Self> {
        let mut held = held();
        if !held.listens {
            clean_up_when_interrupted()?;
            held.listens = true;
        }
        let parent = std::env::temp_dir();
        let shown = parent.display();
        let cannot = || format!("cannot make a folder in {shown}; TMPDIR names another one");
        let parent = fs::canonicalize(&parent).with_context(cannot)?;
        let text = parent.to_str().unwrap_or("\u{fffd}");
        ensure!(
            !text.contains(['*', '?', '[', ']', '{', '}', '\\', '\u{fffd}'])
                && !text.contains(char::is_control),
            "{shown} has characters that patterns are made of, or that are no text; TMPDIR names another folder"
        );
        let made = tempfile::Builder::new()
            .prefix("kinseal-loadtest-")
            .tempdir_in(&parent);
        let folder = made.with_context(cannot)?.keep();
        held.folders.push(folder.clone());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    /// Who cleans up meanwhile waits: it is gone, or still known.
    fn drop(&mut self) {
        let mut held = held();
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("loadtest: {} is left: {error}", self.0.display());
        }
        held.folders.retain(|path| *path != self.0);
    }
}

/// A process and those that it starts, in a group of their own: they are ended when this program is interrupted, and write nothing
/// where it cleans up.
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

/// Before anything is said of a failure: what an interruption makes fail is none, and who cleans up ends this program.
pub(crate) fn wait_if_interrupted() {
    while IS_INTERRUPTED.load(Ordering::Relaxed) {
        thread::park();
    }
}

/// This program may still write there: until it does not.
fn remove(folder: &Path) -> io::Result<()> {
    let until = Instant::now() + TO_REMOVE;
    loop {
        match fs::remove_dir_all(folder) {
            _ if !folder.exists() => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error),
            Ok(()) | Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT end this program with the shell's exit code for them, after its processes and folders.
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
        IS_INTERRUPTED.store(true, Ordering::Relaxed);
        let held = held();
        held.groups.iter().for_each(|leader| end(*leader));
        // Nobody may read it any more.
        let say = |what: &str| drop(writeln!(io::stderr(), "{what}"));
        for folder in &held.folders {
            if let Err(error) = remove(folder) {
                say(&format!(
                    "\nloadtest: {} is left: {error}",
                    folder.display()
                ));
            }
        }
        say(&format!("\nloadtest: interrupted{}", held.kept));
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
    use std::io::Read as _;
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
    fn a_folder_goes_whatever_is_written_to_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap().keep();
        let written = folder.clone();
        let writer = thread::spawn(move || {
            (0..)
                .map_while(|n| fs::write(written.join(n.to_string()), b"x").ok())
                .count()
        });
        remove(&folder).unwrap();
        writer.join().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn what_another_program_has_started_ends_with_it() {
        let mut command = Command::new("sh");
        // Without an input of its own, what runs in the background has none, and cat ends.
        let both_wait = "exec 3<&0; { echo; cat; } <&3 & wait";
        process::apart(&mut command).args(["-c", both_wait]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut leader = piped.spawn().unwrap();
        let group = Group::of(&leader);
        assert!(held().groups.contains(&leader.id()));
        let mut output = leader.stdout.take().unwrap();
        output.read_exact(&mut [0]).unwrap();
        end(leader.id());
        // Its output is closed when the last one of the group has ended.
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        assert!(!leader.wait().unwrap().success());
        drop(group);
        assert!(!held().groups.contains(&leader.id()));
    }
}
