//! Our request beside the SDK's own, and before servers that look closely.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Builder, Config, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::*;
use crate::aggregate::reducer::tests::{entries, sealed};
use crate::aggregate::reducer::{Reducer, Routes};
use crate::batch::Limits;
use crate::fake::{Action, ApiError, Entries, Fake, Faults, Rule};
use crate::record::{HashKey, PartitionKey, RecordKey};
use crate::send::body::Long;

const STREAMS: [&str; 2] = [
    "shop-logs",
    "arn:aws:kinesis:eu-west-1:111122223333:stream/shop-logs",
];

/// The SDK leaves the host alone for it.
const ID: &str = "id-123";

type Keys = (String, Option<u128>);

fn batch(records: Vec<(Vec<u8>, Keys)>) -> Batch {
    let (now, mut closed) = (Instant::now(), Vec::new());
    let mut reducer = Reducer::new(None, Routes::Unpredictable);
    for (data, (key, explicit)) in records {
        let key = PartitionKey::new(key).unwrap();
        let key = match explicit {
            Some(hash_key) => RecordKey::Explicit(key, HashKey(hash_key)),
            None => RecordKey::Keyed(key),
        };
        reducer.push(sealed(data, key), now, now, &mut closed);
    }
    let mut batch = Batch::new(Limits::default());
    for entry in entries(closed) {
        batch.push(entry).unwrap();
    }
    batch
}

fn config() -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
}

/// Keeps what would have been sent.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<HttpRequest>>>);

impl HttpConnector for Kept {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.0.lock().unwrap().push(request);
        HttpConnectorFuture::ready(Err(ConnectorError::other("kept".into(), None)))
    }
}

impl Kept {
    fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(self.clone());
        let http = http_client_fn(move |_, _| connector.clone());
        Client::from_conf(config().http_client(http).build())
    }

    fn last(&self) -> HttpRequest {
        self.0.lock().unwrap().pop().expect("it was sent")
    }
}

/// The same call with all of it left to the SDK.
async fn call_by_the_sdk_alone(
    client: &Client,
    stream: &StreamName,
    id: Option<&str>,
    batch: &Batch,
) {
    let entry = |entry: &crate::aggregate::AggregatedRecord| {
        PutRecordsRequestEntry::builder()
            .data(Blob::new(entry.data().to_vec()))
            .partition_key(entry.partition_key().as_str())
            .set_explicit_hash_key(entry.explicit_hash_key().map(|k| k.to_string()))
            .build()
            .unwrap()
    };
    let entries = batch.entries().iter().map(entry).collect();
    let request = client.put_records().set_records(Some(entries));
    let request = request.set_stream_id(id.map(str::to_owned));
    let request = match stream.arn() {
        Some(arn) => request.stream_arn(arn),
        None => request.stream_name(stream.name()),
    };
    request.send().await.expect_err("kept, not sent");
}

fn json(request: &HttpRequest) -> Value {
    serde_json::from_slice(request.body().bytes().unwrap()).unwrap()
}

/// All that does not tell of the moment.
fn headers(request: &HttpRequest) -> Vec<(String, String)> {
    let of_the_moment = [
        "authorization",
        "x-amz-date",
        "amz-sdk-invocation-id",
        "content-length",
    ];
    let mut headers: Vec<_> = request
        .headers()
        .iter()
        .filter(|(name, _)| !of_the_moment.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    headers.sort();
    headers
}

fn streams() -> impl Strategy<Value = StreamName> {
    prop::sample::select(&STREAMS[..]).prop_map(|name| StreamName::new(name).unwrap())
}

fn records() -> impl Strategy<Value = Vec<(Vec<u8>, Keys)>> {
    // Any characters, and more of those that JSON escapes.
    let key = prop_oneof![
        prop::collection::vec(any::<char>(), 1..=256).prop_map(String::from_iter),
        "[\u{0}-\u{1f}\"\\\\/\u{7f}-\u{a0}\u{2028}😀]{1,40}",
    ];
    let data = prop::collection::vec(any::<u8>(), 0..300);
    let keys = (key, prop::option::of(any::<u128>()));
    prop::collection::vec((data, keys), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_is_the_one_that_the_sdk_would_have_made(
        stream in streams(),
        has_id: bool,
        records in records(),
    ) {
        let batch = batch(records);
        let kept = Kept::default();
        let client = kept.client();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let id = has_id.then_some(ID);
        runtime.block_on(call_by_the_sdk_alone(&client, &stream, id, &batch));
        let theirs = kept.last();
        let said = json(&theirs);
        prop_assert_eq!(said["StreamId"].as_str(), id);
        let told = StreamId::default();
        told.set(id.unwrap_or_default());
        let kinesis = Kinesis::new(client).with_id(told);
        let outcome = runtime.block_on(kinesis.call(&stream, &batch));
        prop_assert!(matches!(outcome, CallOutcome::Failed(_)));
        let ours = kept.last();

        prop_assert_eq!(json(&ours), json(&theirs));
        prop_assert_eq!(ours.uri(), theirs.uri());
        prop_assert_eq!(ours.method(), theirs.method());
        prop_assert_eq!(headers(&ours), headers(&theirs));
        let length = ours.body().bytes().unwrap().len().to_string();
        prop_assert_eq!(ours.headers().get("content-length"), Some(length.as_str()));
    }
}

/// Entries of which one or two fill a piece, and some many.
fn long_records() -> impl Strategy<Value = Vec<(Vec<u8>, Keys)>> {
    let data = (
        any::<u8>(),
        prop_oneof![0..200_usize, 40_000..200_000_usize],
    );
    let data = data.prop_map(|(byte, len)| (0..len).map(|n| byte.wrapping_add(n as u8)).collect());
    let key = "[a-z\"\\\\]{1,256}";
    prop::collection::vec((data, (key, prop::option::of(any::<u128>()))), 2..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_body_that_is_written_while_it_is_sent_is_the_sdks_and_its_length_and_hash_are_known_before(
        stream in streams(),
        records in long_records(),
    ) {
        let batch = batch(records);
        let kept = Kept::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call_by_the_sdk_alone(&kept.client(), &stream, Some(ID), &batch));
        let theirs = kept.last();
        for protocol in [Protocol::Json, Protocol::Cbor] {
            let body = body::put_records(protocol, &stream, Some(ID.into()), batch.entries());
            let length = body.length();
            let (ours, pieces) = match body {
                Body::Whole(bytes) => (bytes.to_vec(), vec![bytes.len()]),
                Body::Long(mut long) => {
                    let hash = long.hash();
                    // Sent a second time, it is the same.
                    let again = runtime.block_on(Long::clone(&long).collect()).unwrap().to_bytes();
                    let (mut sent, mut pieces) = (Vec::new(), Vec::new());
                    while let Some(piece) = runtime.block_on(long.frame()) {
                        let piece = piece.unwrap().into_data().unwrap();
                        pieces.push(piece.len());
                        sent.extend_from_slice(&piece);
                    }
                    prop_assert_eq!(&again[..], &sent[..]);
                    prop_assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&sent)));
                    (sent, pieces)
                }
            };
            prop_assert_eq!(ours.len() as u64, length);
            prop_assert!(pieces.iter().all(|len| (1..70_000).contains(len)), "{:?}", pieces);
            prop_assert!(pieces.len() > 1 || length < 70_000, "{:?}", pieces);
            let theirs: Value = serde_json::from_slice(theirs.body().bytes().unwrap()).unwrap();
            let ours: Value = match protocol {
                Protocol::Json => serde_json::from_slice(&ours).unwrap(),
                Protocol::Cbor => serde_json::from_slice(&crate::cbor::to_json(&ours).unwrap()).unwrap(),
            };
            prop_assert_eq!(ours, theirs);
        }
    }
}

fn awkward() -> Batch {
    let key = |key: &str, explicit| (key.to_owned(), explicit);
    batch(vec![
        (vec![], key("empty", None)),
        ((0..=255).collect(), key("all \"bytes\" \\ \n", None)),
        (vec![b'x'; 100_000], key("ключ 😀", Some(u128::MAX))),
    ])
}

#[tokio::test]
async fn the_signature_is_over_the_body_that_is_sent() {
    let fake = Fake::builder().verify_signatures(true).start().await;
    let fake = fake.expect("a port");
    fake.create_stream("shop-logs", 2).expect("new");
    let client = Client::from_conf(config().endpoint_url(fake.kinesis_url()).build());
    let batch = awkward();
    for (stream, protocol) in [("shop-logs", Protocol::Json), ("in-cbor", Protocol::Cbor)] {
        let _ = fake.create_stream(stream, 2);
        let name = StreamName::new(stream).unwrap();
        let kinesis = Kinesis::new(client.clone()).speaking(protocol);
        let outcome = kinesis.call(&name, &batch).await;
        let CallOutcome::Answered(outcomes) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(
            outcomes
                .iter()
                .all(|o| matches!(o, EntryOutcome::Stored { .. }))
        );
        assert_eq!(fake.counters().refused_signatures, 0);
        let mut stored = fake.records(stream).expect("there");
        stored.sort_by_key(|record| record.data.len());
        let sent: Vec<_> = batch.entries().iter().map(|e| e.data().clone()).collect();
        let stored: Vec<_> = stored.into_iter().map(|record| record.data).collect();
        assert_eq!(stored, sent);
    }
}

#[tokio::test]
async fn refusals_and_broken_answers_are_the_same_in_either_protocol() {
    let fake = Fake::start().await.expect("a port");
    fake.create_stream("shop-logs", 1).expect("new");
    let client = Client::from_conf(config().endpoint_url(fake.kinesis_url()).build());
    let rules = [
        Rule::new(Action::Throttle(Entries::All)).on("PutRecords"),
        Rule::new(Action::Error(ApiError::new("InternalFailure", "no"))).on("PutRecords"),
        Rule::new(Action::Malformed).on("PutRecords"),
        Rule::new(Action::Truncated).on("PutRecords"),
    ];
    let mut told = Vec::new();
    for protocol in [Protocol::Json, Protocol::Cbor] {
        let kinesis = Kinesis::new(client.clone()).speaking(protocol);
        for rule in &rules {
            fake.set_faults(Faults::seeded(1).rule(rule.clone()));
            let stream = StreamName::new("shop-logs").unwrap();
            told.push(kinesis.call(&stream, &awkward()).await);
        }
        fake.set_faults(Faults::seeded(1));
        let stream = StreamName::new("no-such").unwrap();
        told.push(kinesis.call(&stream, &awkward()).await);
    }
    let essence = |outcome: &CallOutcome| match outcome {
        CallOutcome::Answered(answers) => format!("{answers:?}"),
        CallOutcome::Failed(error) => format!("{} {:?}", error.code, error.status),
    };
    let told: Vec<_> = told.iter().map(essence).collect();
    let (json, cbor) = told.split_at(rules.len() + 1);
    assert_eq!(json, cbor);
    assert!(
        json[0].contains("ProvisionedThroughputExceededException"),
        "{json:?}"
    );
    assert_eq!(json[2], "MalformedAnswer None");
    assert_eq!(json[4], "ResourceNotFoundException Some(400)");
}

/// So that the test above can tell.
#[tokio::test]
async fn a_signature_under_another_secret_is_refused() {
    let fake = Fake::builder().verify_signatures(true).start().await;
    let fake = fake.expect("a port");
    fake.create_stream("shop-logs", 1).expect("new");
    let config = config().credentials_provider(Credentials::new("test", "tost", None, None, "t"));
    let client = Client::from_conf(config.endpoint_url(fake.kinesis_url()).build());
    let stream = StreamName::new("shop-logs").unwrap();
    let outcome = Kinesis::new(client).call(&stream, &awkward()).await;
    let CallOutcome::Failed(error) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.code, "InvalidSignatureException");
    assert_eq!(error.status, Some(400));
}

#[test]
fn what_a_service_says_is_one_line_of_no_great_length() {
    let said = "\u{1b}[31mno\r\n2026-11-29T00:00:00Z ERROR forged";
    assert_eq!(
        as_one_line(said),
        " [31mno  2026-11-29T00:00:00Z ERROR forged"
    );
    let long = as_one_line(&"ä".repeat(200_000));
    assert_eq!(long.chars().count(), 2_001);
}

/// Also where the SDK would have made another host of it.
#[tokio::test]
async fn a_streams_id_goes_with_each_call_once_it_is_told_to_the_host_that_is_configured() {
    let kept = Kept::default();
    let (stream, id) = (StreamName::new("shop-logs").unwrap(), StreamId::default());
    let kinesis = Kinesis::new(kept.client()).with_id(id.clone());
    let records = batch(vec![(vec![], ("k".to_owned(), None))]);
    kinesis.call(&stream, &records).await;
    let before = kept.last();
    id.set("af4lwng4k01746835071-xyz");
    kinesis.call(&stream, &records).await;
    let told = kept.last();
    assert_eq!(json(&before).get("StreamId"), None);
    assert_eq!(json(&told)["StreamId"], "af4lwng4k01746835071-xyz");
    assert_eq!(before.uri(), told.uri());
}
