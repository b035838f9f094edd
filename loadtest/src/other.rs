//! The other processes of a run, which say lines of JSON: each is heard in time, or what became of it is told.
//!
//! A process of a run may be killed, or stopped by somebody's debugger. Who waits for it then says so, and does not wait for ever.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cleanup::Group;
use crate::process;

/// A process that is running. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Other {
    /// Its name in messages.
    what: &'static str,
    process: Child,
    /// Ends it when dropped.
    ask: Option<ChildStdin>,
    /// Closed where it says no more.
    says: Receiver<io::Result<String>>,
    _group: Group,
}

/// Without any use of a processor. A loop at a slow pace uses some.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the rest of the run.
const LOOK: Duration = Duration::from_millis(500);
/// In which a process that fails for what a look has found says so itself.
const ITS_OWN_WORD: Duration = Duration::from_millis(500);
/// From when its input ends; the agent's grace is shorter.
const TO_END: Duration = Duration::from_secs(20);

impl Other {
    pub(crate) fn start(command: &mut Command, what: &'static str) -> anyhow::Result<Self> {
        let mut process = process::apart(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (said, says) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines() {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            what,
            ask: process.stdin.take(),
            _group: Group::of(&process),
            process,
            says,
        })
    }

    /// The next that it says. `look` is asked now and then; what it finds ends the process, as does `patience` in which it
    /// uses no processor.
    pub(crate) fn hear<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
        mut look: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<T> {
        let (what, id) = (self.what, self.process.id());
        let mut works = (process::cpu_of_process(id).ok(), Instant::now());
        let line = loop {
            if let Err(found) = look() {
                return Err(self.ended_for(found));
            }
            match self.says.recv_timeout(LOOK) {
                Ok(line) => break line.context(what)?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let cpu = process::cpu_of_process(id).ok();
            if cpu != works.0 {
                works = (cpu, Instant::now());
            }
            if works.1.elapsed() >= patience {
                let seconds = patience.as_secs();
                let found = anyhow!("{what} says nothing, and has used no CPU for {seconds} s");
                return Err(self.ended_for(found));
            }
        };
        serde_json::from_str(&line).with_context(|| format!("{what} said {line:?}"))
    }

    /// The last thing that it says, which is all that it is asked for.
    pub(crate) fn answer<T: DeserializeOwned>(mut self, patience: Duration) -> anyhow::Result<T> {
        let answer = self.hear(patience, || Ok(()))?;
        // Its input stays open until then: where that ends, it does.
        match self.process.wait()?.success() {
            true => Ok(answer),
            false => Err(self.gone()),
        }
    }

    /// Its own word, if that comes now, goes before what a look has found.
    fn ended_for(&mut self, found: anyhow::Error) -> anyhow::Error {
        match self.says.recv_timeout(ITS_OWN_WORD) {
            Err(RecvTimeoutError::Disconnected) => self.gone(),
            _ => {
                let _ = self.process.kill();
                found
            }
        }
    }

    /// A line of JSON.
    pub(crate) fn tell(&mut self, question: &impl Serialize) -> anyhow::Result<()> {
        let ask = self.ask.as_mut().context("its input is taken")?;
        let line = serde_json::to_string(question)? + "\n";
        match ask.write_all(line.as_bytes()) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone()),
        }
    }

    /// Its input, which it ends with.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.ask.take().expect("asked for once")
    }

    /// Whether it still runs.
    pub(crate) fn look(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.gone()),
        }
    }

    fn gone(&mut self) -> anyhow::Error {
        process::gone(&mut self.process, self.what)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Its end follows from that, if it has not come yet.
        self.ask = None;
        let began = Instant::now();
        while began.elapsed() < TO_END {
            match self.says.recv_timeout(LOOK) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Without effect on what has ended.
        if began.elapsed() >= TO_END {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn shell(script: &str) -> Other {
        let mut command = Command::new("sh");
        Other::start(command.args(["-c", script]), "the shell").unwrap()
    }

    fn heard(other: &mut Other, patience: Duration) -> String {
        let heard = other.hear::<u32>(patience, || Ok(()));
        format!("{:#}", heard.unwrap_err())
    }

    #[test]
    fn what_it_says_is_heard_and_what_became_of_it_is_told() {
        let mut shell = shell("read question; echo $question; echo nonsense; exit 3");
        shell.tell(&7).unwrap();
        assert_eq!(shell.hear::<u32>(PATIENCE, || Ok(())).unwrap(), 7);
        assert!(heard(&mut shell, PATIENCE).contains("the shell said \"nonsense\""));
        assert!(heard(&mut shell, PATIENCE).contains("exit status: 3"));
        let killed = heard(&mut self::shell("kill -9 $$"), PATIENCE);
        assert!(
            killed.contains("the shell was killed (signal: 9"),
            "{killed}"
        );
    }

    #[test]
    fn what_is_stopped_is_not_waited_for_for_ever() {
        let mut stopped = shell("kill -STOP $$; echo 1");
        let told = heard(&mut stopped, Duration::from_millis(1));
        assert!(told.contains("the shell says nothing"), "{told}");
        drop(stopped);
    }

    #[test]
    fn what_a_look_finds_ends_it_unless_it_has_failed_itself() {
        let found = || bail!("the disk is full");
        let mut waiting = shell("read question");
        let told = waiting.hear::<u32>(PATIENCE, found).unwrap_err();
        assert_eq!(told.to_string(), "the disk is full");
        let mut failed = shell("exit 4");
        failed.process.wait().unwrap();
        let told = failed.hear::<u32>(PATIENCE, found).unwrap_err().to_string();
        assert!(told.contains("exit status: 4"), "{told}");
    }

    #[test]
    fn an_answer_counts_only_where_its_process_ends_well() {
        assert_eq!(shell("echo 5").answer::<u32>(PATIENCE).unwrap(), 5);
        let failed = shell("echo 5; exit 1").answer::<u32>(PATIENCE);
        assert!(failed.unwrap_err().to_string().contains("exit status: 1"));
    }
}
