//! kill -9 at random moments, with a file, an acknowledged socket and standard input side by side: so many as
//! `KINSEAL_KILLS` says, 20 if nothing is said. Every other one takes with it what was not synced, as a power cut does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};

use kinseal::fake::{Action, Entries, Fake, Faults, Limits, Rule};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{self, Arrived, line};
use crate::support::power::Power;
use crate::support::process::Running;
use crate::support::servers::StandIn;

/// Lines of the file, whose numbers are below this; those of the other sources are above.
const FILE: u64 = 1_000_000_000;
/// Numbers that each run's socket and standard input have, and the lines that each sends at most.
const RUN: u64 = 10_000;
const SENT: u64 = 4_000;
const SOCKET: u64 = FILE;
const STDIN: u64 = 2 * FILE;

#[test]
fn no_line_that_was_promised_is_missing_after_any_number_of_kills() {
    let kills = std::env::var("KINSEAL_KILLS").map_or(20, |n| n.parse().expect("a number"));
    let seed = std::env::var("KINSEAL_SEED")
        .map_or_else(|_| rand::random(), |n| n.parse().expect("a number"));
    println!("{kills} kills, KINSEAL_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    // Two hundred kills are more than it keeps otherwise.
    let limits = Limits {
        ring_bytes: 2 << 30,
        ..Limits::default()
    };
    let site = StandIn::built(Fake::builder().limits(limits));
    site.endpoints.create_stream(STREAM, 4);
    let key = site.endpoints.create_key();
    // A tenth of all entries is refused, some calls are done and not answered.
    let refused = Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords");
    let unanswered = Rule::new(Action::ResetAfter).on("PutRecords").percent(3.0);
    site.fake
        .set_faults(Faults::seeded(seed).rule(refused).rule(unanswered));
    let home = home(&site, &key);

    let power = Power::of(home.path());
    let (mut written, mut told) = (0, BTreeSet::new());
    for run in 0..kills {
        let is_power_cut = run % 2 == 1;
        let mut agent = start(&home, is_power_cut.then_some(&power));
        let more = written + 1..=written + random.random_range(1..2000);
        written = *more.end();
        lines::append(&home.log(), more).wait().expect_success();
        let from = SOCKET + run * RUN;
        let client = send(&home, from + 1..=from + SENT);
        let mut input = BufWriter::new(agent.stdin());
        let feeder = std::thread::spawn(move || {
            let from = STDIN + run * RUN;
            for number in from + 1..=from + SENT {
                if writeln!(input, "{}", line(number)).is_err() {
                    return;
                }
            }
        });
        let enough = site.fake.counters().records_stored + random.random_range(0..40);
        agent.until("some is stored", |_| {
            (site.fake.counters().records_stored >= enough).then_some(())
        });
        // Every other kill and power cut comes while the client reads its answers, however quick the file's lines were.
        if run % 4 < 2 {
            let promises = random.random_range(200..1000);
            agent.until("some is promised", |_| {
                let answers = client
                    .stdout()
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count();
                (answers >= promises).then_some(())
            });
        }
        agent.kill();
        if is_power_cut {
            power.cut(&home.state());
        }
        feeder.join().expect("it only writes");
        let answers = String::from_utf8(client.wait().stdout).expect("UTF-8");
        let ok = answers.lines().filter_map(|line| line.split_once(" ok "));
        told.extend(ok.map(|(number, _)| from + number.parse::<u64>().expect("a number")));
    }

    site.fake.set_faults(Faults::seeded(seed));
    let mut agent = start(&home, None);
    home.until_settled(&mut agent, &home.log());
    drop(agent.stdin());
    agent.until("all is stored", |agent| {
        let stderr = agent.stderr();
        let account = stderr
            .lines()
            .rev()
            .find(|line| line.contains("accepted "))?;
        account.contains("pending 0 ").then_some(())
    });
    FinalReport::of(agent);
    let forgotten = site.fake.counters().records_trimmed;
    assert_eq!(forgotten, 0, "the stand-in's memory is too small to tell");
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_first(written);
    let missing: Vec<_> = told.iter().filter(|n| arrived.count(**n) == 0).collect();
    assert!(
        missing.is_empty(),
        "{} were promised, missing: {missing:?}",
        told.len()
    );
    assert!(
        told.len() as u64 > 50 * kills,
        "{} promises are no work",
        told.len()
    );
    // Of each run's standard input all came but for its end.
    for run in 0..kills {
        let from = STDIN + run * RUN;
        let came = (from + 1..from + RUN)
            .take_while(|n| arrived.count(*n) > 0)
            .count() as u64;
        let after = (from + came + 1..from + RUN).find(|n| arrived.count(*n) > 0);
        assert_eq!(
            after, None,
            "after {came} lines of run {run} some are missing"
        );
    }
}

/// Of a file, a socket and standard input.
fn home(site: &StandIn, key: &str) -> Home {
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let more = format!(
        "[spool]\n[metrics]\nlog_interval = \"1s\"\n\
         [[source]]\ntype = \"unix\"\npath = \"SOCKET\"\nframing = \"kpl\"\nack = \"spooled\"\nstream = \"{STREAM}\"\n\
         [[source]]\ntype = \"stdin\"\nstream = \"{STREAM}\""
    );
    let home = Home::new(&site.endpoints, &encryption, &more);
    let config = fs::read_to_string(home.config()).expect("written");
    let config = config.replace("SOCKET", &home.socket().display().to_string());
    fs::write(home.config(), config).expect("room for it");
    home
}

fn start(home: &Home, power: Option<&Power>) -> Running {
    let mut command = kinseal();
    if let Some(power) = power {
        power.watch(&mut command);
    }
    command
        .stdin(Stdio::piped())
        .args(["agent", "--config"])
        .arg(home.config());
    let mut agent = Running::start("kinseal agent", &mut command);
    agent.until("the agent has started", |agent| {
        (agent.stderr().matches("agent: started ").count() == 3).then_some(())
    });
    agent
}

/// What has no answer is sent by nobody again.
fn send(home: &Home, numbers: std::ops::RangeInclusive<u64>) -> Running {
    let input: String = numbers.map(|number| line(number) + "\n").collect();
    let file = home.path().join("input");
    fs::write(&file, input).expect("room for it");
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kinseal_client.py");
    let mut command = Command::new("python3");
    // As it comes.
    command.args(["-u", client]).arg(home.socket()).arg(STREAM);
    command.stdin(fs::File::open(file).expect("written"));
    Running::start("the client", &mut command)
}
