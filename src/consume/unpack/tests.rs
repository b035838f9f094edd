//! Pages as a writer of ours makes them, and as a stranger might.

use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::*;
use crate::aggregate::format::Layout;
use crate::record::{HashKey, PartitionKey};
use crate::seal::EncryptionContext;
use crate::seal::key::{self, UnwrapDataKey};
use crate::seal::message::{
    self, Encoding, EncryptedDataKey, MessageIds, SecretKeyBytes, Suite, Writer,
};
use crate::seal::open::OpenSettings;
use crate::seal::rawkey::WrappingKey;

fn context(app: &str) -> EncryptionContext {
    EncryptionContext::from([("app".to_owned(), app.to_owned())])
}

fn wrapping_key(name: &str) -> WrappingKey {
    WrappingKey::new("shop", name, &[name.len() as u8; 32]).unwrap()
}

/// A writer with a data key of its own.
async fn writer(key: &WrappingKey, context: &EncryptionContext) -> Writer {
    key::writer(key, context, Default::default()).await.unwrap()
}

fn seal(writer: &Writer, plaintext: &str) -> Bytes {
    let mut message = Vec::new();
    writer.seal(MessageIds::new().draw(), plaintext.as_bytes(), &mut message);
    message.into()
}

fn aggregate(members: &[Bytes]) -> Bytes {
    let mut layout = Layout::new();
    for (n, data) in (0..).zip(members) {
        let key = PartitionKey::new(format!("key-{}", n % 2)).unwrap();
        layout.add(&key, None, data.len());
    }
    let data = members.iter().map(|data| &data[..]);
    layout.encode(data).0.into()
}

fn page(records: impl IntoIterator<Item = Bytes>) -> Vec<StoredRecord> {
    let records = (0..).zip(records).map(|(n, data): (u64, _)| StoredRecord {
        sequence: n.to_string().into(),
        partition_key: "outer".to_owned(),
        data,
        arrived: None,
    });
    records.collect()
}

fn opener(key: Arc<dyn UnwrapDataKey>, required: EncryptionContext) -> Arc<Opener> {
    Arc::new(Opener::new(vec![key], required, OpenSettings::default()).unwrap())
}

fn opening(key: WrappingKey, plaintext: Plaintext) -> Unpacker {
    let opener = opener(Arc::new(key), context("shop"));
    Unpacker::opening(opener, plaintext, 2).unwrap()
}

type Unpacked = Vec<Result<UserRecord, Unreadable>>;

async fn unpack(unpacker: &Unpacker, page: Vec<StoredRecord>) -> Unpacked {
    unpacker
        .unpack(&ListedShard::named("shardId-0"), page)
        .await
}

/// `sequence/sub-sequence: text`, or the reason.
fn told(unpacked: &Unpacked) -> Vec<String> {
    let tell = |record: &Result<UserRecord, Unreadable>| {
        let (place, text) = match record {
            Ok(user) => (&user.place, String::from_utf8_lossy(&user.data).into()),
            Err(unreadable) => (&unreadable.place, unreadable.reason.to_string()),
        };
        format!("{}/{}: {text}", place.sequence, place.sub_sequence)
    };
    unpacked.iter().map(tell).collect()
}

#[tokio::test]
async fn aggregates_and_lone_records_open_in_the_order_they_lie_in() {
    let (first, second) = (wrapping_key("orders"), wrapping_key("orders"));
    let first = writer(&first, &context("shop")).await;
    let second = writer(&second, &context("shop")).await;
    let members: Vec<_> = (0..500).map(|n| seal(&first, &format!("a{n}"))).collect();
    let page = page([
        aggregate(&members),
        seal(&second, "alone"),
        aggregate(&[seal(&second, "b0"), seal(&first, "b1")]),
    ]);
    let unpacked = unpack(&opening(wrapping_key("orders"), Plaintext::Refused), page).await;
    let mut expected: Vec<_> = (0..500).map(|n| format!("0/{n}: a{n}")).collect();
    expected.extend(["1/0: alone", "2/0: b0", "2/1: b1"].map(str::to_owned));
    assert_eq!(told(&unpacked), expected);

    let user = unpacked[1].as_ref().unwrap();
    assert_eq!(&*user.partition_key, "key-1");
    let sealed = user.sealed.as_ref().unwrap();
    assert_eq!(sealed.message, members[1]);
    assert_eq!(&*sealed.wrapping_key, "shop/orders");
    assert_eq!(*sealed.context, context("shop"));
    assert_eq!(&*unpacked[500].as_ref().unwrap().partition_key, "outer");
}

#[tokio::test]
async fn messages_of_every_suite_and_in_both_forms_open_side_by_side() {
    let key = wrapping_key("orders");
    let mut stored = Vec::new();
    let mut expected = Vec::new();
    for suite in Suite::written() {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            let settings = message::Settings {
                suite,
                encoding,
                ..Default::default()
            };
            let context = context("shop");
            let writer = key::writer(&key, &context, settings).await.unwrap();
            let text = format!("{suite} {encoding:?}");
            let (sealed, nth) = (seal(&writer, &text), stored.len());
            assert_eq!(sealed.is_ascii(), encoding == Encoding::Base64);
            stored.push(aggregate(std::slice::from_ref(&sealed)));
            stored.push(sealed);
            expected.extend([nth, nth + 1].map(|n| format!("{n}/0: {text}")));
        }
    }
    // Begins like a message in base64, and is none.
    stored.push(Bytes::from("AgR4, he said"));
    expected.push(format!("{}/0: {}", stored.len() - 1, Reason::Plaintext));
    let unpacked = unpack(&opening(key, Plaintext::Refused), page(stored.clone())).await;
    assert_eq!(told(&unpacked), expected);
    // As it lay in the stream, whichever form that is.
    let sealed = unpacked[3].as_ref().unwrap().sealed.as_ref().unwrap();
    assert_eq!(sealed.message, stored[3]);
}

#[tokio::test]
async fn a_plain_record_among_sealed_ones_is_refused_unless_allowed() {
    let writer = writer(&wrapping_key("orders"), &context("shop")).await;
    let page = page([
        seal(&writer, "sealed"),
        Bytes::from("plain"),
        aggregate(&[Bytes::from("inner"), seal(&writer, "x")]),
    ]);
    let refusing = opening(wrapping_key("orders"), Plaintext::Refused);
    let refused = Reason::Plaintext.to_string();
    assert_eq!(
        told(&unpack(&refusing, page.clone()).await),
        [
            "0/0: sealed".to_owned(),
            format!("1/0: {refused}"),
            format!("2/0: {refused}"),
            "2/1: x".to_owned(),
        ]
    );
    let allowing = opening(wrapping_key("orders"), Plaintext::Allowed);
    assert_eq!(
        told(&unpack(&allowing, page).await),
        ["0/0: sealed", "1/0: plain", "2/0: inner", "2/1: x"]
    );
}

#[tokio::test]
async fn a_damaged_aggregate_is_called_damaged_not_unencrypted() {
    let writer = writer(&wrapping_key("orders"), &context("shop")).await;
    let mut damaged = aggregate(&[seal(&writer, "a"), seal(&writer, "b")]).to_vec();
    damaged[100] ^= 1;
    let page = page([damaged.into(), seal(&writer, "next")]);
    let damaged = Reason::DamagedAggregate.to_string();
    // What is sealed in it would pass for plaintext.
    for plaintext in [Plaintext::Refused, Plaintext::Allowed] {
        let unpacker = opening(wrapping_key("orders"), plaintext);
        assert_eq!(
            told(&unpack(&unpacker, page.clone()).await),
            [format!("0/0: {damaged}"), "1/0: next".to_owned()]
        );
    }
}

#[tokio::test]
async fn what_was_changed_or_is_foreign_is_told_and_the_rest_goes_on() {
    let ours = writer(&wrapping_key("orders"), &context("shop")).await;
    let other_key = writer(&wrapping_key("strange"), &context("shop")).await;
    let other_context = writer(&wrapping_key("orders"), &context("bank")).await;
    let mut tampered = seal(&ours, "tampered").to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let cut = seal(&ours, "cut");
    let page = page([
        seal(&ours, "first"),
        tampered.into(),
        cut.slice(..cut.len() - 1),
        seal(&other_key, "x"),
        seal(&other_context, "x"),
        seal(&ours, "last"),
    ]);
    // A message that was cut is not plaintext, also where plaintext is allowed.
    let unpacked = unpack(&opening(wrapping_key("orders"), Plaintext::Allowed), page).await;
    let told = told(&unpacked);
    assert_eq!(
        (told[0].as_str(), told[5].as_str()),
        ("0/0: first", "5/0: last")
    );
    for (at, words) in [
        (1, "frame 1 does not match"),
        (2, "ends before"),
        (3, "wrapped by shop/strange"),
        (4, "\"app\" is \"bank\""),
    ] {
        assert!(
            unpacked[at].is_err() && told[at].contains(words),
            "{}",
            told[at]
        );
    }
}

#[tokio::test]
async fn without_keys_sealed_records_name_theirs_and_plain_ones_pass() {
    let writer = writer(&wrapping_key("orders"), &context("shop")).await;
    let message = seal(&writer, "x");
    let only_begins_like_one = message.slice(..40);
    let page = page([
        Bytes::from("plain"),
        message,
        only_begins_like_one.clone(),
        aggregate(&[Bytes::from("inner")]),
    ]);
    let unpacked = unpack(&Unpacker::without_keys(1).unwrap(), page).await;
    let wrapped_by = "shop/orders".to_owned();
    let reason = &unpacked[1].as_ref().unwrap_err().reason;
    assert_eq!(**reason, Reason::NoKeys { wrapped_by });
    assert_eq!(unpacked[0].as_ref().unwrap().data, "plain");
    assert_eq!(unpacked[2].as_ref().unwrap().data, only_begins_like_one);
    assert_eq!(unpacked[3].as_ref().unwrap().data, "inner");
}

#[tokio::test]
async fn as_stored_nothing_is_taken_apart() {
    let page = page([aggregate(&[Bytes::from("a"), Bytes::from("b")])]);
    let data = page[0].data.clone();
    let unpacked = unpack(&Unpacker::as_stored(1).unwrap(), page).await;
    assert_eq!(unpacked.len(), 1);
    assert_eq!(unpacked[0].as_ref().unwrap().data, data);
}

/// Fails as often as told, and counts.
#[derive(Debug)]
struct Failing {
    key: WrappingKey,
    failures: Mutex<Vec<KeyError>>,
    calls: Mutex<usize>,
}

impl UnwrapDataKey for Failing {
    fn unwrap<'a>(
        &'a self,
        edk: &'a EncryptedDataKey,
        context: &'a EncryptionContext,
        key_len: usize,
    ) -> BoxFuture<'a, Result<Option<SecretKeyBytes>, KeyError>> {
        Box::pin(async move {
            *self.calls.lock().unwrap() += 1;
            let failure = self.failures.lock().unwrap().pop();
            match failure {
                Some(error) => Err(error),
                None => self.key.unwrap(edk, context, key_len).await,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_kms_is_waited_for_and_a_key_is_asked_for_once() {
    let (key, message) = ("k".to_owned(), "scripted".to_owned());
    let unreachable = KeyError::Unreachable {
        key: key.clone(),
        message: message.clone(),
    };
    let credentials = KeyError::Credentials { key, message };
    let failing = Arc::new(Failing {
        key: wrapping_key("orders"),
        failures: Mutex::new(vec![unreachable.clone(), credentials, unreachable]),
        calls: Mutex::new(0),
    });
    let opener = opener(Arc::clone(&failing) as _, context("shop"));
    let unpacker = Unpacker::opening(opener, Plaintext::Refused, 1).unwrap();
    let writer = writer(&wrapping_key("orders"), &context("shop")).await;
    let page = page((0..50).map(|n| seal(&writer, &n.to_string())));
    let unpacked = unpack(&unpacker, page).await;
    assert!(unpacked.iter().all(Result::is_ok), "{:?}", told(&unpacked));
    assert_eq!(*failing.calls.lock().unwrap(), 4);
}

/// As the KCL's AggregatorUtil: one member outside of the shard's hash keys, and none of the aggregate is given out.
#[tokio::test]
async fn an_aggregate_with_a_stray_is_left_out_whole_where_that_is_asked_for() {
    let one = |hash_key: u128| {
        let mut layout = Layout::new();
        let key = PartitionKey::new("k").unwrap();
        for (hash_key, data) in [(0, "a"), (hash_key, "b")] {
            layout.add(&key, Some(HashKey(hash_key)), data.len());
        }
        Bytes::from(layout.encode([&b"a"[..], b"b"].into_iter()).0)
    };
    // A lone record is read anywhere.
    let page = || page([one(9), one(10), Bytes::from_static(b"alone")]);
    let shard = ListedShard {
        range: Some((HashKey(0), HashKey(9))),
        ..ListedShard::named("shardId-0")
    };
    let unpacker = Unpacker::without_keys(1).unwrap();
    assert_eq!(unpacker.unpack(&shard, page()).await.len(), 5);
    let unpacker = unpacker.dropping_strays();
    let kept = unpacker.unpack(&shard, page()).await;
    assert_eq!(told(&kept), ["0/0: a", "0/1: b", "2/0: alone"]);
    assert_eq!(unpacker.strays(), 2);
    // Where a shard's hash keys are not told, nobody can say.
    let unknown = ListedShard::named("shardId-0");
    assert_eq!(unpacker.unpack(&unknown, page()).await.len(), 5);
}
