//! What holds keys leaves no trace of them, and no key and IV meet twice.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use base64_simd::STANDARD;
use bytes::Bytes;
use kinseal::aggregate::format::deaggregate;
use kinseal::fake::{Action, Entries, Faults, Rule};
use kinseal::seal::message::{Message, ReadLimits};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::lines;
use crate::support::process::{self, Running};
use crate::support::servers::{Endpoints, REGION, StandIn};

#[test]
fn a_crash_leaves_no_core_dump() {
    let site = site();
    let home = home(&site);
    let agent = home.start_agent_as(with_core_files(&home));
    assert_eq!(core_file_size(&agent), ["0", "0"]);
    agent.signal("ABRT");
    let ended = agent.wait();
    assert_eq!(ended.status.signal(), Some(6), "{}", ended.status);
    assert!(!ended.status.core_dumped(), "{}", ended.status);
    assert!(!home.path().join("core").exists());
}

#[test]
fn core_dumps_are_left_as_they_are_where_the_configuration_allows_them() {
    let site = site();
    let home = home(&site);
    let config = fs::read_to_string(home.config()).expect("written");
    fs::write(home.config(), format!("core_dumps = true\n{config}")).expect("room for it");
    let agent = home.start_agent_as(with_core_files(&home));
    let [soft, hard] = core_file_size(&agent);
    assert_eq!(soft, hard, "as `with_core_files` left it");
    let ours = fs::read_to_string("/proc/self/limits").expect("Linux");
    assert_eq!(hard, core_file_line(&ours)[1]);
}

/// The file `environ` tells: the kernel gives it to root where a process is not dumpable. The agent runs as
/// another user than root for this, where we are root.
#[test]
fn another_process_of_the_same_user_may_not_look_into_the_agent() {
    let site = site();
    let home = home(&site);
    let config = fs::read_to_string(home.config()).expect("written");
    for core_dumps in [false, true] {
        let config = format!("core_dumps = {core_dumps}\n{config}");
        fs::write(home.config(), config).expect("room for it");
        let agent = home.start_agent_as(home.kinseal_without_rights());
        let owner = if core_dumps { home.owner() } else { 0 };
        let proc = format!("/proc/{}", agent.id());
        let environ = fs::metadata(format!("{proc}/environ")).expect("it runs");
        assert_eq!(environ.uid(), owner, "core_dumps = {core_dumps}");
        // What monitoring reads stays readable, for anyone.
        for open in ["stat", "status", "limits"] {
            let mode = fs::metadata(format!("{proc}/{open}")).expect("it runs");
            assert_eq!(mode.mode() & 0o777, 0o444, "{open}");
        }
        agent.kill();
    }
}

/// Calls are answered with a reset after all of their entries were stored, so that these are stored again, and
/// entries are refused. A message that is in the stream twice is there with the same bytes; every other one has
/// an id of its own, whatever data key, thread or job it came from.
#[test]
fn a_retry_sends_the_same_bytes_and_no_message_id_is_used_twice() {
    const LINES: u64 = 20_000;
    let small_blocks = "[encryption.block]\nmax_size = \"8KiB\"\n";
    for (scope, at_least, block) in [("record", LINES as usize, ""), ("block", 100, small_blocks)] {
        let site = site();
        let key = site.endpoints.create_key();
        // Small enough for some data keys, and a data key for many messages.
        let encryption = format!(
            "scope = \"{scope}\"\nkms_key = \"{key}\"\ncache = {{ max_messages = 4000, max_bytes = \"1MiB\" }}"
        );
        let small = format!("{block}[batch]\nmax_records = 20");
        let home = Home::new(&site.endpoints, &encryption, &small);
        lines::append(&home.log(), 1..=LINES)
            .wait()
            .expect_success();
        let lost = Rule::new(Action::ResetAfter).on("PutRecords").every(5);
        let refused = Rule::new(Action::FailEntries(Entries::Percent(20.0))).on("PutRecords");
        site.fake
            .set_faults(Faults::seeded(4).rule(lost).rule(refused));
        let mut agent = home.start_agent();
        home.until_settled(&mut agent, &home.log());
        FinalReport::of(agent).expect_stored(LINES);

        let mut found = Messages::default();
        for entry in as_stored(&site.endpoints) {
            let messages = deaggregate(&entry).map(|records| records.into_iter().map(|r| r.data));
            match messages {
                Some(messages) => messages.for_each(|message| found.add(message)),
                None => found.add(entry),
            }
        }
        assert!(found.repeated > 0, "{scope}: nothing was sent again");
        assert!(
            found.by_id.len() >= at_least,
            "{scope}: {}",
            found.by_id.len()
        );
        assert!(found.per_data_key.len() > 1, "{scope}: one data key only");
        assert!(found.per_data_key.values().any(|messages| *messages > 10));
    }
}

/// AWS's own client, below us, would log bodies: it knows that these are secret.
#[test]
fn the_log_at_its_loudest_shows_no_key_and_no_record() {
    const LINES: u64 = 50;
    let site = site();
    let home = home(&site);
    lines::append(&home.log(), 1..=LINES)
        .wait()
        .expect_success();
    let loudest = || {
        let mut command = kinseal();
        command.env("KINSEAL_LOG", "trace,kinseal=trace");
        command
    };
    let mut agent = home.start_agent_as(loudest());
    home.until_settled(&mut agent, &home.log());
    let report = FinalReport::of(agent);
    report.expect_stored(LINES);

    let mut command = loudest();
    command.args(["consume", "--until-empty", "--stream", STREAM, "--config"]);
    command.arg(home.config());
    let ended = process::run("kinseal consume", &mut command, b"").expect_success();
    assert_eq!(
        ended.stdout.iter().filter(|byte| **byte == b'\n').count(),
        50
    );

    for (what, said) in [("agent", report.said()), ("consume", &ended.stderr)] {
        assert!(said.contains("TRACE"), "{what} says nothing");
        assert!(
            said.contains("GenerateDataKey") || said.contains("Decrypt"),
            "{what}"
        );
        // As KMS's answer has the data key, and as the line, its base64 and its bytes would look.
        let record = STANDARD.encode_to_string(r#"{"symbol":"AMZN""#);
        for secret in [
            "\"Plaintext\":\"",
            "order-17",
            &record[..16],
            "123, 34, 115, 121, 109",
        ] {
            let shown = said.lines().find(|line| line.contains(secret));
            assert_eq!(shown, None, "{what}");
        }
    }
}

/// Where keys were, zeros are: the crates' states wipe themselves only with a feature of theirs.
#[test]
fn ciphers_and_hashes_of_keys_wipe_themselves() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<aes_gcm::Aes128Gcm>();
    wiped::<aes_gcm::Aes256Gcm>();
    // HMAC and HKDF do not say so: what they keep are these.
    wiped::<sha2::Sha256>();
    wiped::<sha2::Sha384>();
    wiped::<sha2::Sha512>();
}

/// What lies in a stream.
#[derive(Default)]
struct Messages {
    by_id: HashMap<Vec<u8>, Bytes>,
    per_data_key: BTreeMap<Vec<u8>, u64>,
    repeated: u64,
}

impl Messages {
    fn add(&mut self, bytes: Bytes) {
        let message = Message::parse(&bytes, &ReadLimits::default()).expect("a message");
        match self.by_id.get(message.message_id()) {
            Some(first) => {
                assert!(*first == bytes, "one id for two messages");
                self.repeated += 1;
            }
            None => {
                let messages = self.per_data_key.entry(message.key_section().to_vec());
                *messages.or_default() += 1;
                self.by_id
                    .insert(message.message_id().to_vec(), bytes.clone());
            }
        }
    }
}

fn as_stored(endpoints: &Endpoints) -> Vec<Bytes> {
    let mut command = kinseal();
    command.args(["consume", "--raw", "--until-empty", "--stream", STREAM]);
    command.args(["--region", REGION, "--endpoint-url", &endpoints.kinesis]);
    let ended = process::run("kinseal consume --raw", &mut command, b"").expect_success();
    let text = String::from_utf8(ended.stdout).expect("base64");
    let data = text.lines().map(|line| {
        let (_, base64) = line.rsplit_once('\t').expect("four columns");
        STANDARD.decode_to_vec(base64).expect("base64").into()
    });
    data.collect()
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 1);
    site
}

fn home(site: &StandIn) -> Home {
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    Home::new(&site.endpoints, &encryption, "")
}

/// With core files as large as this host lets them be, in its own folder.
fn with_core_files(home: &Home) -> Command {
    let program = kinseal();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .current_dir(home.path())
        .env_clear();
    for (name, value) in program.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command
}

/// Soft and hard limit.
fn core_file_size(process: &Running) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id()));
    core_file_line(&limits.expect("it runs"))
}

fn core_file_line(limits: &str) -> [String; 2] {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.expect("proc(5)").split_whitespace();
    std::array::from_fn(|_| words.next().expect("soft, hard, unit").to_owned())
}
