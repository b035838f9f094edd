//! The memory limit, as the system sees it: with the sink stopped and more to read than fits, a process stays within its
//! limit and [`BESIDE`] it, whatever the records are like.
//!
//! First the sink answers for a while, so that all that a busy agent leaves behind is there too; then it stalls, and
//! the agent fills up to its limit. What the process is made of before it has read anything counts as well.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kinseal::fake::{Action, Fake, Faults, Rule};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::process::Running;
use crate::support::servers::StandIn;
use crate::support::until;

const LIMIT: u64 = 64 << 20;
/// What is not records: code, threads, connections, buffers that are being read into.
const BESIDE: u64 = 32 << 20;
/// Several times what fits, however the records are kept.
const FILE: u64 = 192 << 20;
/// Bytes of requests that are answered before the sink stalls.
const ANSWERED: u64 = 128 << 20;
/// What else is read meanwhile: words of the system that our own look at a folder has opened it. A read of records is
/// many times that.
const NO_RECORDS: u64 = 1024;
/// A full agent reads none for this long.
const QUIET: Duration = Duration::from_secs(2);

#[test]
fn plain_records_stay_within_the_limit() {
    for size in [20, 200, 100 << 10] {
        expect_bounded(&ANY_SHARD, "off", size);
    }
}

/// Each shard has an open aggregate, and all of them close together, when their time is up.
#[test]
fn keyed_records_of_thousands_of_shards_stay_within_the_limit() {
    for (shards, size) in [(2000, 20), (10_000, 20), (10_000, 200)] {
        expect_bounded(&keyed(shards), "off", size);
    }
}

#[test]
fn records_sealed_one_by_one_stay_within_the_limit() {
    for size in [20, 200, 100 << 10] {
        expect_bounded(&ANY_SHARD, "record", size);
    }
}

#[test]
fn blocks_stay_within_the_limit() {
    for size in [20, 200, 100 << 10] {
        expect_bounded(&ANY_SHARD, "block", size);
    }
}

#[test]
fn a_line_far_longer_than_any_record_takes_no_more_than_the_limit() {
    const LIMIT: u64 = 8 << 20;
    const LINE: usize = 60_000_000;
    let site = StandIn::built(Fake::builder());
    site.endpoints.create_stream(STREAM, 1);
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    home.set_memory_limit("8MiB");
    let mut file = File::create(home.log()).expect("room for it");
    let mut write = |bytes: &[u8]| file.write_all(bytes).expect("room for it");
    write(b"before\n");
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    let before = of_proc(&agent, "status", "VmHWM:") << 10;
    for _ in 0..LINE / 1_000_000 {
        write(&vec![b'x'; 1_000_000]);
    }
    write(b"\nbehind\n");
    home.until_settled(&mut agent, &home.log());
    let peak = of_proc(&agent, "status", "VmHWM:") << 10;
    let report = FinalReport::of(agent);
    assert_eq!(report.account(), [3, 2, 1, 0, 0, 0, 0], "{}", report.said());
    let letters = home.dead_letters();
    let digits = letters[0]["data_base64"].as_str().expect("text");
    let kept = digits.trim_end_matches('=').len() * 3 / 4;
    let cut = format!("its last {} bytes are cut off", LINE - kept);
    let reason = letters[0]["reason"].as_str().expect("text");
    assert_eq!(letters[0]["kind"], "LineTooLong");
    assert!(
        kept > 1_000_000 && reason.contains(&cut),
        "{kept}: {reason}"
    );
    assert!(
        peak <= before + LIMIT,
        "{} KiB, and {} KiB before: more than the limit of {} MiB",
        peak >> 10,
        before >> 10,
        LIMIT >> 20,
    );
}

#[test]
fn long_lines_that_many_clients_have_begun_take_no_more_than_they_share() {
    const CLIENTS: usize = 100;
    const LINE: usize = 600_000;
    let site = StandIn::built(Fake::builder());
    site.endpoints.create_stream(STREAM, 1);
    let unlimited = "[delivery]\nrate_limit = 10000";
    let home = Home::with_socket(&site.endpoints, "scope = \"off\"", unlimited);
    home.set_memory_limit("16MiB");
    let agent = home.start_agent();
    let before = of_proc(&agent, "status", "VmRSS:") << 10;
    let (begun, go_on) = (AtomicUsize::new(0), RwLock::new(()));
    let stopped = go_on.write().expect("nobody panicked");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (begun, go_on, socket) = (&begun, &go_on, home.socket());
            scope.spawn(move || {
                let mut socket = UnixStream::connect(socket).expect("it listens");
                let mut line = format!("{client} ").into_bytes();
                line.resize(LINE, b'x');
                // What the socket and the agent hold of it without being asked; then as much as is read.
                socket.write_all(&line[..200_000]).expect("it is read");
                begun.fetch_add(1, Ordering::Relaxed);
                socket.write_all(&line[200_000..]).expect("it is read");
                drop(go_on.read());
                socket.write_all(b"\n").expect("it is read");
            });
        }
        until("all have begun", || {
            (begun.load(Ordering::Relaxed) == CLIENTS).then_some(())
        });
        std::thread::sleep(QUIET);
        let held = of_proc(&agent, "status", "VmRSS:") << 10;
        // Two blocks of each, the room that they share beyond, and one long line.
        let most = before + (CLIENTS * (128 << 10)) as u64 + (8 << 20) + (4 << 20);
        assert!(held <= most, "{} of {} KiB", held >> 10, most >> 10);
        drop(stopped);
    });
    FinalReport::of(agent).expect_stored(CLIENTS as u64);
    let clients: BTreeSet<Vec<u8>> = home.consume(&[]).into_iter().collect();
    assert_eq!(clients.len(), CLIENTS);
    assert!(clients.iter().all(|line| line.len() == LINE));
}

#[test]
fn a_further_stream_takes_no_more_than_half_a_mebibyte_until_it_has_something_to_send() {
    const MORE: usize = 48;
    const EACH: u64 = 512 << 10;
    let site = StandIn::built(Fake::builder());
    let key = format!(
        "scope = \"record\"\nkms_key = \"{}\"",
        site.endpoints.create_key()
    );
    let idle = |others: usize| {
        let sources = (0..others).map(|n| {
            let stream = format!("{STREAM}-{n}");
            format!("[[source]]\ntype = \"file\"\ninclude = [\"/none/{n}.log\"]\nstream = \"{stream}\"\n")
        });
        let often = "[metrics]\nlog_interval = \"1s\"\n".to_owned();
        let more: Vec<String> = std::iter::once(often).chain(sources).collect();
        let home = Home::new(&site.endpoints, &key, &more.concat());
        let mut agent = home.start_agent();
        // A report has copied what each stream measures.
        agent.until("all have been told of", |agent| {
            let told = agent.stderr().matches("line to stored").count();
            (told > others).then_some(())
        });
        let peak = of_proc(&agent, "status", "VmHWM:") << 10;
        FinalReport::of(agent);
        peak
    };
    site.endpoints.create_stream(STREAM, 2);
    for n in 0..MORE {
        site.endpoints.create_stream(&format!("{STREAM}-{n}"), 2);
    }
    let (one, many) = (idle(0), idle(MORE));
    let most = one + MORE as u64 * EACH;
    assert!(
        many <= most,
        "{} of {} KiB, and {} KiB for one",
        many >> 10,
        most >> 10,
        one >> 10
    );
}

/// Where the records go.
struct Spread {
    shards: i32,
    /// Of the `[[source]]`.
    rule: &'static str,
}

const ANY_SHARD: Spread = Spread {
    shards: 8,
    rule: "",
};
fn keyed(shards: i32) -> Spread {
    Spread {
        shards,
        rule: "partition_key = \"hash\"",
    }
}

fn expect_bounded(spread: &Spread, scope: &str, record: usize) {
    let site = StandIn::built(Fake::builder().null(true));
    site.endpoints.create_stream(STREAM, spread.shards);
    let encryption = match scope {
        "off" => "scope = \"off\"".to_owned(),
        scope => format!(
            "scope = \"{scope}\"\nkms_key = \"{}\"",
            site.endpoints.create_key()
        ),
    };
    let unlimited = "[delivery]\nrate_limit = 10000\nrequest_timeout = \"10m\"";
    let home = Home::with_files_and(&site.endpoints, spread.rule, &encryption, unlimited);
    write_records(&home, record);

    let mut agent = home.start_agent();
    let answered = || site.fake.counters().body_bytes;
    agent.until("full load", |_| (answered() > ANSWERED).then_some(()));
    let stall = Rule::new(Action::Stall).on("PutRecords");
    site.fake.set_faults(Faults::seeded(1).rule(stall));
    let (mut read, mut since) = (0, Instant::now());
    agent.until("it reads no more", |agent| {
        let now = of_proc(agent, "io", "rchar:");
        if now > read + NO_RECORDS {
            (read, since) = (now, Instant::now());
        }
        (since.elapsed() >= QUIET).then_some(())
    });
    let peak = of_proc(&agent, "status", "VmHWM:") << 10;
    agent.kill();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    assert!(
        read < FILE,
        "it was never full: {read} of {FILE}, the file is too small for this test"
    );
    let what = format!(
        "{scope}, {} shards, records of {record} bytes",
        spread.shards
    );
    println!("{what}: {:.1} MiB", mib(peak));
    assert!(
        peak <= LIMIT + BESIDE,
        "{what}: {:.1} MiB, over the limit of {:.0} MiB by more than {:.0} MiB",
        mib(peak),
        mib(LIMIT),
        mib(BESIDE)
    );
}

/// Lines that do not compress to nothing.
fn write_records(home: &Home, record: usize) {
    let file = File::create(home.log()).expect("room for it");
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut line = vec![b'\n'; record];
    for _ in 0..FILE / record as u64 {
        for byte in &mut line[..record - 1] {
            // Xorshift: quick, and good enough for a compressor.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = b' ' + (state % 95) as u8;
        }
        file.write_all(&line).expect("room for it");
    }
    file.flush().expect("room for it");
}

/// A number that the system knows of a process.
fn of_proc(agent: &Running, file: &str, what: &str) -> u64 {
    let path = format!("/proc/{}/{file}", agent.id());
    let text = until(&path, || fs::read_to_string(&path).ok());
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("a number")
}
