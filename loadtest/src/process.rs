//! What a process has used so far, by its own account in `/proc`, and how the processes of a run end together.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context, anyhow};

/// CPU time of this process, user and system, all threads, in steps of 10 ms.
pub(crate) fn cpu() -> anyhow::Result<Duration> {
    /// The kernel's USER_HZ, 100 wherever Linux runs today.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    let ticks = ticks(&stat).ok_or_else(|| anyhow!("/proc/self/stat is not as proc(5) has it"))?;
    Ok(TICK * ticks)
}

/// utime and stime, the 14th and 15th field; the second, a name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The most memory this process ever had resident, in bytes.
pub(crate) fn peak_memory() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .and_then(|kib| kib.trim().parse().ok())
        .ok_or_else(|| anyhow!("/proc/self/status has no VmHWM"))?;
    Ok(kib * 1024)
}

/// Ends this process when the one that started it is gone: that one holds the other end of standard input.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0";
        assert_eq!(ticks(stat), Some(154));
    }

    #[test]
    fn this_process_uses_something() {
        assert!(cpu().is_ok());
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
