//! The KPL's daemon while it has to wait: for credentials, for the service, for its client.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kinseal::fake::{Action, ApiError, Fake, Faults, Rule, Service};

use crate::support::agent::STREAM;
use crate::support::kpl::{Generation, Setup, USUAL, code, expect_stored, put_lines, site};
use crate::support::lines::line;
use crate::support::servers::StandIn;
use crate::support::until;

/// As where an application was quick: more than memory has room for lies in front of the credentials.
#[test]
fn records_that_were_put_before_there_were_credentials_do_not_keep_them_from_being_read() {
    let site = site(8);
    let mut setup = Setup::new(&site.endpoints, Generation::CredentialsOverThePipe);
    setup.fields.rate_limit = Some(1_000_000);
    let mut client = setup.start();
    put_lines(&mut client, 1..=100_000);
    client.send_credentials();
    expect_stored(client.results(100_000).into_values());
}

/// As where the first credentials come from an instance's metadata, or from a role that is assumed.
#[test]
fn records_wait_for_first_credentials_that_come_late() {
    let site = site(4);
    let mut setup = Setup::new(&site.endpoints, Generation::CredentialsOverThePipe);
    setup.fields.rate_limit = Some(1_000_000);
    let mut client = setup.start();
    // More than its memory has room for.
    for id in 1..=20_000 {
        client.put(id, STREAM, &format!("{id}"), vec![b'x'; 1000]);
    }
    until("it has missed them", || {
        let said = client.daemon.stderr();
        said.contains("none have come over the pipe yet")
            .then_some(())
    });
    client.send_credentials();
    let results = client.results(20_000);
    let (kept, refused): (Vec<_>, Vec<_>) =
        results.into_values().partition(|result| result.success);
    assert!(refused.iter().all(|result| code(result) == "Overloaded"));
    assert!(kept.len() > 10_000, "{} are stored", kept.len());
    expect_stored(kept);
}

/// The first time that it asks, too, and where much lies before that.
#[test]
fn whether_it_is_alive_is_answered_behind_more_than_there_is_room_for() {
    let site = site(4);
    let stall = Rule::new(Action::Stall).service(Service::Kinesis);
    site.fake
        .set_faults(Faults::seeded(1).rule(stall.on("PutRecords")));
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    for id in 1..=16_000 {
        client.put(id, STREAM, &format!("{id}"), vec![b'x'; 1000]);
    }
    client.ask_for_metrics(16_001, "UserRecordsPut", Some(1));
    client.metrics(16_001);
}

/// Neither who goes on writing nor a service that takes nothing keeps it.
#[test]
fn a_signal_ends_it_within_the_grace_period_though_the_client_goes_on_writing() {
    for is_stalled in [false, true] {
        let site = site(4);
        if is_stalled {
            let stall = Rule::new(Action::Stall).service(Service::Kinesis);
            site.fake
                .set_faults(Faults::seeded(1).rule(stall.on("PutRecords")));
        }
        let mut setup = Setup::new(&site.endpoints, USUAL);
        setup.fields.rate_limit = Some(1_000_000);
        let mut client = setup.start();
        let writing = client.writer();
        let written = &AtomicU64::new(0);
        let signalled = std::thread::scope(|scope| {
            scope.spawn(move || writing.write_until_it_is_gone(STREAM, written));
            until("it is busy", || {
                let calls = site.fake.counters().put_records_calls();
                (calls > 0 && written.load(Ordering::Relaxed) > 20_000).then_some(())
            });
            client.daemon.signal("TERM");
            let signalled = Instant::now();
            client.until_ended();
            signalled
        });
        let took = signalled.elapsed();
        assert!(took < Duration::from_secs(14), "{is_stalled}: {took:?}");
    }
}

/// As after an outage that lasted longer than a session's token: new ones come behind more than memory has room for.
#[test]
fn new_credentials_are_heard_behind_records_that_are_refused_under_the_old_ones() {
    let site = site(8);
    let expired = ApiError::new("ExpiredTokenException", "The security token is expired");
    let refuse = Rule::new(Action::Error(expired)).service(Service::Kinesis);
    site.fake
        .set_faults(Faults::seeded(1).rule(refuse.on("PutRecords")));
    let mut setup = Setup::new(&site.endpoints, USUAL);
    setup.fields.rate_limit = Some(1_000_000);
    // For longer than this test may take.
    setup.fields.record_ttl = Some(600_000);
    let mut client = setup.start();
    let data = vec![b'x'; 1000];
    for id in 1..=100_000 {
        client.put(id, STREAM, &format!("{id}"), data.clone());
    }
    client.send_credentials();
    // Behind them.
    client.ask_for_metrics(100_001, "UserRecordsReceived", None);
    client.metrics(100_001);
    site.fake.set_faults(Faults::seeded(1));
    let results = client.results(100_000);
    let (stored, refused): (Vec<_>, Vec<_>) =
        results.into_values().partition(|result| result.success);
    assert!(refused.iter().all(|result| code(result) == "Overloaded"));
    assert!(stored.len() > 10_000, "{} are stored", stored.len());
    expect_stored(stored);
}

#[test]
fn a_client_that_reads_neither_answers_nor_the_log_is_waited_for_and_loses_nothing() {
    const RECORDS: u64 = 300_000;
    let site = StandIn::built(Fake::builder().null(true));
    site.endpoints.create_stream(STREAM, 4);
    let mut setup = Setup::new(&site.endpoints, USUAL);
    setup.deaf().fields.rate_limit = Some(1_000_000);
    let mut client = setup.start();
    let written = AtomicU64::new(0);
    let ears = client.ears();
    let made_to_wait_at = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=RECORDS {
                client.put(number, STREAM, "k", line(number));
                written.store(number, Ordering::Release);
            }
        });
        // Until nothing more is read.
        let mut last = 0;
        let waits_at = until("the client is made to wait", || {
            std::thread::sleep(Duration::from_millis(1000));
            let now = written.load(Ordering::Acquire);
            let waits = now > 0 && now == std::mem::replace(&mut last, now);
            waits.then_some(now)
        });
        ears.listen();
        waits_at
    });
    assert!(made_to_wait_at < RECORDS, "8 MiB of answers are enough");
    expect_stored(client.results(RECORDS as usize).into_values());
}

/// The client kills a daemon that does not answer.
#[test]
fn whether_it_is_alive_is_answered_while_the_service_takes_nothing_and_memory_is_bounded() {
    let site = site(4);
    let stall = Rule::new(Action::Stall).service(Service::Kinesis);
    site.fake
        .set_faults(Faults::seeded(1).rule(stall.on("PutRecords")));
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    client.ask_for_metrics(1, "UserRecordsPut", Some(1));
    client.metrics(1);
    let data = vec![b'x'; 1000];
    let mut id = 1;
    for round in 0..100 {
        for _ in 0..2000 {
            id += 1;
            client.put(id, STREAM, &format!("{id}"), data.clone());
        }
        if round % 20 == 0 {
            id += 1;
            let asked = Instant::now();
            client.ask_for_metrics(id, "UserRecordsPut", Some(1));
            client.metrics(id);
            assert!(asked.elapsed() < Duration::from_secs(5));
        }
    }
    let daemon = client.daemon.id();
    let status = fs::read_to_string(format!("/proc/{daemon}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    let peak = peak.expect("Linux says so") / 1024;
    assert!(peak < 96, "{peak} MiB");
    until("some are refused", || {
        (client.results_so_far() > 0).then_some(())
    });
    let results = client.results(1);
    assert!(results.values().all(|result| code(result) == "Overloaded"));
    // They were put, and count as that.
    client.ask_for_metrics(id + 1, "UserRecordsReceived", None);
    let received = client.metrics(id + 1).metrics;
    assert!(
        received[0].stats.sum >= results.len() as f64,
        "{received:?}"
    );
    client.ask_for_metrics(id + 2, "UserRecordsPut", None);
    let puts = client.metrics(id + 2).metrics;
    assert!(
        puts[0].stats.count > 0.0 && puts[0].stats.sum == 0.0,
        "{puts:?}"
    );
}

/// It is not known for a second what the new stream takes, and its client may not be made to wait meanwhile.
#[test]
fn the_first_records_to_another_stream_are_not_refused_while_it_is_described() {
    let site = site(1);
    site.endpoints.create_stream("other", 1);
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    client.ask_for_metrics(1, "UserRecordsPut", Some(1));
    client.metrics(1);
    client.put(2, STREAM, "k", line(2));
    expect_stored(client.results(1).into_values());
    let slowly = Rule::new(Action::Latency(Duration::from_secs(1)));
    site.fake
        .set_faults(Faults::seeded(1).rule(slowly.on("DescribeStreamSummary")));
    for id in 3..=1000 {
        client.put(id, "other", "k", line(id));
    }
    expect_stored(client.results(999).into_values());
}
