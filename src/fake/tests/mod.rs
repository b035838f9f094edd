//! The stand-ins through the clients that people use: the AWS SDK, over loopback.

mod cbor;
mod fanout;
mod faulty;
mod kms;
mod list;
mod null;
mod put;
mod read;
mod reshard;
mod strict;

use std::time::Duration;

use aws_sdk_kinesis::config::{
    BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use super::*;

/// Far above what loopback takes, far below what a person waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

fn credentials(access_key: &str, secret_key: &str) -> Credentials {
    Credentials::new(access_key, secret_key, None, None, "tests")
}

/// No retries: a test wants the first answer.
fn kinesis(fake: &Fake) -> aws_sdk_kinesis::Client {
    kinesis_as(fake, "test", "test")
}

fn kinesis_as(fake: &Fake, access_key: &str, secret_key: &str) -> aws_sdk_kinesis::Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(DEFAULT_REGION))
        .endpoint_url(fake.kinesis_url())
        .credentials_provider(credentials(access_key, secret_key))
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(CALL_TIMEOUT)
                .build(),
        )
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_kinesis::Client::from_conf(config)
}

fn kms(fake: &Fake) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(aws_sdk_kms::config::BehaviorVersion::latest())
        .region(aws_sdk_kms::config::Region::new(DEFAULT_REGION))
        .endpoint_url(fake.kms_url())
        .credentials_provider(credentials("test", "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_kms::Client::from_conf(config)
}

async fn with_stream(builder: Builder, shards: usize) -> (Fake, aws_sdk_kinesis::Client) {
    let fake = builder.start().await.unwrap();
    fake.create_stream("s", shards).unwrap();
    let client = kinesis(&fake);
    (fake, client)
}

fn entry(key: &str, data: impl Into<Vec<u8>>) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder()
        .partition_key(key)
        .data(Blob::new(data))
        .build()
        .unwrap()
}

fn entry_at(hash_key: u128, data: impl Into<Vec<u8>>) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder()
        .partition_key("k")
        .explicit_hash_key(hash_key.to_string())
        .data(Blob::new(data))
        .build()
        .unwrap()
}

async fn put(
    client: &aws_sdk_kinesis::Client,
    entries: Vec<PutRecordsRequestEntry>,
) -> Result<PutRecordsOutput, ApiError> {
    let sent = client
        .put_records()
        .stream_name("s")
        .set_records(Some(entries))
        .send();
    sent.await.map_err(|error| refused(&error))
}

/// What the service said, as the client understood it.
fn refused<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> ApiError {
    let meta = error.meta();
    ApiError::new(
        meta.code().unwrap_or("no code").to_owned(),
        meta.message().unwrap_or_default(),
    )
}

async fn iterator_from_start(client: &aws_sdk_kinesis::Client, shard: &str) -> String {
    let iterator = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(shard)
        .shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon)
        .send();
    iterator.await.unwrap().shard_iterator.unwrap()
}
