//! What a record's partition key costs where lines are split: 1,024 JSON lines of 200 bytes and of 2 KiB.
//!
//! - `floor`: one look at each byte of the line, for one that is not there;
//! - `hash`: the SHA-256 of the line;
//! - `json_pointer, first` and `, last`: a string at the line's beginning or end, which is read through in any case;
//! - `regex`: `user=(?<key>\S+)` at the line's end;
//! - `hmac`: the pointer to the end, and the HMAC of what is there.
//!
//! Elements are records. The MD5 that leads a key to its shard comes after, on the sealing pool.

use std::fs::{self, Permissions};
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memchr::memchr;

use kinseal::source::frame::Line;
use kinseal::source::keying::{
    Field, Form, JsonPointer, KeyPattern, Keyer, Keying, PartitionKeyRule,
};

/// As many as a chunk has at most.
const LINES: usize = 1024;

fn keys(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let key_file = folder.path().join("key.hmac");
    fs::write(&key_file, "5a".repeat(32)).expect("room for it");
    fs::set_permissions(&key_file, Permissions::from_mode(0o600)).expect("it is ours");

    for (size, name) in [(200, "200B"), (2048, "2KiB")] {
        let lines: Vec<Line> = (0..LINES).map(|n| line(n, size)).collect();
        let mut group = c.benchmark_group(format!("keys/{name}"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: LINES as u64,
            bytes: (LINES * size) as u64,
        });
        group.bench_function("floor", |b| {
            b.iter(|| {
                let found = black_box(&lines)
                    .iter()
                    .filter_map(|line| memchr(0, &line.bytes));
                found.count()
            });
        });
        let mut measure = |name: &str, rule: PartitionKeyRule| {
            let keyer: Keyer = Keying::new(&rule)
                .expect("it can be followed")
                .of("/var/log/a.log".as_ref());
            group.bench_function(name, |b| b.iter(|| keyer.keys(black_box(&lines))));
        };
        measure("hash", PartitionKeyRule::Hash);
        let field = |field, form| PartitionKeyRule::Field(field, form);
        measure(
            "json_pointer, first",
            field(pointer("/order/id"), Form::Value),
        );
        measure("json_pointer, last", field(pointer("/user"), Form::Value));
        let pattern = KeyPattern::new(r"user=(?<key>\S+)").expect("a pattern with its group");
        measure("regex", field(Field::Regex(pattern), Form::Value));
        let key_file = key_file.clone();
        measure("hmac", field(pointer("/user"), Form::Hmac { key_file }));
    }
}

fn pointer(text: &str) -> Field {
    Field::JsonPointer(JsonPointer::new(text).expect("a pointer"))
}

/// A log line of `size` bytes: some short fields, a text, and who it was.
fn line(n: usize, size: usize) -> Line {
    let begins = format!(
        r#"{{"order":{{"id":"o-{n:06}","items":[1,2,3],"total":19.99}},"level":"info","text":""#
    );
    let ends = format!(r#" user=u-{n:06} ","user":"u-{n:06}"}}"#);
    let text = "lorem ipsum ".chars().cycle();
    let text: String = text.take(size - begins.len() - ends.len()).collect();
    Line {
        bytes: (begins + &text + &ends).into(),
        at: 0,
        oversized: false,
    }
}

criterion_group!(benches, keys);
criterion_main!(benches);
