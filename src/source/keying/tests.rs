use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::HashKey;

fn pointer(text: &str) -> Field {
    Field::JsonPointer(JsonPointer::new(text).unwrap())
}

fn regex(text: &str) -> Field {
    Field::Regex(KeyPattern::new(text).unwrap())
}

fn value_of(field: Field) -> PartitionKeyRule {
    PartitionKeyRule::Field(field, Form::Value)
}

fn lines<T: AsRef<[u8]>>(lines: &[T]) -> Vec<Line> {
    let line = |bytes: &T| Line {
        bytes: Bytes::copy_from_slice(bytes.as_ref()),
        at: 0,
        oversized: false,
    };
    lines.iter().map(line).collect()
}

fn keyer(rule: &PartitionKeyRule) -> Keyer {
    let keying = Keying::new(rule).unwrap();
    keying.of("/var/log/a.log".as_ref())
}

/// The keys of these lines, and how many had none.
fn found<T: AsRef<[u8]>>(rule: &PartitionKeyRule, of: &[T]) -> (Vec<RecordKey>, usize) {
    let keys = keyer(rule).keys(&lines(of));
    let missing = keys.missing();
    (keys.into_each().take(of.len()).collect(), missing)
}

fn one(rule: &PartitionKeyRule, line: impl AsRef<[u8]>) -> RecordKey {
    found(rule, &[line]).0.remove(0)
}

fn keyed(key: &str) -> RecordKey {
    RecordKey::Keyed(PartitionKey::new(key).unwrap())
}

#[test]
fn one_key_for_all_does_nothing_per_record() {
    let constant = PartitionKey::new("k").unwrap();
    let host = gethostname::gethostname().into_string().unwrap();
    for (rule, key) in [
        (PartitionKeyRule::Random, RecordKey::Any),
        (PartitionKeyRule::Constant(constant), keyed("k")),
        (PartitionKeyRule::Host, keyed(&host)),
        (PartitionKeyRule::File, keyed("/var/log/a.log")),
    ] {
        let keys = keyer(&rule).keys(&lines(&["a", "b"]));
        assert!(
            matches!(&keys, Keys::Same(same) if *same == key),
            "{keys:?}"
        );
        assert_eq!((keys.bytes(), keys.missing()), (0, 0));
    }
}

#[test]
fn a_long_path_is_a_key_too() {
    let keying = Keying::new(&PartitionKeyRule::File).unwrap();
    let path = format!("/{}", "x".repeat(300));
    let keys = keying.of(path.as_ref()).keys(&lines(&["a"]));
    let expected = RecordKey::Keyed(digest::hashed(path.as_bytes()));
    assert_eq!(keys.into_each().next(), Some(expected));
}

#[test]
fn the_same_records_and_no_others_share_a_hash() {
    let (keys, missing) = found(&PartitionKeyRule::Hash, &["a", "b", "a", ""]);
    assert_eq!(keys[0], keys[2]);
    assert_ne!(keys[0], keys[1]);
    // printf a | sha256sum | cut -c1-32
    assert_eq!(keys[0], keyed("ca978112ca1bbdcafac231b39a23dc4d"));
    assert_eq!(missing, 0, "an empty record has a hash");
}

#[test]
fn a_field_is_the_key_and_without_it_any_shard_will_do() {
    let json = value_of(pointer("/order/id"));
    let with = r#"{"order":{"id":"o-1"}}"#;
    let (keys, missing) = found(&json, &[with, r#"{"order":{"id":""}}"#, "no JSON", with]);
    assert_eq!(
        keys,
        [keyed("o-1"), RecordKey::Any, RecordKey::Any, keyed("o-1")]
    );
    assert_eq!(missing, 2);

    let pattern = value_of(regex(r"user=(?<key>\S*)"));
    let (keys, missing) = found(&pattern, &["x user=ann y", "user=", "x"]);
    assert_eq!(keys, [keyed("ann"), RecordKey::Any, RecordKey::Any]);
    assert_eq!(missing, 2);
}

#[test]
fn what_kinesis_refuses_as_a_key_is_hashed() {
    let rule = value_of(regex("(?s-u)(?<key>.+)"));
    let fits = "ü".repeat(PartitionKey::MAX_CHARS);
    assert_eq!(one(&rule, &fits), keyed(&fits));
    for value in [fits.clone() + "x", fits + "y"] {
        let hashed = digest::hashed(value.as_bytes());
        assert_eq!(one(&rule, &value), RecordKey::Keyed(hashed));
    }
    let binary = [b'a', 0xff];
    assert_eq!(
        one(&rule, binary),
        RecordKey::Keyed(digest::hashed(&binary))
    );
}

#[test]
fn an_hmac_is_of_the_value_and_differs_with_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let rule = |name: &str, hex: &str| {
        let key_file = directory.path().join(name);
        fs::write(&key_file, hex.repeat(32)).unwrap();
        fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
        PartitionKeyRule::Field(pointer("/user"), Form::Hmac { key_file })
    };
    let (first, other) = (rule("a", "0a"), rule("b", "0b"));
    let line = r#"{"user":"ann","n":1}"#;
    let again = r#"{"n":2,"user":"\u0061nn"}"#;
    assert_eq!(one(&first, line), one(&first, again));
    assert_ne!(one(&first, line), one(&other, line));
    // printf ann | openssl dgst -sha256 -mac HMAC -macopt hexkey:0a0a…
    assert_eq!(one(&first, line), keyed("1b1479ca2394eec5820fdcb21f18b0d2"));
    assert_eq!(one(&first, "{}"), RecordKey::Any, "nothing has no HMAC");
}

#[test]
fn an_explicit_hash_key_is_taken_as_it_is_and_never_guessed() {
    let rule = PartitionKeyRule::Field(pointer("/shard"), Form::HashKey);
    let max = HashKey::MAX.to_string();
    for (line, key) in [
        (r#"{"shard":17}"#, Some(("17", HashKey(17)))),
        (
            &*format!(r#"{{"shard":"{max}"}}"#),
            Some((&*max, HashKey::MAX)),
        ),
        (r#"{"shard":-1}"#, None),
        (r#"{"shard":1.0}"#, None),
        (r#"{"shard":"017"}"#, None),
    ] {
        let key = key
            .map(|(key, hash_key)| RecordKey::Explicit(PartitionKey::new(key).unwrap(), hash_key));
        assert_eq!(one(&rule, line), key.unwrap_or(RecordKey::Any), "{line}");
    }
}

#[test]
fn a_piece_of_a_line_that_is_no_record_is_not_looked_through() {
    let mut lines = lines(&["user=a"]);
    lines[0].oversized = true;
    let keys = keyer(&value_of(regex("user=(?<key>.)"))).keys(&lines);
    assert_eq!((keys.missing(), keys.bytes()), (0, 0));
    assert_eq!(keys.into_each().next(), Some(RecordKey::Any));
}

#[tokio::test]
async fn a_task_finds_the_same_keys_however_long_the_lines_are() {
    let keyer = keyer(&value_of(pointer("/id")));
    for len in [1, 2 * Keyer::LONG] {
        let text = "x".repeat(len);
        let line = |id| format!(r#"{{"text":"{text}","id":{id}}}"#);
        let (keys, back) = keyer.keys_in_task(lines(&[line(1), line(2)])).await;
        assert_eq!(back, lines(&[line(1), line(2)]));
        let keys: Vec<_> = keys.into_each().collect();
        assert_eq!(keys, [keyed("1"), keyed("2")]);
    }
}

proptest! {
    /// What a source reserves before it reads covers every key that can come of it.
    #[test]
    fn no_keys_take_more_than_was_reserved_for_them(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..8),
    ) {
        let total = texts.iter().map(Vec::len).sum();
        for rule in [PartitionKeyRule::Hash, value_of(regex("(?s-u)(?<key>.+)"))] {
            let keyer = keyer(&rule);
            let keys = keyer.keys(&lines(&texts));
            prop_assert!(keys.bytes() <= keyer.worst_bytes(texts.len(), total));
            let each: Vec<_> = keys.into_each().collect();
            prop_assert_eq!(each.len(), texts.len());
        }
    }
}
