//! The KPL's daemon as a process: what starts and what ends it, and what of it others can see.

use std::fs;

use kinseal::daemon::message::{Request, StreamMetadata};

use crate::support::agent::{STREAM, kinseal};
use crate::support::kpl::{Setup, USUAL, code, expect_stored, put, put_lines, site, stored};
use crate::support::lines::line;
use crate::support::process::{Running, run};
use crate::support::until;

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
