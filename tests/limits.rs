//! How large a record may be is what the stream says, without a word in the configuration.

use std::fs;

use kinseal::fake::{Action, Faults, Rule};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::servers::StandIn;

const MIB: usize = 1 << 20;

/// A stream that takes records of `kib`.
fn stream_of(kib: u32) -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site.fake.set_max_record_kib(STREAM, kib).expect("a size");
    site
}

/// Has an agent send one line of 3 MiB, under KMS and without any limit in its configuration but `more`.
fn carry_3_mib(site: &StandIn, more: &str) -> (Home, FinalReport) {
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let home = Home::new(&site.endpoints, &encryption, "");
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), format!("{more}\n{config}")).expect("room for it");
    fs::write(home.log(), line()).expect("room for it");
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    (home, FinalReport::of(agent))
}

fn line() -> String {
    format!("{}\n", "x".repeat(3 * MIB))
}

#[test]
fn a_line_of_3_mib_arrives_in_a_stream_that_takes_4() {
    let site = stream_of(4096);
    let (home, report) = carry_3_mib(&site, "");
    report.expect_stored(1);
    let arrived = home.consume(&[]);
    assert_eq!(arrived.len(), 1);
    assert!(arrived[0] == line().trim_end().as_bytes());
}

#[test]
fn a_line_of_3_mib_is_a_dead_letter_with_its_reason_where_the_stream_takes_1() {
    let site = stream_of(1024);
    let (home, report) = carry_3_mib(&site, "");
    assert_eq!(report.account(), [1, 0, 1, 0, 0, 0, 0]);
    let letters = home.dead_letters();
    let reason = letters[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("over the limit of 1048576"), "{reason}");
    assert!(reason.contains("MaxRecordSizeInKiB"), "{reason}");
}

#[test]
fn without_permission_to_ask_a_record_may_have_1_mib_and_the_log_says_so_once() {
    let site = stream_of(4096);
    let denied = Rule::new(Action::access_denied()).on("DescribeStreamSummary");
    site.fake.set_faults(Faults::seeded(1).rule(denied));
    let (_, report) = carry_3_mib(&site, "");
    assert_eq!(report.account(), [1, 0, 1, 0, 0, 0, 0]);
    let said = report.said().matches("may have 1 MiB").count();
    assert_eq!(said, 1, "{}", report.said());
}

#[test]
fn what_memory_has_no_room_for_is_told_with_the_way_out() {
    let site = stream_of(4096);
    let (_, report) = carry_3_mib(&site, "memory_limit = \"10MiB\"");
    assert_eq!(report.account(), [1, 0, 1, 0, 0, 0, 0]);
    let said = report.said();
    assert!(
        said.contains("larger records than memory_limit has room for"),
        "{said}"
    );
}
