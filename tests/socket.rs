//! Lines over a Unix socket: a source that cannot be read again.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use kinseal::fake::{Action, Entries, Faults, Rule};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines::{Arrived, line};
use crate::support::servers::StandIn;

const LINES: u64 = 20_000;

#[test]
fn what_clients_sent_before_the_stop_is_stored() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let tenth = Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords");
    site.fake.set_faults(Faults::seeded(3).rule(tenth));
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let home = Home::with_socket(&site.endpoints, &encryption, "");
    let agent = home.start_agent();

    let clients = [1..=LINES / 2, LINES / 2 + 1..=LINES].map(|numbers| {
        let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
        std::thread::spawn(move || {
            for number in numbers {
                // Waits where the agent does not keep up: that is all the back-pressure there is.
                writeln!(client, "{}", line(number)).expect("the agent reads");
            }
            client.shutdown(Shutdown::Write).expect("still connected");
        })
    });
    for client in clients {
        client.join().expect("it wrote everything");
    }
    // What the clients wrote may still lie in the socket.
    FinalReport::of(agent).expect_stored(LINES);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
    assert!(
        !home.socket().exists(),
        "the next start finds its place free"
    );
}

#[test]
fn frames_are_records_whatever_is_in_them_and_who_breaks_them_is_named() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    for (framing, frame) in [
        ("length_prefixed", &b"\0\0\0\x07one\ntwo"[..]),
        ("octet_counted", b"7 one\ntwo"),
    ] {
        let source = format!("framing = \"{framing}\"");
        let home = Home::with_socket_and(&site.endpoints, &source, "scope = \"off\"", "");
        let mut agent = home.start_agent();
        let connect = || UnixStream::connect(home.socket()).expect("the agent listens");
        let mut broken = connect();
        broken.write_all(frame).expect("it reads");
        broken.write_all(b"nonsense").expect("it reads");
        let mut half = connect();
        half.write_all(frame).expect("it reads");
        half.write_all(&frame[..5]).expect("it reads");
        drop(half);
        let me = format!("peer=pid {}, uid ", std::process::id());
        for said in ["cannot be read on", "ended within a frame"] {
            agent.until("it says so", |agent| {
                let stderr = agent.stderr();
                let line = stderr.lines().find(|line| line.contains(said))?;
                assert!(line.contains(&me), "{line}");
                Some(())
            });
        }
        let mut byte = [0];
        assert!(matches!(broken.read(&mut byte), Ok(0) | Err(_)), "closed");
        FinalReport::of(agent).expect_stored(2);
    }
    let home = Home::with_socket(&site.endpoints, "scope = \"off\"", "");
    let arrived = home.consume(&[]);
    assert_eq!(arrived, [b"one", b"two"].repeat(4));
}

#[test]
fn who_is_not_on_the_list_is_sent_away_and_told_of_once() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let source = "mode = \"0666\"\nallow = { uids = [4294967294] }";
    let home = Home::with_socket_and(&site.endpoints, source, "scope = \"off\"", "");
    let agent = home.start_agent();
    let mode = home.socket().metadata().expect("it listens").mode();
    assert_eq!(mode & 0o7777, 0o666);
    for _ in 0..5 {
        let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
        // It may be closed by now.
        let _ = client.write_all(b"a line\n");
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "closed");
    }
    let report = FinalReport::of(agent);
    report.expect_stored(0);
    let told = report
        .said()
        .lines()
        .filter(|line| line.contains("not on the allow list"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("times=1 peer=pid "), "{told:?}");
    assert!(told[1].contains("times=4"), "{told:?}");
}

#[test]
fn a_user_whom_this_host_does_not_know_stops_the_start() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let source = "mode = \"0660\"\ngroup = \"no such group\"";
    let home = Home::with_socket_and(&site.endpoints, source, "scope = \"off\"", "");
    let ended = home.spawn_agent().wait();
    let (code, said) = ended.refusal();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("there is no group \"no such group\" on this host"),
        "{said}"
    );
    assert!(!home.socket().exists());
}

#[test]
fn each_datagram_is_a_record_and_senders_wait_where_the_agent_does_not_keep_up() {
    const ALL: u64 = 5_000;
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let source = "type = \"unix_datagram\"\npath = \"SOCKET\"\nmode = \"0600\"";
    let home = Home::with_source(&site.endpoints, source, "scope = \"off\"", "");
    let agent = home.start_agent();
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.connect(home.socket()).expect("the agent reads");
    for number in 1..=ALL {
        sender.send(line(number).as_bytes()).expect("it reads");
    }
    sender.send(b"").expect("it reads");
    let report = FinalReport::of(agent);
    report.expect_stored(ALL + 1);
    assert!(!home.socket().exists());
    let mut records = home.consume(&[]);
    // Calls under way together may be stored in any order.
    let before = records.len();
    records.retain(|record| !record.is_empty());
    assert_eq!(before - records.len(), 1, "the empty one");
    let arrived = Arrived::of(records);
    arrived.expect_all(1..=ALL);
    arrived.expect_no_doubles();
}

#[test]
fn a_socket_of_systemds_is_used_and_stays_and_what_was_sent_before_the_start_is_stored() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let source = "type = \"unix\"\npath = \"systemd:shop.socket\"";
    let home = Home::with_source(&site.endpoints, source, "scope = \"off\"", "");
    // By its name, a source takes it only from systemd.
    let ended = home.spawn_agent().wait();
    let (code, said) = ended.refusal();
    assert!(
        code == 1 && said.contains("hands over no socket systemd:shop.socket"),
        "{code}: {said}"
    );
    let listener = UnixListener::bind(home.socket()).expect("a free path");
    let mut early = UnixStream::connect(home.socket()).expect("it listens");
    early.write_all(b"early\n").expect("the kernel keeps it");

    // As systemd does it: the first is number 3, and the variables name the process that is to have it.
    let mut systemd = Command::new("sh");
    let handing_over =
        "export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=shop.socket; exec \"$@\" 3<&0 </dev/null";
    let program = kinseal();
    systemd
        .args(["-c", handing_over, "sh"])
        .arg(program.get_program());
    systemd.env_clear();
    for (name, value) in program.get_envs() {
        systemd.envs(value.map(|value| (name, value)));
    }
    let ours = listener.try_clone().expect("a descriptor");
    systemd.stdin(OwnedFd::from(ours));
    let mut agent = home.start_agent_as(systemd);
    early.write_all(b"late\n").expect("it is read");
    drop(early);
    agent.until("both are stored", |_| {
        (site.fake.counters().records_stored > 0).then_some(())
    });
    FinalReport::of(agent).expect_stored(2);
    assert_eq!(home.consume(&[]), [&b"early"[..], b"late"]);
    UnixStream::connect(home.socket()).expect("still there for the next agent");
}

/// 30 MB into 8 MiB of memory, while nothing leaves.
#[test]
fn a_writer_is_not_held_up_by_a_stalled_sink_and_what_was_dropped_for_it_is_counted() {
    const ALL: u64 = 500_000;
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let key = site.endpoints.create_key();
    let stall = Rule::new(Action::Stall).on("PutRecords");
    site.fake.set_faults(Faults::seeded(3).rule(stall));
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let source = "when_full = \"drop_newest\"";
    let more = "[delivery]\nrequest_timeout = \"1s\"\nretry = { max = \"1s\" }";
    let home = Home::with_socket_and(&site.endpoints, source, &encryption, more);
    home.set_memory_limit("8MiB");
    let mut agent = home.start_agent();

    let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
    // A write that waits longer for the agent is an error. It reads 64 KiB in far less, on a busy machine too.
    let held_up = Some(Duration::from_secs(10));
    client.set_write_timeout(held_up).expect("not zero");
    let mut text = String::new();
    for number in 1..=ALL {
        writeln!(text, "{}", line(number)).expect("room for it");
    }
    assert!(text.len() > 30_000_000);
    for block in text.as_bytes().chunks(64 << 10) {
        client.write_all(block).expect("it is not held up");
    }
    drop(client);
    agent.until("it says so", |agent| {
        let said = agent.stderr();
        said.contains("lines are dropped, as when_full")
            .then_some(())
    });
    let stored = || site.fake.counters().records_stored;
    assert_eq!(stored(), 0, "the sink has answered");

    site.fake.set_faults(Faults::none());
    let report = FinalReport::of(agent);
    let [accepted, stored, dead, failed, dropped, abandoned, pending] = report.account();
    assert_eq!((accepted, stored + dropped), (ALL, ALL));
    assert_eq!([dead, failed, abandoned, pending], [0; 4]);
    assert!(stored > 0 && dropped > ALL / 2, "{stored} and {dropped}");
    let told = format!(
        "these are lost source=\"{}\" lines={dropped}",
        home.socket().display()
    );
    assert!(report.said().contains(&told), "{}", report.said());

    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_only(1..=ALL);
    arrived.expect_no_doubles();
    assert_eq!(arrived.different(), stored);
}

#[test]
fn stack_traces_of_many_clients_arrive_whole() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let source = "multiline = { preset = \"java\", timeout = \"10m\" }";
    let home = Home::with_socket_and(&site.endpoints, source, "scope = \"off\"", "");
    let agent = home.start_agent();
    let trace = |client: usize, number: usize| {
        format!(
            "java.lang.IllegalStateException: {client}-{number}\n\tat shop.Order.place(Order.java:42)\n\
             Caused by: java.sql.SQLException: {client}-{number}\n\t... 2 more"
        )
    };
    let clients = [0, 1, 2].map(|client| {
        let mut stream = UnixStream::connect(home.socket()).expect("the agent listens");
        std::thread::spawn(move || {
            for number in 0..200 {
                let text = trace(client, number) + "\n";
                // Cut anywhere.
                let (begin, end) = text.split_at(number % text.len());
                stream.write_all(begin.as_bytes()).expect("it reads");
                stream.write_all(end.as_bytes()).expect("it reads");
            }
        })
    });
    for client in clients {
        client.join().expect("it wrote everything");
    }
    FinalReport::of(agent).expect_stored(600);
    let stored = home.consume(&[]).join(&b'\n');
    let mut stored = String::from_utf8(stored).expect("as it was written") + "\n";
    for (client, number) in (0..3).flat_map(|client| (0..200).map(move |n| (client, n))) {
        let (whole, before) = (trace(client, number) + "\n", stored.len());
        stored = stored.replacen(&whole, "", 1);
        assert_eq!(before - stored.len(), whole.len(), "{client}-{number}");
    }
    assert_eq!(stored, "", "each once");
}

#[test]
fn clients_do_not_take_the_descriptors_of_files_and_spool() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    let more = "[spool]\n[[source]]\ntype = \"file\"\ninclude = [\"LOGS/*.log\"]\nstart_position = \"beginning\"\n\
                max_open_files = 16\nstream = \"shop-logs\"";
    let home = Home::with_socket(&site.endpoints, "scope = \"off\"", more);
    let config = std::fs::read_to_string(home.config()).expect("written");
    let config = config.replace("LOGS", &home.logs().display().to_string());
    std::fs::write(home.config(), config).expect("room for it");

    // All that is needed but the clients, and some of them.
    let kinseal = kinseal();
    let mut command = Command::new("sh");
    for (name, value) in kinseal.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.args(["-c", "ulimit -n 200; exec \"$0\" \"$@\""]);
    command.arg(kinseal.get_program());
    let mut agent = home.start_agent_as(command);
    let said = agent.stderr();
    assert!(
        said.contains("limit=200") && said.contains("ulimit -n"),
        "{said}"
    );
    let connect = || UnixStream::connect(home.socket()).expect("the agent listens");
    let mut clients: Vec<_> = (0..300).map(|_| connect()).collect();
    agent.until("no more clients are let in", |agent| {
        let said = "as many clients as there may be";
        agent.stderr().contains(said).then_some(())
    });
    clients[0].write_all(b"of a client\n").expect("it reads");
    for file in 0..16 {
        let path = home.logs().join(format!("{file}.log"));
        std::fs::write(&path, format!("of file {file}\n")).expect("room for it");
    }
    for file in 0..16 {
        home.until_settled(&mut agent, &home.logs().join(format!("{file}.log")));
    }
    assert!(
        !agent.stderr().contains("os error 24"),
        "{}",
        agent.stderr()
    );
    drop(clients);
    FinalReport::of(agent).expect_stored(17);
}
