//! A process that does not outlive its test.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::{LIMIT, until};

/// A process under way. Its output goes to files, so that it never waits for us.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    output: TempDir,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Running {
    /// Standard input is what `command` says, or nothing.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let output = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| File::create(output.path().join(name)).expect("a new file");
        let child = command
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// Its standard input, where that is piped; taken once.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("piped, and not taken yet")
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        fs::read(self.path("stdout")).expect("made at the start")
    }

    pub(crate) fn stderr(&self) -> String {
        let bytes = fs::read(self.path("stderr")).expect("made at the start");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.output.path().join(name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for an answer that this process has to bring about.
    pub(crate) fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let started = Instant::now();
        until(what, || {
            if let Some(answer) = ask(self) {
                return Some(answer);
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(
                ended.is_none() && started.elapsed() < LIMIT,
                "{} ended ({ended:?}) or took over {LIMIT:?} before {what}:\n{}",
                self.name,
                self.stderr()
            );
            None
        })
    }

    /// Waits until it has the file at `path` open.
    pub(crate) fn until_open(&mut self, path: &Path) {
        // Its number alone may be that of a pipe, too.
        let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
        let wanted = id(&fs::metadata(path).expect("it is there"));
        self.until("the file is open", |process| {
            let descriptors = fs::read_dir(format!("/proc/{}/fd", process.id())).ok()?;
            let mut files = descriptors.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
            files.any(|meta| id(&meta) == wanted).then_some(())
        });
    }

    /// `TERM`, `INT`, `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        // std only knows SIGKILL, and the shell has it built in.
        let kill = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("sh").success(), "{kill}");
    }

    /// Sends it again and again until it has ended.
    pub(crate) fn signal_until_ended(mut self, signal: &str) -> Ended {
        super::until("it has ended", || {
            let ended = self.child.try_wait().expect("our own child").is_some();
            if !ended {
                self.signal(signal);
            }
            ended.then_some(())
        });
        self.wait()
    }

    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("our own child");
        let ended = self.wait();
        assert_eq!(ended.status.signal(), Some(9), "it had ended before");
        ended
    }

    /// Waits for its end, at most for [`LIMIT`].
    pub(crate) fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            assert!(
                started.elapsed() < LIMIT,
                "{} still runs after {LIMIT:?}:\n{}",
                self.name,
                self.stderr()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        Ended {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // By its id, and only while it is ours to wait for.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let said = self.stderr();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.len().saturating_sub(40);
            eprintln!(
                "-- {} said, at last:\n{}",
                self.name,
                lines[last..].join("\n")
            );
        }
    }
}

impl Ended {
    pub(crate) fn expect_success(self) -> Self {
        assert!(self.status.success(), "{}:\n{}", self.status, self.stderr);
        self
    }

    /// Its exit code, and what it said on standard error.
    pub(crate) fn refusal(&self) -> (i32, &str) {
        let code = self.status.code();
        let code = code.unwrap_or_else(|| panic!("{}:\n{}", self.status, self.stderr));
        (code, self.stderr.trim_end())
    }
}

/// Runs to the end with `input` on standard input.
pub(crate) fn run(name: &str, command: &mut Command, input: &[u8]) -> Ended {
    let file = tempfile::tempdir().expect("a temporary directory");
    let path = file.path().join("stdin");
    fs::write(&path, input).expect("room for it");
    command.stdin(Stdio::from(File::open(&path).expect("just written")));
    Running::start(name, command).wait()
}
