//! Disks that fail for a while: under the logs, the checkpoint, the spool. What was written arrives once they are well,
//! and what does not need them goes on.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::net::Shutdown;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;

use kinseal::fake::{Action, Faults, Rule, Service};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::failing::{Call, EIO, ENOSPC, FailingDisk};
use crate::support::lines::{Arrived, line};
use crate::support::process::Running;
use crate::support::servers::StandIn;

const PLAIN: &str = "scope = \"off\"";
const OFTEN: &str = "[metrics]\nlog_interval = \"1s\"";

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    site
}

fn write(file: &Path, numbers: RangeInclusive<u64>) {
    let log = fs::OpenOptions::new().append(true).create(true).open(file);
    let mut log = BufWriter::new(log.expect("a file of ours"));
    for number in numbers {
        writeln!(log, "{}", line(number)).expect("room for it");
    }
    log.flush().expect("room for it");
}

fn until_said(agent: &mut Running, words: &str) {
    agent.until(words, |agent| agent.stderr().contains(words).then_some(()));
}

fn until_stored(agent: &mut Running, records: u64) {
    agent.until("they are stored", |agent| {
        let said = agent.stderr().replace(',', "");
        said.contains(&format!("stored {records} ")).then_some(())
    });
}

fn expect_once(home: &Home, numbers: RangeInclusive<u64>) {
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(numbers);
    arrived.expect_no_doubles();
}

#[test]
fn a_log_that_cannot_be_read_for_a_while_stops_no_other_and_loses_nothing() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, OFTEN);
    let disk = FailingDisk::build(home.path());
    let other = home.logs().join("returns.log");
    write(&home.log(), 1..=100);
    let mut agent = home.start_agent_as(disk.kinseal());
    home.until_settled(&mut agent, &home.log());

    disk.fail(&[(Call::Read, EIO, home.log())]);
    write(&home.log(), 101..=200);
    until_said(&mut agent, "reading failed");
    write(&other, 201..=300);
    home.until_settled(&mut agent, &other);
    disk.heal();
    until_stored(&mut agent, 300);
    FinalReport::of(agent).expect_stored(300);
    expect_once(&home, 1..=300);
}

#[test]
fn a_log_that_cannot_be_read_while_it_is_rotated_and_deleted_is_read_once_it_can() {
    let site = site();
    let home = Home::new(&site.endpoints, PLAIN, OFTEN);
    let disk = FailingDisk::build(home.path());
    write(&home.log(), 1..=100);
    let mut agent = home.start_agent_as(disk.kinseal());
    home.until_settled(&mut agent, &home.log());

    // By whatever names.
    disk.fail(&[(Call::Read, EIO, home.log())]);
    write(&home.log(), 101..=200);
    until_said(&mut agent, "reading failed");
    let rotated = home.logs().join("sales.log.1");
    fs::rename(home.log(), &rotated).expect("ours");
    write(&rotated, 201..=300);
    write(&home.log(), 301..=400);
    until_said(&mut agent, "cannot be read;");
    fs::remove_file(&rotated).expect("ours");
    disk.heal();
    until_stored(&mut agent, 400);
    FinalReport::of(agent).expect_stored(400);
    expect_once(&home, 1..=400);
}

/// Each way in which a checkpoint can fail to be written.
fn failing_checkpoints() -> [(Call, i32); 4] {
    [
        (Call::Write, EIO),
        (Call::Tear, ENOSPC),
        (Call::Sync, EIO),
        (Call::Sync, ENOSPC),
    ]
}

#[test]
fn a_checkpoint_that_cannot_be_written_stands_still_and_follows_once_it_can() {
    for (call, error) in failing_checkpoints() {
        let site = site();
        let home = Home::new(&site.endpoints, PLAIN, OFTEN);
        let disk = FailingDisk::build(home.path());
        write(&home.log(), 1..=100);
        let mut agent = home.start_agent_as(disk.kinseal());
        home.until_settled(&mut agent, &home.log());

        let settled = home.settled(&home.log());
        disk.fail(&[(call, error, home.state().join("checkpoint"))]);
        write(&home.log(), 101..=200);
        until_said(&mut agent, "cannot be written");
        until_stored(&mut agent, 200);
        assert_eq!(home.settled(&home.log()), settled, "{call:?} {error}");
        disk.heal();
        home.until_settled(&mut agent, &home.log());
        FinalReport::of(agent).expect_stored(200);
        expect_once(&home, 1..=200);
    }
}

#[test]
fn a_kill_9_while_no_checkpoint_can_be_written_doubles_what_came_since_and_loses_nothing() {
    for (call, error) in failing_checkpoints() {
        let site = site();
        let home = Home::new(&site.endpoints, PLAIN, OFTEN);
        let disk = FailingDisk::build(home.path());
        write(&home.log(), 1..=100);
        let mut agent = home.start_agent_as(disk.kinseal());
        home.until_settled(&mut agent, &home.log());

        disk.fail(&[(call, error, home.state().join("checkpoint"))]);
        write(&home.log(), 101..=200);
        until_said(&mut agent, "cannot be written");
        until_stored(&mut agent, 200);
        agent.kill();
        disk.heal();
        write(&home.log(), 201..=300);
        let mut agent = home.start_agent_as(disk.kinseal());
        home.until_settled(&mut agent, &home.log());
        FinalReport::of(agent).expect_stored(200);
        let arrived = Arrived::of(home.consume(&[]));
        arrived.expect_all(1..=300);
        let since: Vec<u64> = (101..=200).collect();
        assert_eq!(arrived.doubled(), since, "{call:?} {error}");
    }
}

/// A socket with a spool, whose disk fails, and a stream that takes nothing meanwhile.
struct Spooled {
    site: StandIn,
    home: Home,
    disk: FailingDisk,
}

impl Spooled {
    fn new(spool: &str) -> Self {
        let site = site();
        let more = format!("{OFTEN}\n[spool]\n{spool}");
        let home = Home::with_socket(&site.endpoints, PLAIN, &more);
        let disk = FailingDisk::build(home.path());
        let down = Rule::new(Action::ResetBefore).service(Service::Kinesis);
        let down = Faults::seeded(1).rule(down.on("PutRecords"));
        site.fake.set_faults(down);
        Self { site, home, disk }
    }

    fn fail(&self, call: Call, error: i32) {
        self.disk
            .fail(&[(call, error, self.home.state().join("spool"))]);
    }

    fn start(&self) -> Running {
        self.home.start_agent_as(self.disk.kinseal())
    }

    fn send(&self, numbers: RangeInclusive<u64>) {
        let client = UnixStream::connect(self.home.socket()).expect("the agent listens");
        let mut client = BufWriter::new(client);
        for number in numbers {
            writeln!(client, "{}", line(number)).expect("the agent reads");
        }
        client.flush().expect("the agent reads");
        let client = client.into_inner().expect("flushed");
        client.shutdown(Shutdown::Write).expect("still connected");
    }

    fn until_spooled(&self, agent: &mut Running, records: u64) {
        agent.until("all of it is in the spool", |agent| {
            let said = agent.stderr().replace(',', "");
            said.contains(&format!("of which {records} in the spool"))
                .then_some(())
        });
    }

    /// The stream takes all of it; each line once.
    fn finish(self, mut agent: Running, lines: u64) {
        self.site.fake.set_faults(Faults::none());
        until_stored(&mut agent, lines);
        FinalReport::of(agent).expect_stored(lines);
        expect_once(&self.home, 1..=lines);
    }
}

#[test]
fn a_spool_that_cannot_be_written_is_waited_for_and_holds_all_once_it_can() {
    for (call, error) in [(Call::Write, EIO), (Call::Tear, ENOSPC)] {
        let spooled = Spooled::new("");
        let mut agent = spooled.start();
        spooled.send(1..=500);
        spooled.until_spooled(&mut agent, 500);
        spooled.fail(call, error);
        spooled.send(501..=1_500);
        until_said(&mut agent, "the spool takes nothing");
        spooled.disk.heal();
        spooled.until_spooled(&mut agent, 1_500);
        until_said(&mut agent, "the spool takes records again");
        // They are on disk, and not in memory alone.
        agent.kill();
        let agent = spooled.start();
        spooled.finish(agent, 1_500);
    }
}

#[test]
fn a_spool_that_cannot_be_synced_says_so_and_loses_nothing() {
    for sync in ["sync = \"always\"", "sync = \"interval\""] {
        let spooled = Spooled::new(sync);
        let mut agent = spooled.start();
        spooled.send(1..=500);
        spooled.until_spooled(&mut agent, 500);
        spooled.fail(Call::Sync, EIO);
        spooled.send(501..=1_000);
        until_said(&mut agent, "the spool takes nothing");
        spooled.disk.heal();
        spooled.until_spooled(&mut agent, 1_000);
        spooled.send(1_001..=1_500);
        spooled.until_spooled(&mut agent, 1_500);
        agent.kill();
        let agent = spooled.start();
        spooled.finish(agent, 1_500);
    }
}

#[test]
fn a_spool_that_cannot_be_read_is_read_once_it_can() {
    let spooled = Spooled::new("");
    let mut agent = spooled.start();
    spooled.send(1..=500);
    spooled.until_spooled(&mut agent, 500);
    spooled.fail(Call::Read, EIO);
    spooled.site.fake.set_faults(Faults::none());
    spooled.send(501..=1_000);
    until_said(&mut agent, "the spool cannot be read");
    // What it had read before.
    until_stored(&mut agent, 500);
    spooled.disk.heal();
    spooled.finish(agent, 1_000);
}
