//! `kinseal consume --fan-out`: records are pushed to a registered consumer.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kinseal::aws;
use kinseal::consume::{Consumer, FanOutStream, KinesisStream, Settings, Unpacker};
use kinseal::fake::{Action, ApiError, Clock, Counters, Fake, Faults, Limits, Rule, Service};
use kinseal::record::StreamName;
use kinseal::shutdown;

use crate::support::agent::{Home, STREAM, kinseal};
use crate::support::lines::{Arrived, append};
use crate::support::process::{Ended, Running, run};
use crate::support::servers::{Endpoints, REGION, StandIn, runtime};

const SHARD_0: &str = "shardId-000000000000";

/// A stand-in whose subscriptions last so long, of which another one may follow so soon.
fn site(shards: i32, subscription: Duration, gap: Duration) -> StandIn {
    let limits = Limits {
        subscription,
        subscription_gap: gap,
        ..Limits::default()
    };
    let site = StandIn::built(Fake::builder().limits(limits));
    site.endpoints.create_stream(STREAM, shards);
    site
}

/// As the service has them, but that another may follow at once: each run of a test is a reader of its own.
fn patient_site(shards: i32) -> StandIn {
    site(shards, Duration::from_secs(300), Duration::ZERO)
}

/// As lines of a file, aggregated and in clear.
fn write(site: &StandIn, from: u64, to: u64) {
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let mut agent = home.start_agent();
    append(&home.log(), from..=to).wait();
    home.until_settled(&mut agent, &home.log());
}

fn command(endpoints: &Endpoints, arguments: &[&str]) -> Command {
    let mut command = kinseal();
    command.args(["consume", "--stream", STREAM, "--region", REGION]);
    command.args(["--endpoint-url", &endpoints.kinesis]);
    command.args(["--kms-endpoint-url", &endpoints.kms]);
    command.args(["--fan-out", "shop"]).args(arguments);
    command
}

fn consume(site: &StandIn, arguments: &[&str]) -> Ended {
    run("consume", &mut command(&site.endpoints, arguments), b"")
}

fn lines(ended: &Ended) -> Arrived {
    let text = std::str::from_utf8(&ended.stdout).expect("UTF-8");
    Arrived::of(text.lines())
}

fn calls(site: &StandIn, operation: &str) -> u64 {
    site.fake.counters().calls_of(Service::Kinesis, operation)
}

fn refusal(code: &'static str) -> Action {
    Action::Error(ApiError::new(code, "scripted"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Subscriptions end all the time, shards split and merge meanwhile, and calls and answers break.
#[test]
fn each_record_comes_once_through_reshards_ends_and_faults() {
    let site = site(2, Duration::from_millis(500), Duration::ZERO);
    let on = |action: Action| Rule::new(action).on("SubscribeToShard").percent(10.0);
    site.fake.set_faults(
        Faults::seeded(11)
            .rule(on(Action::Truncated))
            .rule(on(Action::Malformed))
            .rule(on(Action::ResetBefore))
            .rule(on(Action::ResetAfter))
            .rule(on(refusal("ResourceInUseException")))
            .rule(on(refusal("LimitExceededException")))
            .rule(
                Rule::new(refusal("LimitExceededException"))
                    .on("RegisterStreamConsumer")
                    .times(2),
            )
            .rule(
                Rule::new(refusal("ThrottlingException"))
                    .on("DescribeStreamConsumer")
                    .times(2),
            ),
    );
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out.log");
    let arguments = ["--out", out.to_str().expect("UTF-8")];
    let mut reading = Running::start("consume", &mut command(&site.endpoints, &arguments));
    let mut written = 0;
    let mut more = |reading: &mut Running| {
        write(&site, written + 1, written + 2000);
        written += 2000;
        reading.until("all is printed", |_| {
            (Arrived::of(text(&out).lines()).different() >= written).then_some(())
        });
    };
    more(&mut reading);
    site.fake.split(STREAM, SHARD_0).expect("it is open");
    more(&mut reading);
    let neighbours = ["shardId-000000000002", "shardId-000000000003"];
    let merged = site.fake.merge(STREAM, neighbours[1], neighbours[0]);
    merged.expect("they touch");
    more(&mut reading);
    site.fake.scale(STREAM, 4).expect("it is there");
    more(&mut reading);
    let ended = reading.signal_until_ended("TERM").expect_success();
    let arrived = Arrived::of(text(&out).lines());
    arrived.expect_all(1..=8000);
    arrived.expect_no_doubles();
    assert!(calls(&site, "SubscribeToShard") > 10);
    assert_eq!(calls(&site, "GetRecords"), 0);
    assert_eq!(calls(&site, "RegisterStreamConsumer"), 3);
    // It stays, and who made it says so.
    assert!(
        ended
            .stderr
            .contains("aws kinesis deregister-stream-consumer --consumer-arn arn:aws:kinesis"),
        "{}",
        ended.stderr
    );
}

/// The service refuses a subscription for a while after the one of the process that was killed.
#[test]
fn a_file_has_each_record_once_over_kills_of_who_subscribes() {
    let site = site(2, Duration::from_secs(300), Duration::from_secs(2));
    write(&site, 1, 3000);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (out, checkpoint) = (dir.path().join("out.log"), dir.path().join("shop.json"));
    let paths = [&out, &checkpoint].map(|path| path.to_str().expect("UTF-8"));
    let arguments = ["--out", paths[0], "--checkpoint", paths[1]];
    let mut written = 3000;
    for round in 0..3 {
        let mut reading = Running::start("consume", &mut command(&site.endpoints, &arguments));
        reading.until("this round's lines are printed", |_| {
            (Arrived::of(text(&out).lines()).different() >= written).then_some(())
        });
        if round == 1 {
            site.fake.split(STREAM, SHARD_0).expect("it is open");
        }
        reading.kill();
        write(&site, written + 1, written + 1000);
        written += 1000;
    }
    let refused_from = calls(&site, "SubscribeToShard");
    let ended = consume(
        &site,
        &[&arguments[..], &["--until-empty", "--deregister"]].concat(),
    );
    let ended = ended.expect_success();
    assert_eq!(ended.stderr, "", "nothing is worth a word");
    assert!(calls(&site, "SubscribeToShard") > refused_from);
    let arrived = Arrived::of(text(&out).lines());
    arrived.expect_all(1..=written);
    arrived.expect_no_doubles();
    assert_eq!(calls(&site, "DeregisterStreamConsumer"), 1);
}

#[test]
fn who_subscribes_begins_where_it_is_told_to_and_ends_after_so_many_or_at_the_tip() {
    let site = patient_site(1);
    write(&site, 1, 5);
    let first = site.fake.records(STREAM).expect("it is there").remove(0);
    write(&site, 6, 9);
    let read = |arguments: &[&str]| lines(&consume(&site, arguments).expect_success());
    read(&["--until-empty"]).expect_all(1..=9);
    read(&["--limit", "2"]).expect_only(1..=2);
    read(&["--until-empty", "--from", "at-timestamp", "1h"]).expect_all(1..=9);
    read(&["--until-empty", "--from", "latest"]).expect_only(0..=0);
    let after = ["--until-empty", "--from", "after-sequence", &first.sequence];
    let after = read(&[&after[..], &["--shard", SHARD_0]].concat());
    after.expect_all(6..=9);
    after.expect_only(6..=9);
    // Made once, found then.
    assert_eq!(calls(&site, "RegisterStreamConsumer"), 1);

    let json = consume(&site, &["--until-empty", "--output", "json"]).expect_success();
    let json = String::from_utf8(json.stdout).expect("UTF-8");
    assert!(json.contains("\"millis_behind_latest\":0"), "{json}");
}

#[test]
fn a_missing_permission_is_named_and_so_is_the_way_out_where_there_are_too_many() {
    let site = patient_site(1);
    for operation in [
        "DescribeStreamSummary",
        "DescribeStreamConsumer",
        "RegisterStreamConsumer",
        "SubscribeToShard",
        "DeregisterStreamConsumer",
    ] {
        let denied = Rule::new(Action::access_denied()).on(operation);
        site.fake.set_faults(Faults::seeded(1).rule(denied));
        let ended = consume(&site, &["--until-empty", "--deregister"]);
        let (code, told) = ended.refusal();
        assert_eq!(code, 1, "{operation}: {told}");
        let allow = format!("allow kinesis:{operation}");
        assert!(told.contains(&allow), "{operation}: {told}");
    }
    site.fake.set_faults(Faults::none());
    consume(&site, &["--until-empty", "--deregister"]).expect_success();
    let (client, runtime) = (site.endpoints.kinesis_client(), runtime());
    let arn = format!("arn:aws:kinesis:{REGION}:000000000000:stream/{STREAM}");
    for n in 0..20 {
        let call = client.register_stream_consumer().stream_arn(&arn);
        let made = call.consumer_name(format!("c{n}")).send();
        runtime.block_on(made).expect("there is room for it");
    }
    let ended = consume(&site, &["--until-empty"]);
    let (code, told) = ended.refusal();
    assert_eq!(code, 1);
    assert!(told.contains("a stream has 20 at most"), "{told}");
    assert!(told.contains("aws kinesis list-stream-consumers"), "{told}");
}

/// The service speaks HTTP/2 to who subscribes.
#[test]
fn over_tls_a_subscription_is_made_in_http_2() {
    let site = StandIn::built(Fake::builder().tls(true).verify_signatures(true));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, site.fake.ca_pem().expect("it has one")).expect("room for it");
    site.fake.create_stream(STREAM, 3).expect("a new stream");
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let mut agent = kinseal();
    agent.env("AWS_CA_BUNDLE", &ca);
    let mut agent = home.start_agent_as(agent);
    append(&home.log(), 1..=20_000).wait();
    home.until_settled(&mut agent, &home.log());
    agent.signal_until_ended("TERM").expect_success();
    let before = site.fake.counters();
    let mut command = command(&site.endpoints, &["--until-empty", "--deregister"]);
    let ended = run("consume", command.env("AWS_CA_BUNDLE", &ca), b"").expect_success();
    lines(&ended).expect_all(1..=20_000);
    let after = site.fake.counters();
    assert_eq!(after.calls_of(Service::Kinesis, "SubscribeToShard"), 3);
    let calls = |counters: &Counters| counters.calls.values().sum::<u64>();
    assert_eq!(
        after.http2_calls - before.http2_calls,
        calls(&after) - calls(&before)
    );
    // One for each subscription, and one for all else.
    assert_eq!(after.connections - before.connections, 3 + 1);
}

/// Its batches kept, nothing more is read than what lies in queues and sockets already.
#[test]
fn a_slow_reader_holds_the_service_up() {
    const RECORDS: usize = 60;
    let site = patient_site(1);
    let client = site.endpoints.kinesis_client();
    runtime().block_on(async {
        let entry = |n: usize| {
            let data = Blob::new(vec![n as u8; 1_000_000]);
            let entry = PutRecordsRequestEntry::builder().partition_key("k");
            entry.data(data).build().expect("complete")
        };
        for put in 0..RECORDS / 5 {
            let entries = (0..5).map(|n| entry(put * 5 + n)).collect();
            let put = client.put_records().stream_name(STREAM);
            put.set_records(Some(entries)).send().await.expect("room");
        }
        let stream = StreamName::new(STREAM).expect("a name");
        let stream = KinesisStream::new(client.clone(), stream);
        let consumer = FanOutStream::register(&stream, "shop").await;
        let alone = aws::unshared(&client).expect("no bundle is named");
        let pushed = FanOutStream::new(stream, alone, consumer.expect("registered"));
        let settings = Settings {
            until_empty: true,
            // One event's worst case.
            memory_limit: 0,
            ..Settings::default()
        };
        let (_stop, shutdown) = shutdown::channel();
        let unpacker = Unpacker::as_stored(1).expect("threads");
        let mut consumer = Consumer::subscribe(Arc::new(pushed), unpacker, settings, shutdown);
        let mut taken = 0;
        while let Some(batch) = consumer.next().await {
            taken += batch.records.len();
            // Time for the service to go ahead, had it any way to.
            for _ in 0..50 {
                let listed = client.list_shards().stream_name(STREAM).send();
                listed.await.expect("it is there");
            }
            let ahead = site.fake.counters().records_read as usize - taken;
            assert!(ahead <= 24, "{ahead} MB are ahead of {taken}");
        }
        consumer.finish().await.expect("read to its tip");
        assert_eq!(taken, RECORDS);
    });
}

/// Two readers under one name take over from each other; each still reads all, and is told.
#[test]
fn who_is_taken_over_is_told_and_reads_all_the_same() {
    let clock = Clock::manual();
    let site = StandIn::built(Fake::builder().clock(clock.clone()));
    site.endpoints.create_stream(STREAM, 1);
    let start = || Running::start("consume", &mut command(&site.endpoints, &[]));
    let mut first = start();
    first.until("it subscribes", |_| {
        (calls(&site, "SubscribeToShard") > 0).then_some(())
    });
    clock.advance(Duration::from_secs(5));
    let mut second = start();
    let words = "somebody else subscribes as the same consumer";
    first.until("it is told", |first| {
        first.stderr().contains(words).then_some(())
    });
    write(&site, 1, 100);
    for reading in [&mut first, &mut second] {
        reading.until("it has read all", |reading| {
            clock.advance(Duration::from_secs(5));
            let printed = reading.stdout();
            let arrived = Arrived::of(printed.split(|b| *b == b'\n').filter(|l| !l.is_empty()));
            (arrived.different() == 100).then(|| arrived.expect_no_doubles())
        });
    }
}

/// A server that we did not write. It says of each event that it is at the tip, and tells a shard's children as soon as it
/// is closed. A sequence number to go on from it ignores (0.7.0 drops all of StartingPosition but the type), so that each
/// shard is read by one subscription here.
#[test]
fn a_stream_of_ferrokinesis_is_pushed_through_a_split() {
    let runtime = runtime();
    let kinesis = runtime.block_on(async {
        let (app, _store) = ferrokinesis::create_app(ferrokinesis::store::StoreOptions {
            create_stream_ms: 0,
            update_stream_ms: 0,
            shard_limit: 50,
            ..Default::default()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    });
    let endpoints = Endpoints {
        kms: kinesis.clone(),
        kinesis,
    };
    endpoints.create_stream(STREAM, 2);
    let write = |from: u64, to: u64| {
        let home = Home::new(&endpoints, "scope = \"off\"", "");
        let mut agent = home.start_agent();
        append(&home.log(), from..=to).wait();
        home.until_settled(&mut agent, &home.log());
    };
    write(1, 1000);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out.log");
    let arguments = ["--out", out.to_str().expect("UTF-8")];
    let mut reading = Running::start("consume", &mut command(&endpoints, &arguments));
    let mut printed = |count: u64| {
        reading.until("all is printed", |_| {
            (Arrived::of(text(&out).lines()).different() >= count).then_some(())
        });
    };
    printed(1000);
    let client = endpoints.kinesis_client();
    let split = client.split_shard().stream_name(STREAM);
    let split = split.shard_to_split(SHARD_0).new_starting_hash_key("1000");
    runtime.block_on(split.send()).expect("it is open");
    write(1001, 2000);
    printed(2000);
    reading.signal_until_ended("TERM").expect_success();
    let arrived = Arrived::of(text(&out).lines());
    arrived.expect_all(1..=2000);
    arrived.expect_no_doubles();
}
