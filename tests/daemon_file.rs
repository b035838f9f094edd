//! What a file adds to the KPL's daemon that its client has no words for: encryption, a disk, somebody to ask.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kinseal::fake::{Action, ApiError, Faults, Rule, Service};

use crate::support::admin::ask;
use crate::support::agent::{Home, STREAM};
use crate::support::kpl::{Setup, USUAL, code, expect_stored, put_lines, site, stored};
use crate::support::lines::Arrived;
use crate::support::process::run;
use crate::support::servers::StandIn;
use crate::support::until;

#[test]
fn records_are_encrypted_where_a_file_says_so_and_nothing_changes_for_the_client() {
    for scope in ["record", "block"] {
        let site = site(2);
        let key = site.endpoints.create_key();
        let mut setup = Setup::new(&site.endpoints, USUAL);
        let config = setup.path().join("kinseal.toml");
        let encryption = format!("scope = \"{scope}\"\nkms_key = \"{key}\"");
        fs::write(&config, format!("[encryption]\n{encryption}\n")).expect("room for it");
        setup.env("KINSEAL_CONFIG", &config.display().to_string());
        let mut client = setup.start();
        put_lines(&mut client, 1..=1000);
        expect_stored(client.results(1000).into_values());
        for record in site.fake.records(STREAM).expect("it is there") {
            assert!(!record.data.windows(5).any(|w| w == b"order"), "in clear");
        }
        let home = Home::new(&site.endpoints, &encryption, "");
        let arrived = Arrived::of(home.consume(&[]));
        arrived.expect_all(1..=1000);
        arrived.expect_no_doubles();
    }
}

/// In record scope and in block scope.
#[test]
fn while_there_is_no_data_key_records_wait_until_their_time_is_over_or_one_is_there() {
    for (scope, spool) in [
        ("record", false),
        ("block", false),
        ("record", true),
        ("block", true),
    ] {
        let site = site(1);
        let key = site.endpoints.create_key();
        let down = Rule::new(Action::ResetBefore).service(Service::Kms);
        site.fake.set_faults(Faults::seeded(1).rule(down));
        let mut setup = Setup::new(&site.endpoints, USUAL);
        setup.fields.record_ttl = Some(3000);
        let config = setup.path().join("kinseal.toml");
        let mut text = format!("[encryption]\nscope = \"{scope}\"\nkms_key = \"{key}\"\n");
        if spool {
            // Onto which nothing goes that is not sealed.
            let path = setup.path().join("spool");
            text += &format!("[spool]\npath = \"{}\"\n", path.display());
        }
        fs::write(&config, text).expect("room for it");
        setup.env("KINSEAL_CONFIG", &config.display().to_string());
        let mut client = setup.start();
        put_lines(&mut client, 1..=100);
        let results = client.results(100);
        assert!(
            results.values().all(|result| code(result) == "Expired"),
            "{scope}, {spool}"
        );
        put_lines(&mut client, 101..=200);
        site.fake.set_faults(Faults::seeded(1));
        let results = client.results(200);
        let later = results.into_iter().filter(|(id, _)| *id > 100);
        let later: Vec<_> = later.map(|(_, result)| result).collect();
        match spool {
            false => expect_stored(later),
            true => assert!(later.iter().all(|result| result.success)),
        }
    }
}

#[test]
fn a_file_with_a_mistake_stops_the_start_and_never_means_plaintext() {
    let site = site(1);
    let mut setup = Setup::new(&site.endpoints, USUAL);
    let config = setup.path().join("kinseal.toml");
    fs::write(&config, "[encryption]\nscope = \"record\"\n").expect("room for it");
    setup.env("KINSEAL_CONFIG", &config.display().to_string());
    let began = Instant::now();
    let ended = run("the daemon", &mut setup.command(), b"");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("kms_key"), "{}", ended.stderr);
    // Its parent would start it again at once.
    assert!(began.elapsed() > Duration::from_secs(1));
}

/// With its spool there, and what else is to be said.
fn with_spool(site: &StandIn, spool: &Path, more: &str) -> Setup {
    let mut setup = Setup::new(&site.endpoints, USUAL);
    let config = setup.path().join("kinseal.toml");
    let text = format!("{more}\n[spool]\npath = \"{}\"\n", spool.display());
    fs::write(&config, text).expect("room for it");
    setup.env("KINSEAL_CONFIG", &config.display().to_string());
    setup
}

fn outage(site: &StandIn) {
    let down =
        Rule::new(Action::Error(ApiError::new("InternalFailure", "no"))).service(Service::Kinesis);
    site.fake
        .set_faults(Faults::seeded(1).rule(down.on("PutRecords")));
}

/// Its time to live is over long before that, and the process that took it is gone.
#[test]
fn what_the_client_was_told_is_on_disk_outlives_an_outage_its_time_and_kill_9() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for encryption in ["", "record", "block"] {
        let site = site(2);
        let key = site.endpoints.create_key();
        let keys = format!("scope = \"{encryption}\"\nkms_key = \"{key}\"");
        let table = match encryption {
            "" => String::new(),
            _ => format!("[encryption]\n{keys}"),
        };
        let spool = dir.path().join(format!("spool-{encryption}"));
        outage(&site);
        let start = || {
            let mut setup = with_spool(&site, &spool, &table);
            setup.fields.record_ttl = Some(1000);
            setup.start()
        };
        let mut client = start();
        put_lines(&mut client, 1..=5000);
        for result in client.results(5000).into_values() {
            assert!(result.success && result.shard_id.is_none(), "{result:?}");
        }
        // For longer than the record's time to live.
        std::thread::sleep(Duration::from_millis(1500));
        client.kill();
        assert!(spool.join("0/spool").join(STREAM).is_dir());

        site.fake.set_faults(Faults::seeded(1));
        let mut client = start();
        put_lines(&mut client, 5001..=6000);
        client.results(1000);
        client.close_pipe();
        let (ended, _) = client.wait();
        assert!(ended.status.success(), "{}", ended.stderr);
        let arrived = match encryption {
            "" => stored(&site),
            _ => Arrived::of(Home::new(&site.endpoints, &keys, "").consume(&[])),
        };
        arrived.expect_all(1..=6000);
        arrived.expect_no_doubles();
    }
}

#[test]
fn daemons_of_several_clients_have_a_folder_each_and_what_one_left_the_next_one_sends() {
    let site = site(2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    outage(&site);
    let start = || with_spool(&site, dir.path(), "").start();
    let (mut first, mut second) = (start(), start());
    put_lines(&mut first, 1..=1000);
    first.results(1000);
    put_lines(&mut second, 1001..=2000);
    second.results(1000);
    for number in ["0", "1"] {
        assert!(dir.path().join(number).join("spool").join(STREAM).is_dir());
    }
    assert!(!dir.path().join("2").exists());
    first.kill();
    // Says at its end how many it leaves, and does not wait for an outage.
    second.close_pipe();
    let (ended, _) = second.wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("records=1000 wait on disk") || ended.stderr.contains("wait on disk"),
        "{}",
        ended.stderr
    );

    site.fake.set_faults(Faults::seeded(1));
    let (first, second) = (start(), start());
    until("all has been sent", || {
        let records = stored(&site).different();
        (records >= 2000).then_some(())
    });
    stored(&site).expect_all(1..=2000);
    drop((first, second));
}

/// What can never be stored has been told as put: it is kept, with its reason.
#[test]
fn what_the_service_refuses_for_itself_becomes_a_dead_letter_beside_the_spool() {
    let site = site(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = site.endpoints.create_key();
    let table = format!("[encryption]\nscope = \"record\"\nkms_key = \"{key}\"");
    let mut client = with_spool(&site, dir.path(), &table).start();
    // As long as the stream takes in clear, and longer when it is sealed.
    client.put(1, STREAM, "k", vec![b'x'; (1 << 20) - 1]);
    put_lines(&mut client, 2..=100);
    client.results(100);
    let folder = dir.path().join("0/dead_letter").join(STREAM);
    let letters = until("there is a dead letter", || {
        let file = fs::read_dir(&folder).ok()?.next()?.ok()?.path();
        let text = fs::read_to_string(file).ok()?;
        text.ends_with('\n').then_some(text)
    });
    assert_eq!(letters.lines().count(), 1);
    client.close_pipe();
    let (ended, _) = client.wait();
    assert!(ended.status.success(), "{}", ended.stderr);
}

#[test]
fn a_spool_that_cannot_be_used_stops_the_start_and_is_named() {
    let site = site(1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("room for it");
    let setup = with_spool(&site, &file, "");
    let ended = run("the daemon", &mut setup.command(), b"");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(file.to_str().expect("UTF-8")),
        "{}",
        ended.stderr
    );
}

#[test]
fn figures_and_health_can_be_asked_for_while_it_runs() {
    let site = site(2);
    let mut setup = Setup::new(&site.endpoints, USUAL);
    let socket = setup.path().join("admin.sock");
    let config = setup.path().join("kinseal.toml");
    let admin = format!("[admin]\nlisten = \"{}\"\n", socket.display());
    fs::write(&config, admin).expect("room for it");
    setup.env("KINSEAL_CONFIG", &config.display().to_string());
    // A second one that reads the same file has no address, and its records go on.
    let mut other = Setup::new(&site.endpoints, USUAL);
    other.env("KINSEAL_CONFIG", &config.display().to_string());
    let mut client = setup.start();
    put_lines(&mut client, 1..=1000);
    expect_stored(client.results(1000).into_values());
    let ask = |path| ask(&socket, path);
    assert_eq!(ask("/readyz"), (200, "ok\n".to_owned()));
    let stream = format!("{{stream=\"{STREAM}\"}}");
    let (_, metrics) = ask("/metrics");
    assert!(
        metrics.contains(&format!("kinseal_records_stored_total{stream} 1000\n")),
        "{metrics}"
    );
    until("the KPL's own are there too", || {
        let (_, metrics) = ask("/metrics");
        let puts = metrics
            .lines()
            .filter(|l| l.starts_with("kpl_user_records_put_sum"));
        let sum: u64 = puts
            .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        (sum == 1000).then_some(())
    });
    let mut other = other.start();
    put_lines(&mut other, 1001..=2000);
    expect_stored(other.results(1000).into_values());

    outage(&site);
    put_lines(&mut client, 2001..=2001);
    until("trouble is seen", || {
        (ask("/readyz").0 == 503).then_some(())
    });
    assert_eq!(ask("/healthz").0, 200, "the process itself is well");
    site.fake.set_faults(Faults::seeded(1));
    until("it is over", || (ask("/readyz").0 == 200).then_some(()));
    client.close_pipe();
    client.wait();
    assert!(!socket.exists());
}
