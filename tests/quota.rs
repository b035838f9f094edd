//! Against the stand-in with the quotas of shards on: a stream is used to the full, few entries are throttled, and one
//! shard's trouble is no other's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kinseal::aggregate::format::deaggregate;
use kinseal::fake::{Counters, Fake};

use crate::support::agent::{Home, STREAM};
use crate::support::servers::StandIn;

const PLAIN: &str = "scope = \"off\"";
const QUOTA: f64 = (1 << 20) as f64;

#[test]
fn a_stream_that_is_offered_three_times_its_quota_takes_all_of_it_with_few_throttles() {
    const SHARDS: usize = 8;
    const SETTLES: Duration = Duration::from_secs(5);
    const MEASURED: Duration = Duration::from_secs(15);
    let site = StandIn::built(Fake::builder().strict(true));
    site.endpoints.create_stream(STREAM, SHARDS as i32);
    let home = Home::new(&site.endpoints, PLAIN, "");
    let mut file = File::create(home.log()).expect("room for it");
    let line = [vec![b'x'; 2047], vec![b'\n']].concat();
    let second = line.repeat(SHARDS * 512 * 3);
    let agent = home.start_agent();

    let (mut before, mut after) = (Counters::default(), Counters::default());
    let measured = thread::scope(|scope| {
        // Three times what the stream takes, each second.
        scope.spawn(move || {
            let began = Instant::now();
            for n in 1..=(SETTLES + MEASURED).as_secs() as u32 {
                file.write_all(&second).expect("room for it");
                let due = began + Duration::from_secs(1) * n;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        thread::sleep(SETTLES);
        before = site.fake.counters();
        let began = Instant::now();
        thread::sleep(MEASURED);
        after = site.fake.counters();
        began.elapsed()
    });
    agent.kill();
    let (used, throttled) = used_and_throttled(&before, &after, SHARDS, measured);
    assert!(used > 0.95, "{used:.3} of the quota is used");
    assert!(throttled < 0.02, "{throttled:.4} of entries throttled");
}

#[test]
fn agents_that_share_a_shard_and_know_nothing_of_each_other_use_it_up_with_few_throttles() {
    const SETTLES: Duration = Duration::from_secs(12);
    const MEASURED: Duration = Duration::from_secs(20);
    let site = StandIn::built(Fake::builder().strict(true));
    site.endpoints.create_stream(STREAM, 1);
    let line = [vec![b'x'; 2047], vec![b'\n']].concat();
    let agents = [(); 2].map(|()| {
        let home = Home::new(&site.endpoints, PLAIN, "");
        // More than the shard takes in all that time.
        std::fs::write(home.log(), line.repeat(512 * 40)).expect("room for it");
        let agent = home.start_agent();
        (home, agent)
    });
    thread::sleep(SETTLES);
    let before = site.fake.counters();
    thread::sleep(MEASURED);
    let after = site.fake.counters();
    for (_, agent) in agents {
        agent.kill();
    }
    let (used, throttled) = used_and_throttled(&before, &after, 1, MEASURED);
    assert!(used > 0.9, "{used:.3} of the quota is used");
    // Both at their full rate, half would be. Two or three in a hundred is what the limiter comes to; twenty entries a
    // second are few to learn from.
    assert!(throttled < 0.08, "{throttled:.4} of entries throttled");
}

/// Parts of so many shards' quota, and of the entries that were sent.
fn used_and_throttled(
    before: &Counters,
    after: &Counters,
    shards: usize,
    measured: Duration,
) -> (f64, f64) {
    let stored = (after.bytes_stored - before.bytes_stored) as f64;
    let used = stored / (QUOTA * shards as f64 * measured.as_secs_f64());
    let throttled = (after.throttled_entries - before.throttled_entries) as f64;
    let sent = throttled + (after.records_stored - before.records_stored) as f64;
    println!("{used:.3} of the quota, {:.4} throttled", throttled / sent);
    (used, throttled / sent)
}

#[test]
fn a_hot_shard_leaves_the_others_as_fast_as_ever_while_its_backlog_has_room() {
    const SHARDS: usize = 4;
    const SECONDS: u32 = 5;
    let site = StandIn::built(Fake::builder().strict(true));
    site.endpoints.create_stream(STREAM, SHARDS as i32);
    let home = Home::keyed(
        &site.endpoints,
        "{ explicit_hash_key = { json_pointer = \"/hash\" } }",
        PLAIN,
    );
    let agent = home.start_agent();
    write_with_a_hot_shard(&home.log(), SHARDS, SECONDS);
    // What waits for the hot one is more than the others could have waiting.
    thread::sleep(Duration::from_secs(1));
    let mut late: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for record in site.fake.records(STREAM).expect("a stream") {
        let members = deaggregate(&record.data).map(|m| m.into_iter().map(|m| m.data).collect());
        for line in members.unwrap_or_else(|| vec![record.data]) {
            let line: serde_json::Value = serde_json::from_slice(&line).expect("as written");
            let written = Duration::from_millis(line["written"].as_u64().expect("a time"));
            let took = record.arrival.duration_since(UNIX_EPOCH + written);
            let shard = late.entry(record.shard.clone()).or_default();
            shard.push(took.unwrap_or_default());
        }
    }
    agent.kill();
    assert_eq!(late.len(), SHARDS, "every shard has some");
    let mut worst = Vec::new();
    for (shard, late) in &mut late {
        late.sort();
        let p99 = late[late.len() * 99 / 100];
        println!("{shard}: {} lines, p99 {p99:?}", late.len());
        worst.push((p99, late.len()));
    }
    let (hot, others) = worst.split_first().expect("four");
    assert!(hot.0 > Duration::from_secs(2), "it was not hot: {worst:?}");
    let due = LINES_A_SECOND * SECONDS as usize;
    for (p99, lines) in others {
        assert!(*p99 < Duration::from_secs(1), "{worst:?}");
        assert_eq!(*lines, due, "all that were written: {worst:?}");
    }
}

/// Of the others, in lines of 2 KiB: a third of what a shard takes. The hot one gets nine times as many.
const LINES_A_SECOND: usize = 170;

fn write_with_a_hot_shard(log: &Path, shards: usize, seconds: u32) {
    let mut file = File::create(log).expect("room for it");
    let tick = Duration::from_millis(100);
    let began = Instant::now();
    let filling = "x".repeat(2000);
    for n in 1..=seconds * 10 {
        let mut lines = String::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_millis();
        for shard in 0..shards as u128 {
            let hash = (u128::MAX / shards as u128 + 1) * shard;
            let times = if shard == 0 { 9 } else { 1 };
            for _ in 0..LINES_A_SECOND / 10 * times {
                lines += &format!(
                    "{{\"hash\":\"{hash}\",\"written\":{now},\"filling\":\"{filling}\"}}\n"
                );
            }
        }
        file.write_all(lines.as_bytes()).expect("room for it");
        let due = began + tick * n;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
