//! In the place of the KPL's daemon: one that is given records for many streams.

use std::fs;

use kinseal::fake::{Action, Faults, Rule, Service};

use crate::support::kpl::{Setup, USUAL, code, expect_stored};
use crate::support::lines::line;
use crate::support::servers::StandIn;
use crate::support::until;

const STREAMS: u64 = 30;

fn name(number: u64) -> String {
    format!("stream-{}", number % STREAMS)
}

fn site() -> StandIn {
    let site = StandIn::start();
    for number in 0..STREAMS {
        site.endpoints.create_stream(&name(number), 1);
    }
    site
}

/// What one does not use another one may, and none has room of its own beside that.
#[test]
fn memory_is_bounded_for_the_records_of_all_streams_together() {
    let site = site();
    let mut client = Setup::new(&site.endpoints, USUAL).start();
    for id in 1..=STREAMS {
        client.put(id, &name(id), "k", line(id));
    }
    expect_stored(client.results(STREAMS as usize).into_values());
    let stall = Rule::new(Action::Stall).service(Service::Kinesis);
    site.fake
        .set_faults(Faults::seeded(1).rule(stall.on("PutRecords")));
    let mut id = STREAMS + 1;
    client.ask_for_metrics(id, "UserRecordsPut", Some(1));
    client.metrics(id);
    let data = vec![b'x'; 1000];
    for _ in 0..100_000 {
        id += 1;
        client.put(id, &name(id), &format!("{id}"), data.clone());
    }
    until("some are refused", || {
        (client.results_so_far() > STREAMS as usize).then_some(())
    });
    let results = client.results(STREAMS as usize + 1);
    let refused = results.values().filter(|result| !result.success);
    assert!(
        refused
            .into_iter()
            .all(|result| code(result) == "Overloaded")
    );
    let status = fs::read_to_string(format!("/proc/{}/status", client.daemon.id()));
    let status = status.expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    let peak = peak.expect("Linux says so") / 1024;
    assert!(peak < 96, "{peak} MiB");
}
