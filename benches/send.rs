//! What a PutRecords call costs before the network, beside the SDK's own way and the floor. One core; requests of the
//! most bytes that the service takes.
//!
//! - `body by the SDK`: payloads copied into the SDK's entries, and its serialiser;
//! - `body`: ours, as the agent sends it: written once for its hash, and once to be sent;
//! - `base64`: SIMD base64 of the same payloads into one buffer: the floor of a body;
//! - `call by the SDK`, `call`: the whole call with either body, up to a connection that throws it away: credentials,
//!   endpoint, signature;
//! - `floor`: base64, and SHA-256 of as many bytes as the body has, which the signature demands.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{
    BehaviorVersion, Config, ConfigBag, Credentials, Intercept, Region, RuntimeComponents,
};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use base64_simd::STANDARD;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::BodyExt as _;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use kinseal::aggregate::reducer::{Reducer, Routes};
use kinseal::batch::{Batch, Limits};
use kinseal::delivery::{MemoryBudget, Ticket};
use kinseal::record::{PartitionKey, RecordKey, StreamName};
use kinseal::seal;
use kinseal::seal::offload::{Sealing, seal_chunk};
use kinseal::send::body;
use kinseal::send::kinesis::Kinesis;
use kinseal::send::{Protocol, PutRecords};
use kinseal::source::{Accepted, Chunk};

/// Entries, and bytes of each: small aggregates, and full ones.
const SHAPES: [(usize, usize); 2] = [(500, 10 << 10), (100, 50 << 10)];

fn requests(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    let (client, stream) = (client(), StreamName::new("shop-logs").expect("a name"));
    for (entries, bytes) in SHAPES {
        let batch = batch(entries, bytes);
        let mut group = c.benchmark_group(format!("{entries} x {} KiB", bytes >> 10));
        group.throughput(Throughput::ElementsAndBytes {
            elements: entries as u64,
            bytes: (entries * bytes) as u64,
        });
        group.bench_function("body by the SDK", |b| {
            b.iter(|| call_by_the_sdk(&runtime, &client, &batch, Some(StopBeforeSigning)));
        });
        group.bench_function("body", |b| {
            b.iter(|| {
                runtime.block_on(drain(
                    body::put_records(Protocol::Json, &stream, None, batch.entries()).into(),
                ))
            });
        });
        group.bench_function("base64", |b| b.iter(|| base64(&batch)));
        group.bench_function("call by the SDK", |b| {
            b.iter(|| call_by_the_sdk(&runtime, &client, &batch, None));
        });
        let kinesis = Kinesis::new(client.clone());
        group.bench_function("call", |b| {
            b.iter(|| runtime.block_on(kinesis.put_records(&stream, &batch)));
        });
        group.bench_function("floor", |b| {
            b.iter(|| Sha256::digest(black_box(base64(&batch))));
        });
        group.finish();
    }
}

/// Takes all of it, as a connection does.
async fn drain(mut body: SdkBody) {
    while let Some(piece) = body.frame().await {
        black_box(piece.expect("it is in memory"));
    }
}

fn base64(batch: &Batch) -> Vec<u8> {
    let encoded =
        |entry: &kinseal::aggregate::AggregatedRecord| STANDARD.encoded_length(entry.data().len());
    let mut out = Vec::with_capacity(batch.entries().iter().map(encoded).sum());
    for entry in batch.entries() {
        STANDARD.encode_append(entry.data(), &mut out);
    }
    out
}

fn call_by_the_sdk(
    runtime: &Runtime,
    client: &Client,
    batch: &Batch,
    stop: Option<StopBeforeSigning>,
) {
    let entries = batch.entries().iter().map(|entry| {
        let request = PutRecordsRequestEntry::builder()
            .data(Blob::new(entry.data().to_vec()))
            .partition_key(entry.partition_key().as_str());
        request.build().expect("data is set")
    });
    let request = client.put_records().set_records(Some(entries.collect()));
    let mut request = request.stream_name("shop-logs").customize();
    if let Some(stop) = stop {
        request = request.interceptor(stop);
    }
    let outcome = runtime.block_on(request.send());
    assert!(outcome.is_err(), "nothing is there to answer");
}

/// Ends a call when its body is written.
#[derive(Debug)]
struct StopBeforeSigning;

impl Intercept for StopBeforeSigning {
    fn name(&self) -> &'static str {
        "StopBeforeSigning"
    }

    fn read_after_serialization(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        black_box(context.request());
        Err("written".into())
    }
}

/// A connection that throws away what it is given.
#[derive(Debug)]
struct Nowhere;

impl HttpConnector for Nowhere {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(async move {
            drain(request.into_body()).await;
            Err(ConnectorError::other("nowhere".into(), None))
        })
    }
}

fn client() -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(|_, _| SharedHttpConnector::new(Nowhere)));
    Client::from_conf(config.build())
}

/// In plain: sealing has a bench of its own.
fn batch(entries: usize, bytes: usize) -> Batch {
    let memory = MemoryBudget::new(1 << 20).try_reserve(1).expect("free");
    let now = Instant::now();
    let mut tickets = Ticket::for_span(entries as u32 + 1, now, memory, Arc::new(Nobody), 0);
    let records = (0..entries).map(|n| Accepted {
        data: vec![n as u8; bytes - 5].into(),
        key: RecordKey::Keyed(PartitionKey::new(format!("{n:05}")).expect("short")),
        ticket: tickets.take_one(),
    });
    let chunk = Chunk {
        records: records.collect(),
        read_took: Duration::ZERO,
    };
    let plaintext = seal::Settings::off();
    let allowed = plaintext.plaintext_allowed().expect("the scope is off");
    let (mut reducer, mut closed) = (Reducer::new(None, Routes::Unpredictable), Vec::new());
    for record in seal_chunk(chunk, &Sealing::Plain(allowed), now).records {
        reducer.push(record, now, now, &mut closed);
    }
    let mut batch = Batch::new(Limits::default());
    for entry in closed {
        batch.push(entry.into()).expect("within the limits");
    }
    batch
}

/// Nobody waits for these records.
struct Nobody;

impl kinseal::delivery::SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}

/// Twelve benchmarks in half a minute.
fn moment() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
}

criterion_group! { name = benches; config = moment(); targets = requests }
criterion_main!(benches);
