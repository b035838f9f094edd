//! What a process has used so far, by its own account in `/proc`, and how the processes of a run end together.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;

/// CPU time of this process, user and system, all threads, in steps of 10 ms.
pub(crate) fn cpu() -> anyhow::Result<Duration> {
    cpu_of_process(std::process::id())
}

/// The same of another process.
pub(crate) fn cpu_of_process(id: u32) -> anyhow::Result<Duration> {
    /// The kernel's USER_HZ, 100 wherever Linux runs today.
    const TICK: Duration = Duration::from_millis(10);
    let path = format!("/proc/{id}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks(&stat).ok_or_else(|| anyhow!("{path} is not as proc(5) has it"))?;
    Ok(TICK * ticks)
}

/// CPU time of this process's threads that live, by their names without a number: `seal-0` and `seal-1` are `seal`.
pub(crate) fn cpu_by_thread() -> anyhow::Result<BTreeMap<String, f64>> {
    let mut by_name = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").context("/proc/self/task")? {
        // It may have ended just now.
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else {
            continue;
        };
        let (Some(name), Some(ticks)) = (name(&stat), ticks(&stat)) else {
            continue;
        };
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *by_name.entry(name.to_owned()).or_default() += f64::from(ticks) / 100.0;
    }
    Ok(by_name)
}

/// CPU time of the threads of that name, as long as they live.
pub(crate) fn cpu_of(name: &str) -> anyhow::Result<Duration> {
    let seconds = cpu_by_thread()?.get(name).copied();
    Ok(Duration::from_secs_f64(seconds.unwrap_or_default()))
}

/// In brackets, and may hold brackets.
fn name(stat: &str) -> Option<&str> {
    let (before, _) = stat.rsplit_once(')')?;
    Some(before.split_once('(')?.1)
}

/// utime and stime, the 14th and 15th field; the second, a name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    /// The most that it ever had.
    pub(crate) peak: u64,
}

/// Of this process.
pub(crate) fn memory() -> anyhow::Result<Memory> {
    memory_of(std::process::id())
}

pub(crate) fn memory_of(id: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let of = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: Option<u64> = kib.and_then(|kib| kib.trim().parse().ok());
        let kib = kib.ok_or_else(|| anyhow!("{path} has no {field}"))?;
        anyhow::Ok(kib * 1024)
    };
    Ok(Memory {
        now: of("VmRSS:")?,
        peak: of("VmHWM:")?,
    })
}

/// Ends this process when the one that started it is gone: that one holds the other end of standard input. Resolves when
/// it says something there.
pub(crate) fn end_with_parent() -> oneshot::Receiver<()> {
    let (said, hears) = oneshot::channel();
    std::thread::spawn(|| {
        if io::stdin().read(&mut [0]).is_ok_and(|len| len > 0) {
            let _ = said.send(());
        }
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    });
    hears
}

/// Ctrl-C in a terminal is for the program that started this one, with which it ends.
pub(crate) fn apart(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// Why a process of ours, `what` in messages, has nothing more to say.
pub(crate) fn gone(process: &mut Child, what: &str) -> anyhow::Error {
    match process.wait() {
        Ok(status) if status.code().is_some() => {
            anyhow!("{what} failed ({status}); it says why above")
        }
        Ok(status) => anyhow!("{what} was killed ({status})"),
        Err(error) => anyhow!("{what} is gone: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(name(stat), Some("a) b (c"));
    }

    #[test]
    fn this_process_uses_something() {
        assert!(cpu().is_ok());
        let memory = memory().unwrap();
        assert!(memory.now > 1 << 20 && memory.peak >= memory.now);
        assert!(!cpu_by_thread().unwrap().is_empty());
    }
}
