//! Partition keys that follow from the records: who shares a key shares a shard, and what is not to be shown is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use base64_simd::STANDARD;
use kinseal::aggregate::format::deaggregate;
use kinseal::record::{HashKey, PartitionKey};

use crate::support::agent::{FinalReport, Home, STREAM, kinseal};
use crate::support::process;
use crate::support::servers::{Endpoints, REGION, StandIn};

const SHARDS: usize = 4;
/// Long enough that no ciphertext has one by chance.
const USERS: [&str; 6] = [
    "ann@example",
    "bob@example",
    "cyd@example",
    "dan@example",
    "eve@example",
    "fay@example",
];

#[test]
fn records_lie_on_the_shard_that_their_field_leads_to() {
    for scope in ["record", "block"] {
        let site = site();
        let home = home(&site, scope, "{ json_pointer = \"/user\" }");
        let report = carry(&home, 300, &["{\"order\": 1}", "no JSON"]);
        assert_eq!(report.number("records had nothing"), 2, "{}", report.said());
        let mut on = BTreeMap::<_, BTreeSet<_>>::new();
        for (shard, key) in keys(&site.endpoints) {
            on.entry(key).or_default().insert(shard);
        }
        for user in USERS {
            let hash_key = PartitionKey::new(user).expect("short").hash_key();
            let expected = BTreeSet::from([shard_of(hash_key)]);
            // A block lies under the key of its first record; its others are on the same shard.
            if let Some(shards) = on.get(user) {
                assert_eq!(*shards, expected, "{user}, {scope}");
            } else {
                assert_eq!(scope, "block", "{user} has no key in the stream");
            }
        }
        assert!(on.keys().any(|key| USERS.contains(&&**key)), "{on:?}");
    }
}

#[test]
fn an_hmac_leads_each_value_to_one_shard_and_shows_none() {
    for scope in ["record", "block"] {
        let site = site();
        let folder = tempfile::tempdir().expect("a temporary directory");
        let key_file = folder.path().join("key.hmac");
        fs::write(&key_file, "5a".repeat(32)).expect("room for it");
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).expect("it is ours");
        let rule = format!(
            "{{ json_pointer = \"/user\", hmac_key_file = \"{}\" }}",
            key_file.display()
        );
        let home = home(&site, scope, &rule);
        carry(&home, 300, &[]).expect_stored(300);

        let stored = as_stored(&site.endpoints);
        for (_, key, data) in &stored {
            for user in USERS {
                assert!(!key.contains(user), "{key}");
                let shown = data.windows(user.len()).any(|part| part == user.as_bytes());
                assert!(!shown, "{user} in {scope}");
            }
        }
        let mut on = BTreeMap::new();
        for (shard, key) in keys(&site.endpoints) {
            assert_eq!(key.len(), 32, "{key}");
            assert!(key.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
            assert_eq!(*on.entry(key).or_insert(shard.clone()), shard);
        }
        match scope {
            "record" => assert_eq!(on.len(), USERS.len()),
            _ => assert!((1..=USERS.len()).contains(&on.len())),
        }
    }
}

#[test]
fn an_hmac_key_that_others_may_read_stops_the_start() {
    let site = site();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let key_file = folder.path().join("key.hmac");
    fs::write(&key_file, "5a".repeat(32)).expect("room for it");
    fs::set_permissions(&key_file, Permissions::from_mode(0o644)).expect("it is ours");
    let rule = format!(
        "{{ json_pointer = \"/user\", hmac_key_file = \"{}\" }}",
        key_file.display()
    );
    let ended = home(&site, "record", &rule).spawn_agent().wait();
    assert!(!ended.status.success());
    let way_out = format!("chmod 600 {}", key_file.display());
    assert!(ended.stderr.contains(&way_out), "{}", ended.stderr);
    assert!(!ended.stderr.contains("5a5a"), "{}", ended.stderr);
}

fn site() -> StandIn {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, SHARDS as i32);
    site
}

fn home(site: &StandIn, scope: &str, rule: &str) -> Home {
    let key = site.endpoints.create_key();
    let encryption = format!("scope = \"{scope}\"\nkms_key = \"{key}\"");
    Home::keyed(&site.endpoints, rule, &encryption)
}

/// Sends `lines` sales of the users in turn, and then these.
fn carry(home: &Home, lines: usize, others: &[&str]) -> FinalReport {
    let sale = |(n, user)| format!("{{\"sale\": {n}, \"user\": \"{user}\"}}\n");
    let mut text: String = (0..lines).zip(USERS.iter().cycle()).map(sale).collect();
    for other in others {
        text += other;
        text.push('\n');
    }
    fs::write(home.log(), text).expect("room for it");
    let mut agent = home.start_agent();
    home.until_settled(&mut agent, &home.log());
    FinalReport::of(agent)
}

/// Shard and key of each record in the stream, those of an aggregate's members too.
fn keys(endpoints: &Endpoints) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for (shard, key, data) in as_stored(endpoints) {
        match deaggregate(&data.into()) {
            Some(members) => {
                let members = members
                    .into_iter()
                    .map(|member| member.partition_key.to_string());
                keys.extend(members.map(|key| (shard.clone(), key)));
            }
            None => keys.push((shard, key)),
        }
    }
    keys
}

/// Shard, key and data of each Kinesis record.
fn as_stored(endpoints: &Endpoints) -> Vec<(String, String, Vec<u8>)> {
    let mut command = kinseal();
    command.args(["consume", "--raw", "--until-empty", "--stream", STREAM]);
    command.args(["--region", REGION, "--endpoint-url", &endpoints.kinesis]);
    let ended = process::run("kinseal consume --raw", &mut command, b"").expect_success();
    let text = String::from_utf8(ended.stdout).expect("base64");
    let record = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [shard, _, key, base64] = columns[..] else {
            panic!("four columns in {line}");
        };
        let data = STANDARD.decode_to_vec(base64).expect("base64");
        (shard.to_owned(), key.to_owned(), data)
    };
    text.lines().map(record).collect()
}

/// Of a stream that was made with [`SHARDS`] of them, which divide the ring evenly.
fn shard_of(hash_key: HashKey) -> String {
    let index = hash_key.0 / (u128::MAX / SHARDS as u128 + 1);
    format!("shardId-{index:012}")
}
