//! In the place of the KPL's daemon, under a client that does what its Java client does.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kinseal::daemon::message::{Request, StreamMetadata};
use kinseal::fake::{Action, ApiError, Entries, Fake, Faults, Rule, Service};

use crate::support::agent::{STREAM, kinseal};
use crate::support::kpl::{
    GENERATIONS, Generation, Setup, USUAL, code, expect_stored, put, put_lines, site, stored,
};
use crate::support::lines::line;
use crate::support::process::{Running, run};
use crate::support::servers::StandIn;
use crate::support::until;

#[test]
fn clients_of_each_generation_have_one_answer_for_each_record() {
    for generation in GENERATIONS {
        let site = site(4);
        let mut client = Setup::new(&site.endpoints, generation).start();
        // What was put before there was a daemon comes first, before credentials.
        put_lines(&mut client, 1..=2000);
        client.flush();
        client.send_credentials();
        put_lines(&mut client, 2001..=4000);
        expect_stored(client.results(4000).into_values());
        let arrived = stored(&site);
        arrived.expect_all(1..=4000);
        arrived.expect_no_doubles();
        client.close_pipe();
        let (ended, _) = client.wait();
        assert!(ended.status.success(), "{generation:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("[error]"), "{}", ended.stderr);
    }
}

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
    std::thread::sleep(Duration::from_secs(4));
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
        let signalled = std::thread::scope(|scope| {
            scope.spawn(move || writing.write_until_it_is_gone(STREAM));
            until("it is busy", || {
                let calls = site.fake.counters().put_records_calls();
                (calls > 0).then_some(())
            });
            std::thread::sleep(Duration::from_secs(1));
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

/// What is put before a flush is flushed by it, and what comes after it lingers as before.
#[test]
fn a_flush_is_of_what_was_put_before_it() {
    let site = site(1);
    let mut setup = Setup::new(&site.endpoints, USUAL);
    setup.fields.record_max_buffered_time = Some(14_000);
    let mut client = setup.start();
    let mut frames = Vec::new();
    for id in 1..=10 {
        put(id, STREAM, Some("k"), None, line(id)).encode(id, &mut frames);
    }
    Request::Flush { stream: None }.encode(0, &mut frames);
    // In one write.
    let began = Instant::now();
    client.send_bytes(&frames);
    expect_stored(client.results(10).into_values());
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
}

/// Built with the KPL's own classes.
#[test]
fn aggregates_are_the_kpls_byte_by_byte() {
    let site = site(1);
    let mut setup = Setup::new(&site.endpoints, USUAL);
    setup.fields.record_max_buffered_time = Some(1000);
    let mut client = setup.start();
    for (id, key, data) in [
        (1, "alpha", "one"),
        (2, "beta", "two"),
        (3, "alpha", "three"),
    ] {
        client.put(id, STREAM, key, data);
    }
    expect_stored(client.results(3).into_values());
    let hash_key = |id, hash_key: &str, data: &'static str| {
        put(
            id,
            STREAM,
            Some(if id == 6 { "k2" } else { "k1" }),
            Some(hash_key),
            data,
        )
    };
    client.send(
        hash_key(4, "170141183460469231731687303715884105728", "x"),
        4,
    );
    client.send(
        hash_key(5, "170141183460469231731687303715884105729", "y"),
        5,
    );
    client.send(put(6, STREAM, Some("k2"), None, "z"), 6);
    expect_stored(client.results(6).into_values());
    let stored = site.fake.records(STREAM).expect("it is there");
    let [first, second] = &stored[..] else {
        panic!("{} Kinesis records", stored.len());
    };
    assert_eq!(
        hex(&first.data),
        "f3899ac20a05616c7068610a04626574611a0708001a036f6e651a0708011a0374776f1a0908001a0574687265654204f8374a68aebb42c22939c86930a7"
    );
    assert_eq!(first.partition_key, "a");
    assert_eq!(
        first.hash_key.to_string(),
        "58606826522850340945736240254012750329"
    );
    assert_eq!(
        hex(&second.data),
        "f3899ac20a026b310a026b32122731373031343131383334363034363932333137333136383733303337313538383431303537323812273137303134313138333436303436393233313733313638373330333731353838343130353732391a07080010001a01781a07080010011a01791a0508011a017aaecb67a9747f73d719c95b49df690975"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_pending_when_the_client_goes_or_a_signal_comes_is_stored_before_the_exit() {
    for by_signal in [false, true] {
        let site = site(4);
        let mut client = Setup::new(&site.endpoints, USUAL).start();
        put_lines(&mut client, 1..=100_000);
        if by_signal {
            client.daemon.signal("TERM");
        } else {
            client.close_pipe();
        }
        let (ended, results) = client.wait();
        assert!(ended.status.success(), "{}", ended.stderr);
        stored(&site).expect_all(1..=100_000);
        assert_eq!(results.len(), 100_000);
        expect_stored(results.into_values());
    }
}

#[test]
fn malformed_input_of_any_kind_does_not_end_the_daemon_and_what_follows_is_stored() {
    let site = site(2);
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    client.put(1, STREAM, "k", line(1));
    client.send_bytes(&[0; 4]);
    let nonsense = [&5_u32.to_be_bytes()[..], b"\xff\xff\xff\xff\xff"].concat();
    client.send_bytes(&nonsense);
    client.put(2, STREAM, "k", line(2));
    // Longer than any message may be: passed over.
    let long = (12_u32 << 20).to_be_bytes();
    client.send_bytes(&long);
    client.send_bytes(&vec![b'x'; 12 << 20]);
    client.put(3, STREAM, "k", line(3));
    // A key that is no UTF-8 still has its answer.
    client.send_bytes(b"\0\0\0\x0d\x08\x04\x1a\x09\x0a\x01s\x12\x01\xff\x22\x01x");
    client.send(put(5, STREAM, Some("k"), Some("no number"), line(5)), 5);
    client.send(put(6, "no stream's name!", Some("k"), None, line(6)), 6);
    client.send(put(7, STREAM, Some(""), None, line(7)), 7);
    client.send(Request::Configuration("nonsense".into()), 8);
    client.send(
        Request::Stream(StreamMetadata {
            stream_name: STREAM.to_owned(),
            stream_id: Some("id".to_owned()),
            record_distribution_strategy: None,
        }),
        9,
    );
    client.put(10, STREAM, "k", line(10));
    let results = client.results(8);
    let codes: Vec<_> = results
        .iter()
        .map(|(id, result)| (*id, code(result)))
        .collect();
    assert_eq!(
        codes,
        [
            (1, ""),
            (2, ""),
            (3, ""),
            (4, "InvalidMessage"),
            (5, "InvalidExplicitHashKey"),
            (6, "InvalidStreamName"),
            (7, "InvalidPartitionKey"),
            (10, ""),
        ]
    );
    // A cut frame is the client's end.
    client.send_bytes(&[0, 0, 1]);
    client.close_pipe();
    let (ended, _) = client.wait();
    assert!(ended.status.success(), "{}", ended.stderr);
}

#[test]
fn a_record_that_is_not_stored_in_its_time_fails_as_expired_with_its_attempts() {
    let site = site(1);
    let down =
        Rule::new(Action::Error(ApiError::new("InternalFailure", "no"))).service(Service::Kinesis);
    site.fake
        .set_faults(Faults::seeded(1).rule(down.on("PutRecords")));
    let mut setup = Setup::new(&site.endpoints, USUAL);
    setup.fields.record_ttl = Some(2000);
    let mut client = setup.start();
    put_lines(&mut client, 1..=100);
    let began = Instant::now();
    let results = client.results(100);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    for (id, result) in results {
        assert!(!result.success && result.shard_id.is_none());
        assert_eq!(code(&result), "Expired");
        let last = result
            .attempts
            .last()
            .and_then(|last| last.error_message.clone());
        assert!(last.is_some_and(|text| text.contains(&format!("Record {id} "))));
        let first = &result.attempts[0];
        assert_eq!(
            first.error_code.as_deref(),
            Some("InternalFailure"),
            "{result:?}"
        );
        let total: u32 = result.attempts.iter().map(|a| a.delay + a.duration).sum();
        assert!((1900..10_000).contains(&total), "{result:?}");
    }
}

#[test]
fn what_is_throttled_is_tried_again_or_fails_at_once_as_the_client_says() {
    for fails in [false, true] {
        let site = site(1);
        let throttle = Rule::new(Action::Throttle(Entries::All))
            .on("PutRecords")
            .times(1);
        site.fake.set_faults(Faults::seeded(1).rule(throttle));
        let mut setup = Setup::new(&site.endpoints, USUAL);
        setup.fields.fail_if_throttled = Some(fails);
        let mut client = setup.start();
        client.put(1, STREAM, "k", line(1));
        let result = &client.results(1)[&1];
        let throttled = "ProvisionedThroughputExceededException";
        assert_eq!(result.attempts[0].error_code.as_deref(), Some(throttled));
        assert_eq!(
            (result.success, result.attempts.len()),
            if fails { (false, 1) } else { (true, 2) }
        );
    }
}

/// Larger than a call may be, they go in one of their own.
#[test]
fn records_of_ten_mebibytes_and_small_calls_and_no_time_to_buffer_are_the_clients_to_choose() {
    // Ten seconds' quota of a shard is one record.
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    site.fake
        .set_max_record_kib(STREAM, 10 << 10)
        .expect("it is there");
    let mut setup = Setup::new(&site.endpoints, USUAL);
    // Calls of 51 KiB, aggregates of 10 MiB, buffered for longer than they live.
    setup.fields.collection_max_size = Some(52_224);
    setup.fields.aggregation_max_size = Some(10 << 20);
    setup.fields.record_max_buffered_time = Some(60_000);
    setup.fields.record_ttl = Some(8000);
    let mut client = setup.start();
    client.put(1, STREAM, "k", vec![b'x'; (10 << 20) - 1]);
    client.put(2, STREAM, "k", vec![b'x'; 600_000]);
    put_lines(&mut client, 3..=20_000);
    client.flush();
    expect_stored(client.results(20_000).into_values());
}

/// Records without a key are the newest clients'.
#[test]
fn a_stream_that_distributes_by_itself_takes_records_one_by_one_and_the_newest_clients_are_told() {
    for generation in [
        Generation::WithStrategies,
        Generation::CredentialsOverThePipe,
    ] {
        let site = site(2);
        let auto = kinseal::fake::Distribution::Auto;
        site.fake
            .set_distribution(STREAM, auto)
            .expect("it is there");
        let mut client = Setup::new(&site.endpoints, generation).start();
        client.send_credentials();
        client.put(1, STREAM, "k", line(1));
        client.send(put(2, STREAM, None, None, line(2)), 2);
        expect_stored(client.results(2).into_values());
        assert_eq!(site.fake.records(STREAM).expect("it is there").len(), 2);
        match generation {
            Generation::WithStrategies => assert_eq!(client.strategies(), ["AUTO"]),
            _ => assert!(client.strategies().is_empty()),
        }
    }
    let site = site(1);
    let mut client = Setup::new(&site.endpoints, Generation::WithStrategies).start();
    client.send_credentials();
    client.put(1, STREAM, "k", line(1));
    client.results(1);
    client.send(put(2, STREAM, None, None, line(2)), 2);
    assert_eq!(code(&client.results(2)[&2]), "InvalidPartitionKey");
    assert_eq!(client.strategies(), ["USER_PARTITION_KEY"]);
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

#[test]
fn metrics_are_the_kpls_by_name_and_dimension() {
    let site = site(2);
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    put_lines(&mut client, 1..=1000);
    expect_stored(client.results(1000).into_values());
    // Counted a fifth of a second later.
    let mut id = 10_000;
    let puts = until("all are counted", || {
        id += 1;
        client.ask_for_metrics(id, "UserRecordsPut", None);
        let puts = client.metrics(id).metrics;
        (puts.first().is_some_and(|all| all.stats.sum == 1000.0)).then_some(puts)
    });
    let dimensions: Vec<Vec<String>> = puts
        .iter()
        .map(|metric| metric.dimensions.iter().map(|d| d.key.clone()).collect())
        .collect();
    let (none, stream) = (Vec::<String>::new(), vec!["StreamName".to_owned()]);
    let shard = vec!["StreamName".to_owned(), "ShardId".to_owned()];
    assert_eq!(dimensions, [none, stream, shard.clone(), shard]);
    for (name, sum) in [
        ("UserRecordsReceived", Some(1000.0)),
        ("UserRecordsDataPut", None),
        ("KinesisRecordsPut", None),
        ("RequestTime", None),
        ("BufferingTime", None),
        ("UserRecordsPerKinesisRecord", None),
    ] {
        id += 1;
        client.ask_for_metrics(id, name, None);
        let metrics = client.metrics(id).metrics;
        let all = metrics.first().unwrap_or_else(|| panic!("no {name}"));
        assert!(
            all.stats.count > 0.0 && all.stats.min.is_finite(),
            "{all:?}"
        );
        assert!(sum.is_none_or(|sum| all.stats.sum == sum), "{all:?}");
    }
}

#[test]
fn what_the_kpls_own_would_refuse_is_refused_with_its_exit_code() {
    let site = site(1);
    let mut setup = Setup::new(&site.endpoints, USUAL);
    let refused = |args: &[&str], why: &str| {
        let mut command = kinseal();
        command.args(args);
        let ended = run("the daemon", &mut command, b"");
        assert_eq!(ended.status.code(), Some(1), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
    };
    let file = setup.path().join("file");
    fs::write(&file, "").expect("room for it");
    let file = file.to_str().expect("UTF-8");
    refused(&["-o", "a", "-i", "b"], "--configuration");
    refused(&["-o", "a", "-i", "b", "-c", "00", "-x"], "-x");
    refused(&["-o", "a", "-i", "b", "-c", "0g"], "hexadecimal");
    refused(&["-o", "a", "-i", "b", "-c", "08ff"], "protocol");
    refused(
        &["-o", "a", "-i", "b", "-c", "08012200"],
        "no Configuration",
    );
    refused(&["-o", "/no/such", "-i", file, "-c", "08003200"], "region");
    setup.fields.collection_max_count = Some(501);
    let ended = run("the daemon", &mut setup.command(), b"");
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("collectionMaxCount is 501"),
        "{}",
        ended.stderr
    );
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!((lines[0], *lines.last().unwrap()), ("++++", "----"));
    assert!(lines[1].contains("] [error] ["), "{}", ended.stderr);
}

#[test]
fn secrets_do_not_stay_on_the_command_line() {
    let site = site(1);
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    client.put(1, STREAM, "k", line(1));
    expect_stored(client.results(1).into_values());
    let line = fs::read(format!("/proc/{}/cmdline", client.daemon.id())).expect("it runs");
    let line = String::from_utf8_lossy(&line).into_owned();
    // How the credentials begin on the client's command line.
    assert!(!line.contains("08FFFF") && line.len() < 200, "{line}");
}

#[test]
fn core_dumps_are_left_only_where_the_client_asks_for_them() {
    for asked in [false, true] {
        let site = site(1);
        let mut setup = Setup::new(&site.endpoints, USUAL);
        if asked {
            setup.fields.enable_core_dumps = Some(true);
        }
        let client = setup.start();
        let limits = fs::read_to_string(format!("/proc/{}/limits", client.daemon.id()));
        let limits = limits.expect("it runs");
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let [soft, hard, ..] = core
            .expect("Linux says so")
            .split_whitespace()
            .collect::<Vec<_>>()[..]
        else {
            panic!("{limits}");
        };
        // The KPL's own size, where whoever started it allows that.
        let most = hard.parse().unwrap_or(u64::MAX).min(128 << 20);
        let expected = if asked { most } else { 0 };
        assert_eq!(soft, expected.to_string(), "{limits}");
    }
}

/// A parent that dies before it has opened both pipes leaves no daemon behind.
#[test]
fn a_daemon_whose_parent_dies_before_the_pipes_are_open_ends() {
    // Before the first one, and between the two.
    for opens in ["", "< PIPE"] {
        let site = site(1);
        let setup = Setup::new(&site.endpoints, USUAL);
        let command = setup.command();
        let mut shell = std::process::Command::new("sh");
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned());
        let words: Vec<_> = words.collect();
        let program = command.get_program().to_string_lossy().into_owned();
        let opens = opens.replace("PIPE", &setup.path().join("in").display().to_string());
        let script = format!(
            "'{program}' {} & echo $!; sleep 0.5 {opens}",
            words.join(" ")
        );
        shell.args(["-c", &script]);
        let mut shell = Running::start("the parent", &mut shell);
        let daemon = shell.until("it has started", |shell| {
            String::from_utf8(shell.stdout())
                .ok()?
                .trim()
                .parse::<u32>()
                .ok()
        });
        shell.wait();
        until("it has ended", || {
            let stat = fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}
