//! Every way to end at every moment, for every source: no line is missing, and none is doubled that is not behind the
//! checkpoint on disk.
//!
//! | moment | what is so when the agent is ended |
//! |---|---|
//! | before send | all is read, nothing is sent |
//! | in flight | calls are under way that were not done |
//! | done, unanswered | calls are under way that were done |
//! | part of a batch stored | some entries are stored, others refused |
//! | in a checkpoint write | all is stored, and no new checkpoint or cursor has come to its place; a torn one lies beside it |
//!
//! It is killed, told to stop, or killed and everything gone that it had not synced, as when a machine loses its power.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::net::Shutdown;
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};

use kinseal::fake::{Action, Entries, Faults, Rule, Service};
use serde_json::Value;

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{self, Arrived, line};
use crate::support::power::Power;
use crate::support::process::Running;
use crate::support::servers::StandIn;
use crate::support::until;

/// Before the end, and as many after it.
const LINES: u64 = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Socket,
    Stdin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    BeforeSend,
    InFlight,
    DoneUnanswered,
    PartStored,
    InCheckpointWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
    PowerCut,
}

const MOMENTS: [Moment; 5] = [
    Moment::BeforeSend,
    Moment::InFlight,
    Moment::DoneUnanswered,
    Moment::PartStored,
    Moment::InCheckpointWrite,
];

#[test]
fn a_file_over_kill_9() {
    row(Source::File, End::Kill);
}

#[test]
fn a_file_over_sigterm() {
    row(Source::File, End::Terminate);
}

#[test]
fn a_file_over_a_power_cut() {
    row(Source::File, End::PowerCut);
}

#[test]
fn a_socket_with_a_spool_over_kill_9() {
    row(Source::Socket, End::Kill);
}

#[test]
fn a_socket_with_a_spool_over_sigterm() {
    row(Source::Socket, End::Terminate);
}

#[test]
fn a_socket_with_a_spool_over_a_power_cut() {
    row(Source::Socket, End::PowerCut);
}

#[test]
fn standard_input_with_a_spool_over_a_power_cut() {
    row(Source::Stdin, End::PowerCut);
}

#[test]
fn standard_input_with_a_spool_over_kill_9() {
    row(Source::Stdin, End::Kill);
}

#[test]
fn standard_input_with_a_spool_over_sigterm() {
    row(Source::Stdin, End::Terminate);
}

fn row(source: Source, end: End) {
    for moment in MOMENTS {
        cell(source, moment, end);
    }
}

fn cell(source: Source, moment: Moment, end: End) {
    println!("{source:?} {moment:?} {end:?}");
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let home = source.home(&site, &key, moment);
    site.fake.set_faults(moment.faults());
    let power = (end == End::PowerCut).then(|| Power::of(home.path()));
    let mut agent = Sending::start(&home, source, power.as_ref());
    // The start looks whether a checkpoint can be written.
    let in_the_way = (moment == Moment::InCheckpointWrite).then(|| InTheWay::of(source, &home));
    agent.send(1..=LINES);
    agent.until(moment, &site);
    if let (Some(it), End::Terminate) = (&in_the_way, end) {
        it.clear();
    }
    agent.end(end);
    if let Some(power) = &power {
        power.cut(&home.state());
    }
    let safe = source.settled(&home);
    if let (Some(it), End::Kill | End::PowerCut) = (&in_the_way, end) {
        assert_eq!(safe, 0, "no new checkpoint was in its place");
        it.leave_torn();
    }

    site.fake.set_faults(Faults::seeded(1));
    home.forget("linger");
    let mut agent = Sending::start(&home, source, None);
    agent.send(LINES + 1..=2 * LINES);
    agent.hang_up();
    agent.until_all_is_stored(2 * LINES);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=2 * LINES);
    let doubled: Vec<_> = (1..=2 * LINES).filter(|n| arrived.count(*n) > 1).collect();
    let wrongly = doubled
        .iter()
        .filter(|n| **n <= safe || **n > LINES || arrived.count(**n) > 2);
    let wrongly: Vec<_> = wrongly.collect();
    assert!(
        wrongly.is_empty(),
        "{source:?} {moment:?} {end:?}: settled up to line {safe}, doubled {wrongly:?}"
    );
    if moment == Moment::BeforeSend {
        assert!(
            doubled.is_empty(),
            "nothing was sent that could be doubled: {doubled:?}"
        );
    }
}

/// What keeps a new checkpoint, or cursor, from its place: a folder of the name under which it is begun.
struct InTheWay {
    unfinished: PathBuf,
}

impl InTheWay {
    fn of(source: Source, home: &Home) -> Self {
        let unfinished = match source {
            Source::File => home.state().join("checkpoint.json.new"),
            _ => spool(home).join("cursor.json.new"),
        };
        fs::create_dir_all(unfinished.parent().expect("a file")).expect("room for it");
        // The start tries it, and what it finds is saved.
        until("it is in the way", || {
            let _ = fs::remove_file(&unfinished);
            fs::create_dir_all(unfinished.join("full")).ok()
        });
        Self { unfinished }
    }

    fn clear(&self) {
        let _ = fs::remove_dir_all(&self.unfinished);
        assert!(!self.unfinished.exists(), "ours");
    }

    /// As a crash leaves it.
    fn leave_torn(&self) {
        self.clear();
        fs::create_dir_all(self.unfinished.parent().expect("a file")).expect("room for it");
        fs::write(&self.unfinished, "{\"version\":1,\"set").expect("room for it");
    }
}

fn spool(home: &Home) -> PathBuf {
    home.state().join("spool").join(STREAM)
}

impl Moment {
    fn faults(self) -> Faults {
        let on_put = |action| Rule::new(action).service(Service::Kinesis).on("PutRecords");
        match self {
            Self::BeforeSend | Self::InCheckpointWrite => Faults::seeded(1),
            Self::InFlight => Faults::seeded(1).rule(on_put(Action::Stall)),
            Self::DoneUnanswered => Faults::seeded(1).rule(on_put(Action::StallAfter)),
            Self::PartStored => {
                Faults::seeded(1).rule(on_put(Action::FailEntries(Entries::Percent(60.0))))
            }
        }
    }
}

impl Source {
    fn home(self, site: &StandIn, key: &str, moment: Moment) -> Home {
        let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
        let mut more =
            "[metrics]\nlog_interval = \"1s\"\n[spool]\n[checkpoint]\ninterval = \"10ms\"\n"
                .to_owned();
        more += "[aggregation]\nmax_size = \"4KiB\"\n";
        if moment == Moment::BeforeSend {
            // Neither time nor size closes an aggregate.
            more = more.replace("4KiB", "1000KiB") + "linger = \"1h\"\n";
        }
        match self {
            Self::File => Home::new(&site.endpoints, &encryption, &more),
            Self::Socket => Home::with_socket(&site.endpoints, &encryption, &more),
            Self::Stdin => {
                Home::with_source(&site.endpoints, "type = \"stdin\"", &encryption, &more)
            }
        }
    }

    /// The last line that the disk knows to be settled.
    fn settled(self, home: &Home) -> u64 {
        if self == Self::File {
            let settled = home.settled(&home.log()).unwrap_or(0);
            let is_settled = |n: &u64| lines::bytes(1..=*n) <= settled;
            return (1..=LINES).take_while(is_settled).count() as u64;
        }
        let Ok(text) = fs::read(spool(home).join("cursor.json")) else {
            return 0;
        };
        let saved: Value = serde_json::from_slice(&text).expect("whole at any moment");
        saved["settled"].as_u64().expect("a number").min(LINES)
    }
}

/// An agent, and what it is fed from.
struct Sending<'a> {
    agent: Running,
    home: &'a Home,
    source: Source,
    input: Option<ChildStdin>,
}

impl<'a> Sending<'a> {
    fn start(home: &'a Home, source: Source, power: Option<&Power>) -> Self {
        let mut command = kinseal();
        if let Some(power) = power {
            power.watch(&mut command);
        }
        command.stdin(match source {
            Source::Stdin => Stdio::piped(),
            _ => Stdio::null(),
        });
        command
            .args(["agent", "--grace", "3s", "--config"])
            .arg(home.config());
        let mut agent = Running::start("kinseal agent", &mut command);
        agent.until("it has started", |agent| {
            agent.stderr().contains("agent: started ").then_some(())
        });
        let input = (source == Source::Stdin).then(|| agent.stdin());
        Self {
            agent,
            home,
            source,
            input,
        }
    }

    fn send(&mut self, numbers: RangeInclusive<u64>) {
        let text: String = numbers.clone().map(|number| line(number) + "\n").collect();
        match self.source {
            Source::File => {
                lines::append(&self.home.log(), numbers)
                    .wait()
                    .expect_success();
            }
            Source::Socket => {
                let mut client = UnixStream::connect(self.home.socket()).expect("it listens");
                client.write_all(text.as_bytes()).expect("it reads");
                client.shutdown(Shutdown::Write).expect("still connected");
            }
            Source::Stdin => {
                let input = self.input.as_mut().expect("not at its end yet");
                let mut input = BufWriter::new(input);
                input.write_all(text.as_bytes()).expect("it reads");
                input.flush().expect("it reads");
            }
        }
    }

    fn hang_up(&mut self) {
        self.input = None;
    }

    /// Until all is read, and safe from a kill where it has to be; and the moment has come.
    fn until(&mut self, moment: Moment, site: &StandIn) {
        let is_spooled = self.source != Source::File;
        self.agent.until("all is read", |agent| {
            let account = Account::last(&agent.stderr())?;
            let is_safe = account.pending == account.spooled || !is_spooled;
            (account.accepted == LINES && is_safe).then_some(())
        });
        self.agent.until("the moment has come", |agent| {
            let counters = site.fake.counters();
            let calls = counters.calls_of(Service::Kinesis, "PutRecords");
            let stored = counters.records_stored;
            let has_come = match moment {
                Moment::BeforeSend => calls == 0,
                Moment::InFlight => calls > 0 && stored == 0,
                Moment::DoneUnanswered => stored > 0,
                Moment::PartStored => stored > 0 && counters.faulted_entries > 0,
                // Everything is stored, and the checkpoint does not know it.
                Moment::InCheckpointWrite => Account::last(&agent.stderr())?.stored == LINES,
            };
            has_come.then_some(())
        });
    }

    fn end(self, end: End) {
        match end {
            End::Kill | End::PowerCut => {
                self.agent.kill();
            }
            End::Terminate => {
                self.agent.signal("TERM");
                self.agent.wait().expect_success();
            }
        }
    }

    /// Until there is nothing left to send; and stops it.
    fn until_all_is_stored(mut self, all: u64) {
        if self.source == Source::File {
            self.home.until_settled(&mut self.agent, &self.home.log());
            FinalReport::of(self.agent);
            return;
        }
        if self.source == Source::Stdin {
            // Its input has ended: it sends all it has, and ends.
            let report = FinalReport::said_in(self.agent.wait().expect_success());
            let [accepted, stored, ..] = report.account();
            assert_eq!(stored, accepted, "{}", report.said());
            return;
        }
        let home = self.home;
        self.agent.until("all is stored", |agent| {
            let account = Account::last(&agent.stderr())?;
            let is_all = account.accepted >= all - LINES && account.pending == 0;
            (is_all && account.accepted == account.stored).then_some(())
        });
        assert!(home.socket().exists());
        FinalReport::of(self.agent);
    }
}

/// What the log said last of the stream's records.
struct Account {
    accepted: u64,
    stored: u64,
    pending: u64,
    spooled: u64,
}

impl Account {
    fn last(log: &str) -> Option<Self> {
        let line = log.lines().rev().find(|line| line.contains("accepted "))?;
        let number = |before: &str| -> Option<u64> {
            let (_, rest) = line.rsplit_once(before)?;
            let digits = rest.split([' ', ',']).next()?;
            // Thousands are set apart.
            let all: String = rest
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == ',')
                .filter(char::is_ascii_digit)
                .collect();
            all.parse().ok().or_else(|| digits.parse().ok())
        };
        Some(Self {
            accepted: number("accepted ")?,
            stored: number("= stored ")?,
            pending: number("pending ")?,
            spooled: number("of which ").unwrap_or(0),
        })
    }
}
