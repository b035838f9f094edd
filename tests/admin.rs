//! What a running agent tells those who ask how it is.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use kinseal::fake::{Action, ApiError, Faults, Rule, Service};

use crate::support::admin::{ask, number};
use crate::support::agent::{Home, STREAM, kinseal};
use crate::support::failing::{Call, EIO, FailingDisk};
use crate::support::lines::append;
use crate::support::process::{Running, run};
use crate::support::servers::StandIn;
use crate::support::until;

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    site
}

/// An agent that can be asked at this socket, once it is there.
fn start(home: &Home, mut command: Command) -> (Running, PathBuf) {
    let socket = home.path().join("admin.sock");
    let admin = format!("\n[admin]\nlisten = \"{}\"\n", socket.display());
    let config = fs::read_to_string(home.config()).expect("ours") + &admin;
    fs::write(home.config(), config).expect("ours");
    command.arg("agent").arg("--config").arg(home.config());
    let agent = Running::start("the agent", &mut command);
    // Its file is there a moment before it listens.
    until("it listens", || UnixStream::connect(&socket).ok());
    (agent, socket)
}

#[test]
fn the_account_that_metrics_tell_adds_up_and_ends_as_the_report_does() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let (agent, socket) = start(&home, kinseal());
    append(&home.log(), 1..=2000).wait();
    // They are counted as stored first, and then answered: in between they are pending still.
    until("all are stored and answered", || {
        let of = |what| number(&socket, &format!("kinseal_records_{what}"), STREAM);
        ((of("stored_total"), of("pending")) == (2000, 0)).then_some(())
    });
    assert_eq!(
        number(&socket, "kinseal_records_accepted_total", STREAM),
        2000
    );
    let (status, text) = ask(&socket, "/status");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (status, &json["streams"][0]["records"]["stored"]),
        (200, &2000.into())
    );
    let median = &json["streams"][0]["latency_seconds"]["request"]["p50"];
    assert!(
        median
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0 && seconds < 10.0),
        "{text}"
    );
    agent.signal("TERM");
    let ended = agent.wait();
    assert!(ended.stderr.contains("stored 2,000"), "{}", ended.stderr);
    assert!(!socket.exists());
}

#[test]
fn readiness_names_what_is_in_the_way_and_health_is_the_process_own() {
    let site = StandIn::start();
    let key = site.endpoints.create_key();
    let encryption =
        format!("scope = \"record\"\nkms_key = \"{key}\"\ncache = {{ max_age = \"1s\" }}");
    let home = Home::new(&site.endpoints, &encryption, "");
    let (_agent, socket) = start(&home, kinseal());
    let until_ready = |expected: &str| {
        until(expected, || {
            let (status, text) = ask(&socket, "/readyz");
            let expected = match expected {
                "ok" => (200, "ok\n".to_owned()),
                ailment => (503, format!("{STREAM}: {ailment}\n")),
            };
            ((status, text) == expected).then_some(())
        });
        assert_eq!(ask(&socket, "/healthz").0, 200);
    };
    until_ready("undescribed");
    site.endpoints.create_stream(STREAM, 1);
    until_ready("ok");

    let no = |service| {
        let refused =
            Rule::new(Action::Error(ApiError::new("AccessDeniedException", "no"))).service(service);
        site.fake.set_faults(Faults::seeded(1).rule(refused));
    };
    no(Service::Kinesis);
    append(&home.log(), 1..=10).wait();
    until_ready("outage");
    site.fake.set_faults(Faults::seeded(1));
    until_ready("ok");
    no(Service::Kms);
    until("its key is too old to be used", || {
        append(&home.log(), 11..=12).wait();
        (ask(&socket, "/readyz").1 == format!("{STREAM}: no_data_key\n")).then_some(())
    });
    let (_, metrics) = ask(&socket, "/metrics");
    let trouble = format!("kinseal_trouble{{stream=\"{STREAM}\",kind=\"no_data_key\"}} 1\n");
    assert!(metrics.contains(&trouble), "{metrics}");
    site.fake.set_faults(Faults::seeded(1));
    until_ready("ok");
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_the_process_own_trouble() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let disk = FailingDisk::build(home.path());
    let (_agent, socket) = start(&home, disk.kinseal());
    let is_well = |path| ask(&socket, path).0 == 200;
    until("it is well", || {
        (is_well("/healthz") && is_well("/readyz")).then_some(())
    });
    disk.fail(&[(Call::Write, EIO, home.state())]);
    append(&home.log(), 1..=10).wait();
    until("it says so", || (!is_well("/healthz")).then_some(()));
    assert!(
        ask(&socket, "/readyz")
            .1
            .contains("the checkpoint cannot be written")
    );
    disk.heal();
    until("it is well again", || {
        (is_well("/healthz") && is_well("/readyz")).then_some(())
    });
}

#[test]
fn an_address_that_is_taken_is_named_before_anything_is_read() {
    let site = site();
    let home = Home::new(&site.endpoints, "scope = \"off\"", "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let mut command = kinseal();
    command.arg("agent").arg("--config").arg(home.config());
    command.args(["--admin", &address]);
    let ended = run("the agent", &mut command, b"");
    assert!(!ended.status.success());
    assert!(
        ended.stderr.contains(&address) && ended.stderr.contains("port"),
        "{}",
        ended.stderr
    );
    let ended = run(
        "the agent",
        kinseal().args(["agent", "--config", "x", "--admin", "nowhere"]),
        b"",
    );
    assert_eq!(ended.status.code(), Some(64), "{}", ended.stderr);
}
