//! The main job: lines that another process writes while the agent runs come back, each once.

use std::collections::BTreeSet;

use kinseal::fake::{Action, Entries, Faults, Rule};
use kinseal::seal::rawkey::WrappingKey;

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::peers::{self, PeerKey};
use crate::support::servers::{Endpoints, Ferrokinesis, Moto, StandIn};

const LINES: u64 = 100_000;
const PLAIN: &str = "scope = \"off\"";
const CONTEXT: (&str, &str) = ("app", "shop");

#[test]
fn all_lines_arrive_though_a_tenth_of_the_entries_is_throttled() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let key = site.endpoints.create_key();
    let tenth = Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords");
    site.fake.set_faults(Faults::seeded(11).rule(tenth));
    let home = Home::new(&site.endpoints, &under_kms(&key), "");

    let report = carry(&home, LINES);
    assert!(
        report.number("throttled") > 0,
        "the stand-in throttled nothing"
    );
    let counters = site.fake.counters();
    assert!(counters.faulted_entries > 0);
    // The second may be fetched ahead of the first one's age.
    assert!(counters.kms_calls("GenerateDataKey") <= 2, "{counters:?}");
    let key = PeerKey::Kms {
        endpoint: &site.endpoints.kms,
        arn: &key,
    };
    expect_each_once(&home, &site.endpoints, &report, key);
}

#[test]
fn all_lines_arrive_in_compressed_blocks_in_a_fifth_of_the_bytes() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let key = site.endpoints.create_key();
    let tenth = Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords");
    site.fake.set_faults(Faults::seeded(13).rule(tenth));
    let block = "[encryption.block]\ncompression = \"zstd\"\nlinger = \"1s\"";
    let encryption = under_kms(&key).replace("\"record\"", "\"block\"");
    let home = Home::new(&site.endpoints, &encryption, block);

    let report = carry(&home, LINES);
    report.expect_stored(LINES);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
    let stored = site.fake.counters().bytes_stored;
    let lines: usize = (1..=LINES).map(|n| lines::line(n).len()).sum();
    assert!(stored * 5 < lines as u64, "{stored} bytes for {lines}");
}

#[test]
fn blocks_are_packed_without_permission_to_list_shards() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let key = site.endpoints.create_key();
    let denied = Rule::new(Action::access_denied()).on("ListShards");
    site.fake.set_faults(Faults::seeded(17).rule(denied));
    let encryption = format!("preset = \"compact\"\nkms_key = \"{key}\"");
    let home = Home::new(&site.endpoints, &encryption, "");

    const LINES: u64 = 5_000;
    let report = carry(&home, LINES);
    assert!(report.said().contains("ListShards is denied"));
    let stored = site.fake.counters().records_stored;
    assert!(stored < LINES / 50, "{stored} Kinesis records");
    site.fake.set_faults(Faults::none());
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
}

#[test]
fn all_lines_arrive_on_moto() {
    let moto = Moto::start();
    moto.endpoints.create_stream(STREAM, 4);
    let key = moto.endpoints.create_key();
    let home = Home::new(&moto.endpoints, &under_kms(&key), "");

    let report = carry(&home, LINES);
    let key = PeerKey::Kms {
        endpoint: &moto.endpoints.kms,
        arn: &key,
    };
    expect_each_once(&home, &moto.endpoints, &report, key);
}

#[test]
fn all_lines_arrive_on_ferrokinesis_which_throttles_shards_in_either_protocol() {
    for protocol in ["json", "cbor"] {
        all_lines_arrive_on_ferrokinesis(protocol);
    }
}

fn all_lines_arrive_on_ferrokinesis(protocol: &str) {
    let ferrokinesis = Ferrokinesis::start();
    ferrokinesis.endpoints.create_stream(STREAM, 2);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("wrapping.key");
    WrappingKey::create(&path, "tests", "wrapping").expect("a new key file");
    let encryption = format!(
        "scope = \"record\"\nwrapping_key_file = \"{}\"\ncontext = {{ app = \"shop\" }}",
        path.display()
    );
    // Far more than a shard takes, so that it refuses some.
    let home = Home::new(
        &ferrokinesis.endpoints,
        &encryption,
        &format!("[delivery]\nrate_limit = 400\nprotocol = \"{protocol}\""),
    );

    let report = carry(&home, LINES);
    assert!(report.number("throttled") > 0, "nothing was throttled");
    let raw = peers::raw_key(&path);
    expect_each_once(&home, &ferrokinesis.endpoints, &report, PeerKey::Raw(&raw));
}

#[test]
fn calls_whose_answer_is_lost_double_lines_and_are_counted() {
    const LINES: u64 = 20_000;
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    let lost = Rule::new(Action::ResetAfter).on("PutRecords").every(4);
    site.fake.set_faults(Faults::seeded(5).rule(lost));
    // Small requests, so that there are many.
    let home = Home::new(&site.endpoints, PLAIN, "[batch]\nmax_records = 2");

    let report = carry(&home, LINES);
    let lost = site.fake.counters().faulted_calls;
    assert!(lost > 0, "no answer was lost");
    let said = report.said();
    assert_eq!(report.number("of unknown outcome"), lost, "{said}");
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    assert!(
        !arrived.doubled().is_empty(),
        "what was stored was sent again"
    );
}

#[test]
fn all_lines_arrive_though_shards_split_and_merge_meanwhile() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let home = Home::new(&site.endpoints, PLAIN, "");
    let mut agent = home.start_agent();
    let writer = lines::append(&home.log(), 1..=LINES);
    let reshards: [&dyn Fn(); 3] = [
        &|| {
            site.fake
                .split(STREAM, "shardId-000000000000")
                .expect("an open shard")
        },
        &|| site.fake.scale(STREAM, 5).expect("a stream"),
        &|| site.fake.scale(STREAM, 1).expect("a stream"),
    ];
    for reshard in reshards {
        let stored = site.fake.counters().records_stored;
        agent.until("some more is stored", |_| {
            (site.fake.counters().records_stored > stored + 10).then_some(())
        });
        reshard();
    }
    writer.wait().expect_success();
    home.until_settled(&mut agent, &home.log());
    let report = FinalReport::of(agent);
    report.expect_stored(LINES);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    assert!(
        arrived.doubled().is_empty() || report.causes_of_doubles() > 0,
        "{} lines are there twice, and nothing says why",
        arrived.doubled().len()
    );
}

fn under_kms(key: &str) -> String {
    format!("scope = \"record\"\nkms_key = \"{key}\"\ncontext = {{ app = \"shop\" }}")
}

/// Runs the agent while another process writes, until all is stored.
fn carry(home: &Home, count: u64) -> FinalReport {
    let mut agent = home.start_agent();
    lines::append(&home.log(), 1..=count)
        .wait()
        .expect_success();
    home.until_settled(&mut agent, &home.log());
    let report = FinalReport::of(agent);
    report.expect_stored(count);
    report
}

/// Reads the stream twice: with our consumer, and with software we did not write.
fn expect_each_once(home: &Home, endpoints: &Endpoints, report: &FinalReport, key: PeerKey<'_>) {
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    let doubled = arrived.doubled();
    assert!(
        doubled.is_empty() || report.causes_of_doubles() > 0,
        "{} lines are there twice, and no call had an unknown outcome",
        doubled.len()
    );

    let records = peers::read_stream(endpoints, STREAM);
    let messages: BTreeSet<Vec<u8>> = records.iter().map(peers::PeerRecord::data).collect();
    // A line sent again is the same message again.
    assert_eq!(messages.len() as u64, LINES);
    assert!(records.len() as u64 == LINES || report.causes_of_doubles() > 0);
    assert!(records.iter().any(|record| record.aggregated));
    // All of them would take it minutes.
    let sample: Vec<_> = messages.iter().step_by(500).collect();
    let opened = peers::open_messages(key, &[CONTEXT], &sample);
    assert_eq!(opened.len(), sample.len());
    let opened = Arrived::of(opened.iter().map(peers::Opened::plaintext));
    opened.expect_only(1..=LINES);
}
