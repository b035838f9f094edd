//! A full disk under the state directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::start::{FAILED, refused};
use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{self, Arrived};
use crate::support::process::Running;
use crate::support::servers::StandIn;
use crate::support::skip;

#[test]
fn on_a_full_disk_sending_goes_on_and_the_checkpoint_follows_when_there_is_room() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let disk = match SmallDisk::mount(&home.state()) {
        Ok(disk) => disk,
        Err(why) => return skip("a full disk while the agent runs", &why),
    };
    let mut agent = home.start_agent();
    lines::append(&home.log(), 1..=100).wait().expect_success();
    home.until_settled(&mut agent, &home.log());

    let settled = home.settled(&home.log());
    disk.fill();
    lines::append(&home.log(), 101..=200)
        .wait()
        .expect_success();
    agent.until("the checkpoint is said to be stuck", |agent| {
        agent.stderr().contains("cannot be written").then_some(())
    });
    assert_eq!(
        home.settled(&home.log()),
        settled,
        "what is on disk is whole"
    );
    agent.until("the lines are stored all the same", |_| {
        let records = site.fake.records(STREAM).expect("it is there");
        let last = lines::line(200);
        let is_last = |data: &[u8]| data.windows(last.len()).any(|w| w == last.as_bytes());
        records
            .iter()
            .any(|record| is_last(&record.data))
            .then_some(())
    });
    disk.free();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(200);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=200);
    arrived.expect_no_doubles();
}

#[test]
fn a_disk_that_is_full_at_the_start_is_named_and_nothing_is_begun() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let disk = match SmallDisk::mount(&home.state()) {
        Ok(disk) => disk,
        Err(why) => return skip("a full disk at the start", &why),
    };
    disk.fill();
    lines::append(&home.log(), 1..=100).wait().expect_success();
    let said = refused(&home.spawn_agent().wait(), FAILED);
    let named = format!("state directory {} cannot be used", home.state().display());
    assert!(
        said.contains(&named) && said.contains("make room"),
        "{said}"
    );
    assert_eq!(site.fake.counters().records_stored, 0);

    disk.free();
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent).expect_stored(100);
}

#[test]
fn a_log_that_nobody_can_write_stops_nothing() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let mut command = Command::new("sh");
    let kinseal = kinseal();
    for (name, value) in kinseal.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command
        .args(["-c", "exec \"$0\" agent -v --config \"$1\" 2> /dev/full"])
        .arg(kinseal.get_program())
        .arg(home.config());
    lines::append(&home.log(), 1..=100).wait().expect_success();
    let mut agent = Running::start("kinseal agent 2> /dev/full", &mut command);
    home.until_settled(&mut agent, &home.log());
    agent.signal("TERM");
    agent.wait().expect_success();
    Arrived::of(home.consume(&[])).expect_no_doubles();
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site
}

/// A file system of 256 KiB, in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Needs root and a kernel that lets it; says what is missing.
    fn mount(at: &Path) -> Result<Self, String> {
        fs::create_dir(at).expect("a new folder");
        if fs::metadata(at).expect("just made").uid() != 0 {
            return Err("mounting a small disk needs root".into());
        }
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(at.to_owned())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(e) => Err(format!("mount: {e}")),
        }
    }

    fn fill(&self) {
        let full = fs::write(self.ballast(), vec![0; 1 << 20]);
        full.expect_err("it is larger than the disk");
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("it is there");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failure the agent still has files open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
