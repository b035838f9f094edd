//! In the place of the KPL's daemon, under a client that does what its Java client does.

use std::time::{Duration, Instant};

use kinseal::daemon::message::Request;
use kinseal::fake::{Action, ApiError, Entries, Faults, Rule, Service};

use crate::support::agent::STREAM;
use crate::support::kpl::{
    GENERATIONS, Generation, Setup, USUAL, code, expect_stored, put, put_lines, site, stored,
};
use crate::support::lines::line;
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
