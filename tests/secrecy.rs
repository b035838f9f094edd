//! What holds keys leaves no trace of them: no core dump, unless it is asked for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::agent::{Home, STREAM, kinseal};
use crate::support::process::Running;
use crate::support::servers::StandIn;

#[test]
fn a_crash_leaves_no_core_dump() {
    let site = site();
    let home = home(&site);
    let agent = home.start_agent_as(with_core_files(&home));
    assert_eq!(core_file_size(&agent), ["0", "0"]);
    agent.signal("ABRT");
    let ended = agent.wait();
    assert_eq!(ended.status.signal(), Some(6), "{}", ended.status);
    assert!(!ended.status.core_dumped(), "{}", ended.status);
    assert!(!home.path().join("core").exists());
}

#[test]
fn core_dumps_are_left_as_they_are_where_the_configuration_allows_them() {
    let site = site();
    let home = home(&site);
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), format!("core_dumps = true\n{config}")).expect("room for it");
    let agent = home.start_agent_as(with_core_files(&home));
    let [soft, hard] = core_file_size(&agent);
    assert_eq!(soft, hard, "as `with_core_files` left it");
    let ours = fs::read_to_string("/proc/self/limits").expect("Linux");
    assert_eq!(hard, core_file_line(&ours)[1]);
}

/// The file `environ` tells: the kernel gives it to root where a process is not dumpable. The agent runs as
/// another user than root for this, where we are root.
#[test]
fn another_process_of_the_same_user_may_not_look_into_the_agent() {
    let site = site();
    let home = home(&site);
    let config = fs::read_to_string(home.config()).expect("written");
    for core_dumps in [false, true] {
        let config = format!("core_dumps = {core_dumps}\n{config}");
        fs::write(home.config(), config).expect("room for it");
        let agent = home.start_agent_as(home.kinseal_without_rights());
        let owner = if core_dumps { home.owner() } else { 0 };
        let proc = format!("/proc/{}", agent.id());
        let environ = fs::metadata(format!("{proc}/environ")).expect("it runs");
        assert_eq!(environ.uid(), owner, "core_dumps = {core_dumps}");
        // What monitoring reads stays readable, for anyone.
        for open in ["stat", "status", "limits"] {
            let mode = fs::metadata(format!("{proc}/{open}")).expect("it runs");
            assert_eq!(mode.mode() & 0o777, 0o444, "{open}");
        }
        agent.kill();
    }
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site
}

fn home(site: &StandIn) -> Home {
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    Home::new(&site.endpoints, &encryption, "")
}

/// With core files as large as this host lets them be, in its own folder.
fn with_core_files(home: &Home) -> Command {
    let program = kinseal();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .current_dir(home.path())
        .env_clear();
    for (name, value) in program.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command
}

/// Soft and hard limit.
fn core_file_size(process: &Running) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id()));
    core_file_line(&limits.expect("it runs"))
}

fn core_file_line(limits: &str) -> [String; 2] {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.expect("proc(5)").split_whitespace();
    std::array::from_fn(|_| words.next().expect("soft, hard, unit").to_owned())
}
