//! A stream that is switched to `RecordDistributionStrategy` AUTO while the agent runs.

use kinseal::aggregate::format::deaggregate;
use kinseal::fake::Distribution;

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{self, Arrived};
use crate::support::servers::StandIn;

#[test]
fn a_stream_switched_to_auto_gets_no_more_aggregates_from_a_running_agent() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 4);
    // Small aggregates of one key: they go round the shards, as records without a key would, and those could by chance
    // be where they were predicted.
    let small = "scope = \"off\"\n[aggregation]\nmax_size = \"1KiB\"";
    let home = Home::keyed(&site.endpoints, "{ constant = \"shop\" }", small);
    let mut agent = home.start_agent();
    let mut write = |numbers| {
        lines::append(&home.log(), numbers).wait().expect_success();
        home.until_settled(&mut agent, &home.log());
    };
    let aggregates = || {
        let records = site.fake.records(STREAM).expect("there");
        let aggregated = records.iter().filter(|r| deaggregate(&r.data).is_some());
        aggregated.count()
    };
    write(1..=500);
    let before = aggregates();
    assert!(before > 0);
    // Found out by where these land.
    site.fake
        .set_distribution(STREAM, Distribution::Auto)
        .expect("there");
    write(501..=1000);
    let found_out = aggregates();
    write(1001..=1500);
    assert_eq!(aggregates(), found_out, "not one more");

    let report = FinalReport::of(agent);
    report.expect_stored(1500);
    assert!(report.said().contains("RecordDistributionStrategy is AUTO"));
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=1500);
}
