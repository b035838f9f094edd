//! Ten thousand files: all are read, each line once, with the descriptors that a process has by default.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::Command;

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::process::Running;
use crate::support::servers::StandIn;

const FILES: usize = 10_000;
/// Half of a process's 1024, an eighth of that for what grows while the source waits for room, and what an agent has
/// besides.
const DESCRIPTORS: usize = 512 + 512 / 8 + 64;

#[test]
fn ten_thousand_files_are_read_with_the_descriptors_of_half_a_thousand() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let home = Home::new(
        &site.endpoints,
        "scope = \"off\"",
        "[metrics]\nlog_interval = \"1s\"",
    );
    let path = |n: usize| home.logs().join(format!("{n}.log"));
    for n in 0..FILES {
        fs::write(path(n), format!("{n} first\n{n} second\n")).expect("room for it");
    }
    let mut agent = home.start_agent_as(limited("1024"));
    let mut most_open = 0;
    agent.until("all files are stored", |agent| {
        most_open = most_open.max(open_files(agent));
        agent.stderr().contains("stored 20,000 ").then_some(())
    });
    let thirds = FILES.div_ceil(7);
    for n in (0..FILES).step_by(7) {
        let file = OpenOptions::new().append(true).open(path(n));
        let third = format!("{n} third\n");
        let written = file.expect("ours").write_all(third.as_bytes());
        written.expect("room for it");
    }
    agent.until("what was added is stored", |agent| {
        most_open = most_open.max(open_files(agent));
        agent.stderr().contains("stored 21,429 ").then_some(())
    });
    FinalReport::of(agent).expect_stored((2 * FILES + thirds) as u64);
    let mut lines = home.consume(&[]);
    lines.sort();
    let mut want: Vec<Vec<u8>> = (0..FILES)
        .flat_map(|n| [format!("{n} first"), format!("{n} second")])
        .chain((0..FILES).step_by(7).map(|n| format!("{n} third")))
        .map(String::into_bytes)
        .collect();
    want.sort();
    assert!(lines == want, "{} lines of {}", lines.len(), want.len());
    assert!(most_open <= DESCRIPTORS, "{most_open} descriptors");
}

/// `kinseal`, with so many descriptors.
fn limited(descriptors: &str) -> Command {
    let program = kinseal();
    let mut command = Command::new("sh");
    command.env_clear();
    for (name, value) in program.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program.get_program());
    command
}

fn open_files(agent: &Running) -> usize {
    let folder = format!("/proc/{}/fd", agent.id());
    fs::read_dir(folder).map_or(0, Iterator::count)
}
