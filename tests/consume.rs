//! Reading a stream back through the SDK: the library and `kinseal consume`, against the stand-in and
//! against a server that no one here wrote.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use kinseal::aggregate::format::Layout;
use kinseal::aws::Clients;
use kinseal::consume::{Consumer, KinesisStream, Plaintext, Settings, Unpacker};
use kinseal::fake::{Action, ApiError, Fake, Faults, Rule, Service};
use kinseal::record::{PartitionKey, StreamName};
use kinseal::seal::EncryptionContext;
use kinseal::seal::key;
use kinseal::seal::kms::{KmsKeys, KmsUnwrap};
use kinseal::seal::message::{MessageIds, Writer};
use kinseal::seal::open::{OpenSettings, Opener};
use kinseal::shutdown::{self, Stop};

use crate::support::agent::{STREAM, kinseal};

const ALIAS: &str = "alias/shop";

fn context() -> EncryptionContext {
    EncryptionContext::from([("app".to_owned(), "shop".to_owned())])
}

/// Clients made by hand: the process's environment belongs to all tests.
fn clients(kinesis_url: &str, kms_url: &str) -> Clients {
    let credentials = aws_credential_types::Credentials::new("test", "test", None, None, "tests");
    let kinesis = aws_sdk_kinesis::Config::builder()
        .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
        .region(aws_sdk_kinesis::config::Region::new("eu-west-1"))
        .endpoint_url(kinesis_url)
        .credentials_provider(credentials.clone())
        .retry_config(aws_sdk_kinesis::config::retry::RetryConfig::disabled())
        .build();
    let kms = aws_sdk_kms::Config::builder()
        .behavior_version(aws_sdk_kms::config::BehaviorVersion::latest())
        .region(aws_sdk_kms::config::Region::new("eu-west-1"))
        .endpoint_url(kms_url)
        .credentials_provider(credentials)
        .build();
    Clients {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis),
        kms: aws_sdk_kms::Client::from_conf(kms),
        place: kinesis_url.to_owned(),
    }
}

/// The stand-in with a stream and a key, and clients for it.
async fn stand_in(shards: usize) -> (Fake, Clients) {
    let fake = Fake::start().await.unwrap();
    fake.create_stream(STREAM, shards).unwrap();
    let key = fake.create_key();
    fake.create_alias(ALIAS, &key).unwrap();
    let clients = clients(&fake.kinesis_url(), &fake.kms_url());
    (fake, clients)
}

async fn writer(clients: &Clients) -> Writer {
    let key = KmsKeys::new(clients.kms.clone(), [ALIAS]).unwrap();
    key::writer(&key, &context(), Default::default())
        .await
        .unwrap()
}

fn seal(writer: &Writer, plaintext: &str) -> Vec<u8> {
    let mut message = Vec::new();
    writer.seal(MessageIds::new().draw(), plaintext.as_bytes(), &mut message);
    message
}

fn aggregate(members: &[Vec<u8>]) -> Vec<u8> {
    let mut layout = Layout::new();
    for data in members {
        layout.add(&PartitionKey::new("k").unwrap(), None, data.len());
    }
    layout.encode(members.iter().map(Vec::as_slice)).0
}

/// Under keys that spread over the shards.
async fn put(clients: &Clients, records: impl IntoIterator<Item = Vec<u8>>) {
    let entries = (0..).zip(records).map(|(n, data): (u64, _)| {
        PutRecordsRequestEntry::builder()
            .partition_key(n.to_string())
            .data(Blob::new(data))
            .build()
            .unwrap()
    });
    let answer = clients
        .kinesis
        .put_records()
        .stream_name(STREAM)
        .set_records(Some(entries.collect()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.failed_record_count.unwrap_or(0), 0);
}

fn start(clients: &Clients, unpacker: Unpacker, until_empty: bool) -> (Consumer, Stop) {
    let (stop, shutdown) = shutdown::channel();
    let stream = StreamName::new(STREAM).unwrap();
    let stream = Arc::new(KinesisStream::new(clients.kinesis.clone(), stream));
    let settings = Settings {
        until_empty,
        idle: Duration::from_millis(20),
        ..Settings::default()
    };
    (Consumer::start(stream, unpacker, settings, shutdown), stop)
}

fn opening(clients: &Clients) -> Unpacker {
    let key = Arc::new(KmsUnwrap::new(clients.kms.clone(), [ALIAS]));
    let opener = Opener::new(vec![key], context(), OpenSettings::default()).unwrap();
    Unpacker::opening(Arc::new(opener), Plaintext::Refused, 2).unwrap()
}

/// The data of the next `count` records.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<Bytes> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = consumer.next().await.expect("more is to come");
        taken.extend(batch.records.into_iter().map(|r| r.unwrap().data));
    }
    taken
}

async fn read_all(clients: &Clients, unpacker: Unpacker) -> Vec<Bytes> {
    let (mut consumer, _stop) = start(clients, unpacker, true);
    let mut all = Vec::new();
    while let Some(batch) = consumer.next().await {
        all.extend(batch.records.into_iter().map(|r| r.unwrap().data));
    }
    consumer.finish().await.unwrap();
    all
}

fn sorted(mut data: Vec<Bytes>) -> Vec<Bytes> {
    data.sort();
    data
}

fn lines(words: &str, count: usize) -> Vec<Bytes> {
    sorted((0..count).map(|n| format!("{words} {n}").into()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sealed_comes_back_through_reshards_and_faults() {
    let (fake, clients) = stand_in(2).await;
    let writer = writer(&clients).await;
    let faulty = |operation: &str, action| Rule::new(action).on(operation).percent(20.0);
    fake.set_faults(
        Faults::seeded(3)
            .rule(faulty(
                "GetRecords",
                refusal("ProvisionedThroughputExceededException"),
            ))
            .rule(faulty("GetRecords", refusal("ExpiredIteratorException")))
            .rule(faulty("GetRecords", Action::ResetBefore))
            .rule(faulty("ListShards", refusal("LimitExceededException"))),
    );
    let (mut consumer, stop) = start(&clients, opening(&clients), false);

    put(
        &clients,
        (0..200).map(|n| seal(&writer, &format!("lone {n}"))),
    )
    .await;
    let lone = take(&mut consumer, 200).await;
    assert_eq!(sorted(lone), lines("lone", 200));

    fake.split(STREAM, "shardId-000000000000").unwrap();
    let members = |from: usize| -> Vec<_> {
        let numbers = from..from + 25;
        numbers
            .map(|n| seal(&writer, &format!("member {n}")))
            .collect()
    };
    put(&clients, (0..8).map(|n| aggregate(&members(25 * n)))).await;
    fake.merge(STREAM, "shardId-000000000002", "shardId-000000000003")
        .unwrap();
    put(
        &clients,
        (0..100).map(|n| seal(&writer, &format!("zuletzt {n}"))),
    )
    .await;
    let mut expected = lines("member", 200);
    expected.extend(lines("zuletzt", 100));
    assert_eq!(sorted(take(&mut consumer, 300).await), expected);

    stop.stop();
    consumer.finish().await.unwrap();
    // One data key: one call, however many records.
    assert_eq!(fake.counters().calls_of(Service::Kms, "Decrypt"), 1);
    // And from the beginning, closed shards first.
    assert_eq!(read_all(&clients, opening(&clients)).await.len(), 500);
}

fn refusal(code: &'static str) -> Action {
    Action::Error(ApiError::new(code, "scripted"))
}

/// What `kinseal consume` says to these arguments.
async fn consume(fake: &Fake, arguments: &str) -> Output {
    let mut command = kinseal();
    command
        .args(["consume", "--stream", STREAM, "--endpoint-url"])
        .arg(fake.kinesis_url())
        .args(["--kms-endpoint-url".to_owned(), fake.kms_url()])
        .args(arguments.split_whitespace())
        .args(["--region", "eu-west-1"])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    output.await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_come_out_with_the_key_and_ciphertext_with_raw() {
    let (fake, clients) = stand_in(1).await;
    let writer = writer(&clients).await;
    put(
        &clients,
        [
            seal(&writer, "sold one"),
            aggregate(&[seal(&writer, "sold two")]),
        ],
    )
    .await;

    let opened = consume(
        &fake,
        "--kms-key alias/shop --context app=shop --until-empty",
    )
    .await;
    assert!(opened.status.success(), "{opened:?}");
    assert_eq!(text(&opened.stdout), "sold one\nsold two\n");

    let raw = consume(&fake, "--raw --until-empty").await;
    assert!(raw.status.success(), "{raw:?}");
    let first: Vec<_> = text(&raw.stdout)
        .lines()
        .next()
        .unwrap()
        .split('\t')
        .collect();
    let stored = &fake.records(STREAM).unwrap()[0];
    assert_eq!(first[..3], ["shardId-000000000000", &stored.sequence, "0"]);
    // 02 04 78, as every message of ours begins.
    assert!(first[3].starts_with("AgR4"), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_fails_the_command_and_not_the_rest() {
    let (fake, clients) = stand_in(1).await;
    let writer = writer(&clients).await;
    let mut tampered = seal(&writer, "x");
    *tampered.last_mut().unwrap() ^= 1;
    put(
        &clients,
        [
            seal(&writer, "one"),
            tampered,
            b"plain".to_vec(),
            seal(&writer, "two"),
        ],
    )
    .await;

    let output = consume(&fake, "--kms-key alias/shop --until-empty").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "one\ntwo\n");
    let complaints = text(&output.stderr);
    assert!(
        complaints.contains("the tag of frame 1 does not match"),
        "{complaints}"
    );
    assert!(complaints.contains("--allow-plaintext"), "{complaints}");

    let output = consume(&fake, "--until-empty").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let complaints = text(&output.stderr);
    assert!(
        complaints.contains("encrypted under arn:aws:kms:"),
        "{complaints}"
    );
    assert!(complaints.contains("--kms-key"), "{complaints}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_exist_is_named() {
    let fake = Fake::start().await.unwrap();
    let output = consume(&fake, "--until-empty").await;
    assert_eq!(output.status.code(), Some(1));
    let complaint = text(&output.stderr);
    let expected = format!(
        "kinseal: {STREAM} at {}: the stream does not exist",
        fake.kinesis_url()
    );
    assert!(complaint.starts_with(&expected), "{complaint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_ferrokinesis_is_read_to_its_tip() {
    let options = ferrokinesis::store::StoreOptions {
        create_stream_ms: 0,
        ..Default::default()
    };
    let (app, _store) = ferrokinesis::create_app(options);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let clients = clients(&url, &url);
    let create = clients.kinesis.create_stream().stream_name(STREAM);
    create.shard_count(3).send().await.unwrap();
    let summary = clients
        .kinesis
        .describe_stream_summary()
        .stream_name(STREAM);
    loop {
        let answer = summary.clone().send().await.unwrap();
        let status = answer.stream_description_summary.unwrap().stream_status;
        if status.as_str() == "ACTIVE" {
            break;
        }
        tokio::task::yield_now().await;
    }
    put(
        &clients,
        (0..300).map(|n| format!("plain {n}").into_bytes()),
    )
    .await;
    let unpacker = Unpacker::without_keys(1).unwrap();
    assert_eq!(
        sorted(read_all(&clients, unpacker).await),
        lines("plain", 300)
    );
}
